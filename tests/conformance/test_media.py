"""Every media type keeps the same promises."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, chdir
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import PIL.Image
import pyarrow as pa
import pytest

import lakefeed
from lakefeed import Dataset
from lakefeed.errors import FormatError, InvalidArgumentError, LakefeedError
from lakefeed.media import (
    MEDIA,
    Handle,
    MediaType,
    column_type,
    default_mode,
    handles,
    infer_column_types,
    loaded_type,
    normalize_types,
    store_column,
    typed_schema,
)
from lakefeed.media.media_type import COMMON_FIELDS
from lakefeed.storage import BlobStore
from tests.sdk.media import misbehaving
from tests.sdk.media.loading import load_column
from tests.sdk.media.recorded import RRD_SECONDS, make_audio, make_mcap, make_rrd, make_video

CONTENTS = [b"", b"\0" * 40, b"plain words", bytes(range(256)) * 300]


@dataclass(frozen=True)
class Example:
    """Two files of a type, what a save finds in the first, and a filter that only the first passes."""

    names: tuple[str, str]
    make: Callable[[Path, int], object]
    stats: dict[str, float]
    only_first: str


def _picture(path: Path, number: int) -> None:
    PIL.Image.new("RGB", (40 - number * 10, 30)).save(path)


def _file(path: Path, number: int) -> None:
    path.write_bytes(b"x" * (number + 1))


EXAMPLES = {
    "image": Example(("a.PNG", "b.jpg"), _picture, {"width": 40, "height": 30}, "f.width >= 40"),
    "video": Example(
        ("a.mp4", "b.MKV"),
        lambda path, number: make_video(path, 10 - number),
        {"duration_seconds": 0.4, "width": 64, "height": 48, "fps": 25.0, "num_frames": 10},
        "f.num_frames > 9",
    ),
    "audio": Example(
        ("a.wav", "b.flac"),
        lambda path, number: make_audio(path, 1.5 - number, codec=("pcm_s16le", "flac")[number]),
        {"duration_seconds": 1.5, "sample_rate": 16_000, "channels": 1},
        "f.duration_seconds > 1",
    ),
    "mcap": Example(
        ("a.mcap", "b.mcap"),
        lambda path, number: make_mcap(path, 2.5 - number),
        {"duration_seconds": 2.5},
        "f.duration_seconds > 2",
    ),
    "rrd": Example(
        ("a.rrd", "b.rrd"),
        lambda path, number: _file(path, number) if number else make_rrd(path),
        {"duration_seconds": RRD_SECONDS},
        "f.duration_seconds > 2",
    ),
    "3d": Example(("a.obj", "b.ply"), _file, {}, "f.size < 2"),
    "file": Example(("a.bin", "b.bin"), _file, {}, "f.size < 2"),
}


@pytest.fixture(scope="module", params=sorted(MEDIA))
def media(request: pytest.FixtureRequest) -> MediaType:
    return MEDIA[request.param]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    folder = tmp_path_factory.mktemp("store")
    return BlobStore(str(folder / "blobs"), folder / "cache")


@pytest.fixture(scope="module")
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
        loaded = load_column(column, media.name, mode, store, workers=2)
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
            LakefeedError, match="unknown media type 'nosuch'; choose from 'file', 'image', 'video', 'audio', '3d'"
        ):
            use()


# ------------------------------------------------------------------------------------------------- whole datasets


@pytest.fixture(scope="module")
def files(media: MediaType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the examples."""
    folder = tmp_path_factory.mktemp("files")
    example = EXAMPLES[media.name]
    for number, name in enumerate(example.names):
        example.make(folder / name, number)
    return folder


@pytest.fixture
def paths(media: MediaType, files: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Relative paths, as people write them."""
    monkeypatch.chdir(files)
    return list(EXAMPLES[media.name].names)


@pytest.fixture(scope="module")
def saved(media: MediaType, files: Path, shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    with shared_home(), chdir(files):
        given = Dataset.from_dict({"f": [*EXAMPLES[media.name].names, None], "n": [0, 1, 2]})
        return given.save("things", column_types={"f": media.handle})


def test_every_type_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(MEDIA)


def test_the_handle_is_public(media: MediaType) -> None:
    assert getattr(lakefeed, media.handle.__name__) is media.handle


def test_it_is_inferred_from_names(media: MediaType, paths: list[str]) -> None:
    expected = {} if media.name == "file" else {"f": media.name}
    folder = Path.cwd()
    for column in (
        [*paths, None],
        [str(folder / name) for name in paths],
        [(folder / name).as_uri() for name in paths],
        [f"s3://bucket/{name.upper()}" for name in paths],
        [f"https://host/{name}?size=9&as=x.txt#top" for name in paths],
        [*paths, "plain words"],
    ):
        assert infer_column_types(pa.table({"f": column})) == expected
    assert infer_column_types(pa.table({"f": [*paths, "two", "plain", "words"]})) == {}
    assert Dataset.from_dict({"f": paths}).save("inferred").column_types == expected


def test_it_is_inferred_from_contents(media: MediaType, paths: list[str]) -> None:
    first = Path(paths[0]).read_bytes()
    told = media.sniff(first[:64]) is not None
    assert infer_column_types(pa.table({"f": [first, None]})) == ({"f": media.name} if told else {})


def test_a_record_and_its_statistics(media: MediaType, saved: Dataset, paths: list[str]) -> None:
    example = EXAMPLES[media.name]
    assert saved.column_types == {"f": media.name}
    assert saved.schema.field("f").type == media.struct
    first, _, none = (row["f"] for row in saved.to_arrow().to_pylist())
    assert none is None
    content = Path(paths[0]).read_bytes()
    assert (first["size"], first["filename"], first["url"]) == (len(content), paths[0], None)
    assert first["content_type"] == media.content_type(paths[0], content[:64])
    assert {name: first[name] for name in example.stats} == pytest.approx(example.stats)
    assert saved.filter(example.only_first).to_arrow()["n"].to_pylist() == [0]
    assert saved.sql(f"SELECT n FROM data WHERE {example.only_first}").to_arrow()["n"].to_pylist() == [0]


def test_without_statistics(media: MediaType, paths: list[str]) -> None:
    saved = Dataset.from_dict({"f": paths}).save("things", column_types={"f": media.name}, stats=False)
    record = saved.to_arrow()["f"][0].as_py()
    assert [record[field.name] for field in media.stat_fields] == [None] * len(media.stat_fields)


def test_rows_and_batches(media: MediaType, saved: Dataset, paths: list[str]) -> None:
    contents = [*(Path(name).read_bytes() for name in paths), None]
    for cells in ([row["f"] for row in saved], [row["f"] for row in saved.rows()], next(saved.batches(3))["f"]):
        assert [type(cell) for cell in cells] == [media.handle, media.handle, type(None)]
        assert [cell and cell.bytes() for cell in cells] == contents
    arrow = next(saved.batches(3, format="arrow"))
    assert arrow["f"].type == media.struct


def test_load_files_means_the_same_everywhere(media: MediaType, saved: Dataset, paths: list[str]) -> None:
    contents = [*(Path(name).read_bytes() for name in paths), None]
    for mode in ("bytes", "path", {"f": "bytes"}):
        loaded = [
            [row["f"] for row in saved.rows(load_files=mode)],
            next(saved.batches(3, load_files=mode))["f"],
            next(saved.batches(3, format="arrow", load_files=mode))["f"].to_pylist(),
            saved.load_files(mode).to_arrow()["f"].to_pylist(),
        ]
        for cells in loaded:
            found = [Path(cell).read_bytes() if isinstance(cell, str) else cell for cell in cells]
            assert found == contents
            if mode == "path":
                assert [Path(cell).suffix for cell in cells[:2]] == [Path(name).suffix.lower() for name in paths]
    for records in ([row["f"] for row in saved.rows(load_files=False)], next(saved.batches(load_files=False))["f"]):
        assert records[0]["size"] == len(contents[0] or b"")


def test_true_is_auto_everywhere(media: MediaType, saved: Dataset) -> None:
    for one in ([row["f"] for row in saved.rows(load_files=True)], next(saved.batches(3, load_files=True))["f"]):
        assert [type(cell) for cell in one] == [media.handle, media.handle, type(None)]
    assert next(saved.batches(3, "arrow", load_files=True)).schema.field("f").type == media.struct
    for mode in (True, {"f": True}):
        assert saved.load_files(mode).to_arrow() == saved.load_files("auto").to_arrow()
    for one in (1, "True", {"f": 1}):
        with pytest.raises(InvalidArgumentError, match="load_files must be"):
            saved.rows(load_files=one)  # type: ignore[arg-type]  # what is refused


def test_auto_is_the_default_mode(media: MediaType, saved: Dataset) -> None:
    expected = pa.large_binary() if media.name in {"image", "file"} else pa.string()
    assert saved.load_files().schema.field("f").type == expected == loaded_type(media.name, default_mode(media.name))


def test_operations_carry_file_columns(media: MediaType, saved: Dataset) -> None:
    other = Dataset.from_dict({"n": [1, 0], "word": ["one", "zero"]})
    for one in (
        saved.head(2),
        saved.slice(0, 2),
        saved.take([1, 0]),
        saved.filter("n < 2"),
        saved.filter(lambda row: row["n"] < 2),
        saved.shuffle(seed=1).filter("n < 2"),
        saved.sql("SELECT f, n FROM data WHERE n < 2"),
        saved.join(other, "n"),
        saved.select(["f", "n"]).sample(3, seed=1).filter("n < 2"),
    ):
        assert one.column_types["f"] == media.name
        rows = list(one)
        assert sorted(row["n"] for row in rows) == [0, 1]
        assert all(type(row["f"]) is media.handle and row["f"].bytes() is not None for row in rows)


def test_to_torch(media: MediaType, saved: Dataset) -> None:
    pytest.importorskip("torch")
    (batch,) = saved.head(2).to_torch(batch_size=2)
    kinds = {type(cell) for cell in batch["f"]}
    assert kinds == ({bytes} if media.default_mode == "bytes" else {str})


def test_a_notebook_shows_it(media: MediaType, saved: Dataset) -> None:
    shown = saved._repr_html_()
    assert ("<img" in shown) == (media.name in {"image", "video"})
    assert ("<audio" in shown) == (media.name == "audio")


def test_a_type_is_one_value_in_the_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that a new type needs; in lakefeed itself a file of its own, and a line for import-linter besides."""
    fields = (pa.field("length", pa.float64()),)
    kind = MediaType(
        "smell",
        Smell,
        default_mode="path",
        stat_fields=fields,
        content_types={".nose": "application/x-smell"},
        sniff=lambda head: "application/x-smell" if head.startswith(b"length ") else None,
        probe=misbehaving.probe,
    )
    monkeypatch.setitem(MEDIA.builtin, "smell", kind)
    (tmp_path / "rose.nose").write_bytes(b"length 3")
    saved = Dataset.from_dict({"f": [str(tmp_path / "rose.nose"), None]}).save("smells")
    assert saved.column_types == {"f": "smell"}
    assert [row["f"] and row["f"].length for row in saved.rows()] == [3.0, None]
    assert saved.filter("f.length > 2").load_files().to_arrow()["f"][0].as_py().endswith(".nose")
    assert infer_column_types(pa.table({"f": [b"length 3"]})) == {"f": "smell"}


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Smell(Handle):
    """A smell."""

    media: ClassVar[str] = "smell"

    length: float | None = None
