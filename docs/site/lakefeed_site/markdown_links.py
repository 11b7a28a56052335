"""Links in Markdown pages: where they are, what they mean, and what they become on the site."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lakefeed_site.paths import DOCS, NOTEBOOKS, ROOT

SOURCE_SCHEME = "source:"
"""Begins the URL of a file of the repository that is not a page. The build replaces it with a page of its text."""

_CODE = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.M | re.S
)
_LINK = re.compile(r"(?P<head>\]\()(?P<target>[^)\s]+)(?P<tail>\))")
_EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.I)
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+?)(?: +#+)?$", re.M)

OTHER_NAMES = {
    ROOT / "README.md": "index.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    DOCS / "search.md": "search-indexes.md",  # Sphinx writes search.html
}
"""Pages whose name on the site is not their path in ``docs/``."""


def page_names() -> dict[Path, str]:
    """Returns the Markdown files and notebooks that are pages, each with its name on the site."""
    pages = {path: path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))}
    notebooks = {path: f"notebooks/{path.stem}.md" for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    return pages | notebooks | OTHER_NAMES


def links(text: str) -> Iterator[str]:
    """Yields the targets of the links of a page, without those in code."""
    for match in _LINK.finditer(_without_code(text)):
        yield match["target"]


def is_external(target: str) -> bool:
    """Returns whether a target is a URL with a scheme."""
    return _EXTERNAL.match(target) is not None


def anchors(text: str) -> set[str]:
    """Returns the anchors of the headings of a page, as GitHub names them."""
    names: list[str] = []
    for match in _HEADING.finditer(_without_fences(text)):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match["title"])
        slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        repeated = sum(name == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", name) is not None for name in names)
        names.append(f"{slug}-{repeated}" if repeated else slug)
    return set(names)


def site_text(path: Path, name: str, text: str) -> str:
    """Returns the text of a page with the links that it needs on the site.

    Args:
        path: the file that the text is from. Links are relative to its folder.
        name: the name of the page on the site.
        text: the Markdown text.
    """
    pages = page_names()
    return _replace_links(text, lambda target: _site_target(path, name, target, pages))


def _site_target(path: Path, name: str, target: str, pages: dict[Path, str]) -> str:
    file, mark, anchor = target.partition("#")
    if not file or is_external(target):
        return target
    resolved = (path.parent / file).resolve()
    up = "../" * name.count("/")
    if resolved in pages:
        return f"{up}{pages[resolved]}{mark}{anchor}"
    if resolved == DOCS / "decisions":
        return f"{up}decisions/index.md"
    if resolved.is_relative_to(DOCS / "images"):
        return f"{up}{resolved.relative_to(DOCS).as_posix()}"
    return f"{SOURCE_SCHEME}{resolved.relative_to(ROOT).as_posix()}"


def _replace_links(text: str, replace: Callable[[str], str]) -> str:
    parts, start = [], 0
    for match in _LINK.finditer(_without_code(text)):
        parts += [text[start : match.start("target")], replace(match["target"])]
        start = match.end("target")
    return "".join([*parts, text[start:]])


def _without_code(text: str) -> str:
    """Returns the text with code replaced by as many spaces."""
    return _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _without_fences(text: str) -> str:
    return re.sub(r"^(```+|~~~+).*?^\1[ \t]*$", "", text, flags=re.M | re.S)
