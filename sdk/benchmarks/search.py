"""Indexes of words and vectors beside tantivy and faiss alone: builds, refreshes, queries and recall.

    python sdk/benchmarks/search.py [rows]

CPU seconds, the best of interleaved turns. Text: documents of 60 words. Vectors: 128 numbers, in clusters.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

ROWS, WORDS, WIDTH, CHANGED = 100_000, 60, 128, 2_000
TURNS, QUERIES = 2, 200


def cpu_of(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


def report(name: str, **facts: object) -> None:
    print(json.dumps({"name": name, **facts}), flush=True)


def stored(folder: Path) -> dict[str, int]:
    paths = (path for name in ("blobs", "warehouse/_indexes") for path in (folder / name).rglob("*"))
    return {str(path): path.stat().st_size for path in paths if path.is_file() and path.suffix != ".json"} | {
        str(path): path.stat().st_size for path in (folder / "warehouse/_indexes").rglob("*.metadata.json")
    }


def texts(rows: int, salt: int) -> list[str]:
    draw = np.random.default_rng(salt)
    words = np.array([f"word{number}" for number in range(30_000)])
    chosen = np.minimum(draw.zipf(1.2, rows * WORDS), len(words)) - 1
    return [" ".join(words[part]) for part in chosen.reshape(rows, WORDS)]


def text(rows: int, home: Path) -> None:
    import tantivy

    from lakefeed import connect
    from lakefeed.expressions import text as words_of

    client, bodies = connect(), texts(rows, 1)
    table = client.create_table("pages", key_schema={"id": pa.int64()})
    table.write(pa.table({"id": np.arange(rows), "body": bodies}))

    def raw() -> tuple[object, object]:
        builder = tantivy.SchemaBuilder()
        builder.add_integer_field("id", stored=True, indexed=True)
        builder.add_text_field("body", index_option="freq")
        schema = builder.build()
        index = tantivy.Index(schema, tempfile.mkdtemp(dir=home))
        writer = index.writer(heap_size=128_000_000, num_threads=1)
        for number, body in enumerate(bodies):
            writer.add_document(tantivy.Document.from_dict({"id": number, "body": body}, schema))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        return schema, index

    def ours(name: str) -> None:
        client.create_text_index(name, words_of.field(table["body"]))

    builds = [(cpu_of(raw), cpu_of(lambda turn=turn: ours(f"turn{turn}"))) for turn in range(TURNS)]  # type: ignore[misc]
    plain, own = (min(each) for each in zip(*builds, strict=True))
    report("text: build", raw=round(plain, 2), ours=round(own, 2), ratio=round(own / plain, 2), goal=1.3)

    index = client.text_index("turn0")
    for other in range(1, TURNS):
        client.drop_index(f"turn{other}")
    changed = np.random.default_rng(2).choice(rows, CHANGED, replace=False)
    table.write(pa.table({"id": changed, "body": texts(CHANGED, 3)}))
    before = stored(home)
    cpu = cpu_of(index.refresh)
    new = {path: size for path, size in stored(home).items() if before.get(path) != size}
    report(
        f"text: refresh of {CHANGED}",
        cpu=round(cpu, 2), objects=len(new), MB=round(sum(new.values()) / 1e6, 2), goal="10 objects, 1 MB",
    )  # fmt: skip

    schema, plain_index = raw()
    searcher = plain_index.searcher()  # type: ignore[attr-defined]
    pairs = [(f"word{30 + number}", f"word{500 + 7 * number}") for number in range(QUERIES)]

    def raw_queries() -> None:
        query, occur = tantivy.Query, tantivy.Occur
        for pair in pairs:
            words = [(occur.Should, query.term_query(schema, "body", word)) for word in pair]
            hits = searcher.search(query.boolean_query(words), 10, count=False).hits
            [searcher.doc(address)["id"] for _, address in hits]

    def our_queries() -> None:
        for pair in pairs:
            client.search(10, words_of.find(index["body"], " ".join(pair))).read_all()

    our_queries()
    turns = [(cpu_of(raw_queries), cpu_of(our_queries)) for _ in range(TURNS)]
    low, high = (min(each) / QUERIES * 1e3 for each in zip(*turns, strict=True))
    report("text: query, ms", raw=round(low, 2), ours=round(high, 2), more=round(high - low, 2), goal=3)


def vectors(rows: int) -> None:
    import faiss

    from lakefeed import connect
    from lakefeed.expressions import vector

    faiss.omp_set_num_threads(1)
    draw, client = np.random.default_rng(5), connect()
    centers = draw.standard_normal((rows // 100, WIDTH))
    values = (centers.repeat(100, 0) + 0.5 * draw.standard_normal((len(centers) * 100, WIDTH))).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    table = client.create_table("photos", key_schema={"id": pa.int64()})
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), WIDTH)
    table.write(pa.table({"id": np.arange(len(values)), "emb": column}))

    def raw() -> object:
        flat = faiss.IndexFlatIP(WIDTH)
        index = faiss.IndexIVFFlat(flat, WIDTH, round(len(values) ** 0.5), faiss.METRIC_INNER_PRODUCT)
        index.train(values)
        index.add(values)
        return index

    def ours(name: str) -> None:
        client.create_vector_index(name, table["emb"])

    builds = [(cpu_of(raw), cpu_of(lambda turn=turn: ours(f"near{turn}"))) for turn in range(TURNS)]  # type: ignore[misc]
    plain, own = (min(each) for each in zip(*builds, strict=True))
    report("vectors: build", raw=round(plain, 2), ours=round(own, 2), ratio=round(own / plain, 2), goal=1.3)

    bare, index = raw(), client.vector_index("near0")
    bare.nprobe = 16  # type: ignore[attr-defined]
    queries = values[:QUERIES] + 0.02 * draw.standard_normal((QUERIES, WIDTH)).astype(np.float32)

    def raw_queries() -> None:
        for query in queries:
            bare.search(query[None, :], 10)  # type: ignore[attr-defined]

    hits: list[set[object]] = []

    def our_queries() -> None:
        hits.clear()
        for query in queries:
            rows = client.search(10, vector.nearest(index["emb"], query)).read_all()
            hits.append(set(rows["id"].to_pylist()))

    our_queries()
    turns = [(cpu_of(raw_queries), cpu_of(our_queries)) for _ in range(TURNS)]
    low, high = (min(each) / QUERIES * 1e3 for each in zip(*turns, strict=True))
    report("vectors: query, ms", raw=round(low, 2), ours=round(high, 2), more=round(high - low, 2), goal=2)
    exact = np.argsort(-(queries @ values.T), axis=1)[:, :10]
    found = sum(len(set(row.tolist()) & got) for row, got in zip(exact, hits, strict=True)) / (10 * QUERIES)
    report("vectors: recall@10", clusters=round(found, 4), goal=0.98)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=int, nargs="?", default=ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAKEFEED_HOME"] = folder
        text(rows, Path(folder))
        vectors(rows)


if __name__ == "__main__":
    main()
