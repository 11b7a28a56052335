from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pyarrow as pa
import pytest

from lakefeed import Dataset, Image
from lakefeed.errors import (
    FileError,
    InvalidArgumentError,
    MissingFileError,
    SchemaError,
    TypeMismatchError,
    UnsupportedError,
)
from lakefeed.media import MEDIA, handles, infer_column_types, store_column
from lakefeed.media.cells import file_references
from lakefeed.storage import BlobStore
from lakefeed.storage.blobs.objects import digest_of
from lakefeed.storage.blobs.packs import raw_digests, read_index
from lakefeed.storage.disk.hashing import sha256_bytes
from tests.sdk.media.pictures import HEIGHT, HOSTILE, WIDTH, encoded, write

NOTHING = dict.fromkeys(MEDIA["image"].struct.names)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"), tmp_path / "cache")


def stored(column: Any, store: BlobStore, **options: Any) -> list[Any]:
    settings = {"copy": "auto", "stats": True, "column_name": "img"} | options
    column = column if isinstance(column, pa.Array) else pa.array(column, pa.string())
    result = store_column(column, settings.pop("media", "image"), store, **settings)
    result.validate(full=True)
    return result.to_pylist()


def blobs(store: BlobStore) -> list[str]:
    """The digests of everything that is stored, as often as it is."""
    alone = [digest_of(info.key) for info in store.backend.objects.list("sha256")]
    packs = [read_index(store.backend.objects, info) for info in store.backend.objects.list("packs")]
    return sorted(alone + [digest.hex() for pack in packs for digest in raw_digests(pack)])


def test_a_local_image(store: BlobStore, tmp_path: Path) -> None:
    [cell, null] = stored([write(tmp_path / "in" / "Cat.PNG"), None], store)
    assert null is None
    assert cell == {
        "url": None,
        "sha256": sha256_bytes(encoded()),
        "size": len(encoded()),
        "content_type": "image/png",
        "filename": "Cat.PNG",
        "width": WIDTH,
        "height": HEIGHT,
    }
    assert store.read(cell["sha256"]) == encoded()


def test_every_kind_of_text_column(store: BlobStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    texts = pa.array([path, None, path])
    cells = stored(texts, store)
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        assert stored(texts.cast(kind), store) == cells
    assert stored(texts.slice(1), store) == cells[1:]
    assert stored(pa.nulls(2), store) == [None, None]
    assert stored([], store) == []


def test_relative_paths_and_file_urls(store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "my cat.png")
    monkeypatch.chdir(tmp_path)
    [relative, url] = stored(["in/my cat.png", (tmp_path / "in" / "my cat.png").as_uri()], store)
    assert relative == url
    assert (relative["filename"], relative["url"]) == ("my cat.png", None)


def test_equal_bytes_are_stored_once(store: BlobStore, tmp_path: Path) -> None:
    cells = stored([write(tmp_path / "a.png"), write(tmp_path / "b.png")], store)
    assert [cell["filename"] for cell in cells] == ["a.png", "b.png"]
    assert blobs(store) == [sha256_bytes(encoded())]


def test_many_rows_keep_their_order(store: BlobStore, tmp_path: Path) -> None:
    contents = {write(tmp_path / f"{n}.bin", b"%d" % n): b"%d" % n for n in range(200)}
    cells = stored(list(contents), store, media="file")
    assert [cell["sha256"] for cell in cells] == [sha256_bytes(data) for data in contents.values()]


def test_equal_bytes_in_many_chunks_are_stored_once(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads look up what they have read while others' contents are on their way."""
    monkeypatch.setattr("lakefeed.media.store_columns.GROUP_ROWS", 16)
    monkeypatch.setattr("lakefeed.media.contents.CHUNK_FILES", 2)
    contents = [b"%d" % (number % 7) for number in range(200)]
    paths = []
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(content)
        paths.append(str(path))
    cells = stored(paths, store, media="file")
    assert [store.read(cell["sha256"]) for cell in cells] == contents
    assert [cell["filename"] for cell in cells] == [Path(path).name for path in paths]
    assert blobs(store) == sorted({sha256_bytes(content) for content in contents})


def test_the_first_of_several_errors_is_told(store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One found while reading comes before a missing file further down, which is found by a look ahead."""
    monkeypatch.setattr("lakefeed.media.store_columns.GROUP_ROWS", 2)
    paths = [write(tmp_path / f"{number}.png") for number in range(6)]
    Path(paths[4]).unlink()
    real = os.open

    def failing(path: Any, *more: Any, **options: Any) -> int:
        if path == paths[1]:
            raise OSError(5, "the disk is broken")
        return real(path, *more, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(FileError, match=r"row 1.*the disk is broken"):
        stored(paths, store)
    assert blobs(store) == []


def test_remote_urls_are_kept_as_references(store: BlobStore, tmp_path: Path) -> None:
    url = "https://host/cat.png?id=1"
    assert stored([url, None], store) == [{**NOTHING, "url": url}, None]
    assert not blobs(store)


def test_copy_true_copies_what_can_be_fetched(store: BlobStore, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/cat.png"
    fsspec.filesystem("memory").pipe_file(url, encoded())
    [cell] = stored([url], store, copy=True)
    assert (cell["url"], cell["sha256"], cell["width"]) == (url, sha256_bytes(encoded()), WIDTH)
    assert stored([url], store, copy="auto") == [{**NOTHING, "url": url}]


def test_copy_true_refuses_what_cannot_be_fetched(store: BlobStore) -> None:
    with pytest.raises(UnsupportedError, match=r"column 'img', row 11: cannot fetch 'ftp://b/cat\.png'"):
        stored([None, "ftp://b/cat.png"], store, copy=True, first_row=10)


def test_copy_false_touches_nothing(store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = stored(["gone.png", "https://host/cat.png"], store, copy=False)
    assert cells == [{**NOTHING, "url": (tmp_path / "gone.png").as_uri()}, {**NOTHING, "url": "https://host/cat.png"}]
    assert not blobs(store)


def test_contents_in_memory(store: BlobStore) -> None:
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        cells = stored(pa.array([b"", None, encoded("GIF"), encoded("GIF")], kind), store, copy=False)
        assert [cell and cell["size"] for cell in cells] == [0, None, len(encoded("GIF")), len(encoded("GIF"))]
        assert cells[2] == cells[3]
        assert (cells[2]["content_type"], cells[2]["width"], cells[2]["filename"]) == ("image/gif", WIDTH, None)
        assert store.read(cells[2]["sha256"]) == encoded("GIF")


def test_records_pass_through(store: BlobStore, tmp_path: Path) -> None:
    column = store_column(
        pa.array([write(tmp_path / "a.png"), None]), "image", store, copy="auto", stats=True, column_name="img"
    )
    again = store_column(column, "image", store, copy="auto", stats=True, column_name="img")
    assert again.equals(column)
    as_file = store_column(column, "file", store, copy="auto", stats=True, column_name="img")
    assert as_file.type == MEDIA["file"].struct
    assert as_file[0]["sha256"] == column[0]["sha256"]


def test_records_that_only_name_a_file_are_resolved(store: BlobStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    records = [{"url": path}, {"url": "s3://b/x.png"}, None, {"url": None}]
    column = pa.array([record and {**record, "sha256": None, "size": 3} for record in records])
    local, remote, null, empty = stored(column, store)
    assert (local["url"], local["filename"], local["width"]) == (None, "a.png", WIDTH)
    assert (remote["url"], remote["size"]) == ("s3://b/x.png", 3)
    assert null is None
    assert empty["sha256"] is None


def test_stats_false_records_none(store: BlobStore, tmp_path: Path) -> None:
    [cell] = stored([write(tmp_path / "a.png")], store, stats=False)
    assert (cell["width"], cell["height"], cell["content_type"]) == (None, None, "image/png")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_have_no_statistics(
    name: str, store: BlobStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [write(tmp_path / "good.png"), write(tmp_path / "bad.png", HOSTILE[name])]
    good, bad = stored(paths, store, first_row=5)
    assert (good["width"], bad["width"], bad["height"]) == (WIDTH, None, None)
    assert store.read(bad["sha256"]) == HOSTILE[name]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(
        f"1 files have no statistics; the first is column 'img', row 6: {paths[1]!r}: "
    )


def test_a_wrong_suffix_is_seen_through(store: BlobStore, tmp_path: Path) -> None:
    [cell] = stored([write(tmp_path / "cat.png", encoded("JPEG"))], store)
    assert (cell["content_type"], cell["width"]) == ("image/jpeg", WIDTH)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.JPG", "image/jpeg"), ("a.json", "application/json"), ("a.nosuch", None), ("README", None)],
)
def test_content_types_by_name(name: str, expected: str | None, store: BlobStore, tmp_path: Path) -> None:
    [cell] = stored([write(tmp_path / name, b"words")], store, stats=False)
    assert cell["content_type"] == (expected or "application/octet-stream")


def test_a_missing_file_is_named_and_nothing_is_stored(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [write(tmp_path / "a.png"), None, "gone.png", "gone too.png"]
    with pytest.raises(MissingFileError, match=r"column 'img', row 102: there is no file 'gone.png' \(looked in") as e:
        stored(paths, store, first_row=100)
    assert "column_types=None" in str(e.value)
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("text", ["", "null\0byte", "a.png/b.png"])
def test_text_that_is_no_path(text: str, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.png")
    with pytest.raises(FileError, match="column 'img', row 0"):
        stored([text], store)


def test_what_is_no_regular_file(store: BlobStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FileError, match=r"row 0: .* is not a regular file"):
            stored([str(path)], store)


def test_bad_arguments(store: BlobStore) -> None:
    with pytest.raises(InvalidArgumentError, match=r"copy_files must be .* got 'yes'"):
        stored(["a"], store, copy="yes")
    with pytest.raises(TypeMismatchError, match="column 'img' is int64"):
        stored(pa.array([1]), store)


def test_a_store_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(FileError, match=r"cannot write to the blob store .*blobs': Not a directory"):
        stored([write(tmp_path / "a.png")], BlobStore(str(tmp_path / "blobs"), tmp_path / "cache"))


@pytest.mark.live
def test_a_large_file_is_streamed(store: BlobStore, tmp_path: Path) -> None:
    size = 300 << 20
    with (tmp_path / "large.bin").open("wb") as target:
        target.truncate(size)
    script = f"""
import resource
import pyarrow as pa
from pathlib import Path
from lakefeed.media import store_column
from lakefeed.storage import BlobStore
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = BlobStore({str(tmp_path / "blobs")!r}, Path({str(tmp_path / "cache")!r}))
column = pa.array([{str(tmp_path / "large.bin")!r}])
cell = store_column(column, "image", store, copy="auto", stats=True, column_name="x")[0].as_py()
store.local_path(cell["sha256"], ".bin")
print(cell["size"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=110)
    stored_bytes, grown_kib = map(int, done.stdout.split())
    assert stored_bytes == size
    assert grown_kib < 60 << 10


WITHOUT_PILLOW = """
import sys
sys.path.insert(0, sys.argv[4])
import pyarrow as pa
from pathlib import Path
from lakefeed.errors import MissingDependencyError
from lakefeed.media import handles, store_column
from lakefeed.storage import BlobStore
store = BlobStore(sys.argv[1], Path(sys.argv[2]))
given = pa.array([sys.argv[3]] * 4)
try:
    store_column(given, "image", store, copy="auto", stats=True, column_name="x")
except MissingDependencyError as error:
    print(error)
column = store_column(given, "image", store, copy="auto", stats=False, column_name="x")
print(column[0]["width"], column[0]["content_type"])
[handle, *_] = handles(column, "image", store)
handle._repr_html_()
try:
    handle.pil()
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.live
def test_without_pillow_images_are_refused_unless_their_statistics_are_not_wanted(tmp_path: Path) -> None:
    write(tmp_path / "path" / "PIL.py", b"raise ImportError('no such library')")
    places = [str(tmp_path / "blobs"), str(tmp_path / "cache"), write(tmp_path / "a.png"), str(tmp_path / "path")]
    command = [sys.executable, "-c", WITHOUT_PILLOW, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    refused, *rest = done.stdout.splitlines()
    advice = "images need Pillow: pip install 'lakefeed[media]'"
    assert refused.startswith(advice)
    assert "'width', 'height'" in refused
    assert "stats=False" in refused
    assert rest == ["None image/png", advice]


DIGEST = pa.struct({"url": pa.string(), "sha256": pa.string()})


@pytest.mark.parametrize("digest", ["zz", "", "A" * 64, "../../etc/passwd", "a" * 63])
def test_a_record_whose_digest_is_none_is_refused(digest: str, tmp_path: Path) -> None:
    rows = [{"f": None}, {"f": {"url": "a.png", "sha256": digest}}]
    write(tmp_path / "a.png")
    with pytest.raises(InvalidArgumentError, match=r"column 'f', row 1: sha256 must be 64"):
        Dataset.from_pylist(rows, schema=pa.schema({"f": DIGEST})).save("bad", column_types={"f": "image"})
    assert not Dataset.exists("bad")


def test_a_record_of_what_the_store_does_not_hold_is_refused() -> None:
    rows = [{"f": {"url": None, "sha256": "a" * 64}}]
    with pytest.raises(MissingFileError, match="column 'f', row 0: the blob store has no content with sha256 aaaa"):
        Dataset.from_pylist(rows, schema=pa.schema({"f": DIGEST})).save("bad", column_types={"f": "image"})
    assert not Dataset.exists("bad")


def test_contents_and_paths_in_one_column(store: BlobStore, tmp_path: Path) -> None:
    """Hugging Face writes files into Parquet as structs of ``bytes`` and ``path``."""
    cells = [
        {"bytes": encoded(), "path": "cat.png"},
        None,
        {"bytes": None, "path": write(tmp_path / "dog.png", encoded("GIF"))},
        {"bytes": None, "path": None},
        {"bytes": encoded(), "path": None},
        {"bytes": None, "path": "http://127.0.0.1:1/far.png"},
    ]
    for binary in (pa.binary(), pa.large_binary()):
        column = pa.array(cells, pa.struct([("bytes", binary), ("path", pa.string())]))
        assert infer_column_types(pa.table({"img": column})) == {"img": "image"}
        rows = stored(column, store)
        assert [row and row["filename"] for row in rows] == ["cat.png", None, "dog.png", None, None, None]
        digests = [sha256_bytes(encoded()), None, sha256_bytes(encoded("GIF")), None, sha256_bytes(encoded()), None]
        assert [row and row["sha256"] for row in rows] == digests
        assert (rows[3], rows[5]["url"], rows[0]["width"]) == (None, "http://127.0.0.1:1/far.png", WIDTH)
        assert stored(column.slice(2), store) == rows[2:]
        shown = handles(column, "image", store)
        assert [None if handle is None else handle.name for handle in shown[:5]] == [
            "cat.png",
            None,
            "dog.png",
            None,
            "",
        ]
        references = file_references(column)
        assert [reference and reference.suffix for reference in references[:3]] == [".png", None, ".png"]
    with pytest.raises(TypeMismatchError, match="cannot hold files"):
        stored(pa.array([{"bytes": "text", "path": ""}]), store)


def test_cells_of_python_that_are_contents_or_paths(home: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    picture = PIL.Image.new("L", (WIDTH, HEIGHT))
    for cells in ([encoded(), path, None], [picture, Path(path), None], [Image(data=encoded()), Image(path), None]):
        dataset = Dataset.from_dict({"img": cells})
        assert dataset.column_types == {"img": "image"}
        assert dataset.load_files("bytes").to_arrow()["img"].null_count == 1
        rows = list(dataset.save("mixed", if_exists="new_version").rows())
        assert [row["img"] and (row["img"].width, row["img"].filename) for row in rows] == [
            (WIDTH, None),
            (WIDTH, "a.png"),
            None,
        ]
    with pytest.raises(SchemaError, match="do not fit one type"):
        Dataset.from_dict({"word": [b"abc", "abc"]})


def test_the_first_file_without_statistics_is_named_by_its_row(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [write(tmp_path / f"{n}.png", b"%d" % n if n in (13, 17) else encoded()) for n in range(20)]
    contents = [Path(path).read_bytes() for path in paths]
    for cells, name in ((paths, repr(paths[13])), (contents, "2 bytes")):
        caplog.clear()
        saved = Dataset.from_dict({"n": list(range(20)), "img": cells}).save("photos", if_exists="new_version")
        assert saved.filter("img.width IS NULL").to_arrow()["n"].to_pylist() == [13, 17]
        assert f"2 files have no statistics; the first is column 'img', row 13: {name}: " in caplog.text
