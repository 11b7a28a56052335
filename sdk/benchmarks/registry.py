"""The registry: catching up with many tables, a save, and queries of a million records.

    python sdk/benchmarks/registry.py [tables] [records]

Tables of the lake are written once with PyIceberg's metadata and then named again and again, so that a thousand take
seconds to make; each has its own metadata file, uuid and snapshot. All figures are CPU seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from sqlalchemy import insert
from sqlalchemy.orm import Session

import lakefeed.registry as ln
from lakefeed import Dataset as Rows
from lakefeed.catalog.commit import append, create
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import HASH, RECORD
from lakefeed.records.inserts import now_ms
from lakefeed.records.record_registry import Registry

TABLES, ROWS = 1_000, 1_000_000
SCHEMA = pa.schema([("x", pa.int64())])
WORDS = ("cells", "images", "iris", "digits", "train", "test", "raw", "clean", "lung", "heart")


def line(name: str, seconds: float, goal: float) -> None:
    print(f"{name:44}{seconds * 1000:12,.2f} ms{goal * 1000:12,.0f} ms", flush=True)


def best(work: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def copy_tables(lake: Lake, name: str, tables: int) -> None:
    """Makes tables whose metadata is that of one, but for the uuid."""
    from pyiceberg.catalog.sql import IcebergTables

    table = lake.table(name)
    path = local_path(table.metadata_location)
    assert path is not None
    metadata, rows = json.loads(path.read_bytes()), []
    for number in range(tables):
        copy = path.with_name(f"copy-{number:06d}.metadata.json")
        copy.write_text(json.dumps({**metadata, "table-uuid": str(uuid.uuid4())}))
        location = table.metadata_location.replace(path.name, copy.name)
        rows.append(
            {"catalog_name": lake.catalog.name, "table_namespace": "many", "table_name": f"t{number:06d}",
             "metadata_location": location, "iceberg_type": "TABLE"}
        )  # fmt: skip
    lake.ensure_namespace("many")
    with Session(lake.catalog.engine) as session:  # type: ignore[attr-defined]  # of an SQL catalog
        session.execute(insert(IcebergTables), rows)
        session.commit()


def catch_up(lake: Lake, tables: int) -> None:
    create(lake, "first", SCHEMA, [], facts={RECORD: json.dumps({"labels": ["red"]}), HASH: "h"})
    registry = Registry(lake)
    registry.catch_up()
    copy_tables(lake, "first", tables)
    begun = time.process_time()
    assert registry.catch_up() == tables
    line(f"catch up with {tables:,} versions of {tables:,} tables", time.process_time() - begun, 15)
    line("catch up with none", best(registry.catch_up, 20), 0.005)


def save(lake: Lake) -> None:
    batch, registry = pa.record_batch({"x": [1]}, SCHEMA), Registry(lake)
    registry.catch_up()
    create(lake, "appended", SCHEMA, [batch])
    plain, more = [], []
    for number in range(20):
        begun = time.process_time()
        append(lake, "appended", [batch], schema=SCHEMA)
        plain.append(time.process_time() - begun)
        if number % 2:
            begun = time.process_time()
            registry.catch_up()
            more.append(time.process_time() - begun)
    print(f"    an append: {min(plain) * 1000:.1f} ms")
    line("the records of two appends", min(more), 0.010)


def frame(number: int) -> pa.Table:
    return pa.table({"x": range(number * 1000, number * 1000 + 1000), "y": ["a"] * 1000})


def plain_save(number: int) -> None:
    Rows.from_arrow(frame(number)).save(f"plain{number}")


def record_save(number: int) -> None:
    ln.Dataset(frame(number), name=f"record{number}").save()


def labelled_save(number: int) -> None:
    ln.Dataset(frame(number), name=f"labelled{number}", labels=["red", ln.ULabel("cat", type="Species")]).save()


def plain_version(number: int) -> None:
    rows = Rows.from_arrow(frame(number))
    if number:
        rows.overwrite("plain")
    else:
        rows.save("plain")


def record_version(number: int) -> None:
    former = ln.Dataset.filter(name="record", latest=True).one_or_none() if number else None
    begun = time.process_time()
    ln.Dataset(frame(number), name="record", is_new_version_of=former).save()
    spent.append(time.process_time() - begun)


spent: list[float] = []
"""The CPU seconds of saves whose turns do more than save."""


def compare_saves(home: str, turns: int = 20) -> None:
    """Compares saves of records with plain writes of the same rows, in turns, each in a lake of its own."""
    pairs: dict[str, tuple[Callable[[int], None], Callable[[int], None]]] = {
        "save of a record adds to the commit": (plain_save, record_save),
        "save with labels adds": (plain_save, labelled_save),
        "save of the next version adds": (plain_version, record_version),
    }
    for lakes, (name, pair) in enumerate(pairs.items()):
        taken: tuple[list[float], list[float]] = ([], [])
        for number in range(turns + 3):
            for kind, work in enumerate(pair):
                os.environ["LAKEFEED_HOME"] = f"{home}/{lakes}{kind}"
                spent.clear()
                begun = time.process_time()
                work(number)
                whole = time.process_time() - begun
                taken[kind].append(spent[0] if spent else whole)
        plain, record = (min(each[3:]) for each in taken)
        line(name, record - plain, 0.010)
        print(f"    {plain * 1000:.1f} ms for the commit, {record * 1000:.1f} ms for the record: {record / plain:.2f}x")


FILL = """
CREATE TEMP TABLE word (i INTEGER PRIMARY KEY, w TEXT);
INSERT INTO word VALUES {words};
CREATE TEMP TABLE fresh AS
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})
    SELECT n, printf('%016d', n / 4) AS stem, n % 4 + 1 AS revision, a.w || ' ' || n / 4 AS name,
           b.w || ' ' || c.w || ' ' || d.w || ' ' || a.w || ' and others of that kind' AS description
    FROM numbers JOIN word a ON a.i = n * 7919 / 4 % 10 JOIN word b ON b.i = n * 104729 / 3 % 10
    JOIN word c ON c.i = n * 1299709 / 7 % 10 JOIN word d ON d.i = n * 15485863 / 11 % 10;
INSERT INTO lakefeed_record (uid, stem, revision, kind, name, description, label, hash, size, n, run, user, latest,
                             search_text, created, updated)
    SELECT printf('%s%04d', stem, revision), stem, revision, CASE n % 3 WHEN 0 THEN 'file' ELSE 'dataset' END, name,
           description, revision, lower(hex(randomblob(32))), n, n, 'run' || n / 10, 'user' || n % 50, revision = 4,
           printf('%s\n\n%d\n%s\n\n', name, revision, description), {now} + n, {now} FROM fresh;
INSERT INTO lakefeed_label (uid, name, search_text, created)
    SELECT 'l' || n, 'label' || n, 'label' || n, 0 FROM fresh WHERE n < 200;
INSERT INTO lakefeed_record_label (record, label)
    SELECT printf('%s%04d', stem, revision), 'l' || n * 31 % 200 FROM fresh
    UNION SELECT printf('%s%04d', stem, revision), 'l' || n / 7 % 200 FROM fresh;
"""


def fill(registry: Registry, count: int) -> None:
    registry.catch_up()
    path = registry.database.path
    assert path is not None
    words = ", ".join(f"({number}, '{word}')" for number, word in enumerate(WORDS))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FILL.format(words=words, count=count, now=now_ms()))


def queries(registry: Registry, count: int) -> None:
    query, uid = registry.query(), f"{count // 8:016d}0002"
    first = registry.get(uid).created
    filters: dict[str, Callable[[], object]] = {
        "by uid": lambda: registry.get(uid),
        "by prefix": lambda: registry.get(uid[:17]),
        "newest 100": lambda: query.limit(100).all(),
        "latest, newest 100": lambda: query.filter(latest=True).limit(100).all(),
        "label, latest, newest 100": lambda: query.filter(labels="label7", latest=True).limit(100).all(),
        "two labels": lambda: query.filter(labels=["label7", "label9"]).all(),
        "count of a label": lambda: query.filter(labels="label7").count(),
        "name": lambda: query.filter(name="iris 17").all(),
        "name starts with, 100": lambda: query.filter(name__startswith="iris 1").limit(100).all(),
        "run": lambda: query.filter(run="run77").all(),
        "kind, rows above, newest 100": lambda: query.filter(kind="file", rows__gt=count - 5_000).limit(100).all(),
        "created between": lambda: query.filter(created_at__gte=first, created_at__lt=first + 100).all(),
        "count of a kind": lambda: query.filter(kind="file").count(),
        "count of all": lambda: query.count(),
    }  # fmt: skip
    for name, work in filters.items():
        line(name, best(work, 3), 0.2)
    for text in ("iris 17", "lung heart", "nothing like it", "label7"):
        line(f"search {text!r}, best 20", best(lambda text=text: query.search(text).limit(20).all(), 2), 1)


def main() -> None:
    tables, count = (int(each) for each in (*sys.argv[1:], *(TABLES, ROWS)[len(sys.argv) - 1 :]))
    home = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    os.environ["LAKEFEED_HOME"] = home
    try:
        print(f"{'':44}{'best':>15}{'goal':>15}")
        compare_saves(home)
        os.environ["LAKEFEED_HOME"] = home
        lake = Lake.current()
        catch_up(lake, tables)
        save(lake)
        begun = time.process_time()
        fill(Registry(lake), count)
        print(f"    {count:,} records were inserted in {time.process_time() - begun:.0f} s")
        queries(Registry(lake), count)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
