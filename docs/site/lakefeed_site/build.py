"""Builds the site: ``python -m lakefeed_site.build OUTPUT``. Any warning, dead link or foreign URL fails the build."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import main as run_sphinx

from lakefeed_site import (
    built_pages,
    command_reference,
    llms_text,
    markdown_links,
    navigation,
    notebook_pages,
    python_reference,
    settings_reference,
)
from lakefeed_site.paths import DOCS, ROOT, SITE


def page_texts() -> dict[str, str]:
    """Returns the text of every page of the site by its name, such as ``loader.md``."""
    texts = {}
    for path, name in markdown_links.page_names().items():
        text = notebook_pages.page_text(path) if path.suffix == ".ipynb" else path.read_text("utf-8")
        texts[name] = markdown_links.site_text(path, name, text)
    texts |= {
        f"{python_reference.page_of(name)}.rst": python_reference.page_text(name)
        for name in python_reference.public_modules()
    }
    texts[navigation.DECISIONS] = navigation.decisions_text(texts)
    texts[command_reference.PAGE] = command_reference.page_text()
    texts[settings_reference.PAGE] = settings_reference.page_text()
    return texts


def build(output: Path) -> int:
    """Builds the site into a folder, which it replaces. Returns the exit code."""
    texts = page_texts()
    contents = navigation.sections(texts)
    shutil.rmtree(output, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        _write_source(source, texts, contents)
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--jobs", "auto"]
        code = run_sphinx([*options, "-b", "html", "-d", str(Path(folder, "trees")), str(source), str(output)])
    if code:
        return code
    markdown = {
        f"{python_reference.page_of(name)}.rst": python_reference.markdown_text(name)
        for name in python_reference.public_modules()
    }
    llms_text.write_llms_text(output, contents, texts | markdown)
    lines = built_pages.problems(output)
    sys.stderr.writelines(f"{line}\n" for line in lines)
    return int(bool(lines))


def _write_source(source: Path, texts: dict[str, str], contents: list[navigation.Section]) -> None:
    """Writes what Sphinx reads: the pages, the pictures and the configuration."""
    for name, text in texts.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    with (source / navigation.INDEX).open("a", encoding="utf-8") as index:
        index.write("\n" + navigation.tables_of_contents(contents))
    shutil.copytree(DOCS / "images", source / "images")
    shutil.copytree(SITE / "static", source / "static")
    shutil.copy(SITE / "conf.py", source)


def main() -> None:
    """Builds the site into the folder of the command line."""
    os.chdir(ROOT)
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    sys.exit(build(output.absolute()))


if __name__ == "__main__":
    main()
