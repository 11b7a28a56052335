"""A dataset's description and column types changed, without a version."""

from __future__ import annotations

import json

from lakefeed._typing import ColumnTypes
from lakefeed._validate import check_text
from lakefeed.catalog.commit import update_properties
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import COLUMN_TYPES, DESCRIPTION
from lakefeed.catalog.schema import declared_schema
from lakefeed.media import normalize_types


def update_metadata(lake: Lake, name: str, description: str | None, column_types: ColumnTypes | None) -> None:
    """Sets the description and the column types of a dataset, those that are given."""
    columns = declared_schema(lake.table(name))
    changes = {} if description is None else {DESCRIPTION: check_text(description, "description")}
    if column_types is not None:
        changes[COLUMN_TYPES] = json.dumps(normalize_types(column_types, columns), sort_keys=True)
    update_properties(lake, name, changes)
