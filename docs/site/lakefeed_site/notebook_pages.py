"""Notebooks as pages: their text, code and stored outputs in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def page_text(path: Path) -> str:
    """Returns a notebook as Markdown."""
    notebook = json.loads(path.read_text("utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts += [f"```python\n{source}\n```", *_outputs(cell)]
    return "\n\n".join(parts) + "\n"


def _outputs(cell: dict[str, Any]) -> list[str]:
    shown = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            content = _joined(data["image/png"]).replace("\n", "")
            shown.append(f'<img alt="Output of the code above" src="data:image/png;base64,{content}">')
        elif "text/html" in data:
            shown.append(f'<div class="output">\n{_one_paragraph(_joined(data["text/html"]))}\n</div>')
        elif "text/plain" in data or "text" in output:
            text = _joined(data.get("text/plain") or output["text"]).rstrip()
            shown.append(f"```text\n{text}\n```")
    return shown


def _one_paragraph(html: str) -> str:
    """Returns HTML without empty lines, which would end a block of HTML in Markdown."""
    return "\n".join(line for line in html.splitlines() if line.strip())


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
