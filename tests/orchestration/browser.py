"""Dagster's UI in a headless Chromium: what stands where, in which colour, and pictures of it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")
PATIENCE_SECONDS = 60
WIDTH, HEIGHT = 1500, 900
MARGIN = 16
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it does not start as root otherwise, and it sees nothing but our own pages
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    f"--window-size={WIDTH},{HEIGHT}",
)


def why_none() -> str:
    """Why there is no browser; "" if there is one."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)} (Debian: apt install chromium chromium-driver)" if missing else ""


@dataclass
class Page:
    """What the browser shows. Pictures go to ``$SCREENSHOTS``, or into ``pictures``."""

    chrome: Chrome
    url: str
    pictures: Path

    def open(self, path: str, **parameters: str) -> None:
        self.chrome.get(f"{self.url}/{path}?{urlencode(parameters)}")

    def wait_for(self, look: Callable[[], T]) -> T:
        """What ``look`` gives, as soon as that is something."""
        wait = WebDriverWait(self.chrome, PATIENCE_SECONDS, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: look())

    def all(self, xpath: str) -> list[WebElement]:
        return self.chrome.find_elements(By.XPATH, xpath)

    def one(self, xpath: str) -> WebElement:
        """The first that is there, as soon as it is."""
        return self.wait_for(lambda: self.all(xpath))[0]

    def text(self) -> str:
        return self.chrome.find_element(By.TAG_NAME, "body").text

    def picture(self, name: str, *around: WebElement) -> None:
        """Of the page, or of the part of it that holds these elements."""
        shot = Image.open(io.BytesIO(self.chrome.get_screenshot_as_png()))
        shown = shot.crop(_frame(around, shot.size)) if around else shot
        place = Path(os.environ.get("SCREENSHOTS") or self.pictures)
        shown.convert("RGB").quantize(256).save(place / f"{name}.png", optimize=True)


@contextmanager
def browsing(url: str, pictures: Path) -> Iterator[Page]:
    """A browser of its own, gone afterwards."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    chrome = Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    try:
        yield Page(chrome, url, pictures)
    finally:
        chrome.quit()


def red(element: WebElement) -> bool:
    """Whether an icon is drawn in a red."""
    shown = element.value_of_css_property("background-color").removeprefix("rgba(").rstrip(")")
    r, g, b, _ = (float(part) for part in shown.split(","))
    return r > 150 and g < 100 and b < 100


def _frame(around: Sequence[WebElement], size: tuple[int, int]) -> tuple[int, int, int, int]:
    rects = [element.rect for element in around]
    left, top = min(rect["x"] for rect in rects), min(rect["y"] for rect in rects)
    right = max(rect["x"] + rect["width"] for rect in rects)
    bottom = max(rect["y"] + rect["height"] for rect in rects)
    inside = max(0, left - MARGIN), max(0, top - MARGIN), min(size[0], right + MARGIN), min(size[1], bottom + MARGIN)
    return (round(inside[0]), round(inside[1]), round(inside[2]), round(inside[3]))
