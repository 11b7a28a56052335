from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError
from lakefeed.media import MEDIA, Image, column_type, default_mode, loaded_type, normalize_types, typed_schema

SCHEMA = pa.schema(
    [
        pa.field("img", pa.string(), metadata={"note": "kept"}),
        pa.field("raw", pa.binary()),
        pa.field("n", pa.int64()),
        pa.field("void", pa.null()),
        pa.field("cat", pa.dictionary(pa.int32(), pa.string())),
    ],
    metadata={"owner": "me"},
)


def test_typed_schema_marks_and_restructures_only_the_named_columns() -> None:
    schema = typed_schema(SCHEMA, {"img": "image", "raw": "file"})
    assert [column_type(field) for field in schema] == ["image", "file", None, None, None]
    assert schema.field("img").type == MEDIA["image"].struct
    assert schema.field("img").metadata == {b"note": b"kept", b"lakefeed.type": b"image"}
    assert schema.metadata == {b"owner": b"me"}
    assert schema.field("n") == SCHEMA.field("n")


def test_a_typed_column_can_be_retyped() -> None:
    once = typed_schema(SCHEMA, {"img": "image"})
    assert column_type(typed_schema(once, {"img": "file"}).field("img")) == "file"


def test_every_spelling_of_a_type() -> None:
    given = {"img": Image, "raw": "FILE", "void": MEDIA["image"], "cat": "Model3D"}
    assert normalize_types(given, SCHEMA) == {"img": "image", "raw": "file", "void": "image", "cat": "3d"}


@pytest.mark.parametrize("given", ["smell", None, 3, str, int])
def test_an_unknown_type(given: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'img': unknown media type .*; choose from 'file', 'image'"):
        normalize_types({"img": given}, SCHEMA)


def test_an_unknown_column_names_the_near_ones() -> None:
    with pytest.raises(ColumnNotFoundError, match="Did you mean 'img'"):
        normalize_types({"imgs": "image"}, SCHEMA)


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string()), pa.struct({"x": pa.int64()})])
def test_a_column_that_cannot_hold_files(kind: pa.DataType) -> None:
    schema = pa.schema({"x": kind})
    for use in (normalize_types, lambda mapping, other: typed_schema(other, mapping)):
        with pytest.raises(TypeMismatchError, match=r"column 'x' is .* cannot hold files"):
            use({"x": "image"}, schema)


def test_a_type_of_a_newer_lakefeed_is_left_alone() -> None:
    assert column_type(pa.field("x", pa.string(), metadata={"lakefeed.type": "hologram"})) is None
    assert column_type(pa.field("x", pa.string(), metadata={"lakefeed.type": b"\xff"})) is None


def test_modes() -> None:
    assert default_mode("image") == "bytes"
    assert loaded_type("file", "bytes") == pa.large_binary()
    with pytest.raises(InvalidArgumentError, match="'tensor' to load files; choose from 'bytes', 'path'"):
        loaded_type("file", "tensor")
    with pytest.raises(InvalidArgumentError, match="unknown media type 'smell'"):
        default_mode("smell")
