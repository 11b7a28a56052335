"""Indexes that exist, by their names."""

from __future__ import annotations

from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.keyed.text_index import TextIndex
from lakefeed.keyed.vector_index import VectorIndex
from lakefeed.search.index_definition import IndexDefinition
from lakefeed.search.index_ledger import IndexLedger, IndexState, find_index, list_definitions


def index_of(lake: Lake, definition: IndexDefinition) -> SearchIndex:
    """Returns the index of a definition."""
    return TextIndex(lake, definition) if definition.kind == "text" else VectorIndex(lake, definition)


def open_index(lake: Lake, name: str) -> SearchIndex:
    """Returns an index.

    Raises:
        IndexNotFoundError: the index does not exist.
    """
    return open_state(lake, name)[0]


def open_state(lake: Lake, name: str) -> tuple[SearchIndex, IndexState]:
    """Returns an index with its newest version.

    Raises:
        IndexNotFoundError: the index does not exist.
    """
    definition, state = find_index(lake, name)
    return index_of(lake, definition), state


def open_text_index(lake: Lake, name: str) -> TextIndex:
    """Returns a text index.

    Raises:
        IndexNotFoundError: the index does not exist.
        InvalidArgumentError: it is an index of vectors.
    """
    index = open_index(lake, name)
    if not isinstance(index, TextIndex):
        raise InvalidArgumentError(f"{name!r} is an index of vectors; open it with vector_index({name!r})")
    return index


def open_vector_index(lake: Lake, name: str) -> VectorIndex:
    """Returns an index of vectors.

    Raises:
        IndexNotFoundError: the index does not exist.
        InvalidArgumentError: it is a text index.
    """
    index = open_index(lake, name)
    if not isinstance(index, VectorIndex):
        raise InvalidArgumentError(f"{name!r} is a text index; open it with text_index({name!r})")
    return index


def list_indexes(lake: Lake, prefix: str) -> list[SearchIndex]:
    """Returns the indexes whose names begin with ``prefix``, ordered by name."""
    definitions = [each for each in list_definitions(lake) if each.name.startswith(prefix)]
    return [index_of(lake, each) for each in sorted(definitions, key=lambda each: each.name)]


def drop_index(lake: Lake, name: str) -> None:
    """Removes an index.

    Raises:
        IndexNotFoundError: the index does not exist.
    """
    lake.identifier(name)
    IndexLedger(lake, IndexDefinition(name, "text", "", "", {})).drop()
