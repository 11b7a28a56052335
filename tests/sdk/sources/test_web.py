"""S01, S12, S13 and M14 over the web: files, chains and archives at a loopback server that counts and fails."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from lakefeed import Dataset
from lakefeed.errors import FileError, FormatError, InvalidArgumentError, MissingFileError, SchemaError
from tests.sdk.web import Handler, Site, answers, hangs, resets, serves, serving

pytest.importorskip("urllib3")

ROWS = [{"x": n, "y": f"row {n}"} for n in range(50)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
CSV = b"x,y\n" + b"".join(f"{row['x']},{row['y']}\n".encode() for row in ROWS)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    with serving() as server:
        yield server


def read(location: str | list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = Dataset.from_file(location).to_arrow().to_pylist()
    return rows


def parquet(rows: list[dict[str, object]] = ROWS) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=20)
    return sink.getvalue()


def arrow() -> bytes:
    sink = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(ROWS), sink, chunksize=20)
    return sink.getvalue()


def zipped(**members: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return sink.getvalue()


def tarred(mode: str = "w", **members: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]  # a mode
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


FILES = {
    "r.jsonl": LINES,
    "r.json": LINES,
    "r.csv": CSV,
    "r.parquet": parquet(),
    "r.arrow": arrow(),
    "r.jsonl.gz": gzip.compress(LINES),
    "r.csv.bz2": bz2.compress(CSV),
    "r.csv.xz": lzma.compress(CSV),
    "r.parquet.gz": gzip.compress(parquet()),
    "r.jsonl.zst": pa.compress(LINES, "zstd", asbytes=True),
}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_files_of_the_web(web: Site, name: str, ranges: bool) -> None:
    web.ranges = ranges
    assert read(web.put(name, FILES[name])) == ROWS


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet", "r.csv.xz"])
def test_a_server_that_tells_no_size(web: Site, name: str) -> None:
    web.sizes = False
    assert read(web.put(name, FILES[name])) == ROWS


def test_queries_are_no_part_of_the_suffix(web: Site) -> None:
    assert read(web.put("r.jsonl", LINES) + "?token=a.b/c") == ROWS


FAULTS = {
    "429": answers(429),
    "429 and a wait": answers(429, Retry_After="0"),
    "500": answers(500),
    "502": answers(502),
    "503": answers(503),
    "504": answers(504),
    "reset": resets,
    "timeout": hangs(0.6),
}


@pytest.mark.live
@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet", "r.csv.xz"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again(web: Site, fault: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__TIMEOUT", "0.3")
    url = web.put(name, FILES[name])
    for before in range(3):
        web.faults = [serves] * before + [FAULTS[fault]] * 2
        assert read(url) == ROWS


def test_a_stream_goes_on_where_it_was(web: Site) -> None:
    web.ranges = False
    url = web.put("r.csv", CSV)
    dataset = Dataset.from_file(url)
    web.faults = [resets]
    assert dataset.to_arrow().to_pylist() == ROWS


@pytest.mark.parametrize("fault", [answers(503), hangs(0.5)])
def test_what_does_not_pass_is_an_error_in_the_end(web: Site, fault: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "2")
    monkeypatch.setenv("LAKEFEED__FILES__TIMEOUT", "0.2")
    url = web.put("r.jsonl", LINES)
    web.faults = [fault] * 100  # type: ignore[list-item]  # faults
    with pytest.raises(FileError, match=r"r\.jsonl' cannot be read after 3 tries"):
        Dataset.from_file(url)


def test_what_is_missing_or_forbidden_is_said_at_once(web: Site) -> None:
    with pytest.raises(MissingFileError, match=r"there is no file 'http.*none\.csv'"):
        Dataset.from_file(f"{web.url}/none.csv")
    asked = len(web.requests)
    assert asked <= 2
    url = web.put("r.csv", CSV)
    web.faults = [answers(403)] * 9
    with pytest.raises(FileError, match="the server answered 403") as error:
        Dataset.from_file(url)
    assert not isinstance(error.value, MissingFileError)


def test_no_server(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "1")
    with pytest.raises(FileError, match="after 2 tries"):
        Dataset.from_file("http://127.0.0.1:9/r.csv")


def test_a_file_that_changes_while_it_is_read(web: Site) -> None:
    """What was read before and after would not fit together."""
    first, second = (b"x\n" + b"%d\n" % n * 24_000_000 for n in (1, 2))
    url = web.put("r.csv", first)
    batches = Dataset.from_file(url).batches(format="arrow")
    next(batches)
    web.put("r.csv", second)
    web.faults = [answers(503)] * 2
    with pytest.raises(FileError, match="changed while it was read"):
        list(batches)


def test_the_first_row_needs_a_few_source_batches(web: Site) -> None:
    content = LINES * 50_000
    assert len(content) > 60_000_000
    url = web.put("big.jsonl", content)
    dataset = Dataset.from_file(url)
    assert web.sent < 20_000_000
    before = web.sent
    rows = dataset.rows()
    assert next(rows) == ROWS[0]
    rows.close()
    assert web.sent - before < 32_000_000


def test_nothing_but_the_first_file_is_touched_before_iteration(web: Site) -> None:
    urls = [web.put(f"{n}.csv", CSV) for n in range(20)]
    dataset = Dataset.from_file(urls)
    assert set(web.gets) <= {"/0.csv"}
    assert next(dataset.rows()) == ROWS[0]
    assert set(web.gets) <= {"/0.csv", "/1.csv"}
    assert dataset.count() == 20 * 50


def test_a_limit_on_parquet_reads_one_row_group(web: Site) -> None:
    table = pa.table({"x": range(4_000_000)})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=100_000, compression="none", use_dictionary=False)
    url = web.put("x.parquet", sink.getvalue())
    assert Dataset.from_file(url).head(3).to_arrow()["x"].to_pylist() == [0, 1, 2]
    assert web.sent < len(sink.getvalue()) / 2


def test_several_remote_files_must_fit_the_first(web: Site) -> None:
    urls = [web.put("a.csv", b"x,y\n1,a\n"), web.put("b.csv", b"x,z\n1,a\n")]
    with pytest.raises(SchemaError, match=r"b\.csv' has columns 'x', 'z'"):
        Dataset.from_file(urls).to_arrow()


def test_memory_and_options_by_configuration(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"http": {"headers": {"X-Key": "secret"}}}))
    seen = []

    def look(handler: Handler) -> None:
        seen.append(handler.headers.get("X-Key"))
        handler.serve()

    url = web.put("r.csv", CSV)
    web.faults = [look] * 9
    assert read(url) == ROWS
    assert set(seen) == {"secret"}


# ------------------------------------------------------------------------------------------------ chains, archives


ARCHIVES = {
    "z.zip": ("zip", zipped(a__r0=LINES[:0], a__one=b"?", a__b__rows_jsonl=LINES)),
    "t.tar": ("tar", tarred(a__one=b"?", a__b__rows_jsonl=LINES)),
    "t.tar.gz": ("tar", tarred("w:gz", a__one=b"?", a__b__rows_jsonl=LINES)),
    "t.tgz": ("tar", tarred("w:gz", a__b__rows_jsonl=LINES)),
    "t.tar.xz": ("tar", tarred("w:xz", a__b__rows_jsonl=LINES)),
    "t.tar.zst": ("tar", pa.compress(tarred(a__b__rows_jsonl=LINES), "zstd", asbytes=True)),
}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", ARCHIVES)
def test_members_of_archives(web: Site, name: str, ranges: bool, tmp_path: Path) -> None:
    web.ranges = ranges
    kind, content = ARCHIVES[name]
    (tmp_path / name).write_bytes(content)
    for base in (web.put(name, content), str(tmp_path / name)):
        location = f"{kind}://a/b/rows_jsonl::{base}"
        assert Dataset.from_file(location, format="jsonl").to_arrow().to_pylist() == ROWS


def members(count: int, size: int = 1) -> dict[str, bytes]:
    return {f"d/{n:02}.csv": b"x\n" + b"%d\n" % n * size for n in range(count)}


def archive_of(kind: str, content: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_globs_inside_archives(web: Site, kind: str) -> None:
    content = {**members(12), "d/e/99.csv": b"x\n99\n", "readme.txt": b"no"}
    base = web.put(f"a.{kind}", archive_of(kind, content))
    everything = list(range(12))
    assert [row["x"] for row in read(f"{kind}://d/*.csv::{base}")] == everything
    assert [row["x"] for row in read(f"{kind}://**/*.csv::{base}")] == [*everything, 99]
    assert [row["x"] for row in read(f"{kind}://d/0[1-3].csv::{base}")] == [1, 2, 3]
    assert [row["x"] for row in read(f"{kind}://d/e/99.csv::{base}")] == [99]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_globs_of_archives(tmp_path: Path, kind: str) -> None:
    for n in range(3):
        (tmp_path / f"{n}.{kind}").write_bytes(archive_of(kind, {"r.csv": b"x\n%d\n" % n}))
    assert [row["x"] for row in read(f"{kind}://*.csv::{tmp_path}/*.{kind}")] == [0, 1, 2]


@pytest.mark.parametrize("name", ["r.csv.gz", "r.parquet", "r.arrow", "r.jsonl"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_any_format_in_an_archive(web: Site, kind: str, name: str) -> None:
    content = {"r.csv.gz": gzip.compress(CSV), **FILES}[name]
    base = web.put(f"a.{kind}", archive_of(kind, {f"in/{name}": content}))
    dataset = Dataset.from_file(f"{kind}://in/{name}::{base}")
    assert dataset.to_arrow().to_pylist() == ROWS
    assert dataset.select(["y"]).filter("y == 'row 7'").to_arrow().to_pylist() == [{"y": "row 7"}]
    assert dataset.slice(10, 12).to_arrow().to_pylist() == ROWS[10:12]


def test_an_archive_in_an_archive_and_a_named_compression(web: Site) -> None:
    inner = archive_of("zip", {"r.csv": CSV})
    base = web.put("outer.tar", archive_of("tar", {"in.zip": inner}))
    assert read(f"zip://r.csv::tar://in.zip::{base}") == ROWS
    url = web.put("download", gzip.compress(CSV))
    assert read(f"gzip://r.csv::{url}") == ROWS
    assert Dataset.from_file(f"gzip://::{url}", format="csv").count() == 50
    assert read(f"gzip://::{web.put('r.csv.gz', gzip.compress(CSV))}") == ROWS
    assert (
        read(f"tar://r.csv::gzip://x.tar::{web.put('blob', gzip.compress(archive_of('tar', {'r.csv': CSV})))}") == ROWS
    )


def test_a_tar_is_streamed_once_for_all_members(web: Site) -> None:
    content = archive_of("tar", members(40, 100_000))
    url = f"tar://d/*.csv::{web.put('a.tar', content)}"
    dataset = Dataset.from_file(url)
    before = web.sent
    assert dataset.count() == 40 * 100_000
    assert web.sent - before < 1.3 * len(content)


def test_the_first_row_of_a_tar_needs_its_beginning_only(web: Site) -> None:
    content = archive_of("tar", members(60, 500_000))
    assert len(content) > 60_000_000
    dataset = Dataset.from_file(f"tar://**/*.csv::{web.put('a.tar', content)}")
    assert next(dataset.rows()) == {"x": 0}
    assert web.sent < 30_000_000


def test_a_member_of_a_large_zip_is_found_without_reading_all(web: Site) -> None:
    content = archive_of("zip", members(60, 500_000))
    assert read(f"zip://d/50.csv::{web.put('a.zip', content)}")[0] == {"x": 50}
    assert web.sent < 30_000_000


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_missing_member_says_what_there_is(web: Site, kind: str) -> None:
    base = web.put(f"a.{kind}", archive_of(kind, {"a/rows.csv": CSV, "a/other.csv": CSV}))
    with pytest.raises(MissingFileError, match=r"no member 'a/row\.csv' in the archive .*it has 'a/rows.csv'.*mean"):
        Dataset.from_file(f"{kind}://a/row.csv::{base}")
    with pytest.raises(MissingFileError, match=r"no member matches 'b/\*\.csv' in the archive"):
        Dataset.from_file(f"{kind}://b/*.csv::{base}")
    with pytest.raises(MissingFileError, match="there is no file"):
        Dataset.from_file(f"{kind}://a.csv::{web.url}/none.{kind}")
    with pytest.raises(MissingFileError, match="there is no file"):
        Dataset.from_file(f"{kind}://a.csv::none.{kind}")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../r.csv", "a/../../r.csv", "/etc/r.csv", "..\\r.csv", "C:/r.csv"])
def test_members_that_lead_out_are_refused(web: Site, kind: str, name: str) -> None:
    base = web.put(f"a.{kind}", archive_of(kind, {name: CSV}))
    with pytest.raises(InvalidArgumentError, match="leads out"):
        Dataset.from_file(f"{kind}://{name}::{base}")
    with pytest.raises((FormatError, MissingFileError)):
        Dataset.from_file(f"{kind}://**/*.csv::{base}")


def test_links_in_a_tar_are_no_files(web: Site) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        link = tarfile.TarInfo("r.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(MissingFileError):
        Dataset.from_file(f"tar://r.csv::{web.put('a.tar', sink.getvalue())}")


@pytest.mark.parametrize(
    "url",
    ["zip://::a.zip", "tar://::a.tar", "zip://a.csv::", "simplecache://::http://h/a.csv", "file://a.csv::a.zip"],
)
def test_chains_that_lead_nowhere(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"::"):
        Dataset.from_file(url)


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("zip://a.csv::", b"no archive"),
        ("zip://a.csv::", archive_of("zip", {"a.csv": CSV})[:-30]),
        ("tar://a.csv::", b"no archive" * 100),
        ("tar://a.csv::", archive_of("tar", {"a.csv": CSV})[:700]),
        ("tar://a.csv::", b""),
        ("gzip://a.csv::", CSV),
        ("gzip://a.csv::", gzip.compress(CSV)[:-9]),
    ],
    ids=["no zip", "cut zip", "no tar", "cut tar", "empty tar", "no gzip", "cut gzip"],
)
def test_broken_archives_say_so(web: Site, url: str, content: bytes) -> None:
    with pytest.raises(FormatError, match="cannot be read as"):
        Dataset.from_file(url + web.put("archive", content)).to_arrow()


def test_an_archive_alone_says_how_to_name_members(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'zip://\*\.csv::a\.zip'"):
        Dataset.from_file("a.zip")


def test_members_must_fit_the_first(web: Site) -> None:
    base = web.put("a.tar", archive_of("tar", {"a.csv": b"x\n1\n", "b.csv": b"z\n1\n"}))
    with pytest.raises(SchemaError, match=r"tar://b\.csv::http.* has columns 'z'"):
        Dataset.from_file(f"tar://*.csv::{base}").to_arrow()


# ------------------------------------------------------------------------------------------------ the seed's examples


def test_seed_chained_urls(web: Site) -> None:
    """`xopen("zip://combined/train.json::https://…/aqa_v1.0.zip")` and `xopen("gzip://mkqa.jsonl::https://…")`."""
    train = b'{"data": [{"title": "Brain", "paragraphs": [{"context": "Another approach to brain function"}]}]}'
    url = web.put("data/aqa_v1.0.zip", archive_of("zip", {"combined/train.json": train}))
    rows = Dataset.from_file(f"zip://combined/train.json::{url}")
    assert next(iter(rows))["data"][0]["title"] == "Brain"
    mkqa = (
        b'{"query": "how long did it take the twin towers to be built", "answers": {"en": [{"type": "number_wi"}]}}\n'
    )
    url2 = web.put("dataset/mkqa.jsonl.gz", gzip.compress(mkqa))
    assert next(iter(Dataset.from_file(f"gzip://mkqa.jsonl::{url2}")))["query"].startswith("how long")


def test_seed_join_into_an_archive(web: Site) -> None:
    """`xjoin("zip://::https://…", "combined", "train.json")`: a chain is text, so text is joined."""
    url = web.put("aqa.zip", archive_of("zip", {"combined/train.json": LINES}))
    path = "/".join(["combined", "train.json"])
    assert read(f"zip://{path}::{url}") == ROWS


# ------------------------------------------------------------------------------------------------ other stores


class Shelf(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that wants a key, is busy at times, and gives files that are read in parts, as S3's library does."""

    protocol = "shelf"
    busy = 0
    cachable = False

    def __init__(self, key: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.key = key

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("shelf://").strip("/")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, **options)
        if self.key != "secret":
            raise PermissionError("wrong key")
        return ShelfFile(self, path, mode, **options)


class ShelfFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    def _fetch_range(self, start: int, end: int) -> bytes:
        if Shelf.busy:
            Shelf.busy -= 1
            raise OSError(errno.EBUSY, "Slow Down")
        content: bytes = self.fs.store[self.path].getvalue()[start:end]
        return content


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv.xz", "r.parquet", "r.arrow"])
def test_stores_by_configuration_are_read_steadily(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    Shelf.store, Shelf.pseudo_dirs = {}, [""]
    Shelf(key="secret").pipe_file(f"/bucket/{name}", FILES[name])
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    with pytest.raises(FileError, match="wrong key"):
        Dataset.from_file(f"shelf://bucket/{name}")
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps({"shelf": {"key": "secret"}}))
    for busy in (0, 1, 4):
        Shelf.busy = busy
        assert read(f"shelf://bucket/{name}") == ROWS
    assert read(f"shelf://bucket/{name[:2]}{name[2:].replace('x', '?')}") == ROWS
    with pytest.raises(MissingFileError, match=r"shelf://bucket/none\.csv"):
        Dataset.from_file("shelf://bucket/none.csv")
    Shelf.busy = 99
    with pytest.raises(FileError, match=r"after 6 tries: OSError.*Slow Down"):
        read(f"shelf://bucket/{name}")
    Shelf.busy = 0


def test_no_such_kind_of_url() -> None:
    with pytest.raises(FileError, match="nosuch"):
        Dataset.from_file("nosuch://place/r.csv")
