"""Loaders at the end of their interpreter, and Ctrl-C of streams that never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake

pytest.importorskip("torch")
pytestmark = pytest.mark.live

COMMON = """
import atexit, gc, itertools, os, signal, sys, threading, time
import pyarrow as pa
from lakefeed import Dataset

X = pa.schema({"x": pa.int64()})
WORKERS = int(sys.argv[1])

def endless():
    for start in itertools.count(0, 100):
        yield pa.record_batch({"x": pa.array(range(start, start + 100))})

def negated(row):
    return {"x": -row["x"]}

def plans():
    rows = Dataset("rows")
    stream = Dataset.from_batches(endless, schema=X)
    yield from (rows, rows.shuffle(1), rows.shuffle(1, global_=False, window=64), rows.map(negated, schema=X))
    yield from (rows.join(rows, "x").shuffle(1), stream, stream.shuffle(1, global_=False, window=500))

def loaders():
    return [plan.to_torch(batch_size=16, num_workers=WORKERS) for plan in plans()]

def read(batches):
    assert sum(len(batch["x"]) for batch in itertools.islice(batches, 20)) == 320
"""

ENDS = {
    "in atexit handlers": """
        new, begun = loaders(), [iter(loader) for loader in loaders()]
        for batches in begun:
            next(batches)

        def late():
            for batches in new + begun:
                read(batches)
            print("done")

        atexit.register(late)
    """,
    "in a thread that outlives the main one": """
        begun = [iter(loader) for loader in loaders()[:3]]
        for batches in begun:
            next(batches)

        def late():
            threading.main_thread().join()
            for batches in loaders() + begun:
                read(batches)
            print("done")

        threading.Thread(target=late).start()
    """,
    "in a thread that imports everything late": """
        def late():
            threading.main_thread().join()
            read(Dataset("rows").to_torch(batch_size=16))
            print("done")

        threading.Thread(target=late).start()
    """,
    "with one unfinished iterator": """
        batches = iter(Dataset("rows").shuffle(1).to_torch(batch_size=16, num_workers=WORKERS))
        next(batches)
        print("done")
    """,
    "with unfinished iterators": """
        class Cycle:
            pass

        kept = []
        for loader in loaders():
            cycle = Cycle()
            cycle.batches, cycle.me = iter(loader), cycle
            next(cycle.batches)
            kept.append(cycle)
            batches = iter(loader)
            next(batches)
        del kept[3:], cycle, batches
        gc.collect()
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("lakefeed")]
        assert len(names) < 20, names
        print("done")
    """,
}


def environment(temporary: str) -> dict[str, str]:
    return os.environ | {"TMPDIR": temporary, "PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}


@contextmanager
def empty_afterwards() -> Iterator[str]:
    """A folder for temporary files, in which none may stay. Not below tmp_path: names of sockets are short."""
    with tempfile.TemporaryDirectory() as temporary:
        yield temporary
        assert list(Path(temporary).rglob("*")) == []


@pytest.mark.parametrize(
    ("end", "workers"),
    [
        *((end, 0) for end in ENDS if end != "with one unfinished iterator"),
        ("in atexit handlers", 1),
        ("with one unfinished iterator", 2),
    ],
)
def test_a_loader_works_until_the_interpreter_has_ended(lake: Lake, tmp_path: Path, end: str, workers: int) -> None:
    """docs/loader.md: "A loader works until the interpreter has ended"."""
    Dataset.from_dict({"x": list(range(3000))}).save("rows")
    code = COMMON + "\n".join(line[8:] for line in ENDS[end].splitlines())
    with empty_afterwards() as temporary:
        program = subprocess.Popen(
            [sys.executable, "-c", code, str(workers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment(temporary),
        )
        printed, errors = program.communicate(timeout=200)
        assert (printed.strip(), errors, program.returncode) == ("done", "", 0)
        with pytest.raises(ProcessLookupError):
            os.killpg(program.pid, 0)
    assert list((tmp_path / "cache" / "spill").glob("*")) == []


PROMPT = """
import os
import pyarrow as pa
import lakefeed
from lakefeed import Dataset
from pathlib import Path
kept = []
def begin(rows):
    batches = iter(rows)
    next(batches)
    kept.append(batches)

lines = Path("x.csv").write_text("x\\n" + "1\\n" * 5000)
rows, file = Dataset("rows"), Dataset.from_file("x.csv")
begin(rows); begin(rows.batches(10)); begin(rows.sql("SELECT * FROM data")); begin(file)
begin(rows.shuffle(1).to_torch(batch_size=4)); begin(rows.shuffle(1).to_torch(batch_size=4, num_workers=1))
begin(rows.to_torch(batch_size=4, infinite=True)); begin(file.to_torch(batch_size=4))
table = lakefeed.connect().create_table("pages", key_schema={"id": pa.int64()})
version = table.write({"id": list(range(500))})
begin(table.scan().to_data_loader(batch_size=1, seed=7)); begin(table.scan().to_record_batches())
len(kept)
"""


def test_a_prompt_ends_quietly_with_unfinished_iterators(lake: Lake, tmp_path: Path) -> None:
    """A prompt holds its iterators longer than Python holds the names of modules."""
    Dataset.from_dict({"x": list(range(3000))}).save("rows")
    command = [sys.executable, "-i", "-q", "-c", "import sys; sys.ps1 = sys.ps2 = ''"]
    env = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, input=PROMPT, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr.strip(), done.returncode) == ("10\n", "", 0)


class SlowFile(BaseHTTPRequestHandler):
    """A file of which the first rows come at once, and the others never."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._start(0)

    def do_GET(self) -> None:
        low = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self._start(low)
        if not low:
            self.wfile.write(b"x,y\n" + b"1,2\n" * 400_000)
        time.sleep(100)

    def _start(self, low: int) -> None:
        self.send_response(206 if low or "Range" in self.headers else 200)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {low}-{SIZE - 1}/{SIZE}")
        self.send_header("Content-Length", str(SIZE - low))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"rows"')
        self.end_headers()


SIZE = 1 << 30


@pytest.fixture
def slow_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowFile)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
import lakefeed.loaders.torch_loader
XY = pa.schema({"x": pa.int64(), "y": pa.int64()})
stream, url = Dataset.from_batches(endless, schema=X), sys.argv[2]
STREAMS = {
    "in order": lambda: stream,
    "window that is filled": lambda: stream.shuffle(1, global_=False, window=10**9),
    "no row passes": lambda: stream.filter("x < 0"),
    "slow server at first": lambda: Dataset.from_file(f"{url}/rows.csv"),
    "slow server": lambda: Dataset.from_file(f"{url}/rows.csv", schema=XY),
    "slow servers": lambda: Dataset.from_file([f"{url}/{n}.csv" for n in range(5)], schema=XY).shuffle(
        1, global_=False, window=10**9
    ),
}
try:
    print("begins", flush=True)
    for batch in STREAMS[sys.argv[3]]().to_torch(batch_size=16, num_workers=WORKERS):
        pass
except KeyboardInterrupt:
    print(time.time(), flush=True)
"""
INTERRUPT_SECONDS = 1.0
EXIT_SECONDS = 20.0
"""The end of an interpreter that has torch takes seconds on a busy machine; without a stop it would take 100."""


@pytest.mark.parametrize(
    ("stream", "workers"),
    [
        ("in order", 0),
        ("in order", 2),
        ("window that is filled", 0),
        ("no row passes", 0),
        ("slow server at first", 0),
        ("slow server", 0),
        ("slow server", 2),
        ("slow servers", 0),
    ],
)
def test_ctrl_c_ends_a_stream_within_a_second(lake: Lake, slow_url: str, stream: str, workers: int) -> None:
    """docs/loader.md: "Ctrl-C ends it within a second"."""
    with empty_afterwards() as temporary:
        program = subprocess.Popen(
            [sys.executable, "-c", COMMON + INTERRUPTED, str(workers), slow_url, stream],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment(temporary),
        )
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begins\n"
            time.sleep(2)
            begun = time.time()
            os.killpg(program.pid, signal.SIGINT)
            printed, errors = program.communicate(timeout=EXIT_SECONDS)
        finally:
            program.kill()
        assert errors == ""
        assert float(printed) - begun < INTERRUPT_SECONDS
        with pytest.raises(ProcessLookupError):
            os.killpg(program.pid, 0)
