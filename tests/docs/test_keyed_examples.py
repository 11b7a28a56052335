"""The examples of the page on keyed tables that this API follows, with only the import and the settings changed.

Between the comments ``# --`` each block is that of the page, with `lakefeed` in place of its package.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

import lakefeed
from lakefeed.demo import abc, fineweb, images


def test_clients(home: Path) -> None:
    # --
    sp = lakefeed.connect()
    # --
    assert sp.config.read.threads >= 1
    # --
    sp = lakefeed.connect(overrides={"read.threads": "16"})
    # --
    assert sp.config.read.threads == 16


def test_scans_of_demo_tables(home: Path) -> None:
    # --
    sp = lakefeed.connect()
    table = images(sp)
    fineweb_table = fineweb(sp)
    scan = sp.scan(fineweb_table[["text"]])
    # --
    assert scan.schema == pa.schema({"text": pa.string()})
    assert scan.to_table().num_rows == 200
    assert table.scan("image").as_dataset().load_files("bytes").to_arrow()["image"][0].as_py()[:4] == b"\x89PNG"
    assert images(sp) == table
    assert abc(sp).snapshot().version == abc(sp).snapshot().version == 2
    # --
    shards = scan.shards()
    world = lakefeed.World(rank=0, world_size=1)
    # --
    assert world.rank == 0
    assert scan.to_table(shards=shards).num_rows == 200
    # --
    state_json = scan.state_json()
    resumed = sp.resume_scan(state_json)
    # --
    assert resumed.to_table() == scan.to_table()


def test_nulls_pushed_down(home: Path) -> None:
    """E.g. [{"a": 1}, null] becomes [{"a": 1}, {"a": null}]."""
    table = lakefeed.Table.create("pushed", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "s": pa.array([{"a": 1}, None])}, push_down_nulls=True)
    assert table.scan("s").to_table()["s"].to_pylist() == [{"a": 1}, {"a": None}]
