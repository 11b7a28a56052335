"""Indexes of vectors: the nearest rows, whatever was written; filters, rankings together, and bad input."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lakefeed import Dataset, Table, connect
from lakefeed.errors import (
    ColumnNotFoundError,
    InvalidArgumentError,
    MissingDependencyError,
    SchemaError,
    TypeMismatchError,
    UnsupportedError,
)
from lakefeed.expressions import text, vector
from lakefeed.keyed import Client, VectorIndex
from lakefeed.search import vector_files
from lakefeed.search.vector_files import SegmentList
from lakefeed.search.vector_schema import KEY, VectorSchema
from lakefeed.search.vector_segments import VectorSegments, _nearest, _open

WIDTH = 6
EMB = pa.list_(pa.float32(), WIDTH)


@pytest.fixture
def client(home: Any) -> Client:
    return connect()


def vectors(draw: np.random.Generator, rows: int) -> pa.Array[Any]:
    values = draw.integers(-2, 3, rows * WIDTH).astype(np.float32)  # small numbers: there are ties
    return pa.FixedSizeListArray.from_arrays(pa.array(values), WIDTH)


def table_of(client: Client, rows: int, name: str = "photos") -> Table:
    draw = np.random.default_rng(rows)
    table = client.create_table(name, key_schema={"id": pa.int64()})
    numbers = pa.array(np.arange(rows) % 5)
    table.write(pa.table({"id": np.arange(rows), "emb": vectors(draw, rows), "n": numbers}))
    return table


def score(metric: str, left: Any, right: Any) -> float:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if metric == "dot":
        return float(left @ right)
    if metric == "l2":
        return -float(np.linalg.norm(left - right))
    lengths = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / lengths) if lengths else 0.0


def search(index: VectorIndex, query: Any, top_k: int, **options: Any) -> list[dict[str, Any]]:
    rank = vector.nearest(index[index.fields[0]], query)
    return connect().search(top_k, rank, **options).read_all().to_pylist()


def check(index: VectorIndex, table: Table, metric: str, query: Any, where: str | None = None) -> None:
    rows = table.scan("id", "emb", where=where).to_table().to_pylist()
    expected = {row["id"]: score(metric, row["emb"], query) for row in rows if row["emb"] is not None}
    hits = search(index, query, 10, filters=where)
    best = sorted(expected.values(), reverse=True)[:10]
    assert [hit["score"] for hit in hits] == pytest.approx(best, abs=1e-5)
    assert {hit["id"]: hit["score"] for hit in hits} == pytest.approx(
        {hit["id"]: expected[hit["id"]] for hit in hits}, abs=1e-5
    )
    assert [(-hit["score"], hit["id"]) for hit in hits] == sorted((-hit["score"], hit["id"]) for hit in hits)


@pytest.mark.parametrize("turns", [2, pytest.param(6, marks=pytest.mark.live)])
def test_the_nearest_rows_for_each_metric_after_each_change(client: Client, turns: int) -> None:
    draw, table = np.random.default_rng(3), table_of(client, 300)
    indexes = {
        metric: client.create_vector_index(f"by_{metric}", table["emb"], table["n"], metric=metric)  # type: ignore[arg-type]
        for metric in ("cosine", "l2", "dot")
    }

    def check_all() -> None:
        query = draw.integers(-2, 3, WIDTH)
        for metric, index in indexes.items():
            check(index, table, metric, query)
            check(index, table, metric, query.tolist(), where="n in (1, 2) and n <> 2")
            assert len(search(index, query, 1_000)) == len(table.scan("id", where="emb is not null").to_table())

    check_all()
    for turn in range(turns):
        keys = draw.choice(330, 20, replace=False)
        table.write(pa.table({"id": keys, "emb": vectors(draw, 20)}))
        if turn == 2:
            table.delete_keys(list(range(120)))
        if turn == 3:
            table.write(pa.table({"id": [200, 201], "emb": pa.array([None, None], EMB)}))
        if turn == 4:
            Dataset("photos").restore(3)
        if turn in (1, 4, turns - 1):
            check_all()
    index = indexes["l2"]
    segments = SegmentList.read(_open(index.ledger, index.ledger.load()).folder).segments
    assert len(segments) <= 6
    assert index.version == table.snapshot().version


@pytest.mark.parametrize("clusters", [False, pytest.param(True, marks=pytest.mark.live)])
def test_large_segments_find_what_is_near_at_the_default(client: Client, clusters: bool) -> None:
    draw = np.random.default_rng(1)
    rows, width, queries = 10_200, 16, 15
    matrix = draw.standard_normal((rows, width))
    if clusters:
        matrix = draw.standard_normal((rows // 60, width)).repeat(60, 0) + 0.3 * matrix
    values = matrix.astype(np.float32)
    table = client.create_table("large", key_schema={"id": pa.int64()})
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)
    table.write(pa.table({"id": np.arange(rows), "emb": column, "n": np.arange(rows) % 50}))
    index = client.create_vector_index("large", table["emb"], table["n"])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    present = alike = 0
    for query in values[:queries] + 0.1 * draw.standard_normal((queries, width)).astype(np.float32):
        scores = unit @ (query / np.linalg.norm(query))
        present += len({hit["id"] for hit in search(index, query, 10)} & set(np.argsort(-scores)[:10].tolist()))
        scores[np.arange(rows) % 50 != 7] = -2
        hits = search(index, query, 10, filters="n = 7")
        assert all(hit["id"] % 50 == 7 for hit in hits)
        alike += len({hit["id"] for hit in hits} & set(np.argsort(-scores)[:10].tolist()))
    assert min(present, alike) >= 0.98 * 10 * queries


def test_rankings_of_words_and_vectors_are_fused_by_place(client: Client) -> None:
    table = client.create_table("photos", key_schema={"id": pa.string()})
    captions = ["black cat", "cat", "dog", "black dog", "bird"]
    table.write(
        pa.table({"id": list("abcde"), "caption": captions, "emb": pa.array([[0, 1], [1, 1], [1, 0], [1, 0.2], None])})
    )
    captioned = client.create_text_index("captions", text.field(table["caption"]), table["id"])
    embedded = client.create_vector_index("embeddings", table["emb"], table["id"])
    words, near = text.find(captioned["caption"], "black cat"), vector.nearest(embedded["emb"], [1, 0])

    def ids(*ranks: Any, **options: Any) -> list[str]:
        return client.search(9, *ranks, **options).read_all()["id"].to_pylist()  # type: ignore[return-value]

    assert (ids(words)[0], ids(near)) == ("a", ["c", "d", "b", "a"])
    fused = client.search(9, words, near).read_all()
    places = (
        {key: ids(words).index(key) + 1 for key in ids(words)},
        {key: ids(near).index(key) + 1 for key in ids(near)},
    )
    expected = {key: sum(1 / (60 + side[key]) for side in places if key in side) for key in "abcd"}
    assert dict(zip(fused["id"].to_pylist(), fused["score"].to_pylist(), strict=True)) == pytest.approx(expected)
    assert ids(words, text.boost(near, 100))[0] == "c"
    assert ids(text.boost(words, 100), near)[0] == "a"
    assert ids(near, vector.nearest(embedded["emb"], [0, 1]))[0] in "ab"
    for condition in (table["id"] != "a", captioned["id"] != "a", embedded["id"] != "a"):
        assert ids(words, near, filters="id <> 'a'") == ids(words, near, filters=condition)
    assert "a" not in ids(words, near, filters="id <> 'a'")
    assert client.search(2, near, text.boost(near, 3)).read_all().num_rows == 2
    boosted = client.search(1, text.boost(near, 2)).read_all()["score"][0].as_py()
    assert boosted == pytest.approx(2.0)


def test_vectors_of_each_type(client: Client) -> None:
    tensor = pa.fixed_shape_tensor(pa.float32(), (2,))
    rows = [[1.0, 0.0], [0.0, 2.0]]
    storage = pa.array(rows, pa.list_(pa.float32(), 2))
    key = pa.schema({"id": pa.int64()})
    for column in (
        pa.array(rows),
        pa.array(rows, pa.large_list(pa.float32())),
        pa.array(rows, pa.list_(pa.float16(), 2)),
        pa.array([[1, 0], [0, 2]], pa.list_(pa.int8())),
        pa.ExtensionArray.from_storage(tensor, storage),
    ):
        batch = pa.record_batch({"id": [1, 2], "emb": column})
        found, matrix = VectorSchema.of(key, batch.schema, "emb", "cosine").split(batch, None)
        assert (found.to_pydict(), matrix.tolist()) == ({KEY: ["1", "2"], "id": [1, 2]}, [[1, 0], [0, 1]])
    table = client.create_table("typed", key_schema={"id": pa.int64()})
    table.write(pa.table({"id": [1, 2], "emb": pa.ExtensionArray.from_storage(tensor, storage)}))
    index = client.create_vector_index("typed", table["emb"])
    for query in ([1, 0], (1.0, 0.0), np.array([1, 0], np.float16), pa.array([1, 0]), torch.tensor([1.0, 0])):
        assert [hit["id"] for hit in search(index, query, 2)] == [1, 2]
    empty = client.create_table("empty", key_schema={"id": pa.int64()})
    empty.write(pa.table({"id": [1], "emb": pa.array([None], pa.list_(pa.float32()))}))
    index = client.create_vector_index("empty", empty["emb"])
    assert search(index, [1, 2, 3], 5) == []


def test_vectors_and_arguments_that_do_not_fit(client: Client) -> None:
    table = table_of(client, 20)
    table.write({"id": [1], "words": ["a"], "ragged": [[1.0]], "bad": [[1.0, float("nan")]]})
    table.write({"id": [2], "ragged": [[1.0, 2.0]]})
    for term, error, message in (
        (table["ragged"], TypeMismatchError, "where="),
        (table["bad"], InvalidArgumentError, "NaN"),
        (table["words"], TypeMismatchError, "lists of numbers"),
        (table[["emb", "ragged"]], InvalidArgumentError, "one column"),
        (text.field(table["words"]), InvalidArgumentError, "projection"),
        (table["nope"], ColumnNotFoundError, "nope"),
    ):
        with pytest.raises(error, match=message):
            client.create_vector_index("new", term)
    with pytest.raises(UnsupportedError, match="'ragged'"):
        client.create_vector_index("new", table["emb"], table["ragged"])
    for metric in ("manhattan", None, 7, [1]):
        with pytest.raises(InvalidArgumentError, match="metric"):
            client.create_vector_index("new", table["emb"], metric=metric)  # type: ignore[arg-type]
    assert client.list_indexes() == []
    table.write({"id": [2], "long": [[1e25, 1.0]]})
    for metric in ("dot", "l2"):  # faiss leaves out rows whose score is infinite
        with pytest.raises(InvalidArgumentError, match="key '2' is longer than"):
            client.create_vector_index("new", table["long"], metric=metric)
    assert search(client.create_vector_index("long", table["long"]), [1e30, 1e-30], 1)[0]["id"] == 2
    with pytest.raises(InvalidArgumentError, match="query is longer"):
        search(client.create_vector_index("short", table["emb"], metric="l2"), [1e30] * WIDTH, 1)
    client.drop_index("long")
    client.drop_index("short")
    ragged = client.create_vector_index("ragged", table["ragged"], where="id <> 2")
    embedded = client.create_vector_index("embedded", table["emb"], table["n"])
    captioned = client.create_text_index("words", text.field(table["words"]))
    for query in ([1.0], [1.0] * (WIDTH + 1)):
        with pytest.raises(InvalidArgumentError, match=f"have {WIDTH}"):
            search(embedded, query, 1)
    with pytest.raises(InvalidArgumentError, match="have 1"):
        client.search(1, vector.nearest(ragged["ragged"], [1, 2]))
    for query in (
        [],
        [[1.0]],
        "text",
        b"x",
        None,
        7,
        [None],
        ["a"],
        {1: 2},
        [1, float("nan")],
        [float("inf")],
        [1e300],
    ):
        with pytest.raises(InvalidArgumentError, match="query"):
            vector.nearest(embedded["emb"], query)
    for nprobes in (0, -1, 1.5, True, "8"):
        with pytest.raises(InvalidArgumentError, match="nprobes"):
            vector.nearest(embedded["emb"], [1.0] * WIDTH, nprobes)  # type: ignore[arg-type]
    near = vector.nearest(embedded["emb"], [1.0] * WIDTH)
    for call, error in (  # type: ignore[var-annotated]
        (lambda: client.search(1, near, filters="n = 1 or n = 2"), InvalidArgumentError),
        (lambda: client.search(1, near, filters="nope = 1"), ColumnNotFoundError),
        (lambda: client.search(1, near, text.find(captioned["words"], "a"), filters="n = 1"), ColumnNotFoundError),
        (lambda: client.search(1, vector.nearest(embedded["n"], [1.0])), ColumnNotFoundError),
        (lambda: client.search(1, vector.nearest(captioned["words"], [1.0])), InvalidArgumentError),
        (lambda: client.search(1, text.find(embedded["n"], "a")), InvalidArgumentError),
        (lambda: client.text_index("embedded"), InvalidArgumentError),
        (lambda: client.vector_index("words"), InvalidArgumentError),
    ):
        with pytest.raises(error):
            call()
    table.write({"id": [3], "ragged": [[1.0, 2.0]]})
    with pytest.raises(TypeMismatchError, match="key '3'"):
        client.search(1, vector.nearest(ragged["ragged"], [1]))
    other = table_of(client, 5, "other")
    with pytest.raises(SchemaError, match="different tables"):
        client.search(1, near, vector.nearest(client.create_vector_index("other", other["emb"])["emb"], [1] * WIDTH))


def test_a_library_that_is_missing_is_named_at_the_call(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    table = client.create_table("photos", key_schema={"id": pa.int64()})
    table.write({"id": [1], "words": ["a"], "emb": [[1.0]]})
    monkeypatch.setitem(sys.modules, "tantivy", None)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"lakefeed\[search\]"):
        client.create_text_index("words", text.field(table["words"]))
    with pytest.raises(MissingDependencyError, match=r"lakefeed\[search\]"):
        client.create_vector_index("vectors", table["emb"])
    assert client.list_indexes() == []


def test_chosen_rows_in_far_lists_and_many_rows_are_found() -> None:
    draw = np.random.default_rng(3)
    matrix = draw.standard_normal((10_000, 2)).astype(np.float32)
    matrix[5_000:, 0] += 100
    index, scale = vector_files._build(matrix, "l2")
    segment, far = vector_files.Segment("s", 10_000, scale=scale), np.arange(10_000) >= 5_000
    query = np.zeros((1, 2), np.float32)
    lengths = np.linalg.norm(matrix, axis=1)
    for chosen, top_k in ((far, 10), (far, 5_000), (~far, 10), (np.ones(10_000, bool), 4_000), (far, 10**9)):
        positions, _ = _nearest(index, segment, query, 16, chosen, top_k)
        expected = np.flatnonzero(chosen)[np.argsort(lengths[chosen])][:top_k]
        assert set(positions.tolist()) == set(expected.tolist())


def test_segments_are_merged_by_size(tmp_path: Any) -> None:
    columns = pa.schema({"emb": EMB})
    key = pa.schema({"id": pa.int64()})
    segments = VectorSegments(VectorSchema.of(key, columns, "emb", "dot"))
    draw, counts = random.Random(0), []
    values = np.random.default_rng(0)
    known: dict[int, Any] = {}
    for _ in range(40):
        ids = draw.sample(range(400), 20)
        batch = pa.record_batch({"id": pa.array(ids), "emb": vectors(values, 20)})
        known |= dict(zip(ids, batch["emb"].to_pylist(), strict=True))
        names = segments.write(tmp_path, map(str, ids), [batch], large=False)
        for path in tmp_path.iterdir():
            if path.name not in names:
                path.unlink()
        current = SegmentList.read(tmp_path).segments
        counts.append(len(current))
    assert sum(each.live_rows for each in current) == len(known)
    assert max(counts) <= 9
