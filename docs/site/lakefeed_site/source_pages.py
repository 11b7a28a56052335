"""Pages of files of the repository that pages link to, such as the source of a module."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx

from lakefeed_site.markdown_links import SOURCE_SCHEME
from lakefeed_site.paths import ROOT

FOLDER = "source"
_linked: set[str] = set()


def resolve_source_links(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Turns links to files of the repository into links to pages of them.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    for node in tree.findall(nodes.reference):
        target = node.get("refuri", "")
        if target.startswith(SOURCE_SCHEME):
            path = target.removeprefix(SOURCE_SCHEME).partition("#")[0].rstrip("/")
            if not (ROOT / path).exists():
                raise FileNotFoundError(f"{page} links to {path}, which does not exist")
            _linked.add(path)
            node["refuri"] = app.builder.get_relative_uri(page, f"{FOLDER}/{path}")


def collect_source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields a page for each file that was linked."""
    for path in sorted(_linked):
        body = f"<h1>{html.escape(path)}</h1>{_content(path)}"
        yield f"{FOLDER}/{path}", {"title": path, "body": body}, "page.html"


def _content(path: str) -> str:
    file = ROOT / path
    if file.is_dir():
        names = sorted(each.name + "/" * each.is_dir() for each in file.iterdir() if each.name[0] not in "._")
        return "<ul>" + "".join(f"<li><code>{html.escape(name)}</code></li>" for name in names) + "</ul>"
    text = file.read_text("utf-8")
    try:
        return str(highlight(text, get_lexer_for_filename(file.name), HtmlFormatter()))
    except ClassNotFound:
        return f"<pre>{html.escape(text)}</pre>"
