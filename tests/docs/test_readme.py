"""The Python of the README and of docs/ runs as it stands, each page from top to bottom in one namespace.

A block after the line `<!-- no-run -->` is shown only.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sdk.processes import run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?P<skip><!-- no-run -->\s*)?^```python[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
ALL_PAGES = (ROOT / "README.md", ROOT / "sdk" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FIRST_PAGES = ("README.md", "loader.md", "keyed-tables.md")
PAGES = [
    pytest.param(page, marks=() if page.name in FIRST_PAGES else pytest.mark.live, id=str(page.relative_to(ROOT)))
    for page in ALL_PAGES
    if "```python" in page.read_text()
]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A process of its own: what a page imports or leaves open stays there. Lines are as in the page.
    run(_program(page.read_text()))


def test_blocks_keep_their_line_numbers() -> None:
    page = "text\n```python\na = 1\n```\n<!-- no-run -->\n```python\nboom\n```\n\n```python\nassert a == 1\n```\n"
    assert _program(page).splitlines() == ["", "", "a = 1", *[""] * 7, "assert a == 1"]


def _program(page: str) -> str:
    """The blocks that run, each on the lines that it has in the page."""
    lines = [""] * page.count("\n")
    for block in BLOCK.finditer(page):
        if not block["skip"]:
            first = page.count("\n", 0, block.start("code"))
            code = block["code"].splitlines()
            lines[first : first + len(code)] = code
    return "\n".join(lines).rstrip("\n") + "\n"
