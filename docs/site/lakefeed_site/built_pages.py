"""Checks of built HTML: links that lead nowhere, and what a browser would fetch from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}
"""Attributes whose URL a browser fetches without a click."""
NOT_FETCHED_RELATIONS = {"canonical", "author", "license"}


@dataclass
class Page(HTMLParser):
    """The ids, links and fetched URLs of a page."""

    ids: set[str] = field(default_factory=set)
    targets: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Records an element."""
        values = {name: value for name, value in attrs if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.targets.append(values["href"])
        if values.get("rel") not in NOT_FETCHED_RELATIONS:
            self.fetched += [value for name, value in values.items() if (tag, name) in FETCHED]


def read_pages(folder: Path) -> dict[Path, Page]:
    """Returns the pages of a built site by their files."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        page = pages[path.resolve()] = Page()
        page.feed(path.read_text("utf-8"))
    return pages


def problems(folder: Path) -> list[str]:
    """Returns a line for each dead link, and for each URL of another host that a browser would fetch."""
    pages = read_pages(folder)
    lines = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        lines += [f"{name}: {target} is dead" for target in page.targets if _is_dead(path, target, pages)]
        lines += [f"{name}: fetches {url}" for url in page.fetched if urlsplit(url).netloc or _is_missing(path, url)]
    return lines


def _is_dead(path: Path, target: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return False
    file = _resolved(path, parts.path)
    if file not in pages:
        return not file.is_file()
    return bool(parts.fragment) and unquote(parts.fragment) not in pages[file].ids


def _is_missing(path: Path, url: str) -> bool:
    parts = urlsplit(url)
    return not parts.scheme and not _resolved(path, parts.path).is_file()


def _resolved(path: Path, target: str) -> Path:
    file = (path.parent / unquote(target)).resolve() if target else path
    return file / "index.html" if file.is_dir() else file
