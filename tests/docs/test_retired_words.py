"""Docstrings and pages use the terms of the field. This file lists the words that they replaced.

``python tests/docs/test_retired_words.py`` prints every place that still has one, in all folders and pages.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdk" / "src" / "lakefeed"

RETIRED = {
    r"\bpieces?\b": "partition, fragment or part",
    r"\bstretch(es)?\b": "interleaved partition or range",
    r"\bhow manieth\b": "every n-th",
    r"\b(is|are|was) no (?!longer\b|more\b)(?<!there is no )(?<!there are no )(?<!there was no )": "is not a",
    r"\bPlaces\b": "positions",
    r"\bDeal\b": "RankSharding",
    r"\bas it were\b": "nothing",
    r"\ball the same\b": "nevertheless, or nothing",
    r"\bof whatever\b": "of any",
    r"\bgives? way\b": "is replaced",
    r"\bas such\b": "nothing",
    r"\bsigns? of life\b": "heartbeat",
    r"\bByHand\b": "Manual",
}
"""Patterns of retired words, and what to write instead."""

OPENINGS = ("What", "How", "Whether", "Which", "Why", "Where")
"""Words that open a question. A docstring opens with a verb or a noun."""

FOLDERS = ["definitions.py", "dataset_assets", "resources", "sensors", "sdk/src/lakefeed"]
"""Folders and files whose docstrings are checked."""

PAGES = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_have_no_retired_words(folder: str) -> None:
    assert [problem for path in _modules(ROOT / folder) for problem in _problems_of_module(path)] == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_retired_words(page: str) -> None:
    assert list(_problems_of_page(ROOT / page)) == []


def test_retired_words_are_recognised() -> None:
    assert list(_problems_of_text("A piece of it is no column.")) == [
        "'piece': write partition, fragment or part",
        "'is no ': write is not a",
    ]
    assert list(_problems_of_text("There is no longer a column, and there is no row.")) == []


def _modules(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _problems_of_module(path: Path) -> Iterator[str]:
    """Problems in the docstrings of what has a public name."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text, name = ast.get_docstring(node) or "", getattr(node, "name", "module")
            if name.startswith("_") and not name.startswith("__"):
                continue
            place = f"{path.relative_to(ROOT)}: {name}"
            if text.split(" ", 1)[0] in OPENINGS:
                yield f"{place}: opens with {text.split(' ', 1)[0]!r}"
            yield from (f"{place}: {problem}" for problem in _problems_of_text(_prose(text)))


def _problems_of_page(path: Path) -> Iterator[str]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        yield from (f"{path.relative_to(ROOT)}:{number}: {problem}" for problem in _problems_of_text(line))


def _problems_of_text(text: str) -> Iterator[str]:
    for pattern, instead in RETIRED.items():
        yield from (f"{match.group()!r}: write {instead}" for match in re.finditer(pattern, text))


def _prose(docstring: str) -> str:
    """Returns a docstring without its examples."""
    return "\n".join(line for line in docstring.splitlines() if not line.lstrip().startswith((">>>", "...")))


if __name__ == "__main__":
    code = [*(ROOT / name for name in ("definitions.py", "dataset_assets", "resources", "sensors")), SDK]
    for module in (module for path in code for module in _modules(path)):
        sys.stdout.writelines(f"{problem}\n" for problem in _problems_of_module(module))
    for written in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        sys.stdout.writelines(f"{problem}\n" for problem in _problems_of_page(written))
