"""M17 and `to_huggingface`: map-style and streamed datasets, by name and in hand, with images and class labels."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import FileError, FormatError, InvalidArgumentError, MissingFileError
from lakefeed.sources.huggingface_source import NAMES_KEY, HuggingFaceSource
from tests.sdk.media.recorded import make_audio, make_video

datasets = pytest.importorskip("datasets")
pil = pytest.importorskip("PIL.Image")


def png(color: str) -> bytes:
    sink = io.BytesIO()
    pil.new("RGB", (4, 3), color).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Any:
    (tmp_path / "blue.png").write_bytes(png("blue"))
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "x": datasets.Value("float32"),
            "matrix": datasets.Array2D((2, 2), "int32"),
            "words": datasets.List(datasets.Value("string")),
        }
    )
    columns = {
        "image": [{"bytes": png("red"), "path": None}, str(tmp_path / "blue.png"), None],
        "label": [0, 1, 0],
        "x": [1.0, 2.0, None],
        "matrix": [[[n, 1], [2, 3]] for n in range(3)],
        "words": [["a"], [], None],
    }
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(params=["map", "stream", "indices"])
def given(request: pytest.FixtureRequest, pictures: Any) -> Any:
    if request.param == "stream":
        return pictures.to_iterable_dataset()
    return pictures if request.param == "map" else pictures.select([2, 1, 0]).select([2, 1, 0])


def test_rows_and_types(given: Any) -> None:
    dataset = Dataset.from_huggingface(given)
    assert dataset.column_types == {"image": "image"}
    assert dataset.schema.field("matrix").type == pa.list_(pa.list_(pa.int32(), 2), 2)
    rows = list(dataset)
    assert [row["x"] for row in rows] == [1.0, 2.0, None]
    assert [row["words"] for row in rows] == [["a"], [], None]
    assert rows[2]["matrix"] == [[2, 1], [2, 3]]
    assert rows[0]["image"].bytes() == png("red")
    assert rows[1]["image"].pil().getpixel((0, 0)) == (0, 0, 255)
    assert rows[2]["image"] is None


def test_class_labels_keep_their_names_through_a_save(given: Any) -> None:
    dataset = Dataset.from_huggingface(given)
    saved = dataset.save("pets")
    for one in (dataset, saved, Dataset("pets").filter("label == 1").select(["label"])):
        assert json.loads(one.schema.field("label").metadata[NAMES_KEY]) == ["cat", "dog"]
    assert saved.to_arrow()["label"].to_pylist() == [0, 1, 0]


def test_images_are_saved_as_files(given: Any) -> None:
    saved = Dataset.from_huggingface(given).save("pets")
    assert saved.column_types == {"image": "image"}
    assert saved.filter("image.width == 4 and image.height == 3").count() == 2
    assert [row["image"] and row["image"].bytes() for row in saved] == [png("red"), png("blue"), None]


def test_transforms_and_pushdown(given: Any) -> None:
    dataset = Dataset.from_huggingface(given)
    assert dataset.select(["x"]).filter("x >= 2").to_arrow().to_pylist() == [{"x": 2.0}]
    assert [row["label"] for row in dataset.slice(1, 2)] == [1]
    assert dataset.count() == 3
    assert sorted(row["x"] or 0 for row in dataset.shuffle(seed=3)) == [0, 1, 2]


def test_the_length_is_known_of_map_style_ones(pictures: Any) -> None:
    assert len(Dataset.from_huggingface(pictures)) == 3
    with pytest.raises(TypeError):
        len(Dataset.from_huggingface(pictures.to_iterable_dataset()))


def numbers() -> Iterator[dict[str, Any]]:
    for n in range(1000):
        yield {"n": n, "text": str(n)}


def test_a_stream_without_features_is_looked_at_and_streamed() -> None:
    drawn = []

    def watched() -> Iterator[dict[str, Any]]:
        for row in numbers():
            drawn.append(row)
            yield row

    dataset = Dataset.from_huggingface(datasets.IterableDataset.from_generator(watched))
    assert dataset.schema == pa.schema({"n": pa.int64(), "text": pa.string()})
    drawn.clear()
    assert next(dataset.rows()) == {"n": 0, "text": "0"}
    assert len(drawn) < 600
    assert [row["n"] for row in dataset] == list(range(1000)) == [row["n"] for row in dataset]


def test_a_mapped_stream_of_images(pictures: Any) -> None:
    """Its function is given decoded images, and may return others."""
    stream = pictures.select_columns(["image", "label"]).select([0, 1]).to_iterable_dataset()
    mapped = {
        "same": stream.map(lambda row: {"label": row["label"] + 1}),
        "new": stream.map(lambda row: {"image": row["image"].resize((4, 3)), "label": row["label"] + 1}),
        "batches": stream.map(lambda rows: {"label": [label + 1 for label in rows["label"]]}, batched=True),
        "filtered": stream.map(lambda row: {"label": row["label"] + 1}).filter(lambda row: row["label"] > 0),
    }
    for name, rows in mapped.items():
        dataset = Dataset.from_huggingface(rows)
        assert (name, dataset.column_types) == (name, {"image": "image"})
        for _ in range(2):
            read = [(row["label"], row["image"].numpy()[0, 0].tolist()) for row in dataset]
            assert (name, read) == (name, [(1, [255, 0, 0]), (2, [0, 0, 255])])


def test_parquet_of_datasets(pictures: Any, tmp_path: Path, home: Path) -> None:
    pictures.select_columns(["image", "label"]).to_parquet(str(tmp_path / "a.parquet"))
    rows = Dataset.from_file(str(tmp_path / "a.parquet"))
    for types in ("auto", {"image": "image"}):
        saved = rows.save("pictures", column_types=types, if_exists="new_version")
        assert saved.column_types == {"image": "image"}
        assert [row["image"] and row["image"].width for row in saved] == [4, 4, None]
    assert [row["image"] and row["image"].filename for row in saved] == [None, "blue.png", None]


def test_a_stream_that_changes_its_types_says_where() -> None:
    def odd() -> Iterator[dict[str, Any]]:
        for n in range(1000):
            yield {"n": n if n < 900 else "word"}

    features = datasets.Features({"n": datasets.Value("int64")})
    stream = datasets.IterableDataset.from_generator(odd, features=features)
    with pytest.raises((FormatError, ValueError, pa.ArrowInvalid)):
        Dataset.from_huggingface(stream).to_arrow()


@pytest.mark.parametrize("streaming", [True, False])
def test_by_name(tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in numbers()))
    files = {"train": str(tmp_path / "train.jsonl"), "test": str(tmp_path / "train.jsonl")}
    options = {"data_files": files, "cache_dir": str(tmp_path / "hf")}
    dataset = Dataset.from_huggingface("json", split="train", streaming=streaming, **options)
    assert dataset.head(2).to_arrow().to_pylist() == [{"n": 0, "text": "0"}, {"n": 1, "text": "1"}]
    assert dataset.count() == 1000
    with pytest.raises(InvalidArgumentError, match="choose one of 'train', 'test'"):
        Dataset.from_huggingface("json", streaming=streaming, **options)
    with pytest.raises(InvalidArgumentError, match="nosuch"):
        Dataset.from_huggingface("json", split="nosuch", streaming=streaming, **options)


def test_the_only_split_need_not_be_named(tmp_path: Path, pictures: Any) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n")
    options = {"data_files": str(tmp_path / "rows.csv"), "cache_dir": str(tmp_path / "hf")}
    assert Dataset.from_huggingface("csv", **options).to_arrow().to_pylist() == [{"x": 1}]
    both = datasets.DatasetDict(a=pictures, b=pictures.select([0]))
    assert Dataset.from_huggingface(both, split="b").count() == 1


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Any) -> None:
    with pytest.raises(MissingFileError, match="from_huggingface"):
        Dataset.from_huggingface("json", data_files=str(tmp_path / "none.jsonl"))
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **options: (_ for _ in ()).throw(ConnectionError("down"))
    )
    with pytest.raises(FileError, match="cannot be reached: down"):
        Dataset.from_huggingface("somebody/something")
    for bad in (5, None, [1], pa.table({"x": [1]})):
        with pytest.raises(InvalidArgumentError, match="from_huggingface takes"):
            Dataset.from_huggingface(bad)
    with pytest.raises(InvalidArgumentError, match="cannot be used with a dataset that is one split"):
        Dataset.from_huggingface(pictures, split="train")
    with pytest.raises(InvalidArgumentError, match="'revision'"):
        Dataset.from_huggingface(pictures, revision="main")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image()})
    given = datasets.Dataset.from_dict({"image": [str(tmp_path / "none.png")]}, features=features)
    with pytest.raises(MissingFileError, match=r"none\.png"):
        Dataset.from_huggingface(given).to_arrow()


def test_sources_pickle_and_know_themselves(given: Any, pictures: Any) -> None:
    source = HuggingFaceSource(given)
    again = pickle.loads(pickle.dumps(source))
    assert again.identity == source.identity
    assert HuggingFaceSource(given.shuffle(seed=1)).identity != source.identity
    stream = datasets.IterableDataset.from_generator(numbers)
    same = datasets.IterableDataset.from_generator(numbers)
    assert HuggingFaceSource(stream).identity == HuggingFaceSource(same).identity


def test_large_map_style_datasets_are_read_in_parts() -> None:
    given = datasets.Dataset.from_dict({"x": list(range(50_000))})
    dataset = Dataset.from_huggingface(given)
    assert dataset.slice(20_000, 20_003).to_arrow()["x"].to_pylist() == [20_000, 20_001, 20_002]
    assert dataset.to_arrow()["x"].to_pylist() == list(range(50_000))
    loader = pytest.importorskip("torch") and dataset.shuffle(seed=1).to_torch(batch_size=1000)
    assert sorted(n for batch in loader for n in batch["x"].tolist()) == list(range(50_000))


# ------------------------------------------------------------------------------------------------ to_huggingface


def test_to_huggingface_and_back(pictures: Any) -> None:
    saved = Dataset.from_huggingface(pictures).save("pets")
    made = saved.to_huggingface()
    assert isinstance(made, datasets.Dataset)
    assert made.features["label"].names == ["cat", "dog"]
    assert isinstance(made.features["image"], datasets.Image)
    assert made[1]["image"].getpixel((0, 0)) == (0, 0, 255)
    assert made[2]["image"] is None
    assert made["words"][:] == [["a"], [], None]
    again = Dataset.from_huggingface(made)
    assert again.schema.field("label").metadata == saved.schema.field("label").metadata
    assert again.to_arrow()["x"].to_pylist() == [1.0, 2.0, None]


def test_to_huggingface_types() -> None:
    table = pa.table(
        {
            "s": pa.array(["a", None], pa.large_string()),
            "f": pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
            "d": pa.array(["x", "y"]).dictionary_encode(),
            "h": pa.array([np.float16(1), None], pa.float16()),
            "i": pa.array([1, None]),
            "r": [{"a": 1}, None],
        }
    )
    made = Dataset.from_arrow(table).to_huggingface()
    assert [made[n] for n in range(2)] == table.to_pylist()
    assert Dataset.from_dict({"x": []}, schema=pa.schema({"x": pa.int64()})).to_huggingface().num_rows == 0


def test_to_huggingface_streams(pictures: Any) -> None:
    saved = Dataset.from_huggingface(pictures).save("pets")
    made = saved.to_huggingface(streaming=True)
    assert isinstance(made, datasets.IterableDataset)
    assert made.features == saved.to_huggingface().features
    rows = list(made)
    assert [row["label"] for row in rows] == saved.to_huggingface()["label"][:]
    assert rows[1]["image"].getpixel((0, 0)) == (0, 0, 255)
    assert rows[2]["image"] is None
    assert list(saved.head(0).to_huggingface(streaming=True)) == []


def test_workers_share_the_shards() -> None:
    torch = pytest.importorskip("torch")
    made = Dataset.from_dict({"x": list(range(100))}).to_huggingface(streaming=True)
    assert made.num_shards > 2
    assert [row["x"] for row in made] == list(range(100))
    loader = torch.utils.data.DataLoader(made.with_format("torch"), batch_size=10, num_workers=2)
    assert sorted(row for batch in loader for row in batch["x"].tolist()) == list(range(100))
    filtered = Dataset.from_dict({"x": list(range(100))}).filter("x < 3").to_huggingface(streaming=True)
    assert [row["x"] for row in filtered] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------- media


@pytest.fixture
def media(tmp_path: Path) -> Any:
    """Contents in memory, one path, one null, of a sound and a video."""
    sound, clip = make_audio(tmp_path / "a.wav"), make_video(tmp_path / "a.mp4", 5)
    kinds = {"sound": datasets.Audio(), "clip": datasets.Video()}
    columns = {
        name: pa.array(
            [{"bytes": Path(path).read_bytes(), "path": None}, {"bytes": None, "path": path}, None], kinds[name].pa_type
        )
        for name, path in (("sound", sound), ("clip", clip))
    }
    # Not from_dict, which wants torchcodec.
    info = datasets.DatasetInfo(features=datasets.Features(kinds))
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)), info=info)


@pytest.mark.parametrize("streamed", [False, True])
def test_sounds_and_videos_are_file_columns(media: Any, streamed: bool) -> None:
    dataset = Dataset.from_huggingface(media.to_iterable_dataset() if streamed else media)
    assert dataset.column_types == {"sound": "audio", "clip": "video"}
    saved = dataset.save("clips")
    rows = list(saved)
    assert [row["sound"] and row["sound"].samples().shape for row in rows] == [(24_000, 1), (24_000, 1), None]
    assert [row["clip"] and len(list(row["clip"].frames())) for row in rows] == [5, 5, None]
    assert saved.filter("sound.sample_rate == 16000 and clip.num_frames == 5").count() == 2


def test_files_that_are_only_named_stay_where_they_are(tmp_path: Path) -> None:
    clips = [make_video(tmp_path / f"{n}.mp4", 3) for n in range(2)]
    features = datasets.Features({"clip": datasets.Video()})
    given = datasets.Dataset.from_dict({"clip": [*clips, None]}, features=features)
    dataset = Dataset.from_huggingface(given)
    assert dataset.to_arrow()["clip"].to_pylist() == [*clips, None]
    assert [row["clip"] and row["clip"].name for row in dataset] == ["0.mp4", "1.mp4", None]
    assert dataset.save("clips").filter("clip.num_frames == 3").count() == 2


def test_sounds_and_videos_to_huggingface_and_back(media: Any) -> None:
    made = Dataset.from_huggingface(media).save("clips").to_huggingface()
    assert isinstance(made.features["sound"], datasets.Audio)
    assert isinstance(made.features["clip"], datasets.Video)
    again = Dataset.from_huggingface(made)
    assert again.column_types == {"sound": "audio", "clip": "video"}
    assert [row["sound"] and row["sound"].samples().shape for row in again] == [(24_000, 1), (24_000, 1), None]
