"""All rows of a read belong to one state of the file, wherever it lies and however it is replaced."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
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
from lakefeed.errors import ChangedFileError, ConfigError, FileError
from lakefeed.storage.disk.file_identity import Identities, Identity, identity_of_response
from tests.sdk.web import Fault, Handler, Site, answers, resets, serving

pytest.importorskip("urllib3")

ROWS = 300_000
LINES = 120_000
"""A CSV of these needs several ranges."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "2")
    with serving() as server:
        yield server


def csv(value: int, rows: int = LINES) -> bytes:
    return b"x,y\n" + b"%d,%b\n" % (value, b"y" * 100) * rows


def parquet(value: int) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"x": pa.array([value] * ROWS, pa.int32())})
    pq.write_table(table, sink, row_group_size=ROWS // 10, compression="none", use_dictionary=False)
    return sink.getvalue()


def arrow(value: int) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"x": pa.array([value] * ROWS, pa.int64())})
    feather.write_feather(table, sink, chunksize=ROWS // 10, compression="uncompressed")
    return sink.getvalue()


def zipped(value: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", csv(value))
    return sink.getvalue()


KINDS: dict[str, tuple[Callable[[int], bytes], str]] = {
    "a.csv": (csv, ""),
    "a.parquet": (parquet, ""),
    "a.arrow": (arrow, ""),
    "a.zip": (zipped, "zip://a.csv::"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_replaced_between_two_ranges_is_an_error_and_nothing_is_saved(site: Site, name: str) -> None:
    make, link = KINDS[name]
    url = site.put(name, make(1))
    rows = Dataset.from_file(link + url)
    new, begun = make(2), len(site.gets)
    assert len(new) == len(site.files[f"/{name}"])

    def replace(handler: Handler) -> None:
        if len(site.gets) >= begun + (8 if name == "a.arrow" else 3):  # counting its rows takes three
            site.put(name, new)
        handler.serve()

    site.always[f"/{name}"] = replace
    with pytest.raises(ChangedFileError, match=rf"{name}' changed while it was read: ETag .* became"):
        rows.save("mixed")
    assert not Dataset.exists("mixed")
    assert set(Dataset.from_file(link + url).to_arrow()["x"].to_pylist()) == {2}


VALIDATORS: dict[str, Callable[[bytes], dict[str, str]]] = {
    "weak": lambda content: {"ETag": f'W/"{content[4]}"'},
    "unquoted": lambda content: {"ETag": f"{content[4]}"},
    "time": lambda content: {"Last-Modified": f"Mon, 01 Jun 2026 00:00:0{content[4] % 10} GMT"},
}


def served(more: Callable[[bytes], dict[str, str]], *, conditions: bool = True) -> Fault:
    """An answer with these validators; ``conditions``: as the server of the tests, which knows no ``If-Range``."""

    def serve(handler: Handler) -> None:
        content = handler.content or b""
        first, last = (handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")
        start, stop = int(first), min(int(last or len(content)) + 1, len(content))
        if conditions and (tag := handler.headers.get("If-Range")) and tag != more(content).get("ETag"):
            handler.answer(200, content, **more(content))
            return
        ranged = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        handler.answer(206, content[start:stop], **ranged, **more(content))

    return serve


@pytest.mark.parametrize("kind", VALIDATORS)
def test_weak_tags_and_times_are_compared_and_are_no_condition(site: Site, kind: str) -> None:
    url = site.put("a.csv", csv(1))
    site.always["/a.csv"] = served(VALIDATORS[kind])
    batches = Dataset.from_file(url).batches(format="arrow")
    assert next(batches)["x"][0].as_py() == 1
    assert not any("If-Range" in sent for sent in site.headers)
    site.put("a.csv", csv(2))
    with pytest.raises(ChangedFileError, match=r"ETag|modification time"):
        list(batches)


def test_a_strong_tag_is_a_condition_and_a_server_that_ignores_it_is_noticed(site: Site) -> None:
    def tag(content: bytes) -> dict[str, str]:
        return {"ETag": f'"{content[4]}"'}

    for conditions in (True, False):
        url = site.put("a.csv", csv(1, 4 * LINES))
        site.always["/a.csv"] = served(tag, conditions=conditions)
        batches = Dataset.from_file(url).batches(format="arrow")
        site.headers.clear()
        next(batches)
        while "If-Range" not in site.headers[-1]:
            next(batches)
        assert site.headers[-1]["If-Range"] == '"49"'
        site.put("a.csv", csv(2, 4 * LINES))
        with pytest.raises(ChangedFileError, match='ETag "49" became "50"'):
            list(batches)


def test_without_any_validator_another_length_is_noticed(site: Site) -> None:
    site.validators = False
    url = site.put("a.csv", csv(1))
    batches = Dataset.from_file(url).batches(format="arrow")
    next(batches)
    site.put("a.csv", csv(2, LINES + 1))
    with pytest.raises(ChangedFileError, match=r"size .* became"):
        list(batches)


def test_a_tag_that_a_server_no_longer_sends_is_asked_for_again_and_then_an_error(site: Site) -> None:
    url = site.put("a.csv", csv(1))
    rows = Dataset.from_file(url)
    batches = rows.batches(format="arrow")
    next(batches)
    site.validators = False
    with pytest.raises(FileError, match="after 3 tries: ConnectionError: the server no longer sends"):
        list(batches)


@pytest.mark.parametrize("ranges", [True, False])
def test_reading_that_goes_on_after_a_broken_connection_is_of_one_state(site: Site, ranges: bool) -> None:
    site.ranges = ranges
    url = site.put("a.csv", csv(1))
    rows = Dataset.from_file(url)

    def breaks(handler: Handler) -> None:
        try:
            resets(handler)
        finally:  # the client may have hung up
            site.put("a.csv", csv(2))

    site.faults = [lambda handler: handler.serve(), breaks] if ranges else []
    if not ranges:
        assert rows.count() == LINES
        site.faults = [half_and_new(site)]
    with pytest.raises(ChangedFileError):
        list(rows.batches(format="arrow"))


def half_and_new(site: Site) -> Fault:
    def fault(handler: Handler) -> None:
        content = handler.content or b""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", f'"{hash(content)}"')
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        site.put("a.csv", csv(2))
        handler.close_connection = True

    return fault


def test_a_plan_that_was_pickled_reads_the_file_that_was_planned(site: Site, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(csv(1, 9))
    (tmp_path / "b.parquet").write_bytes(parquet(1))
    for place in (site.put("a.csv", csv(1)), str(tmp_path / "b.csv"), str(tmp_path / "b.parquet")):
        rows = Dataset.from_file(place)
        sent = pickle.dumps(rows)
        assert pickle.loads(sent).head(1).to_arrow()["x"].to_pylist() == [1]
        new = csv(2) if place.startswith("http") else parquet(2) if place.endswith("parquet") else csv(2, 10)
        if place.startswith("http"):
            site.put("a.csv", new)
        else:
            Path(place).write_bytes(new)
        with pytest.raises(ChangedFileError):
            pickle.loads(sent).to_arrow()
        assert rows.head(1).to_arrow()["x"].to_pylist() == [2]  # a new run of the same dataset


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow"])
@pytest.mark.parametrize("way", ["replaced", "written", "grown"])
def test_a_local_file_that_changes_while_it_is_read(tmp_path: Path, name: str, way: str) -> None:
    make = KINDS[name][0]
    path = tmp_path / name
    path.write_bytes(make(1))
    batches = Dataset.from_file(str(path)).batches(format="arrow")
    assert next(batches)["x"][0].as_py() == 1
    if way == "replaced":
        (tmp_path / "new").write_bytes(make(2))
        (tmp_path / "new").replace(path)
    else:
        with path.open("r+b" if way == "written" else "ab") as file:
            file.write(make(2))
    if way == "replaced" and name == "a.csv":  # the one that was opened is still there
        assert {value for batch in batches for value in batch["x"].to_pylist()} == {1}
        return
    with pytest.raises(ChangedFileError, match=f"{name}' changed while it was read"):
        list(batches)


def test_a_local_file_replaced_by_one_of_the_same_size_and_time(tmp_path: Path) -> None:
    path, new = tmp_path / "a.parquet", tmp_path / "new"
    path.write_bytes(parquet(1))
    new.write_bytes(parquet(2))
    status = path.stat()
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    batches = Dataset.from_file(str(path)).batches(format="arrow")
    next(batches)
    new.replace(path)
    with pytest.raises(ChangedFileError, match="inode"):
        list(batches)


def test_epochs_of_a_loader_are_about_one_state(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(1))
    loader = Dataset.from_file(str(path)).to_torch(batch_size=ROWS)
    assert len(list(loader)) == 1
    path.write_bytes(parquet(2))
    with pytest.raises(ChangedFileError):
        list(loader)


# ------------------------------------------------------------------------------------------------ encoded answers


def encoded(name: str) -> Fault:
    """A server that sends what it was asked not to: the body packed, and ranges of that."""

    def serve(handler: Handler) -> None:
        content = gzip.compress(handler.content or b"", mtime=0)
        sent = handler.headers.get("Range")
        if sent is None:
            handler.answer(200, content, ETag='"packed"', Content_Encoding=name)
            return
        first, last = sent.removeprefix("bytes=").split("-")
        piece = content[int(first) : int(last) + 1]
        place = f"bytes {first}-{int(first) + len(piece) - 1}/{len(content)}"
        handler.answer(206, piece, ETag='"packed"', Content_Encoding=name, Content_Range=place)

    return serve


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_an_answer_that_is_encoded_although_nobody_asked_is_decoded(site: Site, name: str) -> None:
    url = site.put(name, KINDS[name][0](7))
    site.always[f"/{name}"] = encoded("gzip")
    assert set(Dataset.from_file(url).to_arrow()["x"].to_pylist()) == {7}
    site.always[f"/{name}"] = encoded("br")
    with pytest.raises(FileError, match="encoding 'br'"):
        Dataset.from_file(url).to_arrow()


def test_a_packed_file_that_a_server_calls_encoded_is_the_file(site: Site) -> None:
    packed = gzip.compress(csv(7, 100))
    url = site.put("a.csv.gz", packed)
    site.always["/a.csv.gz"] = lambda handler: handler.answer(200, packed, Content_Encoding="gzip")
    assert Dataset.from_file(url).count() == 100


# ------------------------------------------------------------------------------------------------ other lies, rules


def test_a_server_that_gives_another_range_than_was_asked_for(site: Site) -> None:
    url = site.put("a.parquet", parquet(1))
    content = site.files["/a.parquet"]
    site.always["/a.parquet"] = lambda handler: handler.answer(
        206, content[:9], ETag='"a"', Content_Range=f"bytes 0-8/{len(content)}"
    )
    with pytest.raises(FileError, match="expected them from"):
        Dataset.from_file(url).to_arrow()


def test_an_empty_file_and_a_server_that_refuses_its_range(site: Site) -> None:
    url = site.put("a.jsonl", b"")

    def refuses(handler: Handler) -> None:
        ranged = handler.headers.get("Range") is not None
        handler.answer(416, b"", Content_Range="bytes */0") if ranged else handler.serve()

    site.always["/a.jsonl"] = refuses
    assert Dataset.from_file(url, schema=pa.schema({"x": pa.int64()})).count() == 0


def test_options_of_the_web_that_are_not_used_are_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", '{"http": {"block_size": 5}}')
    with pytest.raises(ConfigError, match="'block_size'"):
        Dataset.from_file(site.put("a.csv", csv(1)))


def test_what_differs_between_two_states() -> None:
    def state(**headers: str) -> Identity:
        return identity_of_response(200, {name.replace("_", "-"): value for name, value in headers.items()})

    strong, weak = state(ETag='"a"', Content_Length="5"), state(ETag='W/"a"', Content_Length="5")
    assert strong.difference(weak) is None
    assert strong.difference(state(ETag='"a"', Content_Length="6")) == "size 5 became 6"
    assert strong.difference(state(ETag='"a"', Last_Modified="now", Content_Length="5")) is None
    assert weak.difference(state(ETag='W/"b"', Content_Length="5")) == 'ETag W/"a" became W/"b"'
    assert state(Last_Modified="one").difference(state(Last_Modified="two")) == "modification time one became two"
    assert Identity().difference(strong) is None
    assert strong.lacks_validator(Identity(5))
    assert not Identity(5).lacks_validator(strong)
    known = Identities()
    assert known.confirm("u", Identity(5)) == Identity(5)
    assert known.confirm("u", strong) == strong
    with pytest.raises(ChangedFileError):
        known.confirm("u", state(ETag='"b"', Content_Length="5"))


@pytest.mark.parametrize("status", [403, 404, 500])
def test_errors_stay_errors_of_their_kind(site: Site, status: int) -> None:
    url = site.put("a.csv", csv(1, 1))
    site.always["/a.csv"] = answers(status)
    with pytest.raises(FileError) as error:
        Dataset.from_file(url)
    assert not isinstance(error.value, ChangedFileError)


# ------------------------------------------------------------------------------------------------ other stores


class Vault(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose objects have generations, and whose library knows no conditions, as that of GCS."""

    protocol = "vault"
    cachable = False
    generation = 1

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("vault://").strip("/")

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {**super().info(path, **options), "created": None, "generation": Vault.generation}

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return super()._open(path, mode, **options) if mode != "rb" else VaultFile(self, path, mode, **options)


class VaultFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    def _fetch_range(self, start: int, end: int) -> bytes:
        content: bytes = self.fs.store[self.path].getvalue()[start:end]
        return content


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.zip"])
def test_a_store_without_conditions_is_asked_again(name: str) -> None:
    fsspec.register_implementation("vault", Vault, clobber=True)
    Vault.store, Vault.pseudo_dirs = {}, [""]
    make, link = KINDS[name]
    Vault().pipe_file(f"/bucket/{name}", make(1))
    rows = Dataset.from_file(f"{link}vault://bucket/{name}")
    assert set(rows.to_arrow()["x"].to_pylist()) == {1}
    batches = rows.batches(format="arrow")
    next(batches)
    Vault().pipe_file(f"/bucket/{name}", make(2))
    Vault.generation += 1
    with pytest.raises(ChangedFileError, match="changed while it was read: ETag 1 became 2"):
        list(batches)
    Vault.generation = 1
