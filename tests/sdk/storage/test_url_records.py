"""M45: what URLs gave is noted, and forgotten with the bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lakefeed.storage.cache import eviction, url_copies
from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.cache.pins import Pins
from lakefeed.storage.cache.url_copies import UrlCopies
from lakefeed.storage.cache.url_records import UrlRecords

URL = "https://me:word@host/a.bin?X-Amz-Signature=a1b2c3"


def kept(cache: BlobCache, url: str, content: bytes) -> str:
    digest = cache.add(content, ".bin")
    UrlCopies(cache).record(url, digest, len(content), {"If-None-Match": '"1"'})
    return digest


def test_notes_are_found_again_and_tell_no_url(tmp_path: Path) -> None:
    notes = UrlRecords(tmp_path)
    notes.add(URL, "a" * 64, 7, {"If-None-Match": '"1"'})
    found = UrlRecords(tmp_path).find([URL, "https://other"])
    assert {url: note[:3] for url, note in found.items()} == {URL: ("a" * 64, 7, {"If-None-Match": '"1"'})}
    notes.confirm(URL)
    assert notes.find([URL])[URL].checked > found[URL].checked
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"host" not in written
    assert b"word" not in written
    notes.forget(["a" * 64, "b" * 64])
    assert notes.find([URL]) == {}


def test_a_note_goes_with_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "_no_retry_until", {})
    cache = BlobCache(tmp_path, limit=3_000)
    for n in range(10):
        kept(cache, f"https://host/{n}", bytes([n]) * 1_000)
    url_copies._remembered.clear()
    known = [UrlCopies(cache).find(f"https://host/{n}") for n in range(10)]
    assert known[0] is None
    assert known[9] is not None
    assert [cache.read(found.sha256, ".bin") is not None for found in known if found] == [True] * (
        10 - known.count(None)
    )


def test_a_broken_file_of_notes_is_begun_again(tmp_path: Path) -> None:
    notes = UrlRecords(tmp_path)
    notes.add(URL, "a" * 64, 7, {})
    for path in tmp_path.iterdir():
        path.write_bytes(os.urandom(20_000))
    fresh = UrlRecords(tmp_path)
    assert fresh.find([URL]) == {}
    fresh.add(URL, "b" * 64, 7, {})
    assert fresh.find([URL])[URL].sha256 == "b" * 64


def test_a_url_that_two_mirrors_keep_stays_while_one_of_them_is_there(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache")
    digest = kept(cache, URL, b"content")
    for name in ("one", "two"):
        Pins(cache, tmp_path / name).pin_url(URL, ".bin")
    assert UrlCopies(cache).find(URL).pinned  # type: ignore[union-attr]  # it is known
    shutil.rmtree(tmp_path / "one")
    url_copies._remembered.clear()
    assert UrlCopies(cache).find(URL).pinned  # type: ignore[union-attr]
    shutil.rmtree(tmp_path / "two")
    url_copies._remembered.clear()
    known = UrlCopies(cache).find(URL)
    assert known is not None
    assert (known.pinned, known.sha256) == (False, digest)
