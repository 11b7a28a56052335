"""The examples of Hugging Face's page on streaming, in the form that docs/coming-from-huggingface.md gives them.

Above each call the comment names the original one. Data lies at a server on this machine.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, concatenate, interleave
from tests.sdk.web import Site, serving

torch = pytest.importorskip("torch")
pytest.importorskip("urllib3")

FR = [{"id": 1000 + n, "text": f"ligne {n}"} for n in range(40)]
EN = [{"id": n, "text": f"line {n}"} for n in range(100)]
IDS = pa.schema({"input_ids": pa.list_(pa.int64()), "attention_mask": pa.list_(pa.int64())})


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKEFEED__FILES__MIN_WAIT", "0")
    with serving() as server:
        yield server


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def dataset(web: Site) -> Dataset:
    """English lines, in two files."""
    # load_dataset('oscar', "unshuffled_deduplicated_en", split='train', streaming=True)
    return Dataset.from_file([web.put(f"en-{part}.jsonl", lines(EN[part * 50 :][:50])) for part in range(2)])


@pytest.fixture
def fr_dataset(web: Site) -> Dataset:
    # load_dataset('oscar', "unshuffled_deduplicated_fr", split='train', streaming=True)
    return Dataset.from_file(web.put("fr.jsonl.gz", gzip.compress(lines(FR))))


def ids(rows: Any) -> list[int]:
    return [row["id"] for row in rows]


def tokenizer(text: str) -> dict[str, list[int]]:
    """In place of one that would be downloaded."""
    return {"input_ids": [*text.encode()], "attention_mask": [1] * len(text)}


def test_the_first_row_of_a_stream(dataset: Dataset, web: Site) -> None:
    assert "/en-1.jsonl" not in web.gets
    # print(next(iter(dataset)))
    assert next(iter(dataset)) == EN[0]
    assert "/en-1.jsonl" not in web.gets
    assert list(dataset) == EN


def test_shuffle_and_set_epoch(dataset: Dataset) -> None:
    # shuffled_dataset = dataset.shuffle(buffer_size=10_000, seed=42)
    assert sorted(ids(dataset.shuffle(window=10_000, seed=42, global_=False))) == ids(EN)
    shuffled_dataset = dataset.shuffle(window=10, seed=42, global_=False)
    assert ids(shuffled_dataset) == ids(shuffled_dataset)
    orders = []
    # for epoch in range(epochs):
    #     shuffled_dataset.set_epoch(epoch)
    #     for example in shuffled_dataset:
    #         ...
    for epoch in range(3):
        shuffled_dataset.set_epoch(epoch)
        orders.append([example["id"] for example in shuffled_dataset])
    assert orders[0] != orders[1] != orders[2]
    assert all(sorted(order) == ids(EN) for order in orders)
    # the effective seed is seed + epoch
    assert orders[1] == ids(dataset.shuffle(window=10, seed=43, global_=False))


def test_map(dataset: Dataset) -> None:
    # tokenized_dataset = dataset.map(lambda x: tokenizer(x["text"]))
    tokenized_dataset = dataset.map(lambda x: tokenizer(x["text"]), schema=IDS)
    # print(next(iter(tokenized_dataset)))
    assert next(iter(tokenized_dataset)) == {"input_ids": [*b"line 0"], "attention_mask": [1] * 6}

    def tokenize(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([tokenizer(text) for text in batch["text"].to_pylist()], schema=IDS)

    # tokenized_dataset = dataset.map(lambda x: tokenizer(x["text"]), batched=True)
    batched = dataset.map_batches(tokenize, schema=IDS)
    assert batched.to_arrow() == tokenized_dataset.to_arrow()
    # dataset.rename_column("text", "line").remove_columns("id")
    assert next(iter(dataset.rename({"text": "line"}).drop(["id"]))) == {"line": "line 0"}


def test_map_batches_may_change_the_number_of_rows(dataset: Dataset) -> None:
    def twice(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.take(pa.array([n for n in range(batch.num_rows) for _ in range(2)]))

    # dataset.map(twice, batched=True)
    doubled = dataset.map_batches(twice, schema=dataset.schema)
    assert ids(doubled) == [n for n in range(100) for _ in range(2)]


def test_take_and_skip(dataset: Dataset) -> None:
    # dataset_head = dataset.take(2)
    dataset_head = dataset.head(2)
    assert list(dataset_head) == EN[:2]
    shuffled_dataset = dataset.shuffle(window=10, seed=42, global_=False)
    # train_dataset = shuffled_dataset.skip(1000)
    train_dataset = shuffled_dataset.skip(60)
    # eval_dataset = shuffled_dataset.take(1000)
    eval_dataset = shuffled_dataset.head(60)
    assert ids(eval_dataset) + ids(train_dataset) == ids(shuffled_dataset)


def test_interleave_datasets(dataset: Dataset, fr_dataset: Dataset) -> None:
    en_dataset = dataset
    # multilingual_dataset = interleave_datasets([en_dataset, fr_dataset])
    multilingual_dataset = interleave([en_dataset, fr_dataset])
    # print(list(islice(multilingual_dataset, 2)))
    assert list(islice(multilingual_dataset, 2)) == [EN[0], FR[0]]
    # interleave_datasets([en_dataset, fr_dataset], probabilities=[0.8, 0.2], seed=42)
    multilingual_dataset_with_oversampling = interleave([en_dataset, fr_dataset], probabilities=[0.8, 0.2], seed=42)
    drawn = ids(multilingual_dataset_with_oversampling)
    assert drawn == ids(multilingual_dataset_with_oversampling)
    english, french = [n for n in drawn if n < 1000], [n for n in drawn if n >= 1000]
    assert english == list(range(len(english)))
    assert french == list(range(1000, 1000 + len(french)))
    assert 2 * len(french) < len(english)
    # concatenate_datasets([en_dataset, fr_dataset])
    assert list(concatenate([en_dataset, fr_dataset])) == EN + FR


def test_stopping_strategies(dataset: Dataset, fr_dataset: Dataset) -> None:
    both = [dataset, fr_dataset]
    # interleave_datasets(both, stopping_strategy="first_exhausted")
    first = interleave(both, stopping_strategy="first_exhausted")
    assert first.filter("id >= 1000").count() == 40
    assert first.count() in (80, 81)
    # interleave_datasets(both, stopping_strategy="all_exhausted")
    oversampled = interleave(both, stopping_strategy="all_exhausted")
    assert sorted({*ids(oversampled)}) == ids(EN + FR)
    assert oversampled.filter("id >= 1000").count() in (99, 100)
    # interleave_datasets(both, stopping_strategy="all_exhausted_without_replacement")
    once = interleave(both, stopping_strategy="all_exhausted_without_replacement")
    assert sorted(ids(once)) == ids(EN + FR)
    for chances in ([0.8, 0.2], [0.2, 0.8]):
        drawn = interleave(both, chances, seed=42, stopping_strategy="all_exhausted")
        assert sorted({*ids(drawn)}) == ids(EN + FR)


def test_with_format_torch(dataset: Dataset) -> None:
    schema = pa.schema({"input_ids": pa.list_(pa.int64(), 6)})
    tokenized_dataset = dataset.head(10).map(lambda x: {"input_ids": [*x["text"].encode()]}, schema=schema)
    # torch_tokenized_dataset = tokenized_dataset.with_format("torch")
    torch_tokenized_dataset = tokenized_dataset.to_torch()
    # assert isinstance(torch_tokenized_dataset, torch.utils.data.IterableDataset)
    assert isinstance(torch_tokenized_dataset, torch.utils.data.DataLoader)  # the loader itself: wrap it in no other
    # print(next(iter(torch_tokenized_dataset)))
    first = next(iter(torch_tokenized_dataset))
    assert torch.equal(first["input_ids"], torch.tensor([*b"line 0"]))
    # DataLoader(torch_tokenized_dataset, batch_size=4)
    batches = tokenized_dataset.to_torch(batch_size=4)
    assert [batch["input_ids"].shape for batch in batches] == [(4, 6), (4, 6), (2, 6)]


@pytest.mark.parametrize("stop", [1, 7, 19])
def test_state_dict(dataset: Dataset, fr_dataset: Dataset, stop: int) -> None:
    mixed = interleave([dataset, fr_dataset], [0.8, 0.2], seed=42).shuffle(window=10, seed=42, global_=False)
    loader = mixed.to_torch(batch_size=3)
    loader.set_epoch(1)
    whole = [batch["id"].tolist() for batch in loader]
    loader.set_epoch(1)
    running = iter(loader)
    seen = [next(running)["id"].tolist() for _ in range(stop)]
    # state_dict = dataset.state_dict()
    state_dict = loader.state_dict()
    again = mixed.to_torch(batch_size=3)
    # dataset.load_state_dict(state_dict)
    again.load_state_dict(state_dict)
    assert seen + [batch["id"].tolist() for batch in again] == whole


def files() -> dict[str, bytes]:
    rows = [{"id": str(row["id"]), "text": row["text"]} for row in EN]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(EN), sink, row_group_size=20)
    table = "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows)
    return {
        "some.jsonl": lines(EN),
        "some.json": lines(EN),
        "some.csv": table.encode(),
        "some.parquet": sink.getvalue(),
        "some.json.gz": gzip.compress(lines(EN)),
        "some.jsonl.gz": gzip.compress(lines(EN)),
        "some.csv.gz": gzip.compress(table.encode()),
    }


@pytest.mark.parametrize("name", files())
def test_files_are_opened_when_they_are_read(web: Site, name: str) -> None:
    # url = StreamingDownloadManager().download(url)
    # with xopen(urlpath) as f:
    #     print(f.read())  # the file is actually downloaded here
    streamed = Dataset.from_file(web.put(name, files()[name]))
    assert next(iter(streamed)) == EN[0]
    assert list(streamed) == EN


def test_chained_urls(web: Site) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("combined/train.json", lines(EN[:60]))
        archive.writestr("combined/dev.json", lines(EN[60:]))
    url = web.put("data/aqa_v1.0.zip", sink.getvalue())
    # chained_url = "zip://combined/train.json::https://adversarialqa.github.io/data/aqa_v1.0.zip"
    # with xopen(chained_url) as f:
    chained_url = f"zip://combined/train.json::{url}"
    assert list(Dataset.from_file(chained_url)) == EN[:60]
    # xjoin(archive_path, "combined", "train.json")
    assert list(Dataset.from_file([f"zip://combined/{name}.json::{url}" for name in ("train", "dev")])) == EN
    assert sorted(ids(Dataset.from_file(f"zip://combined/*.json::{url}"))) == ids(EN)
    url = web.put("dataset/mkqa.jsonl.gz", gzip.compress(lines(EN)))
    # chained_url2 = "gzip://mkqa.jsonl::https://github.com/apple/ml-mkqa/raw/master/dataset/mkqa.jsonl.gz"
    # with xopen(chained_url2) as f:
    #     print(f.readline()[:100])
    chained_url2 = f"gzip://mkqa.jsonl::{url}"
    assert next(iter(Dataset.from_file(chained_url2))) == EN[0]
    assert list(Dataset.from_file(chained_url2)) == EN
