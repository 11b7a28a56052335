"""Writing plans: what is streamed, what is sampled, what files become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pictures

from lakefeed import Dataset, Image
from lakefeed.errors import MissingFileError, TransformError

X = pa.schema({"x": pa.int64()})
MIB = 1 << 20

SAVING = """
import json, pathlib
import pyarrow as pa
from lakefeed import Dataset

SCHEMA = pa.schema({{"x": pa.int64(), "blob": pa.binary()}})

def batches():
    for place in range({batches}):
        blobs = [bytes([place % 251, n]) * 8192 for n in range(64)]
        yield pa.record_batch({{"x": [place] * 64, "blob": blobs}}, SCHEMA)

saved = Dataset.from_batches(batches, schema=SCHEMA).{derived}save("big", column_types=None)
# Not getrusage, whose peak is that of the process that forked this one, if that was larger.
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({{"rows": len(saved), "peak": int(status["VmHWM"].split()[0])}}))
"""


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("derived", ["", 'filter("x >= 0").map_batches(lambda b: b, schema=SCHEMA).'])
def test_memory_does_not_grow_with_what_is_saved(derived: str, home: Path) -> None:
    """1 GiB generated."""
    script = SAVING.format(batches=1024, derived=derived)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["rows"] == 65_536
    assert found["peak"] * 1024 < 400 * MIB


def test_large_batches_are_cut_into_row_groups(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "100")
    Dataset.from_dict({"x": list(range(1050))}).save("t")
    (file,) = home.rglob("*.parquet")
    metadata = pq.read_metadata(file)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [100] * 10 + [50]


def test_a_source_without_text_is_read_once() -> None:
    passes = []

    def batches() -> Iterator[pa.RecordBatch]:
        passes.append(1)
        yield pa.record_batch({"x": [1]})

    Dataset.from_batches(batches, schema=X).save("t")
    assert passes == [1]


def test_a_sample_is_taken_below_shuffles_and_of_the_first_rows_only() -> None:
    seen: list[int] = []
    schema = pa.schema({"s": pa.string()})
    rows = Dataset.from_dict({"x": list(range(50_000))})
    named = rows.map(lambda row: seen.append(row["x"]) or {"s": f"{row['x']}"}, schema=schema).shuffle(1)
    saved = named.save("t")
    assert len(seen) == 50_000 + 100
    assert saved.to_arrow()["s"].to_pylist() == named.to_arrow()["s"].to_pylist()


def test_errors_name_their_rows() -> None:
    def fail(row: dict[str, Any]) -> dict[str, Any]:
        return {"x": "word"} if row["x"] == 70_000 else row

    with pytest.raises(TransformError, match=r"column 'x'.* for row 70000"):
        Dataset.from_dict({"x": list(range(80_000))}).map(fail, schema=X).save("t")
    assert not Dataset.exists("t")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    names = [f"{n}.png" for n in range(3)]
    for n, name in enumerate(names):
        Pictures.new("RGB", (4 + n, 2), (n, 0, 0)).save(name)
    return names


def test_local_images_are_found_stored_and_read_back(pictures: list[str]) -> None:
    contents = [Path(name).read_bytes() for name in pictures]
    saved = Dataset.from_dict({"img": pictures, "label": [0, 1, 2]}).save("t")
    for name in pictures:
        Path(name).unlink()
    assert saved.column_types == {"img": "image"}
    rows = list(saved)
    assert [row["img"].bytes() for row in rows] == contents
    assert [row["img"].pil().size for row in rows] == [(4, 2), (5, 2), (6, 2)]
    assert saved.filter("img.width >= 5").select(["label"]).to_arrow()["label"].to_pylist() == [1, 2]


def test_load_files_means_the_same_everywhere(pictures: list[str]) -> None:
    saved = Dataset.from_dict({"img": pictures}).save("t")
    contents = [Path(name).read_bytes() for name in pictures]
    for mode in ("bytes", {"img": "bytes"}, {"img": "auto"}):
        assert [row["img"] for row in saved.rows(load_files=mode)] == contents
        assert next(saved.batches(3, load_files=mode))["img"] == contents
        assert next(saved.batches(3, "arrow", load_files=mode))["img"].to_pylist() == contents
    for mode in (False, {"img": False}):
        assert next(saved.rows(load_files=mode))["img"]["filename"] == "0.png"
        assert next(saved.batches(3, load_files=mode))["img"][0]["width"] == 4
    assert [Path(row["img"]).suffix for row in saved.rows(load_files="path")] == [".png"] * 3


def test_column_types_are_exact_or_none(pictures: list[str]) -> None:
    rows = Dataset.from_dict({"img": pictures, "other": pictures})
    assert rows.save("a", column_types={"img": Image}).column_types == {"img": "image"}
    assert rows.save("b", column_types=None).column_types == {}
    assert rows.with_column_types({"img": "file"}).save("c").column_types == {"img": "file", "other": "image"}


def test_appended_rows_take_the_types_of_the_dataset(pictures: list[str]) -> None:
    Dataset.from_dict({"img": pictures[:1]}).save("t")
    again = Dataset.from_dict({"img": pictures[1:]}).append_to("t")
    assert [row["img"].filename for row in again] == pictures
    assert [row["img"].filename for row in Dataset("t").head(1).append_to("t")] == [*pictures, pictures[0]]


def test_images_pass_through_maps(pictures: list[str]) -> None:
    saved = Dataset.from_dict({"img": pictures}).save("t")
    schema = saved.schema.append(pa.field("wide", pa.bool_()))
    mapped = saved.map(lambda row: {**row, "wide": row["img"].width > 4}, schema=schema).save("u")
    assert mapped.column_types == {"img": "image"}
    assert [(row["img"].pil().width, row["wide"]) for row in mapped] == [(4, False), (5, True), (6, True)]


def test_a_missing_file_leaves_nothing(pictures: list[str], home: Path) -> None:
    Path("1.png").unlink()
    with pytest.raises(MissingFileError, match=r"1\.png"):
        Dataset.from_dict({"img": pictures}).save("t", column_types={"img": "image"})
    assert not Dataset.exists("t")
    assert not list(home.rglob("*.parquet"))
