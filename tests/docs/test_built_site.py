"""The built documentation site, in a browser: no dead link, readable on a phone, search without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestration.browser import Page, browsing, why_none

pytest.importorskip("sphinx")

ROOT = Path(__file__).parents[2]
PHONE_PIXELS = 360
DARK_PAGES = {"index.html", "cli.html", "concepts.html", "how-to.html", "reference/lakefeed.html"}
"""The pages that are looked at in dark colours too; all pages share the style sheet."""
NO_PAGES = ("genindex.html", "py-modindex.html", "search.html")
"""Those that Sphinx makes; the page of the index of words is docs/search.md."""
MIN_CONTRAST, MIN_FONT_PIXELS = 4.5, 11
READABLE = """
const channel = value => value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const numbers = color => color.match(/[\\d.]+/g).map(Number);
const background = node => {
  for (; node; node = node.parentElement) {
    const color = numbers(getComputedStyle(node).backgroundColor);
    if (color.length === 3 || color[3] > 0.99) return color;
  }
  return [255, 255, 255];
};
const problems = [];
for (const node of document.querySelectorAll(
    "article p, article li, article a, article code, article td, article th, article h1, article h2, article dt")) {
  if (![...node.childNodes].some(each => each.nodeType === 3 && each.data.trim()) || !node.offsetWidth) continue;
  const style = getComputedStyle(node), pair = [luminance(numbers(style.color)), luminance(background(node))];
  const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  if (contrast < arguments[0]) problems.push(`contrast ${contrast.toFixed(1)} of "${node.innerText.slice(0, 40)}"`);
  if (parseFloat(style.fontSize) < arguments[1]) problems.push(`${style.fontSize}: "${node.innerText.slice(0, 40)}"`);
}
const width = document.documentElement.scrollWidth;
if (width > innerWidth) problems.push(`${width} pixels wide, the screen is ${innerWidth}`);
const description = document.querySelector("meta[name=description]");
if (!description || description.content.length < 20) problems.push("no description");
const levels = [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5)")].map(each => Number(each.tagName[1]));
if (levels.filter(level => level === 1).length !== 1) problems.push("not one h1");
if (levels.some((level, index) => index && level > levels[index - 1] + 1))
  problems.push("a heading's level is left out");
if (!document.title || !document.documentElement.lang) problems.push("no title or language");
for (const image of document.images) {
  if (!image.alt) problems.push(`no text for ${image.src}`);
  if (!image.complete || !image.naturalWidth) problems.push(`no picture at ${image.src}`);
}
for (const entry of performance.getEntriesByType("resource")) {
  if (!/^(file|data):/.test(entry.name)) problems.push(`fetches ${entry.name}`);
}
return [...new Set(problems)];
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: that of ``$SITE``, or a new one."""
    if given := os.environ.get("SITE"):
        return Path(given)
    output = tmp_path_factory.mktemp("site") / "html"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "docs" / "site"), *sys.path))}
    command = [sys.executable, "-m", "lakefeed_site.build", str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def page(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if why_none():
        pytest.skip(why_none())
    with browsing(site.as_uri(), tmp_path_factory.mktemp("pictures")) as shown:
        yield shown


@pytest.mark.live
@pytest.mark.timeout(900)
def test_every_public_name_and_command_is_documented(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    from lakefeed.cli.command_groups import command_paths
    from lakefeed_site import python_reference

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    names = {item for kind, items in inventory.data.items() if kind.startswith("py:") for item in items}
    linked = (site / "reference" / "lakefeed.html").read_text("utf-8")
    assert {f"lakefeed.{name}" for name in python_reference.public_names("lakefeed")} <= names
    assert 'id="lakefeed.Dataset.to_torch"' in linked
    commands = (site / "reference" / "commands.html").read_text("utf-8")
    assert [path for path in command_paths() if f'id="lakefeed-{"-".join(path)}"' not in commands] == []
    text = (site / "llms.txt").read_text("utf-8")
    assert [line for line in text.splitlines() if "](" in line and not (site / _target(line)).is_file()] == []


@pytest.mark.live
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_readable_on_a_phone(scheme: str, site: Path, page: Page) -> None:
    size = {"width": PHONE_PIXELS, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    problems = {}
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if name.startswith(("source/", "decisions/")) or name in NO_PAGES:
            continue
        if scheme == "dark" and name not in DARK_PAGES:
            continue
        page.chrome.get(path.as_uri())
        if found := page.chrome.execute_script(READABLE, MIN_CONTRAST, MIN_FONT_PIXELS):
            problems[name] = found[:5]
    assert problems == {}


@pytest.mark.live
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("checkpoint", "loader.html"),
        ("resume", "loader.html"),
        ("with_column", "reference/lakefeed.html"),
        ("ClearML", "file-trees.html"),
        ("backup", "storage.html"),
    ],
)
def test_search_works_without_a_server(words: str, expected: str, page: Page) -> None:
    page.chrome.get(f"{page.url}/search.html?q={words}")
    results = page.wait_for(lambda: page.all("//ul[@class='search']//a"))
    page.wait_for(lambda: "found" in page.text())
    targets = [str(link.get_attribute("href")) for link in page.all("//ul[@class='search']//a")]
    assert results
    assert any(expected in target for target in targets[:8])


def _target(line: str) -> str:
    return line.partition("](")[2].partition(")")[0]
