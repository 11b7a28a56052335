"""The examples of the documentation that this API follows, as they stand there.

Between the comments ``# --`` each block is word for word that of the page, but for the import and for where data lies:
its URLs are those of a server on this machine, ``/data`` is a folder of the test.
"""
# ruff: noqa: T201

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PILImage

from lakefeed import Audio, Dataset, Image
from lakefeed.errors import ColumnNotFoundError
from tests.sdk.media.recorded import make_audio
from tests.sdk.web import Site, serving

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def data(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples take for given: the files, and that nothing else is reached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name, width in (("cat.jpg", 8), ("dog.png", 600)):
        PIL.Image.new("RGB", (width, 6)).save(name)
    rows = {"label": [0, 1, None], "score": [0.9, 0.5, 0.95], "text": ["a", "bb", "ccc"]}
    pq.write_table(pa.table(rows), "data.parquet")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving() as server:
        yield server


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_dict({"label": [0, 1, 1], "score": [0.9, 0.5, 0.95], "text": ["a", "bb", "ccc"]})


@pytest.fixture
def photos() -> Dataset:
    rows = {"image": ["cat.jpg", "dog.png"], "x": [1, 2]}
    return Dataset.from_dict(rows).save("photo-dataset")


# ------------------------------------------------------------------ references, versions


def test_constructor_and_latest() -> None:
    for x in range(3):
        rows = Dataset.from_dict({"x": [x]})
        rows.append_to("training-data") if x else rows.save("training-data")
    # --
    dataset = Dataset("training-data")
    baseline = Dataset("training-data", version=3)
    # --
    # --
    latest = Dataset("training-data")
    v3 = Dataset("training-data", version=3)
    # --
    assert dataset.count() == baseline.count() == 3
    Dataset.from_dict({"x": [3]}).append_to("training-data")
    assert (len(latest), len(v3)) == (4, 3)
    assert (dataset.name, dataset.description, dataset.column_types) == ("training-data", None, {})
    assert dataset.schema == pa.schema({"x": pa.int64()})
    assert "schema" in dataset.metadata


def test_list_versions_and_added_since(capsys: pytest.CaptureFixture[str]) -> None:
    Dataset.from_dict({"x": [1]}).save("photos")
    for x in range(2, 8):
        Dataset.from_dict({"x": [x]}).append_to("photos")
    # --
    for version in Dataset("photos").list_versions():
        print(version.version, version.operation)
    # --
    assert capsys.readouterr().out.splitlines() == [f"{n} append" for n in range(7, 0, -1)]
    found = []

    def process(batch: pa.RecordBatch) -> None:
        found.extend(batch["x"].to_pylist())

    # --
    for batch in Dataset("photos").added_since(from_version=4, to_version=7):
        process(batch)
    # --
    assert found == [5, 6, 7]


# ------------------------------------------------------------------ iteration


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset.from_dict({"col1": [1], "col2": ["a"]})
    # --
    for row in dataset:
        print(row)  # {"col1": value, "col2": value}
    # --
    assert capsys.readouterr().out == "{'col1': 1, 'col2': 'a'}\n"


def test_batches(photos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset.from_dict({"col1": [1, 2], "col2": ["a", "b"]})
    # --
    for batch in dataset.batches(64):
        print(batch)  # {"col1": [v1, v2, ...], "col2": [v1, v2, ...]}
    # --
    assert capsys.readouterr().out == "{'col1': [1, 2], 'col2': ['a', 'b']}\n"
    dataset, sent = photos, []
    send = sent.append
    # --
    for batch in dataset.batches(64, load_files="bytes"):
        send(batch["image"])  # list[bytes], fetched in parallel
    # --
    assert sent == [[Path("cat.jpg").read_bytes(), Path("dog.png").read_bytes()]]


# ------------------------------------------------------------------ creating


def test_from_files() -> None:
    # --
    dataset = Dataset.from_file("data.parquet")
    dataset.save("training-data", description="Training dataset")
    # --
    assert Dataset("training-data").description == "Training dataset"
    assert Dataset("training-data").to_arrow() == pq.read_table("data.parquet")


def test_from_memory() -> None:
    df = pd.DataFrame({"x": [1, 2]})
    table = pa.table({"x": [1, 2]})
    schema = table.schema
    batch_factory = table.to_batches
    torch_dataset = torch.utils.data.TensorDataset(torch.tensor([0.5, 1.5]), torch.tensor([0, 1]))
    Path("imdb").mkdir()  # stands for the one on the hub
    Path("imdb/train.csv").write_text("text,label\nfine,1\npoor,0\n")
    made = []
    # --
    # From Python dict
    ds = Dataset.from_dict({"col1": [1, 2, 3], "col2": ["a", "b", "c"]})
    # --
    made.append(ds)
    # --

    # From pandas DataFrame
    ds = Dataset.from_pandas(df)
    # --
    made.append(ds)
    # --

    # From Arrow table
    ds = Dataset.from_arrow(table)
    # --
    made.append(ds)
    # --

    # From a re-iterable batch source
    ds = Dataset.from_batches(batch_factory, schema=schema)
    # --
    made.append(ds)
    # --

    # From HuggingFace datasets (streams by default)
    ds = Dataset.from_huggingface("imdb", split="train")
    # --
    made.append(ds)
    # --

    # From PyTorch dataset (schema= is required)
    ds = Dataset.from_torch(
        torch_dataset,
        schema=pa.schema([("data", pa.float32()), ("label", pa.int64())]),
    )
    # --
    made.append(ds)
    for number, one in enumerate(made):
        assert one.save(f"made-{number}").to_arrow() == one.to_arrow()
    assert [one.count() for one in made] == [3, 2, 2, 2, 2, 2]
    assert made[4].to_arrow().to_pylist() == [{"text": "fine", "label": 1}, {"text": "poor", "label": 0}]
    assert made[5].to_arrow().to_pylist() == [{"data": 0.5, "label": 0}, {"data": 1.5, "label": 1}]


# ------------------------------------------------------------------ saving


def test_save(web: Site) -> None:
    """One block, of which each save is an alternative: what was saved goes before the next."""
    # --
    # Auto-detects column types and uploads local files (default)
    ds = Dataset.from_dict({"img": ["cat.jpg", "dog.png"], "label": [0, 1]})
    ds.save("my-dataset")  # img detected as Image, files uploaded
    # --
    Path("cat.jpg").rename("photo.jpg")
    assert Dataset("my-dataset").column_types == {"img": "image"}
    assert [row["img"].numpy().shape for row in Dataset("my-dataset")] == [(6, 8, 3), (6, 600, 3)]
    assert Dataset("my-dataset").sql("SELECT img.width AS w FROM data").to_arrow()["w"].to_pylist() == [8, 600]
    Dataset("my-dataset").delete()
    there = [web.put("photo.jpg", Path("photo.jpg").read_bytes()), web.put("dog.png", Path("dog.png").read_bytes())]
    ds = Dataset.from_dict({"photo": there, "other": there})
    # --

    # Explicit types for exactly these columns (no inference of others)
    from lakefeed import Image

    ds.save("my-dataset", column_types={"photo": Image})
    # --
    assert Dataset("my-dataset").column_types == {"photo": "image"}
    assert [row["photo"].url for row in Dataset("my-dataset")] == there  # remote URLs are kept as references
    Dataset("my-dataset").delete()
    # --

    # Pin some columns and let save() infer the rest: chain with_column_types()
    ds.with_column_types({"photo": Image}).save("my-dataset")
    # --
    assert Dataset("my-dataset").column_types == {"photo": "image", "other": "image"}
    Dataset("my-dataset").delete()
    # --

    # Copy remote URLs into workspace storage too
    ds.save("my-dataset", copy_files=True)
    # --
    web.files.clear()
    contents = [Path("photo.jpg").read_bytes(), Path("dog.png").read_bytes()]
    assert [row["photo"] for row in Dataset("my-dataset").rows(load_files="bytes")] == contents
    assert Dataset("my-dataset").filter("photo.width >= 512 and other.width >= 512").count() == 1


# ------------------------------------------------------------------ exporting


def collate(batch: dict[str, Any]) -> dict[str, Any]:
    batch["image"] = [PILImage.open(io.BytesIO(b)) for b in batch["image"]]
    return batch


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes:UserWarning")  # of small machines
def test_to_torch(photos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    features = pa.FixedSizeListArray.from_arrays(pa.array(range(192), pa.float32()), 3)
    dataset = Dataset.from_arrow(pa.table({"features": features}))
    # --
    # Batched - yields dicts of tensors (numeric columns are zero-copy)
    loader = dataset.to_torch(batch_size=32, num_workers=4)
    for batch in loader:
        print(batch["features"].shape)  # torch.Size([32, ...])
    # --
    assert capsys.readouterr().out == "torch.Size([32, 3])\n" * 2
    dataset = photos
    # `collate` stands above: what goes to other processes is no function inside a function.
    # --
    loader = dataset.to_torch(batch_size=64, num_workers=4, collate_fn=collate)
    # --
    [batch] = loader
    assert [image.size for image in batch["image"]] == [(8, 6), (600, 6)]
    assert batch["x"].tolist() == [1, 2]


# ------------------------------------------------------------------ transformations


def test_filter(dataset: Dataset) -> None:
    # --
    recent = dataset.filter("score > 0.8 and label != None")
    positive = dataset.filter(lambda x: x["label"] == 1)
    # --
    assert recent.to_arrow()["text"].to_pylist() == ["a", "ccc"]
    assert positive.to_arrow()["text"].to_pylist() == ["bb", "ccc"]
    assert Dataset.from_file("data.parquet").filter("score > 0.8 and label != None").count() == 1


def test_map(dataset: Dataset) -> None:
    # --
    import pyarrow as pa

    ds = dataset.map(
        lambda x: {"text": x["text"], "text_len": len(x["text"])},
        schema=pa.schema([("text", pa.string()), ("text_len", pa.int64())]),
    )
    # --
    assert ds.to_arrow()["text_len"].to_pylist() == [1, 2, 3]


def test_join() -> None:
    users = Dataset.from_dict({"user_id": [1, 2], "name": ["a", "b"]})
    orders = Dataset.from_dict({"user_id": [2, 2], "item": ["x", "y"]})
    # --
    joined = users.join(orders, keys="user_id")
    # --
    assert joined.to_arrow().sort_by("item").to_pylist() == [
        {"user_id": 2, "name": "b", "item": "x"},
        {"user_id": 2, "name": "b", "item": "y"},
    ]


def test_train_test_split() -> None:
    dataset = Dataset.from_dict({"x": list(range(100))})
    # --
    splits = dataset.train_test_split(test_size=0.2, seed=42)
    train_ds = splits["train"]
    test_ds = splits["test"]
    # --
    assert (train_ds.count(), test_ds.count()) == (80, 20)
    assert sorted(row["x"] for side in (train_ds, test_ds) for row in side) == list(range(100))


# ------------------------------------------------------------------ files


def test_load_files() -> None:
    rows = {"image": ["cat.jpg"], "sound": [make_audio(Path("a.wav"))]}
    dataset = Dataset.from_dict(rows).save("files")
    cat, sound = Path("cat.jpg").read_bytes(), Path("a.wav").read_bytes()
    for to in ("auto", True):  # bytes of images, paths of sounds
        [row] = dataset.load_files(to)
        assert (row["image"], Path(row["sound"]).read_bytes()) == (cat, sound)
    [row] = dataset.load_files("bytes")
    assert (row["image"], row["sound"]) == (cat, sound)
    [row] = dataset.load_files("path")
    assert [Path(row[name]).read_bytes() for name in ("image", "sound")] == [cat, sound]
    for reading in (dataset.load_files(False).rows(), dataset.rows(load_files=True)):
        [row] = reading  # records, and as Python objects handles
        assert (type(row["image"]), type(row["sound"])) == (Image, Audio)
    [row] = dataset.rows(load_files=False)
    assert (row["image"]["filename"], row["sound"]["filename"]) == ("cat.jpg", "a.wav")
    # --
    loaded = dataset.load_files({"image": "path"})
    # --
    [row] = loaded  # exact: the sound stays a handle
    assert (Path(row["image"]).read_bytes(), type(row["sound"])) == (cat, Audio)


def test_load_files_that_fail(web: Site, caplog: pytest.LogCaptureFixture) -> None:
    there = [web.put("cat.jpg", Path("cat.jpg").read_bytes()), web.put("dog.png", b"")]
    dataset = Dataset.from_dict({"image": there}).save("remote", column_types={"image": Image}, stats=False)
    del web.files["/dog.png"]
    assert [row["image"] for row in dataset.load_files(on_error="null")] == [Path("cat.jpg").read_bytes(), None]
    assert "1 of 2 files could not be loaded" in caplog.text


# ------------------------------------------------------------------ SQL, inspection, cache


def test_sql(dataset: Dataset) -> None:
    # --
    filtered = dataset.sql("SELECT * FROM data WHERE score > 0.8")
    stats = dataset.sql("SELECT label, COUNT(*) as cnt FROM t GROUP BY label", table_name="t")
    # --
    assert filtered.to_arrow()["text"].to_pylist() == ["a", "ccc"]
    assert stats.to_arrow().sort_by("label").to_pylist() == [{"label": 0, "cnt": 1}, {"label": 1, "cnt": 2}]


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    Dataset.from_dict({"x": list(range(10))}).save("d")
    # --
    print(Dataset("d").filter("x > 1").head(5).explain())
    # --
    out = capsys.readouterr().out
    assert "Scan" in out
    assert "x > 1" in out


def test_cache(photos: Dataset, tmp_path: Path) -> None:
    # --
    ds = Dataset("photo-dataset").cache()  # table + files local; train offline
    prep = ds.filter("image.width >= 512").cache(path="data/prep-v2")
    # --
    assert [row["x"] for row in ds] == [1, 2]
    [row] = prep.rows(load_files=True)
    assert row["image"].bytes() == Path("dog.png").read_bytes()
    assert list((tmp_path / "data" / "prep-v2").rglob("*.parquet"))
    assert Dataset("photo-dataset").cache(load_files=False).count() == 2


# ------------------------------------------------------------------ metadata, names


def test_set_column_types() -> None:
    make_audio(Path("a.wav"))
    dataset = Dataset.from_dict({"image_url": ["cat.jpg"], "audio_url": ["a.wav"]}).save("urls", column_types=None)
    # --
    from lakefeed import Audio, Image

    dataset.set_column_types({"image_url": Image, "audio_url": Audio})
    # --
    assert Dataset("urls").column_types == {"image_url": "image", "audio_url": "audio"}
    [row] = Dataset("urls")
    assert (type(row["image_url"]), type(row["audio_url"])) == (Image, Audio)
    with pytest.raises(ColumnNotFoundError):
        dataset.set_column_types({"image": Image})


def test_exists_list_and_get(capsys: pytest.CaptureFixture[str]) -> None:
    df = pd.DataFrame({"x": [1, 2]})
    for _ in range(2):
        # --
        if not Dataset.exists("my-dataset"):
            Dataset.from_pandas(df).save("my-dataset")
        # --
    # --
    from lakefeed import list_datasets

    datasets = list_datasets()
    for ds in datasets:
        print(ds.name)
    # --
    assert capsys.readouterr().out == "my-dataset\n"
    # --
    from lakefeed import get_dataset

    dataset = get_dataset("my-dataset")
    # --
    assert dataset.to_arrow().to_pylist() == [{"x": 1}, {"x": 2}]
    assert dataset.version == 1
    assert dataset.update(description="two rows")["description"] == "two rows"
    dataset.delete()
    assert not Dataset.exists("my-dataset")
