from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import lakefeed
from lakefeed.errors import InvalidArgumentError
from lakefeed.media import MEDIA, File, MediaType
from lakefeed.media.probes import CHUNK_FILES, Probes
from lakefeed.media.probing import probe_process
from tests.sdk.media import misbehaving
from tests.sdk.media.pictures import HEIGHT, HOSTILE, WIDTH, encoded, write

SIZE = {"width": WIDTH, "height": HEIGHT}


@pytest.fixture(autouse=True)
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = (pa.field("length", pa.float64()),)
    monkeypatch.setitem(MEDIA.builtin, "odd", MediaType("odd", File, stat_fields=fields, probe=misbehaving.probe))


@pytest.fixture
def probes() -> Iterator[Probes]:
    with Probes(workers=1, timeout=1.0) as pool:
        yield pool


def ask(probes: Probes, *commands: str) -> list[float | None]:
    return [stats.get("length") for stats in probes.submit("odd", [text.encode() for text in commands]).result()]


def alive(number: float) -> bool:
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    return True


def test_paths_and_contents_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "b\u00fcld.png")
    with Probes() as probes:
        found = probes.submit("image", [path, encoded("JPEG"), b"nothing", memoryview(encoded())]).result()
    assert found == [SIZE, SIZE, {}, SIZE]
    assert (probes.failures, probes.reasons) == (1, ["a content of 7 bytes: it is not an image that Pillow reads"])


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    write(Path(name))
    with Probes() as probes:
        assert probes.submit("image", [name]).result() == [SIZE]


def test_hostile_images_give_nothing_and_do_no_harm() -> None:
    with Probes(workers=1) as probes:
        assert probes.submit("image", [*HOSTILE.values(), encoded()]).result() == [{}] * len(HOSTILE) + [SIZE]
    assert probes.failures == len(HOSTILE)
    assert len(probes.reasons) == 10


@pytest.mark.live
@pytest.mark.parametrize("command", ["crash", "exit", "hang", "spin", "swallow 2000000000", "write", "nonsense"])
def test_what_one_file_does_is_not_felt_by_the_others(probes: Probes, command: str, tmp_path: Path) -> None:
    written = tmp_path / "out.bin"
    told = f"write {written}" if command == "write" else command
    assert ask(probes, "length 1", told, "length 2") == [1, None, 2]
    assert probes.failures == 1
    assert not written.exists() or not written.stat().st_size


@pytest.mark.live
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("crash", "ended the process (signal SIGSEGV)"),
        ("exit", "ended the process (status 3)"),
        ("hang", "takes too long"),
        ("spin", "takes too long"),
        ("swallow 2000000000", "more memory than allowed"),
        ("nonsense", "unknown command 'nonsense'"),
    ],
)
def test_the_reason_is_told(probes: Probes, command: str, reason: str) -> None:
    ask(probes, command)
    assert reason in probes.reasons[0]


@pytest.mark.live
def test_many_files_that_hang_are_given_ever_less_time() -> None:
    with Probes(workers=1, timeout=2.0) as probes:
        assert ask(probes, *["hang"] * 2, "length 1") == [None, None, 1]
        assert probes._timeout == 1.0


def test_a_process_is_reused_and_replaced(probes: Probes) -> None:
    first, second = ask(probes, "process", "process")
    assert first == second == ask(probes, "process")[0] != os.getpid()
    assert ask(probes, "crash", "process")[1] != first


def test_more_files_than_a_process_gets_at_a_time() -> None:
    commands = [f"length {number}" for number in range(3 * CHUNK_FILES + 5)]
    with Probes(workers=2) as probes:
        assert ask(probes, *commands) == list(range(len(commands)))
        assert len({*ask(probes, *["process"] * len(commands))}) <= 2


def test_a_long_content_does_not_need_the_memory_of_a_process(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_process, "SPILL_BYTES", 10)
    assert ask(probes, "length 1234567") == [1234567]


def test_a_process_knows_no_secrets_of_ours(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    assert ask(probes, "environment AWS_SECRET_ACCESS_KEY") == [0]


def test_a_probe_from_elsewhere_may_import_all_of_lakefeed() -> None:
    with Probes(workers=1) as probes:
        assert probes.submit("image", [encoded()]).result() == [SIZE]
        assert ask(probes, "lakefeed") == [len(lakefeed.__all__)]
        assert probes.submit("image", [encoded()]).result() == [SIZE]


@pytest.mark.parametrize("command", ["length nan", "length inf", "length -1", "answer text"])
def test_numbers_that_no_file_has_are_null(probes: Probes, command: str) -> None:
    assert ask(probes, command) == [None]


def test_a_number_beyond_the_column_is_null(monkeypatch: pytest.MonkeyPatch, probes: Probes) -> None:
    narrow = MediaType("odd", File, stat_fields=(pa.field("length", pa.int32()),), probe=misbehaving.probe)
    monkeypatch.setitem(MEDIA.builtin, "odd", narrow)
    assert ask(probes, "length 2147483647", "length 2147483648") == [2147483647, None]


def test_files_of_any_kind_have_no_statistics(probes: Probes) -> None:
    assert probes.submit("file", ["nosuch", b""]).result() == [{}, {}]
    assert probes.submit("image", []).result() == []
    assert probes.failures == 0


def test_one_line_in_the_log_counts_the_failures(caplog: pytest.LogCaptureFixture) -> None:
    with Probes(workers=1) as probes:
        probes.submit("image", [b"one", b"two"])
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "lakefeed.media.probes")
    assert record.getMessage() == (
        "2 files have no statistics; the first is a content of 3 bytes: it is not an image that Pillow reads"
    )


def test_nothing_runs_afterwards() -> None:
    threads = threading.active_count()
    with Probes(workers=2) as probes:
        (number,) = ask(probes, "process")
        assert number is not None
        assert alive(number)
    assert not alive(number)
    assert threading.active_count() == threads


def test_nothing_runs_after_an_exception() -> None:
    probes = Probes(workers=1)
    (number,) = ask(probes, "process")
    waiting = [probes.submit("odd", [b"hang"]) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt), probes:
        raise KeyboardInterrupt
    assert number is not None
    assert not alive(number)
    assert all(future.done() for future in waiting)


@pytest.mark.live
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_nothing_runs_after_we_were_killed(kind: signal.Signals) -> None:
    """In a script as people write them, which a start by multiprocessing would run again."""
    program = """
import signal
import pyarrow as pa
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
from lakefeed.media import MEDIA, File, MediaType
from lakefeed.media.probes import Probes
from tests.sdk.media import misbehaving
MEDIA.builtin["odd"] = MediaType("odd", File, stat_fields=(pa.field("length", pa.float64()),), probe=misbehaving.probe)
with Probes(workers=1, timeout=5) as probes:
    print(int(probes.submit("odd", [b"process"]).result()[0]["length"]), flush=True)
    probes.submit("odd", [b"hang"]).result()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as ours:
        assert ours.stdout is not None
        number = int(ours.stdout.readline())
        ours.send_signal(kind)
    for _ in range(400):
        if not alive(number):
            return
        threading.Event().wait(0.1)
    pytest.fail("the process outlived the one that asked it")


def test_arguments_are_checked() -> None:
    for wrong in ({"workers": 0}, {"timeout": 0}, {"memory_bytes": 0}):
        with pytest.raises(InvalidArgumentError, match="above 0"):
            Probes(**wrong)  # type: ignore[arg-type]
    with Probes() as probes, pytest.raises(InvalidArgumentError, match="unknown media type 'nosuch'"):
        probes.submit("nosuch", [])


def test_a_pool_stays_where_it_is() -> None:
    with Probes() as probes, pytest.raises(TypeError):
        pickle.dumps(probes)
