"""M45, M11, M49: file columns over a real web server, through the whole of a Dataset."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import time
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from lakefeed import Dataset, File
from lakefeed.errors import FileError, MissingFileError
from lakefeed.storage.cache import url_copies
from tests.sdk.processes import Program, run
from tests.sdk.web import Site, answers, redirects, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "1")
    with serving() as site:
        yield site


def content(number: int, size: int = 1_000) -> bytes:
    return b"%06d" % number * (size // 6)


def saved(site: Site, count: int, size: int = 1_000) -> Dataset:
    """A dataset whose files are only referenced."""
    urls = [site.put(f"{n}.bin", content(n, size)) for n in range(count)]
    rows = {"n": list(range(count)), "f": urls}
    return Dataset.from_dict(rows).save("web", column_types={"f": "file"})


def test_the_first_batch_needs_about_a_batch_of_fetches(site: Site) -> None:
    dataset = saved(site, 1_000)
    batches = dataset.load_files("bytes").batches(64, format="arrow")
    first = next(batches)
    assert first["f"].to_pylist() == [content(n) for n in range(64)]
    assert site.asked.total() <= 128
    batches.close()


@pytest.mark.live
def test_fetching_goes_on_across_batches_with_all_workers(site: Site) -> None:
    dataset = saved(site, 300)
    site.latency = 0.02
    rows = list(dataset.load_files("bytes", workers=5).rows())
    assert [row["f"] for row in rows] == [content(n) for n in range(300)]
    assert site.most_at_once == 5
    assert site.asked.total() == 300


@pytest.mark.parametrize("budget", [1, 5_000, 100_000])
def test_order_holds_whatever_the_bytes_allowed(site: Site, budget: int) -> None:
    dataset = saved(site, 50)
    loaded = dataset.load_files("bytes", max_inflight_bytes=budget)
    assert [row["f"] for row in loaded] == [content(n) for n in range(50)]
    if budget == 1:
        assert site.most_at_once == 1


def test_who_does_not_go_on_holds_no_more_than_allowed(site: Site) -> None:
    dataset = saved(site, 100, size=60_000)
    rows = dataset.load_files("bytes", max_inflight_bytes=600_000).rows()
    for _ in range(20):  # the sizes are known by now
        next(rows)
    asked = site.asked.total()
    assert asked <= 20 + 10 + 2
    rows.close()


def test_the_modes_mean_the_same_everywhere(site: Site) -> None:
    torch = pytest.importorskip("torch")
    assert torch
    dataset = saved(site, 20)
    expected = [content(n) for n in range(20)]
    assert [row["f"] for row in dataset.rows(load_files="bytes")] == expected
    assert [cell for batch in dataset.batches(7, load_files="bytes") for cell in batch["f"]] == expected
    assert [Path(row["f"]).read_bytes() for row in dataset.rows(load_files="path")] == expected
    assert [row["f"].bytes() for row in dataset.rows()] == expected
    assert [row["f"].path().suffix for row in dataset.rows()] == [".bin"] * 20
    with next(dataset.rows())["f"].open() as stream:
        assert stream.read() == expected[0]
    loader = dataset.to_torch(batch_size=6, load_files="bytes", rank=0, world_size=1)
    assert [cell for batch in loader for cell in batch["f"]] == expected
    assert site.bodies.total() == 20


def test_on_error_null_counts_and_tells(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    dataset = saved(site, 200)
    for n in range(0, 200, 10):
        del site.files[f"/{n}.bin"]
    site.always["/5.bin"] = answers(503)
    found = [row["f"] for row in dataset.load_files("bytes", on_error="null")]
    assert found == [None if n % 10 == 0 or n == 5 else content(n) for n in range(200)]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("21 of 200 files could not be loaded and are null; the first: there is no file")
    assert "the server answered 503" in warnings[0]
    with pytest.raises(MissingFileError, match=r"/0\.bin"):
        list(dataset.load_files("bytes"))


def test_a_server_that_hangs_is_given_up(site: Site) -> None:
    dataset = saved(site, 5)

    def hang(handler: Any) -> None:
        import time

        time.sleep(3)
        handler.close_connection = True

    site.always["/3.bin"] = hang
    found = [row["f"] for row in dataset.load_files("bytes", on_error="null", fetch_timeout=0.2)]
    assert found == [content(0), content(1), content(2), None, content(4)]
    with pytest.raises(FileError, match=r"3\.bin' cannot be read after 2 tries"):
        list(dataset.load_files("bytes", fetch_timeout=0.2))


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_a_bad_copy_of_a_stored_file_is_made_again(tmp_path: Path, mode: Any) -> None:
    (tmp_path / "a.bin").write_bytes(content(1))
    dataset = Dataset.from_dict({"f": [str(tmp_path / "a.bin")]}).save("stored", column_types={"f": "file"})
    [row] = dataset.rows(load_files="path")
    copy = Path(row["f"])
    copy.chmod(0o644)
    copy.write_bytes(b"x" * len(content(1)))
    [row] = dataset.rows(load_files=mode)
    assert (row["f"] if mode == "bytes" else Path(row["f"]).read_bytes()) == content(1)
    if mode == "path":
        assert (copy.stat().st_mode & 0o777, copy.suffix) == (0o444, ".bin")


@pytest.mark.live
def test_memory_stays_within_the_budget(site: Site) -> None:
    program = """
        import resource
        import lakefeed, pyarrow
        from lakefeed import Dataset
        rows = Dataset("web").load_files("bytes", max_inflight_bytes=64_000_000).rows()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = sum(len(row["f"]) for row in rows)
        print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    big = content(7, 8_000_000)
    urls = [f"{site.url}/big.bin?{n}" for n in range(100)]
    site.files["/big.bin"] = big
    Dataset.from_dict({"f": urls}).save("web", column_types={"f": "file"})
    total, grown = map(int, run(program).split())
    assert total == 100 * len(big)
    assert grown < 64 + 200


# --------------------------------------------------------------------------------------------------- cache()


@pytest.mark.live
def test_files_of_urls_are_there_when_all_is_gone(site: Site, home: Path, tmp_path: Path) -> None:
    saved(site, 30)
    Dataset("web").cache()
    site.files.clear()
    shutil.rmtree(home)
    asked = site.asked.total()
    program = """
        import os
        os.environ["LAKEFEED__FILES__FRESH"] = "0"
        from pathlib import Path
        from lakefeed import Dataset
        kept = Dataset("web").cache()
        print(sum(row["n"] for row in kept.rows() if row["f"].bytes() == b"%06d" % row["n"] * 166))
        print(sum(row["n"] for row in kept.rows("bytes") if row["f"] == b"%06d" % row["n"] * 166))
        print(sum(row["n"] for row in kept.rows("path") if Path(row["f"]).read_bytes() == b"%06d" % row["n"] * 166))
        print(sum(n for n in kept.filter("n >= 10").to_arrow()["n"].to_pylist()))
        loader = kept.to_torch(batch_size=4, load_files="bytes", rank=0, world_size=1)
        print(sum(len(cell) == 996 for batch in loader for cell in batch["f"]))
    """
    assert run(program).split() == ["435", "435", "435", "390", "30"]
    assert site.asked.total() == asked


def test_files_of_a_mirror_are_not_evicted(
    site: Site, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED_CACHE_BYTES", "5000")
    saved(site, 20)
    kept = Dataset("web").cache()
    (tmp_path / "stored.bin").write_bytes(content(99))
    others = [site.put(f"other{n}.bin", content(500 + n)) for n in range(40)]
    other = Dataset.from_dict({"f": others}).save("others", column_types={"f": "file"})
    assert len(list(other.rows(load_files="bytes"))) == 40
    site.files.clear()
    url_copies._remembered.clear()
    assert [row["f"] for row in kept.rows(load_files="bytes")] == [content(n) for n in range(20)]
    assert [row["f"] for row in islice(other.load_files("bytes", on_error="null").rows(), 20)] != []


def test_what_is_kept_at_a_path_keeps_its_files(site: Site, tmp_path: Path) -> None:
    saved(site, 10)
    Dataset("web").filter("n >= 5").cache(tmp_path / "kept")
    site.files.clear()
    url_copies._remembered.clear()
    found = Dataset("web").filter("n >= 5").cache(tmp_path / "kept").rows(load_files="bytes")
    assert [row["f"] for row in found] == [content(n) for n in range(5, 10)]


def test_a_mirror_is_made_of_what_the_server_has_now(site: Site) -> None:
    dataset = saved(site, 3)
    assert next(dataset.rows("bytes"))["f"] == content(0)
    site.put("0.bin", content(77))
    dataset.cache()
    assert next(dataset.rows("bytes"))["f"] == content(77)


def test_files_that_cannot_be_had_are_an_error(site: Site) -> None:
    dataset = saved(site, 5)
    del site.files["/3.bin"]
    with pytest.raises(MissingFileError, match=r"3\.bin"):
        dataset.cache()
    site.put("3.bin", content(3))
    dataset.cache()
    site.files.clear()
    assert [row["f"] for row in Dataset("web").cache().rows(load_files="bytes")] == [content(n) for n in range(5)]


def test_files_of_paths_are_there_when_they_are_gone(tmp_path: Path, home: Path) -> None:
    paths = [tmp_path / f"{n}.bin" for n in range(5)]
    for n, path in enumerate(paths):
        path.write_bytes(content(n))
    rows = {"f": [str(path) for path in paths]}
    Dataset.from_dict(rows).save("paths", column_types={"f": "file"}, copy_files=False)
    kept = Dataset("paths").cache()
    assert [row["f"] for row in kept.rows(load_files="path")] == [str(path) for path in paths]
    for path in paths:
        path.unlink()
    assert [row["f"] for row in kept.rows(load_files="bytes")] == [content(n) for n in range(5)]
    copies = [Path(row["f"]) for row in kept.rows(load_files="path")]
    assert [(copy.read_bytes(), copy.suffix) for copy in copies] == [(content(n), ".bin") for n in range(5)]


@pytest.mark.live
def test_a_cache_that_was_killed_is_completed(site: Site, home: Path) -> None:
    saved(site, 300)
    site.latency = 0.01
    program = "from lakefeed import Dataset; print('go', flush=True); Dataset('web').cache()"
    for asked in (20, 150):
        killed = Program(program)
        while site.asked.total() < asked and killed.returncode is None:
            time.sleep(0.005)
        killed.kill()
        killed.finish()
    Dataset("web").cache()
    site.files.clear()
    shutil.rmtree(home)
    assert [row["f"] for row in Dataset("web").cache().rows(load_files="bytes")] == [content(n) for n in range(300)]


def test_headers_of_the_settings_are_sent_for_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for rows: only to the host of the URL."""
    options = {"http": {"headers": {"X-Key": "k", "Authorization": "Bearer t"}}}
    monkeypatch.setenv("LAKEFEED__FILES__OPTIONS", json.dumps(options))
    urls = [site.put(f"{n}.bin", content(n)) for n in range(4)]
    with serving() as other:
        site.always["/3.bin"] = redirects(other.put("far.bin", content(3)))
        rows = Dataset.from_dict({"f": urls}).with_column_types({"f": "file"})
        assert [row["f"] for row in rows.load_files("bytes")] == [content(n) for n in range(4)]
        assert [row["f"].bytes() for row in rows.save("copies", copy_files=True)] == [content(n) for n in range(4)]
        assert {(sent.get("X-Key"), sent.get("Authorization")) for sent in site.headers} == {("k", "Bearer t")}
        assert {(sent.get("X-Key"), sent.get("Authorization")) for sent in other.headers} == {(None, None)}


def test_urls_reach_the_server_as_they_are_written(site: Site) -> None:
    """Also where a redirect has UTF-8 in it, as many servers send it."""
    site.put("gr%C3%B6%C3%9Fe.bin", b"content")
    site.always["/r.bin"] = redirects("/größe.bin".encode().decode("latin-1"))
    site.always["/s.bin"] = redirects("/gr%C3%B6%C3%9Fe.bin")
    for url in (f"{site.url}/r.bin", f"{site.url}/s.bin", f"{site.url}/größe.bin"):
        assert File(url).bytes() == b"content"
    site.put("a%2Fb.csv", b"x\n1\n")
    paths: list[str] = []
    site.always["/a%2Fb.csv"] = lambda handler: (paths.append(handler.path), handler.serve())[1]
    assert Dataset.from_file(f"{site.url}/a%2Fb.csv?sig=a%2Fb%3D").to_arrow()["x"].to_pylist() == [1]
    assert File(f"{site.url}/a%2Fb.csv?sig=a%2Fb%3D").bytes() == b"x\n1\n"
    assert set(paths) == {"/a%2Fb.csv?sig=a%2Fb%3D"}


def test_files_that_a_server_encodes(site: Site) -> None:
    content = b"content of a file" * 100
    for encoding, body in (("gzip", gzip.compress(content)), ("deflate", zlib.compress(content))):
        url = site.put(f"{encoding}.png", content)
        site.always[f"/{encoding}.png"] = lambda handler, body=body, encoding=encoding: handler.answer(
            200, body, Content_Encoding=encoding
        )
        assert File(url).bytes() == content
        [row] = Dataset.from_dict({"f": [url]}).save(encoding, column_types={"f": "file"}, copy_files=True)
        assert row["f"].size == len(content)
