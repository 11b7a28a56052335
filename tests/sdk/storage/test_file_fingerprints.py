from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.storage.cache.file_fingerprints import RACY_NS, FileFingerprints, fingerprint_row, status_fingerprint
from tests.sdk.media.pictures import HEIGHT, WIDTH, encoded, write


def old(path: Path) -> os.stat_result:
    """The file's status, once it was written to long ago."""
    then = time.time_ns() - 10 * RACY_NS
    os.utime(path, ns=(then, then))
    return path.stat()


def files(home: Path) -> list[Path]:
    return sorted(path for path in (home / "blobs").rglob("*") if path.is_file())


def noted(seen: FileFingerprints, path: Path) -> bool:
    [found] = seen.find([(str(path), status_fingerprint(path.stat()))])
    return found is not None


def note(seen: FileFingerprints, path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).digest()
    made = fingerprint_row(str(path), path.stat(), time.time_ns(), digest, path.read_bytes()[:64])
    seen.add([made] if made is not None else [])


def test_a_file_is_known_until_it_changes(tmp_path: Path) -> None:
    seen, path = FileFingerprints(tmp_path / "cache"), tmp_path / "f"
    path.write_bytes(b"abc")
    old(path)
    note(seen, path)
    [found] = seen.find([(str(path), status_fingerprint(path.stat()))])
    assert found == (hashlib.sha256(b"abc").digest(), b"abc")
    assert noted(FileFingerprints(tmp_path / "cache"), path)
    for change in (
        lambda: path.write_bytes(b"abcd"),
        lambda: (path.unlink(), path.write_bytes(b"abc")),
        lambda: os.utime(path, (1, 1)),
    ):
        note(seen, path)
        change()
        old(path)
        assert not noted(seen, path)
        note(seen, path)
        assert noted(seen, path)


def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path) -> None:
    seen, path = FileFingerprints(tmp_path / "cache"), tmp_path / "f"
    path.write_bytes(b"abc")
    note(seen, path)
    assert not noted(seen, path)
    ahead = time.time_ns() + 10 * RACY_NS  # by a clock that is ahead of ours
    os.utime(path, ns=(ahead, ahead))
    note(seen, path)
    assert not noted(seen, path)


def test_facts_are_kept_by_kind(tmp_path: Path) -> None:
    seen = FileFingerprints(tmp_path / "cache")
    seen.add_facts("it's", {b"1" * 32: {"width": 3}})
    assert seen.find_facts("it's", [b"1" * 32, b"2" * 32]) == {b"1" * 32: {"width": 3}}
    assert seen.find_facts("other", [b"1" * 32]) == {}


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write(path)
    before = old(path)
    Dataset.from_dict({"image": [str(path)]}).save("one")
    other = encoded()[:-20] + b"\0" * 20  # other bytes that only somebody who reads the file would notice
    FileFingerprints(Lake.current().settings.cache)
    [one] = Dataset("one").rows()
    path.write_bytes(other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    Dataset.from_dict({"image": [str(path)]}).save("two")
    [two] = Dataset("two").rows()
    assert two["image"].bytes() == other, "the time of its last change of status tells"
    assert (one["image"].width, one["image"].height) == (WIDTH, HEIGHT)


def test_saving_again_reads_and_adds_nothing(tmp_path: Path, home: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        write(path, encoded() + bytes([number]))
        old(path)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(2 << 20))
    old(large)
    rows = {"image": [str(path) for path in paths], "file": [str(large)] * 20}
    types = {"image": "image", "file": "file"}
    Dataset.from_dict(rows).save("one", column_types=types)
    status = [path.stat() for path in (*paths, large)]
    before = files(home)
    Dataset.from_dict(rows).save("two", column_types=types)
    assert files(home) == before
    assert [path.stat().st_size for path in (*paths, large)] == [found.st_size for found in status]
    assert Dataset("two").to_arrow() == Dataset("one").to_arrow()
