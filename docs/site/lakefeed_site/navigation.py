"""The order of the pages, from ``navigation.toml``. Pages that it does not name come at the end of their section."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lakefeed_site.paths import SITE

INDEX = "index.md"
DECISIONS = "decisions/index.md"
DECISIONS_INTRODUCTION = """\
# Decisions

Choices that another engineer would question, with the reasons and the alternatives.
"""


@dataclass(frozen=True)
class Section:
    """A part of the navigation: its title and its pages."""

    title: str
    pages: tuple[str, ...]


def sections(names: Collection[str]) -> list[Section]:
    """Returns the sections with all pages.

    Args:
        names: the names of all pages, such as ``loader.md``.

    Raises:
        LookupError: a section names a page that does not exist, or a page belongs to no section.
    """
    declared = tomllib.loads((SITE / "navigation.toml").read_text("utf-8"))["section"]
    placed: dict[str, list[str]] = {section["title"]: list(section["pages"]) for section in declared}
    missing = sorted({page for pages in placed.values() for page in pages} - set(names))
    if missing:
        raise LookupError(f"navigation.toml names pages that do not exist: {', '.join(missing)}")
    rest = set(names) - {page for pages in placed.values() for page in pages} - {INDEX}
    rest = {page for page in rest if not page.startswith("decisions/")}
    for section in declared:
        others = sorted(page for page in rest if any(_matches(page, each) for each in section.get("others", ())))
        placed[section["title"]] += others
        rest -= set(others)
    if rest:
        raise LookupError(f"navigation.toml has no section for: {', '.join(sorted(rest))}")
    return [Section(title, tuple(pages)) for title, pages in placed.items() if pages]


def tables_of_contents(contents: list[Section]) -> str:
    """Returns the navigation as directives of Sphinx, for the end of the first page."""
    return "\n\n".join(_table_of_contents(section.pages, section.title) for section in contents) + "\n"


def decisions_text(texts: Mapping[str, str]) -> str:
    """Returns the page of all decision records.

    Args:
        texts: the text of each page by its name.
    """
    records = sorted(name for name in texts if name.startswith("decisions/"))
    lines = [f"- [{title(texts[name])}]({name.removeprefix('decisions/')})" for name in records]
    names = [name.removeprefix("decisions/") for name in records]
    return "\n".join([DECISIONS_INTRODUCTION, *lines, "", _table_of_contents(names), ""])


def title(text: str) -> str:
    """Returns the first heading of a page, without marks."""
    match = re.search(r"^# (.+)$|^(.+)\n===", text, re.M)
    return "" if match is None else re.sub(r"[`*]", "", match[1] or match[2]).strip()


def _table_of_contents(pages: Sequence[str], caption: str | None = None) -> str:
    names = "\n".join(page.rpartition(".")[0] for page in pages)
    options = "" if caption is None else f":caption: {caption}\n"
    return f"```{{toctree}}\n{options}:hidden:\n:maxdepth: 1\n\n{names}\n```"


def _matches(page: str, pattern: str) -> bool:
    return page.count("/") == pattern.count("/") and fnmatch.fnmatch(page, pattern)
