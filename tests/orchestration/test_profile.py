"""What a version's page shows fits into it."""

from __future__ import annotations

import pytest

from dataset_assets.preview_cells import CELL_CHARACTERS, preview_cell


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.123456789, "0.123457"), ("a|b\nc", "a\\|b c"), ("x" * 100, "x" * (CELL_CHARACTERS - 1) + "…")],
)
def test_a_cell_fits_into_a_table(value: object, shown: str) -> None:
    assert preview_cell(value) == shown
