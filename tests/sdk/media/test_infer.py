from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed.media import infer_column_types
from tests.sdk.media.pictures import encoded


def guess(values: pa.Array) -> str | None:
    return infer_column_types(pa.table({"x": values})).get("x")


@pytest.mark.parametrize(
    "values",
    [
        ["cat.jpg", "dog.png"],
        ["/data/cat.JPEG", None, "file:///data/dog.PNG"],
        ["https://host/cat.jpg?size=9&as=x.txt#a.b", "s3://bucket/cat.webp", "gs://bucket/cat.gif"],
        ["cat.jpg", "dog.png", "notes.txt"],
    ],
)
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_that_names_images(values: list[str | None], kind: pa.DataType) -> None:
    assert guess(pa.array(values, pa.string()).cast(kind)) == "image"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [None, None],
        ["cat", "dog"],
        ["cat.jpg", "dog"],  # half is no majority
        ["a.txt", "b.csv"],
        ["first line\ncat.jpg"],
        ["x" * 5000 + ".jpg"],
        ["https://host/page?file=cat.jpg"],
        ["http://[broken", ""],
    ],
)
def test_text_that_does_not(values: list[str | None]) -> None:
    assert guess(pa.array(values, pa.string())) is None


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bytes_that_are_images(format_name: str, kind: pa.DataType) -> None:
    assert guess(pa.array([encoded(format_name), None], kind)) == "image"


def test_bytes_that_are_not() -> None:
    assert guess(pa.array([b"", b"BMW drivers of the world", b"\x89PN"])) is None
    assert guess(pa.array([b"abcd", b"efgh"], pa.binary(4))) is None


def test_only_untyped_text_and_bytes_are_looked_at() -> None:
    typed = pa.field("a", pa.string(), metadata={"lakefeed.type": "file"})
    schema = pa.schema([typed, pa.field("b", pa.int64()), pa.field("c", pa.string())])
    batch = pa.record_batch([["a.png"], [1], ["c.png"]], schema=schema)
    assert infer_column_types(batch) == {"c": "image"}


def test_slices_are_judged_by_their_own_rows() -> None:
    table = pa.table({"x": ["a.png", "b.png", "text", "words"]})
    assert infer_column_types(table.slice(2)) == {}
    assert infer_column_types(table.slice(0, 2)) == {"x": "image"}
