"""The Python of the README and of docs/ runs as it stands, each page from top to bottom in one namespace.

A block after the line `<!-- no-run -->` is shown only.
"""

from __future__ import annotations

import ast
import codeop
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.named_extras import MODULES, named_extras
from tests.sdk.processes import run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?P<skip><!-- no-run -->\s*)?^```python[^\n]*\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
ALL_PAGES = (ROOT / "README.md", ROOT / "sdk" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
CHECKED_PAGES = (
    *(f"tutorials/{name}.md" for name in ("images", "text", "tables", "folders")),
    *(f"coming-from-{name}.md" for name in ("clearml-and-dvc", "spiral-and-lance", "webdataset-and-mosaicml")),
    "concepts.md",
    "how-to.md",
    "reading.md",
    "search.md",
)
"""Pages whose comments behind expressions are their values."""
FIRST_PAGES = ("README.md", "loader.md", "keyed-tables.md")
PAGES = [
    pytest.param(page, marks=() if page.name in FIRST_PAGES else pytest.mark.live, id=str(page.relative_to(ROOT)))
    for page in ALL_PAGES
    if "```python" in page.read_text() and not page.as_posix().endswith(tuple(f"docs/{name}" for name in CHECKED_PAGES))
]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A process of its own: what a page imports or leaves open stays there. Lines are as in the page.
    run(_program(page.read_text()))


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if page.name != "adding.md"], ids=str)  # it shows files
def test_blocks_paste_into_a_plain_prompt(page: Path) -> None:
    """A prompt ends a compound statement at an empty line, and only there."""
    for block in BLOCK.finditer(page.read_text("utf-8")):
        if block["skip"]:
            continue
        problems: list[str] = []
        lines: list[str] = []
        for line in [*block["code"].splitlines(), ""]:
            lines.append(line)
            try:
                if codeop.compile_command("\n".join(lines), symbol="single") is not None:
                    lines.clear()
            except SyntaxError as error:
                problems.append(f"{error}: {line}")
                lines.clear()
        assert problems == []
        assert "".join(lines).strip() == ""


@pytest.mark.live
@pytest.mark.parametrize("name", CHECKED_PAGES)
def test_values_in_comments_are_those_of_the_expressions(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / name
    run(_checking(_program(page.read_text("utf-8"))))


def test_values_in_comments_are_compared() -> None:
    assert _checking("a = 1  # one\na  # 2\n") == "a = 1  # one\nassert repr(a) == '2', repr(a)\n"


def _checking(program: str) -> str:
    """Returns a program that compares each expression with the comment behind it. Lines stay where they are."""
    lines = program.splitlines()
    for node in ast.parse(program).body:
        line = lines[node.lineno - 1]
        expected = line.partition("  # ")[2]
        if isinstance(node, ast.Expr) and node.lineno == node.end_lineno and expected:
            text = ast.unparse(node.value)
            lines[node.lineno - 1] = f"assert repr({text}) == {expected!r}, repr({text})"
    return "\n".join(lines) + "\n"


def test_blocks_keep_their_line_numbers() -> None:
    page = "text\n```python\na = 1\n```\n<!-- no-run -->\n```python\nboom\n```\n\n```python\nassert a == 1\n```\n"
    assert _program(page).splitlines()[1:] == ["", "a = 1", *[""] * 7, "assert a == 1"]


def test_pages_name_what_they_need_as_it_can_be_installed() -> None:
    """There is no index to install it from: `pip install 'lakefeed[s3]'` would fetch what a stranger calls so."""
    project = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(MODULES) <= set(extras)
    for page in ALL_PAGES:
        text = page.read_text("utf-8")
        assert not re.search(r"pip install (--upgrade )?'?lakefeed", text), page
        assert set(named_extras(text)) <= set(extras), page


def _program(page: str) -> str:
    """The blocks that run, each on the lines that it has in the page."""
    lines = [""] * page.count("\n")
    lines[0] = f"from tests.docs.named_extras import allow; allow({named_extras(page)})"
    for block in BLOCK.finditer(page):
        if not block["skip"]:
            first = page.count("\n", 0, block.start("code"))
            code = block["code"].splitlines()
            lines[first : first + len(code)] = code
    return "\n".join(lines).rstrip("\n") + "\n"
