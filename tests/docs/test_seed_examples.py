"""The examples of the documentation that this API follows, as they stand there but for the import and the data."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, Image, concatenate, get_dataset, interleave, list_datasets


def process(batch: pa.RecordBatch) -> None:
    assert batch.num_rows


@pytest.fixture(autouse=True)
def data(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples take for given."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.jpg", "dog.png"):
        PIL.Image.new("RGB", (8, 6)).save(name)
    rows = {"label": [0, 1, None], "score": [0.9, 0.5, 0.95], "text": ["a", "bb", "ccc"]}
    pq.write_table(pa.table(rows), "data.parquet")
    return tmp_path


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_dict({"label": [0, 1, 1], "score": [0.9, 0.5, 0.95], "text": ["a", "bb", "ccc"]})


def test_versions() -> None:
    Dataset.from_dict({"x": [1]}).save("photos")
    for x in range(2, 8):
        Dataset.from_dict({"x": [x]}).append_to("photos")
    latest = Dataset("photos")
    v3 = Dataset("photos", version=3)
    assert (len(latest), len(v3)) == (7, 3)
    for version in Dataset("photos").list_versions():
        print(version.version, version.operation)  # noqa: T201  # as the example has it
    for batch in Dataset("photos").added_since(from_version=4, to_version=7):
        process(batch)


def test_files_and_iteration() -> None:
    dataset = Dataset.from_file("data.parquet")
    dataset.save("training-data", description="Training dataset")
    assert Dataset("training-data").description == "Training dataset"
    for row in dataset:
        assert row.keys() == {"label", "score", "text"}
    assert [len(batch["text"]) for batch in dataset.batches(2)] == [2, 1]


def test_making_them() -> None:
    df = pd.DataFrame({"x": [1, 2]})
    table = pa.table({"x": [1, 2]})
    schema = table.schema
    ds = Dataset.from_dict({"col1": [1, 2, 3], "col2": ["a", "b", "c"]})
    assert len(ds) == 3
    assert len(Dataset.from_pandas(df)) == len(Dataset.from_arrow(table)) == 2
    assert Dataset.from_batches(table.to_batches, schema=schema).count() == 2
    if not Dataset.exists("my-dataset"):
        Dataset.from_pandas(df).save("my-dataset")
    datasets = list_datasets()
    assert [ds.name for ds in datasets] == ["my-dataset"]
    assert get_dataset("my-dataset").count() == 2


def test_images_are_detected_and_uploaded() -> None:
    ds = Dataset.from_dict({"img": ["cat.jpg", "dog.png"], "label": [0, 1]})
    saved = ds.save("my-dataset")  # img detected as Image, files uploaded
    assert saved.column_types == {"img": "image"}
    assert saved.filter("img.width >= 8").count() == 2
    assert saved.sql("SELECT img.width AS w FROM data").to_arrow()["w"].to_pylist() == [8, 8]
    for batch in saved.batches(64, load_files="bytes"):
        assert all(isinstance(content, bytes) for content in batch["img"])


def test_types_that_are_said() -> None:
    ds = Dataset.from_dict({"photo": ["cat.jpg", "dog.png"], "other": ["dog.png", "cat.jpg"]})
    ds.save("exact", column_types={"photo": Image})
    ds.with_column_types({"photo": Image}).save("pinned")
    ds.save("copied", copy_files=True)
    assert Dataset("exact").column_types == {"photo": "image"}
    assert Dataset("pinned").column_types == {"photo": "image", "other": "image"}
    ds.save("untyped", column_types=None)
    Dataset("untyped").set_column_types({"photo": Image})
    assert Dataset("untyped").column_types == {"photo": "image"}


def test_torch(dataset: Dataset) -> None:
    loader = dataset.to_torch(batch_size=32)
    for batch in loader:
        assert batch["score"].shape == (3,)


def test_media_in_collate_fn() -> None:
    dataset = Dataset.from_dict({"image": ["cat.jpg", "dog.png"]}).save("pictures")

    def collate(batch: dict[str, Any]) -> dict[str, Any]:
        batch["image"] = [PIL.Image.open(io.BytesIO(b)) for b in batch["image"]]
        return batch

    loader = dataset.to_torch(batch_size=64, collate_fn=collate)
    assert [[image.size for image in batch["image"]] for batch in loader] == [[(8, 6), (8, 6)]]


def test_transforms(dataset: Dataset) -> None:
    recent = dataset.filter("score > 0.8 and label != None")
    positive = dataset.filter(lambda x: x["label"] == 1)
    assert (recent.count(), positive.count()) == (2, 2)
    ds = dataset.map(
        lambda x: {"text": x["text"], "text_len": len(x["text"])},
        schema=pa.schema([("text", pa.string()), ("text_len", pa.int64())]),
    )
    assert ds.to_arrow()["text_len"].to_pylist() == [1, 2, 3]
    splits = dataset.train_test_split(test_size=0.2, seed=42)
    assert splits["train"].count() + splits["test"].count() == 3


def test_join_sql_explain_cache(dataset: Dataset) -> None:
    users = Dataset.from_dict({"user_id": [1, 2], "name": ["a", "b"]})
    orders = Dataset.from_dict({"user_id": [2, 2], "item": ["x", "y"]})
    joined = users.join(orders, keys="user_id")
    assert joined.to_arrow()["item"].to_pylist() == ["x", "y"]
    filtered = dataset.sql("SELECT * FROM data WHERE score > 0.8")
    stats = dataset.sql("SELECT label, COUNT(*) as cnt FROM t GROUP BY label", table_name="t")
    assert (filtered.count(), stats.count()) == (2, 2)
    dataset.with_column("x", "label").save("d")
    assert "Scan" in Dataset("d").filter("x > 1").head(5).explain()
    ds = Dataset("d").cache()
    prep = ds.filter("score >= 0.9").cache(path="prep-v2")
    assert prep.count() == 2


@pytest.fixture
def text() -> Dataset:
    """A dataset of lines, in two files, read while it is iterated over."""
    for part in range(2):
        lines = (json.dumps({"id": part * 50 + n, "text": f"line {part * 50 + n}"}) + "\n" for n in range(50))
        Path(f"en-{part}.jsonl").write_text("".join(lines))
    return Dataset.from_file("en-*.jsonl")


def test_streaming_shuffle_and_epochs(text: Dataset) -> None:
    assert next(iter(text)) == {"id": 0, "text": "line 0"}
    shuffled_dataset = text.shuffle(seed=42, global_=False, window=10)
    orders = []
    for epoch in range(2):
        shuffled_dataset.set_epoch(epoch)
        orders.append([example["id"] for example in shuffled_dataset])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(100))
    train_dataset = shuffled_dataset.skip(60)
    eval_dataset = shuffled_dataset.head(60)
    assert {row["id"] for row in train_dataset}.isdisjoint(row["id"] for row in eval_dataset)


def test_streaming_map(text: Dataset) -> None:
    schema = pa.schema({"input_ids": pa.list_(pa.int64())})
    tokenized_dataset = text.map(lambda x: {"input_ids": [*x["text"].encode()]}, schema=schema)
    assert next(iter(tokenized_dataset))["input_ids"][0] == ord("l")

    def tokenize(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch({"input_ids": pa.array([[*text.encode()] for text in batch["text"].to_pylist()])})

    assert text.map_batches(tokenize, schema=schema).to_arrow() == tokenized_dataset.to_arrow()


def test_streaming_mixes(text: Dataset) -> None:
    fr_dataset = Dataset.from_dict({"id": [1000, 1001], "text": ["un", "deux"]})
    multilingual_dataset = interleave([text, fr_dataset])
    assert [row["id"] for row in multilingual_dataset.head(4)] == [0, 1000, 1, 1001]
    oversampled = interleave([text, fr_dataset], probabilities=[0.8, 0.2], seed=42)
    assert [row["id"] for row in oversampled] == [row["id"] for row in oversampled]
    assert concatenate([text, fr_dataset]).count() == 102


def test_chained_urls(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile("aqa.zip", "w") as archive:
        archive.writestr("combined/train.jsonl", '{"x": 1}\n')
    found: Iterator[Any] = iter(Dataset.from_file(f"zip://combined/train.jsonl::{tmp_path / 'aqa.zip'}"))
    assert list(found) == [{"x": 1}]
