"""The documentation site: its links, its navigation, and that its references have every name, command and setting."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import lakefeed
from lakefeed.cli.command_groups import command_paths, load_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    "lakefeed",
    "lakefeed.checks",
    "lakefeed.compute",
    "lakefeed.errors",
    "lakefeed.expressions",
    "lakefeed.ingest",
    "lakefeed.keyed",
    "lakefeed.routines",
    "lakefeed.testing",
    "lakefeed.trees",
]

markdown_links = pytest.importorskip("lakefeed_site.markdown_links")


def test_links_of_pages_hold() -> None:
    """On GitHub: the site checks its own."""
    texts = {path: path.read_text("utf-8") for path in PAGES}
    targets = [(path, target) for path, text in texts.items() for target in markdown_links.links(text)]
    assert [(path.name, target) for path, target in targets if _is_dead(path, target, texts)] == []


def test_links_and_anchors_are_read_as_markdown() -> None:
    text = "# One `two`: three\n## A [link](x.md)\n## A link\n`[no](a.md)` ![p](i.png)\n```\n[no](b.md)\n# no\n```\n"
    assert list(markdown_links.links(text)) == ["x.md", "i.png"]
    assert markdown_links.anchors(text) == {"one-two-three", "a-link", "a-link-1"}
    readme = "[a](docs/loader.md#state) [b](LICENSE) [c](https://x.y)"
    shown = markdown_links.site_text(ROOT / "README.md", "index.md", readme)
    assert shown == "[a](loader.md#state) [b](source:LICENSE) [c](https://x.y)"


def test_references_have_every_public_name_command_and_setting() -> None:
    from lakefeed_site import command_reference, navigation, python_reference, settings_reference

    assert set(python_reference.public_modules()) >= set(MODULES)
    for module in python_reference.public_modules():
        page = python_reference.page_text(module)
        missing = [name for name in python_reference.public_names(module) if f"{module}.{name}\n" not in page]
        assert [name for name in missing if f"``{name}`` is :py:obj:" not in page] == []
    assert "### Dataset.filter(self, predicate" in python_reference.markdown_text("lakefeed")
    described = set(python_reference.public_names("lakefeed"))
    assert described == {name for name in lakefeed.__all__ if not name.startswith("__")} - {"errors"}
    page = command_reference.page_text()
    for path in command_paths():
        command = load_command(path)
        assert f"## `lakefeed {' '.join(path)}`\n" in page
        flags = {flag for each in command.params if isinstance(each, click.Option) for flag in each.opts}
        assert [flag for flag in flags if flag not in page] == []
    page = settings_reference.page_text()
    assert "`LAKEFEED__CATALOG__URI`" in page
    assert "`LAKEFEED_CACHE_BYTES`" in page
    names = {*markdown_links.page_names().values(), command_reference.PAGE, settings_reference.PAGE}
    names |= {f"{python_reference.page_of(module)}.rst" for module in python_reference.public_modules()}
    contents = navigation.sections({*names, navigation.DECISIONS})
    placed = [page for section in contents for page in section.pages]
    assert len(placed) == len(set(placed))
    assert not {"search.md", "genindex.md"} & names  # Sphinx writes these
    with pytest.raises(LookupError, match=re.escape("no section for: odd/page.md")):
        navigation.sections({*names, navigation.DECISIONS, "odd/page.md"})


def _is_dead(page: Path, target: str, texts: dict[Path, str]) -> bool:
    if markdown_links.is_external(target):
        return False
    file, _, anchor = target.partition("#")
    resolved = (page.parent / file).resolve() if file else page
    if anchor and resolved in texts:
        return anchor not in markdown_links.anchors(texts[resolved])
    return not resolved.exists()
