"""M23, M45: what a URL would tell of its owner is in no table, message, log or file that lakefeed writes."""

from __future__ import annotations

import io
import logging
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.errors import CredentialsError, InvalidArgumentError, LakefeedError
from lakefeed.storage.urls import holds_credentials
from tests.sdk.web import Site, serving

SECRET = "5ecr3tPlantedInAUrl"
SIGNED = [
    f"https://user:{SECRET}@127.0.0.1/a.bin",
    f"https://{SECRET}@127.0.0.1/a.bin",
    f"https://127.0.0.1/a.bin?X-Amz-Date=20260101&X-Amz-Signature={SECRET}",
    f"https://127.0.0.1/a.bin?X-Goog-Signature={SECRET}",
    f"https://127.0.0.1/a.bin?sv=2024&sig={SECRET}",
    f"https://127.0.0.1/a.bin?id=7&token={SECRET}",
    f"https://127.0.0.1/a.bin?accessToken={SECRET}",
    f"https://127.0.0.1/a.bin?X%2DAmz%2DSignature={SECRET}",
    f"https://127.0.0.1/a.bin?key={SECRET}",
    f"s3://user:{SECRET}@bucket/a.bin",
]
PLAIN = [
    "https://127.0.0.1/a.bin?id=7&design=blue&author=kim",
    "https://127.0.0.1/a.bin?key=photos/2024/cat.jpg",
    "https://***@127.0.0.1/a.bin?sig=***",
    "/data/me@home/a.bin?token=x",
    "file:///data/me:x@home/a.bin",
]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    monkeypatch.setenv("LAKEFEED__FILES__RETRIES", "1")
    with serving() as site:
        yield site


def signed(url: str) -> str:
    return url.replace("//", f"//user:{SECRET}@") + f"?size=3&X-Amz-Signature={SECRET}"


def told(error: BaseException) -> str:
    """All that a traceback shows, and all that hangs on the error where a traceback would show it."""
    return "".join(traceback.format_exception(error)) + repr(error)


def holding(folder: Path) -> list[str]:
    """Files whose name or bytes hold the secret."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in found if SECRET in str(path) or SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("url", SIGNED)
@pytest.mark.parametrize("copy", ["auto", False])
def test_a_reference_with_credentials_is_refused(home: Path, url: str, copy: Any) -> None:
    rows = {"n": [0, 1, 2], "f": [None, "https://127.0.0.1/b.bin", url]}
    with pytest.raises(CredentialsError, match=r"column 'f', row 2: .*holds credentials.*copy_files=True") as found:
        Dataset.from_dict(rows).save("urls", column_types={"f": "file"}, copy_files=copy)
    assert SECRET not in told(found.value)
    assert isinstance(found.value, InvalidArgumentError)
    assert not Dataset.exists("urls")
    assert not holding(home)


@pytest.mark.parametrize("url", PLAIN)
def test_other_urls_are_references_as_before(url: str) -> None:
    assert not holds_credentials(url)


def test_a_copied_file_keeps_no_credentials(site: Site, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = signed(site.put("a.bin", b"content"))
    saved = Dataset.from_dict({"f": [url, None]}).save("urls", column_types={"f": "file"}, copy_files=True)
    [record, _] = saved.to_arrow()["f"].to_pylist()
    assert record["url"] == f"http://***@{site.url.partition('//')[2]}/a.bin?size=3&X-Amz-Signature=***"
    assert (record["filename"], record["size"]) == ("a.bin", 7)
    assert [row["f"] for row in Dataset("urls").load_files("bytes")] == [b"content", None]
    assert SECRET not in caplog.text
    assert not holding(home)


def test_records_that_have_a_digest_lose_the_credentials_of_their_urls(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    first = Dataset.from_dict({"f": [str(tmp_path / "a.bin")]}).save("first", column_types={"f": "file"})
    [record] = first.to_arrow()["f"].to_pylist()
    kind = first.schema.field("f").type
    table = pa.table({"f": pa.array([{**record, "url": SIGNED[3]}, None], kind)})
    again = Dataset.from_arrow(table).save("again", column_types={"f": "file"})
    assert again.to_arrow()["f"].to_pylist() == [
        {**record, "url": "https://127.0.0.1/a.bin?X-Goog-Signature=***"}, None
    ]  # fmt: skip
    assert not holding(home)


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", "x\n1\n")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "inside"),
    [
        ("a.csv", b'x,y\n1\n"2', ""),
        ("a.jsonl", b"{broken", ""),
        ("a.parquet", b"no parquet at all", ""),
        ("a.arrow", b"no arrow at all", ""),
        ("a.zip", b"no archive at all", "zip://*.csv::"),
        ("a.zip", _zip(), "zip://gone.csv::"),
        ("a.zip", _zip(), ""),
        ("a.strange", b"", ""),
        ("a.csv", None, ""),
        ("a.parquet", None, ""),
    ],
)
def test_messages_of_files_hold_no_credentials(
    site: Site, caplog: pytest.LogCaptureFixture, name: str, content: bytes | None, inside: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="lakefeed")
    url = f"{site.url}/{name}" if content is None else site.put(name, content)
    with pytest.raises(LakefeedError) as found:
        Dataset.from_file(f"{inside}{url}?X-Amz-Signature={SECRET}&user={SECRET}").to_arrow()
    assert SECRET not in told(found.value)
    assert SECRET not in caplog.text


def test_a_plan_shows_no_credentials(site: Site, home: Path) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), table)
    url = site.put("a.parquet", table.getvalue())
    rows = Dataset.from_file(f"{url}?X-Amz-Signature={SECRET}")
    assert SECRET not in rows.explain()
    assert rows.save("rows").to_arrow()["x"].to_pylist() == [1]
    assert not holding(home)


def test_a_mirror_keeps_no_credentials(site: Site, home: Path) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), table)
    url = site.put("a.parquet", table.getvalue())
    kept = Dataset.from_file(f"{url}?X-Amz-Signature={SECRET}").cache()
    assert kept.to_arrow()["x"].to_pylist() == [1]
    assert not holding(home)
