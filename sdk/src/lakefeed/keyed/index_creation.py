"""The creation of indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from lakefeed._validate import check_flag, check_text
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    DatasetExistsError,
    InvalidArgumentError,
    LakefeedError,
    SchemaError,
    UnsupportedError,
    quoted_list,
)
from lakefeed.expr import Term, expression_text
from lakefeed.keyed.index_terms import split_text_fields
from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import Tree, merged_tree, table_names
from lakefeed.keyed.scan_state import dump_tree
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.keyed.table_terms import tables_in
from lakefeed.keyed.text_index import TextIndex
from lakefeed.keyed.vector_index import VectorIndex
from lakefeed.search.index_definition import IndexDefinition
from lakefeed.search.index_ledger import IndexLedger, find_index
from lakefeed.search.text_schema import TextSchema, tantivy
from lakefeed.search.vector_schema import METRICS, VectorSchema, faiss

SCORE = "score"
AnyIndex = TypeVar("AnyIndex", bound=SearchIndex)


def indexed_rows(lake: Lake, projections: Sequence[Any], where: Any) -> IndexedRows:
    """Returns the rows of an index, with its arguments checked.

    Raises:
        InvalidArgumentError: the projections name no table, several tables, or a dataset without a key.
        ColumnNotFoundError, ExpressionError, SchemaError: they do not fit the table.
    """
    condition = None if where is None else expression_text(where, "where")
    names = [name for each in projections for name in table_names(each)]
    names = list(dict.fromkeys([*names, *tables_in(condition or "")]))
    if len(names) != 1:
        given = f"got those of {quoted_list(names)}" if names else "got none"
        raise InvalidArgumentError(f"an index needs columns of one table; {given}")
    table = PinnedTable.of(lake, names[0], None)
    tree = merged_tree(projections, {table.name: table.schema})
    _check_names(tree, table)
    rows = IndexedRows.of(table, tree, condition)
    _ = rows.reader.schema, rows.reader.condition  # mistakes surface at the call
    return rows


def _check_names(tree: Tree, table: PinnedTable) -> None:
    if SCORE in table.keys:
        raise SchemaError(
            f"the key of {table.name!r} has the column {SCORE!r}, which is that of the scores of a search"
        )
    for key in set(table.keys) & set(tree):
        path = tree[key].text.rpartition(".")[2] if isinstance(tree[key], Term) else None
        if path is None or path.strip("`") != key:
            raise SchemaError(f"field {key!r} has the name of a key column; give it another name: {{'name': …}}")


def create_text_index(
    lake: Lake, name: str, projections: Sequence[Any], where: Any, root_uri: Any, exist_ok: Any
) -> TextIndex:
    """Creates a text index; see `Project.create_text_index`."""
    lake.identifier(name)
    check_flag(exist_ok, "exist_ok")
    check_root_uri(root_uri)
    plain, tokenizers = split_text_fields(projections)
    rows = indexed_rows(lake, plain, where)
    if not tokenizers:
        raise InvalidArgumentError(
            "a text index needs at least one text field: text.field(table['text']), with text of lakefeed.expressions"
        )
    schema = TextSchema.of(rows.table.key_schema, rows.field_schema, tokenizers)
    tantivy()
    _ = schema.compiled
    return build_index(TextIndex(lake, create_index(lake, definition_of(name, "text", rows, tokenizers), exist_ok)))


def build_index(index: AnyIndex) -> AnyIndex:
    """Builds an index that was just created, and returns it. If that fails, the index is removed."""
    try:
        index.refreshed(mend=False)
    except LakefeedError:
        if index.ledger.load().position is None:
            index.ledger.drop()
        raise
    return index


def create_vector_index(
    lake: Lake, name: str, term: Any, projections: Sequence[Any], metric: Any, where: Any, root_uri: Any, exist_ok: Any
) -> VectorIndex:
    """Creates an index of vectors; see `Project.create_vector_index`."""
    lake.identifier(name)
    check_flag(exist_ok, "exist_ok")
    check_root_uri(root_uri)
    if metric not in METRICS:
        raise InvalidArgumentError(f"metric={metric!r:.80}: choose one of {quoted_list(METRICS)}")
    rows = indexed_rows(lake, (term, *projections), where)
    fields = list(indexed_rows(lake, (term,), None).fields)
    if len(fields) != 1:
        raise InvalidArgumentError(f"term must be one column of vectors, got the columns {quoted_list(fields)}")
    options = {"field": fields[0], "metric": metric}
    _ = VectorSchema.of(rows.table.key_schema, rows.field_schema, fields[0], metric)
    faiss()
    return build_index(VectorIndex(lake, create_index(lake, definition_of(name, "vector", rows, options), exist_ok)))


def check_root_uri(root_uri: Any) -> None:
    """Checks the argument ``root_uri``."""
    if root_uri is not None:
        check_text(root_uri, "root_uri")
        raise UnsupportedError("root_uri: indexes at a location of their own are not supported yet; leave it out")


def definition_of(name: str, kind: Any, rows: IndexedRows, options: Mapping[str, str]) -> IndexDefinition:
    """Returns the definition of an index of rows."""
    columns = dump_tree({each: rows.reader.tree[each] for each in rows.fields})
    position = rows.position
    return IndexDefinition(name, kind, rows.table.name, position.table_uuid, columns, rows.reader.where, options)


def create_index(lake: Lake, definition: IndexDefinition, exist_ok: bool) -> IndexDefinition:
    """Creates an empty index, or with ``exist_ok`` returns the definition of that which exists.

    Raises:
        DatasetExistsError: it exists, and ``exist_ok`` is False, or it is another one.
    """
    try:
        IndexLedger(lake, definition).create()
    except DatasetExistsError:
        name = definition.name
        if not exist_ok:
            raise DatasetExistsError(
                f"index {name!r} exists already; open it with index({name!r}), or pass exist_ok=True"
            ) from None
        present, _ = find_index(lake, name)
        if present.rows_indexed != definition.rows_indexed or present.table_uuid != definition.table_uuid:
            raise DatasetExistsError(
                f"index {name!r} exists with other fields, or of another table; remove it with drop_index({name!r})"
            ) from None
        return present
    return definition
