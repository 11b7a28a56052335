"""Rows are cut by their bytes, not by their number, wherever they are put together."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakefeed import Dataset
from lakefeed.caching import arrow_folder
from lakefeed.plan.row_bytes import cut_by_bytes, ranges_by_bytes, selected_bytes
from lakefeed.plan.take_rows import filter_by_mask, take_values
from lakefeed.run import epoch_reader, external_shuffle, gather, random_access, spill

LONG = "more than twelve bytes"
ROWS, LIMIT = 200, 4_000
LENGTHS = [1 if row % 7 else 1_500 for row in range(ROWS)]
LENGTHS[50] = 9_000


def batches() -> Iterator[pa.RecordBatch]:
    for start in range(0, ROWS, 20):
        ids = list(range(start, start + 20))
        texts = [chr(97 + row % 26) * LENGTHS[row] for row in ids]
        yield pa.record_batch({"id": ids, "text": texts, "tokens": [[row] * (row % 5) for row in ids]})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (gather, "GATHER_BYTES"),
        (gather, "SMALL_BATCH_BYTES"),
        (random_access, "GATHER_BYTES"),
        (external_shuffle, "GATHER_BYTES"),
        (spill, "SPILL_BYTES"),
        (epoch_reader, "JOIN_BYTES"),
        (arrow_folder, "PART_BYTES"),
        (arrow_folder, "MAX_PART_BYTES"),
    ):
        monkeypatch.setattr(module, name, LIMIT)


@pytest.mark.usefixtures("small")
def test_no_batch_is_larger_than_the_limit_or_one_row(tmp_path: Path) -> None:
    rows = Dataset.from_batches(batches, schema=next(batches()).schema)
    rows.save("large", column_types=None)
    keys = Dataset.from_dict({"id": list(range(ROWS))[::-1]})
    expected = {row["id"]: row for row in rows.to_arrow().to_pylist()}
    for made in (
        rows.sort("id", descending=True),
        rows.shuffle(seed=1),
        rows.join(keys, ["id"]),
        Dataset("large").shuffle(seed=1, global_=False),
        Dataset("large").sort("id", descending=True),
        rows.mapped(tmp_path / "mapped").shuffle(seed=2),
        rows.mapped(tmp_path / "mapped"),
    ):
        found = list(made.batches(format="arrow"))
        assert {row["id"]: row for batch in found for row in batch.to_pylist()} == expected
        assert sum(batch.num_rows for batch in found) == ROWS
        for batch in found:
            assert batch.num_rows == 1 or int(selected_bytes(batch, np.arange(batch.num_rows)).sum()) <= LIMIT
    assert [row["id"] for row in rows.mapped(tmp_path / "mapped")[[50, 3, 50, -1]]] == [50, 3, 50, ROWS - 1]


def test_bytes_of_rows_are_measured() -> None:
    text = pa.array(["", "ab", None, "abc"])
    columns = {
        "number": pa.array([1, 2, 3, 4], pa.int32()),
        "text": text,
        "view": text.cast(pa.string_view()),
        "large": text.cast(pa.large_string()),
        "list": pa.array([[1], [], None, [1, 2]], pa.list_(pa.int16())),
        "texts": pa.array([["a"], [], None, ["ab", "c"]]),
        "struct": pa.array([{"a": "x"}] * 4, pa.struct({"a": pa.string()})),
    }
    sizes = {"number": [4] * 4, "list": [2, 1, 1, 4], "texts": [1, 1, 1, 3], "struct": [2] * 4}
    for name, column in columns.items():
        for array, shift in ((column, 0), (pa.concat_arrays([column[:1], column]).slice(1), 0), (column.slice(1), 1)):
            rows = np.arange(len(array))
            batch = pa.record_batch({name: array})
            assert selected_bytes(batch, rows).tolist() == sizes.get(name, [1, 2, 1, 3])[shift:], name
    assert list(ranges_by_bytes(np.array([3, 3, 9, 1, 1]), 6)) == [(0, 2), (2, 3), (3, 5)]
    whole = pa.record_batch({"text": ["aaa", "bbb", "c" * 9, "d", "e"]})
    assert [batch.num_rows for batch in cut_by_bytes(whole, 6)] == [2, 1, 2]


VALUES = [
    pa.array(["a", LONG, None, "b"], pa.string_view()),
    pa.array([b"a", LONG.encode(), None, b"b"], pa.binary_view()),
    pc.run_end_encode(pa.array(["a", "a", "b", None])),
    pa.array([["a", LONG], None, [], ["b"]], pa.list_(pa.string_view())),
    pa.array([{"a": "x"}, None, {"a": None}, {"a": LONG}], pa.struct({"a": pa.string_view()})),
    pa.array([["a"], [LONG], None, [None]], pa.list_(pa.string_view(), 1)),
    pa.array([[("a", LONG)], None, [], [("b", None)]], pa.map_(pa.string_view(), pa.string_view())),
    pa.StructArray.from_arrays([pc.run_end_encode(pa.array(["a", "a", "b", None]))], ["r"]),
    pa.array([[1, 2], None, [], [3]], pa.list_(pa.int32())),
    pa.array([[1, 2], None, [], [3]], pa.large_list(pa.int16())),
    pa.array([[1, None], None, [], [3]], pa.list_(pa.int32())),
    pa.array([[[1, 2], [3, 4]], None, [], [[5, 6]]], pa.list_(pa.list_(pa.int32(), 2))),
    pa.array([[[1, 2], [3, 4]], None, [], [[5, None]]], pa.list_(pa.list_(pa.int32(), 2))),
    pa.array([[True], None, [], [False, True]], pa.list_(pa.bool_())),
    pa.array([[], None, [], []], pa.list_(pa.int64())),
]


@pytest.mark.parametrize("values", VALUES, ids=lambda values: str(values.type))
def test_values_of_every_type_are_taken_and_filtered(values: pa.Array) -> None:
    thrice = pa.concat_arrays([values] * 3)
    for column in (thrice, thrice.slice(1), thrice.slice(2, 4), thrice.slice(0, 0)):
        expected = column.to_pylist()
        for positions in ([], [0, 0], [3, 1, 2, 0], [*range(len(column))][::-1] * 3):
            some = [position for position in positions if position < len(column)]
            taken = take_values(column, np.array(some, np.int64))
            taken.validate(full=True)
            assert taken.type == column.type
            assert taken.to_pylist() == [expected[position] for position in some]
            if expected:
                taken = take_values(column, pa.array([*some, None], pa.int64()))
                assert taken.to_pylist() == [*(expected[position] for position in some), None]
        mask = pa.array([True, None] * (len(column) // 2) + [True] * (len(column) % 2), pa.bool_())
        assert filter_by_mask(pa.record_batch({"x": column}), mask)["x"].to_pylist() == expected[::2]


@pytest.mark.parametrize("values", VALUES[:8], ids=lambda values: str(values.type))
def test_columns_without_kernels_are_shuffled_and_sorted(values: pa.Array) -> None:
    table = pa.table({"id": list(range(12)), "x": pa.concat_arrays([values] * 3)})
    rows = Dataset.from_arrow(table)
    expected = table.to_pylist()
    for made in (rows.shuffle(seed=1), rows.shuffle(seed=1, window=5), rows.sort("id", descending=True)):
        found = made.to_arrow()
        assert found.schema == table.schema
        assert sorted(found.to_pylist(), key=lambda row: row["id"]) == expected


LARGE = """
    import sys, threading, time
    import numpy as np, pyarrow as pa
    from lakefeed import Dataset

    kind, rows, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    noise = "".join(chr(97 + letter) for letter in np.random.default_rng(0).integers(0, 26, 65_536).tolist())
    noise *= size // 65_536 + 2

    def batches():
        for row in range(rows):
            yield pa.record_batch({"id": [row], "text": [noise[row % 65_536:][:size]]})

    data = Dataset.from_batches(batches, schema=pa.schema({"id": pa.int64(), "text": pa.string()}))
    if kind == "window":
        data.save("large")
    peak, done = 0, False

    def watch():
        global peak
        while not done:
            for line in open("/proc/self/status"):
                if line.startswith("VmRSS"):
                    peak = max(peak, int(line.split()[1]) >> 10)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    made = {
        "shuffle": lambda: data.shuffle(seed=1),
        "sort": lambda: data.sort("id", descending=True),
        "join": lambda: data.join(Dataset.from_dict({"id": list(range(rows))[::-1]}), ["id"]),
        "sql": lambda: data.sql("SELECT id, text || '' AS text FROM data"),
        "mapped": lambda: data.mapped(),
        "window": lambda: Dataset("large").shuffle(seed=1, global_=False),
    }[kind]()
    count = total = 0
    for batch in made.batches(format="arrow"):
        count, total = count + batch.num_rows, total + int(batch["id"].to_numpy().sum())
    done = True
    watcher.join()
    assert (count, total) == (rows, rows * (rows - 1) // 2), (count, total)
    print(peak)
"""


def peak_mib(kind: str, rows: int, size: int, memory_mib: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The most memory that the work took, with the pages of mapped files."""
    monkeypatch.setenv("LAKEFEED__SQL__MEMORY_BYTES", str(memory_mib << 20))
    command = [sys.executable, "-c", textwrap.dedent(LARGE), kind, str(rows), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.live
@pytest.mark.slow
def test_the_memory_of_a_global_shuffle_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 MB of rows of 50 KB under 128 MiB (and what Python and Arrow take anyway)."""
    assert peak_mib("shuffle", 10_000, 50_000, 128, monkeypatch) < 400


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("rows", "size"), [(8_300, 300 << 10), (850, 3 << 20)])
@pytest.mark.parametrize("kind", ["shuffle", "sort", "join", "sql", "mapped", "window"])
def test_more_than_two_gigabytes_of_large_rows(
    kind: str, rows: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = peak_mib(kind, rows, size, 8_192 if kind == "sql" else 1_024, monkeypatch)
    assert peak < 1_024 or kind in ("sql", "mapped")  # the caller reads the map of `mapped`, and lets go of it
