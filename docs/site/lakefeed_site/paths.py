"""Folders of the repository that the site is made of."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
SITE = DOCS / "site"
NOTEBOOKS = ROOT / "examples" / "notebooks"
PACKAGE = ROOT / "sdk" / "src" / "lakefeed"
