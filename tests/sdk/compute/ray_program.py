"""The work of a Ray cluster, for an interpreter that has Ray: saves, appends, enrichments and routines."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from lakefeed import Dataset, Table, udf
from lakefeed.compute import Ray, append_to, save
from lakefeed.errors import SchemaError
from lakefeed.routines import Routine, run_versions

SCHEMA = pa.schema({"id": pa.int64(), "double": pa.int64()})
ROWS = 400
MARKS = Path(os.environ["LAKEFEED_HOME"]) / "marks"


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch["id"], pa.compute.multiply(batch["id"], 2)], schema=SCHEMA)


def deadly(numbers: Any) -> Any:
    """It kills its worker in three of its calls."""
    first = numbers.to_pylist()[0]
    mark = MARKS / str(first)
    if first in (40, 120, 200) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [3 * each for each in numbers.to_pylist()]


def unlucky(batch: pa.RecordBatch) -> pa.RecordBatch:
    raise KeyError("of a user")


def doubling(rows: Dataset) -> Dataset:
    return rows.map_batches(doubled, schema=SCHEMA)


def check_scans() -> None:
    """A scan is a dataset of Ray: a block for each shard, in the versions that the scan has pinned."""
    table = Table.create("pages", key_schema={"id": pa.int64()})
    table.write({"id": list(range(100)), "x": [None] * 50 + list(range(50)), "s": ["ä"] * 100})
    scan = table.scan("id", "x", where="id >= 10")
    blocks = scan.to_ray(shards=scan.compute_shards(20))
    table.write({"id": [200], "x": [7]})
    assert blocks.count() == 90
    rows = pa.concat_tables([ray.get(each) for each in blocks.to_arrow_refs()]).sort_by("id")
    assert rows.to_pydict() == scan.to_table().to_pydict()
    assert blocks.map_batches(lambda batch: {"y": batch["id"] * 2}).sum("y") == 2 * sum(range(10, 100))
    assert scan.to_ray(shards=[]).count() == 0
    assert scan.to_ray().schema().names == ["id", "x"]
    assert table.scan("s", where="id < 0").to_ray().count() == 0


def main() -> None:
    MARKS.mkdir(parents=True)
    for start in range(0, ROWS, 40):
        Dataset.from_dict({"id": list(range(start, start + 40))}).save("source", if_exists="append")
    source, engine = Dataset("source"), Ray(workers=2)
    assert engine.width == 2
    rows = source.map_batches(doubled, schema=SCHEMA)
    assert save(rows, "output", engine).version == 1
    assert not ray.is_initialized(), "a cluster of its own ends with the work"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    assert Ray().width == 2
    check_scans()
    assert append_to(rows.filter("id >= 390"), "output", Ray()).version == 2
    ids = Dataset("output").to_arrow().to_pydict()
    assert ids["id"] == [*range(ROWS), *range(390, ROWS)]
    assert ids["double"] == [2 * each for each in ids["id"]]
    with pytest.raises(Exception, match="of a user"):
        append_to(source.map_batches(unlucky, schema=SCHEMA), "output", Ray())
    with pytest.raises(SchemaError):
        append_to(source.rename({"id": "x"}), "output", Ray())
    assert len(Dataset("output").list_versions()) == 2

    table = Table.create("pages", key_schema={"id": pa.int64()})
    for start in range(0, 240, 40):
        table.write({"id": list(range(start, start + 40)), "x": list(range(start, start + 40))})
    before = len(Dataset("pages").list_versions())
    enrichment = table.enrich({"y": udf(pa.int64())(deadly)(table["x"])})
    enrichment.apply_on(Ray(), max_task_size=40, checkpoint_dump=MARKS.parent / "checkpoint")
    assert len(list(MARKS.iterdir())) == 3
    assert table.scan("y").to_table()["y"].to_pylist() == [3 * each for each in range(240)]
    assert len(Dataset("pages").list_versions()) == before + 1

    routine = Routine("double", doubling, "source", "doubles", distributed=True)
    assert list(run_versions(routine, engine=Ray()))
    assert sorted(Dataset("doubles").to_arrow()["double"].to_pylist()) == [2 * each for each in range(ROWS)]
    ray.shutdown()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
