"""Every media type keeps the same promises."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed.errors import FormatError, LakefeedError
from lakefeed.media import (
    MEDIA,
    MediaType,
    column_type,
    default_mode,
    handles,
    load_column,
    loaded_type,
    normalize_types,
    store_column,
    typed_schema,
)
from lakefeed.media.base import COMMON_FIELDS
from lakefeed.storage import BlobStore

CONTENTS = [b"", b"\0" * 40, b"plain words", bytes(range(256)) * 300]


@pytest.fixture(params=sorted(MEDIA))
def media(request: pytest.FixtureRequest) -> MediaType:
    return MEDIA[request.param]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"), tmp_path / "cache")


@pytest.fixture
def column(media: MediaType, store: BlobStore) -> pa.StructArray:
    contents = pa.array([*CONTENTS, None])
    return store_column(contents, media.name, store, copy="auto", stats=True, column_name="x")


def test_a_record_begins_with_the_common_fields_and_all_may_be_null(media: MediaType) -> None:
    assert tuple(media.struct)[: len(COMMON_FIELDS)] == COMMON_FIELDS
    assert all(field.nullable for field in media.struct)


def test_names_agree(media: MediaType) -> None:
    assert MEDIA[media.name] is media
    assert media.handle.media == media.name
    schema = pa.schema({"x": pa.string()})
    for given in (media.handle, media.name, media):
        assert normalize_types({"x": given}, schema) == {"x": media.name}
    assert column_type(typed_schema(schema, {"x": media.name}).field("x")) == media.name


def test_extensions_are_lower_case_and_belong_to_one_type(media: MediaType) -> None:
    assert all(ending == ending.lower() and ending.startswith(".") for ending in media.content_types)
    others = [other for other in MEDIA.values() if other is not media]
    assert not any(set(media.content_types) & set(other.content_types) for other in others)


def test_a_typed_schema_is_what_a_save_gives(media: MediaType, column: pa.StructArray) -> None:
    assert typed_schema(pa.schema({"x": pa.binary()}), {"x": media.name}).field("x").type == column.type


def test_contents_come_back(media: MediaType, column: pa.StructArray, store: BlobStore) -> None:
    for mode in ("bytes", "path"):
        loaded = load_column(column, media.name, mode, store, workers=2, on_error="raise", timeout=30.0)
        assert loaded.type == loaded_type(media.name, mode)
        found = loaded.to_pylist()
        assert [cell if isinstance(cell, bytes) else Path(cell).read_bytes() for cell in found[:-1]] == CONTENTS
        assert found[-1] is None


def test_what_is_stored_passes_through(media: MediaType, column: pa.StructArray, store: BlobStore) -> None:
    assert store_column(column, media.name, store, copy=True, stats=True, column_name="x").equals(column)


def test_a_handle_stands_for_its_record(media: MediaType, column: pa.StructArray, store: BlobStore) -> None:
    cells = handles(column, media.name, store)
    assert [cell and cell.record() for cell in cells] == column.to_pylist()
    for cell, content in zip(cells[:-1], CONTENTS, strict=True):
        assert type(cell) is media.handle
        assert pickle.loads(pickle.dumps(cell)) == cell
        with cell.open() as stream:
            assert cell.bytes() == content == cell.path().read_bytes() == stream.read()
        assert repr(cell).startswith(media.handle.__name__)
        assert cell._repr_html_().startswith("<")


def test_a_probe_fails_in_one_way_only(media: MediaType) -> None:
    for content in CONTENTS:
        try:
            found = media.probe(io.BytesIO(content))
        except FormatError:
            continue
        assert set(found) <= {field.name for field in media.stat_fields}


def test_the_default_mode_is_one_that_loads(media: MediaType) -> None:
    assert loaded_type(media.name, default_mode(media.name)) in (pa.large_binary(), pa.string())


def test_an_unknown_type_is_an_error_everywhere(store: BlobStore) -> None:
    for use in (
        lambda: default_mode("nosuch"),
        lambda: loaded_type("nosuch", "bytes"),
        lambda: handles(pa.nulls(1), "nosuch", store),
        lambda: store_column(pa.nulls(1), "nosuch", store, copy="auto", stats=True, column_name="x"),
    ):
        with pytest.raises(
            LakefeedError, match="'nosuch' is no media type; there are 'file', 'image', 'video', 'audio', '3d'"
        ):
            use()
