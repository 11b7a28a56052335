"""The examples of docs/many-machines.md run as they stand, and give what their comments say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "many-machines.md"
BLOCK = re.compile(r"(?<!<!-- no-run -->\n)```python\n(.*?)```", re.DOTALL)
RESULT = re.compile(r"^(?!with |from |import |worker )(\S.*?)  # (.+)$")


@pytest.mark.live
def test_the_examples_run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results: list[tuple[Any, str]] = []
    lines = []
    for block in BLOCK.findall(PAGE.read_text("utf-8")):
        for line in block.splitlines():
            shown = RESULT.match(line)
            lines.append(line if shown is None else f"results.append(({shown[1]}, {shown[2]!r}))")
    exec(compile("\n".join(lines), str(PAGE), "exec"), {"__name__": "page", "results": results})
    assert len(results) >= 4
    for value, text in results:
        assert text.partition(":")[0] == str(value) or text == str(value)
