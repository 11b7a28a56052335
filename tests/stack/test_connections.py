"""The database goes away in the middle of things: what was acknowledged is there, what was not is there or is not."""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback

import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.errors import CatalogUnavailableError
from tests.stack.processes import start
from tests.stack.servers import ACCESS_KEY, BUCKET, PASSWORD, SECRET_KEY, Stack

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.usefixtures("name")]

APPENDS = """
import time
end = time.monotonic() + int(sys.argv[2])
step = 0
while time.monotonic() < end:
    Dataset.from_dict({"x": [step]}).append_to("numbers")
    say(step)
    step += 1
"""


def values() -> list[int]:
    return sorted(Dataset("numbers").to_arrow()["x"].to_pylist())


def test_connections_that_are_ended_again_and_again_lose_and_repeat_nothing(servers: Stack) -> None:
    Dataset.from_dict({"x": [-1]}).save("numbers")
    writer = start(APPENDS, 0, 5)
    assert writer.stdout is not None
    writer.stdout.readline()
    ended = 0
    while writer.poll() is None:
        ended += servers.postgres.break_connections()
        time.sleep(0.02)
    acknowledged = len(writer.communicate()[0].splitlines()) + 1
    assert writer.returncode == 0
    assert ended > 20
    assert values() == list(range(-1, acknowledged))


def test_a_database_that_is_killed_and_comes_back_is_waited_for(servers: Stack) -> None:
    Dataset.from_dict({"x": [-1]}).save("numbers")
    writer = start(APPENDS, 0, 4)
    assert writer.stdout is not None
    writer.stdout.readline()
    for _ in range(2):
        servers.postgres.kill()
        time.sleep(0.3)
        servers.postgres.start()
        time.sleep(0.5)
    acknowledged = len(writer.communicate()[0].splitlines()) + 1
    assert writer.returncode == 0
    assert values() == list(range(-1, acknowledged))


def test_reading_in_this_process_goes_on_after_a_restart(servers: Stack) -> None:
    Dataset.from_dict({"x": [1]}).save("numbers")
    servers.postgres.stop()
    threading.Timer(0.5, servers.postgres.start).start()
    assert values() == [1]


def test_a_database_that_stays_away_is_named_without_a_password(
    servers: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LAKEFEED__CATALOG__PATIENCE", "0.2")
    Dataset.from_dict({"x": [1]}).save("numbers")
    servers.postgres.stop()
    try:
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(CatalogUnavailableError, match="cannot reach") as raised,
        ):
            Dataset("numbers").to_arrow()
    finally:
        servers.postgres.start()
    assert "retrying for 0 s" in caplog.text
    assert_no_secret("".join(traceback.format_exception(raised.value)) + caplog.text)


def test_a_wrong_password_is_said_at_once(
    servers: Stack, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LAKEFEED__CATALOG__URI", servers.postgres.url(name).replace(PASSWORD, f"not-{PASSWORD}"))
    with caplog.at_level(logging.DEBUG), pytest.raises(CatalogUnavailableError, match="authentication") as raised:
        Dataset("numbers").to_arrow()
    assert_no_secret("".join(traceback.format_exception(raised.value)) + caplog.text)


def test_a_wrong_key_of_the_store_is_an_error_without_the_key(
    file_io: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Dataset.from_dict({"x": [1]}).save("numbers")
    wrong = {"s3.access-key-id": ACCESS_KEY, "s3.secret-access-key": f"not-{SECRET_KEY}"}
    properties = {"py-io-impl": f"pyiceberg.io.{file_io}", **wrong}
    monkeypatch.setenv("LAKEFEED__CATALOG__PROPERTIES", json.dumps(properties))
    with caplog.at_level(logging.INFO), pytest.raises(OSError) as raised:
        Dataset("numbers").to_arrow()
    assert_no_secret("".join(traceback.format_exception(raised.value)) + caplog.text)


def test_what_is_printed_and_stored_of_a_lake_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, servers: Stack
) -> None:
    keys = {"s3.access-key-id": ACCESS_KEY, "s3.secret-access-key": SECRET_KEY}
    monkeypatch.setenv("LAKEFEED__CATALOG__PROPERTIES", json.dumps(keys))
    monkeypatch.setenv("LAKEFEED__BLOBS__OPTIONS", json.dumps({"key": ACCESS_KEY, "secret": SECRET_KEY}))
    Dataset.from_dict({"x": [1]}).save("numbers")
    lake = Lake.current()
    said = f"{lake!r} {lake.settings!r} {Dataset('numbers')!r} {Dataset('numbers').explain()}"
    assert name in said
    assert_no_secret(said)
    assert_no_secret(" ".join(_text_of(servers, key) for key in servers.store.keys(f"{name}/")))


def _text_of(servers: Stack, key: str) -> str:
    return str(servers.store.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def assert_no_secret(said: str) -> None:
    assert PASSWORD not in said
    assert SECRET_KEY not in said
