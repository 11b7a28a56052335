"""Text indexes: what a search gives is what the table has, whatever was written, and filters are exact."""

from __future__ import annotations

import datetime as dt
import random
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tantivy

from lakefeed import Dataset, Settings, Table, col, collect_garbage, connect
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    ColumnNotFoundError,
    DamagedDatasetError,
    DatasetExistsError,
    DatasetNotFoundError,
    ExpressionError,
    IndexNotFoundError,
    InvalidArgumentError,
    InvalidNameError,
    SchemaError,
    TypeMismatchError,
    UnsupportedError,
)
from lakefeed.expressions import cast, expr, text, vector
from lakefeed.keyed import Client, SearchIndex, TextIndex
from lakefeed.search import text_segments
from lakefeed.search.index_ledger import IndexLedger
from lakefeed.search.key_text import decode_keys, encode_keys, term_of
from lakefeed.search.local_files import read_files
from tests.sdk.test_garbage import age

DAY = dt.timedelta(days=1)
WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "far"]
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)


@pytest.fixture
def client(home: Path) -> Client:
    return connect()


def table_of(client: Client, name: str = "pages") -> Table:
    return client.create_table(name, key_schema={"id": pa.int64()})


def found(index: SearchIndex, words: str, top_k: int = 1_000, **options: Any) -> list[dict[str, Any]]:
    (field, *_) = index.fields
    return connect().search(top_k, text.find(index[field], words), **options).read_all().to_pylist()


def ids(index: SearchIndex, words: str, **options: Any) -> list[Any]:
    return [row["id"] for row in found(index, words, **options)]


def test_phrases_are_words_in_their_order(client: Client) -> None:
    table, long = table_of(client), "x" * 50
    bodies = [
        "New York City",
        "york new",
        "a new city, york",
        "Old. New, York!",
        f"new {long} york",
        None,
        "dogs running",
    ]
    table.write({"id": list(range(7)), "body": bodies})
    index = client.create_text_index("bodies", text.field(table["body"], positions=True), {"id2": table["id"]})

    def phrase(words: str, slop: int = 0, **options: Any) -> list[int]:
        rank = text.phrase(client.text_index("bodies")["body"], words, slop)
        return sorted(client.search(9, rank, **options).read_all()["id"].to_pylist())

    assert phrase("new york") == phrase("NEW-YORK") == [0, 3]
    assert (phrase("new york", 1), phrase(f"new {long} york"), phrase("york")) == (
        [0, 2, 3, 4],
        [2, 4],
        [0, 1, 2, 3, 4],
    )
    assert phrase("new york", 2) == phrase("new york", 1_000) == [0, 2, 3, 4]  # not "york new"
    assert phrase("new new", 5) == phrase("york york york", 2) == []  # one word is not two
    assert phrase("old new york", 43) == [3]
    with pytest.raises(InvalidArgumentError, match="a phrase of 3 words; it is at most 43"):
        phrase("old new york", 44)
    assert phrase("new york", filters="id2 > 0") == [3]
    assert phrase("") == phrase("!") == phrase("new york 5") == []
    table.write({"id": [1, 8], "body": ["new york", "in new york"]})
    table.delete_keys([0])
    assert phrase("new york") == [1, 3, 8]
    both = client.search(9, text.find(index["body"], "city"), text.boost(text.phrase(index["body"], "new york"), 3.0))
    assert both.read_all()["id"].to_pylist()[-1] == 2
    stems = client.create_text_index("stems", text.field(table["body"], tokenizer="en_stem", positions=True))
    assert client.search(9, text.phrase(stems["body"], "dog runs")).read_all()["id"].to_pylist() == [6]
    same = client.create_text_index(
        "bodies", text.field(table["body"], positions=True), {"id2": table["id"]}, exist_ok=True
    )
    assert same.name == "bodies"
    with pytest.raises(DatasetExistsError, match="other fields"):
        client.create_text_index("bodies", text.field(table["body"]), {"id2": table["id"]}, exist_ok=True)
    plain = client.create_text_index("plain", text.field(table["body"]))
    with pytest.raises(InvalidArgumentError, match="positions=True"):
        client.search(9, text.phrase(plain["body"], "new york"))
    for slop in (-1, 1_001, 1.5, True):
        with pytest.raises(InvalidArgumentError, match="slop"):
            text.phrase(index["body"], "new york", slop)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="positions"):
        text.field(table["body"], positions=1)  # type: ignore[arg-type]


def test_the_best_rows_come_first_with_the_scores_of_tantivy(client: Client) -> None:
    draw, table = random.Random(5), table_of(client)
    bodies = [" ".join(draw.choices(WORDS, k=draw.randint(0, 9))) for _ in range(300)]
    table.write({"id": list(range(300)), "body": bodies})
    index = client.create_text_index("bodies", text.field(table["body"]))

    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("id", stored=True)
    builder.add_text_field("body", index_option="freq")
    plain = tantivy.Index(builder.build())
    writer = plain.writer(num_threads=1)
    for number, body in enumerate(bodies):
        writer.add_document(tantivy.Document(id=number, body=body))
    writer.commit()
    plain.reload()
    searcher = plain.searcher()
    hits = searcher.search(plain.parse_query("cat red", ["body"]), 300).hits
    scores = {searcher.doc(address)["id"][0]: np.float32(score) for score, address in hits}

    rows = found(index, "Cat, RED cat!")
    assert {row["id"]: row["score"] for row in rows} == pytest.approx(scores, rel=1e-6)
    assert [(-row["score"], row["id"]) for row in rows] == sorted((-row["score"], row["id"]) for row in rows)
    for top_k in (1, 2, 7, 40, len(rows), 2**40, 2**70):  # rows of equal score are cut by their key
        assert found(index, "red cat", top_k) == rows[:top_k]
    assert found(index, "") == found(index, "?!") == found(index, "nothing of it") == []
    reader = client.search(3, text.find(index["body"], "cat"))
    assert reader.schema == pa.schema(
        [pa.field("id", pa.int64(), False), pa.field("score", pa.float32(), nullable=False)]
    )
    boosted = client.search(999, text.boost(text.find(index["body"], "cat"), 2), text.find(index["body"], "dog"))
    alone = {row["id"]: row["score"] for row in found(index, "cat")}
    dogs = {row["id"]: row["score"] for row in found(index, "dog")}
    expected = {key: 2 * alone.get(key, 0) + dogs.get(key, 0) for key in {*alone, *dogs}}
    assert {row["id"]: row["score"] for row in boosted.read_all().to_pylist()} == pytest.approx(expected, rel=1e-5)


def test_tokenizers_several_fields_and_names(client: Client) -> None:
    table = table_of(client)
    table.write({"id": [1, 2, 3], "a": ["Running dogs", "run-dog", None], "b.c": ["X y", "x", "X y"]})
    index = client.create_text_index(
        "mixed",
        text.field(table["a"], "stemmed", tokenizer="en_stem"),
        {"plain": text.field(table["a"]), "spaced": text.field(table["a"], tokenizer="whitespace")},
        text.field(table["b.c"], tokenizer="raw"),
    )
    assert index.fields == ["stemmed", "plain", "spaced", "c"]

    def hits(field: str, words: str) -> list[int]:
        rows = client.search(9, text.find(index[field], words)).read_all()["id"].to_pylist()
        return sorted(rows)

    assert (hits("stemmed", "runs DOG"), hits("plain", "run"), hits("plain", "dogs")) == ([1, 2], [2], [1])
    assert (hits("spaced", "run-dog"), hits("spaced", "running"), hits("spaced", "Running")) == ([2], [], [1])
    assert (hits("c", "X y"), hits("c", "x"), hits("c", "y")) == ([1, 3], [2], [])


FILTERS = [
    "s == 'a b'", "s != 'a b'", "s is null", "s is not null", "s in ('', 'x%y')", "not s in ('', 'x%y')", "s == ''",
    "s like 'x%'", "s like '%\\%y'", "not s like '_%'", "s like 'a b'", "s like '%\n%'", "s like '%.%'", "s in ()",
    "s < 'a b'", "s <= 'a b'", "s > 'x'", "s >= 'x'", "not s < 'x'", "not s >= 'ü'", "s < ''", "s >= ''", "s > ''",
    "s between 'a' and 'x'", "not s between 'b' and 'x'", "s > 'ü.ñ'", "s < '\U00010000'", "s > 'line\n'",
    f"s > '{'y' * 40}'", f"s == '{'y' * 70_000}'", f"s == '{'y' * 70_001}'", f"s in ('{'y' * 70_000}', 'x')",
    "d == 1.1", "d > -3.25", "d <= 0", "not d < 1.105", "d in (99999.99, 0)", "d != 1.10", "d > 1e30", "d is null",
    "big >= 9223372036854775808", "big == 18446744073709551615", "big < 0.5", "clock > '01:02:03'", "clock == '00:00'",
    "f32 in (0.1)", "not f32 in (0.1, 1)",
    "n == 3", "n != 3", "n > 2.5", "n >= 2.5", "n < -1.5", "n <= 9223372036854775807", "n in (1, 3)", "n == 2.5",
    "not n in (1, null)", "n between 1 and 3", "not n between 1 and 3", "n is null", "not n < 2", "n > 1e30",
    "u > 9223372036854775807", "u <= 1", "u != 0", "u >= 0",
    "f < 1", "f >= 0", "f != 0.5", "not f < 1", "not f == 0", "f == 0", "f is not null", "f in (0.5, 0)", "f > 1e308",
    "f32 > 0.1", "f32 == 0.1", "f32 <= 0.1",
    "flag", "not flag", "flag == true", "flag != true", "flag is null", "flag and n > 0", "not flag and s is null",
    "day >= date '2026-01-02'", "day < date '2026-01-02'", "day == date '2026-01-02'",
    "at == timestamp '2026-01-02T03:04:05.678901Z'", "at > timestamp '2026-01-02T03:04:05Z'", "at is null",
    "true", "s is null and n is null", "id > 3", "id in (2, 4)",
]  # fmt: skip


DECIMALS = ["1.10", "-3.25", "0", "99999.99", "", "1.10", "-99999.99", "0.01"]


def test_filters_mean_what_they_mean_in_scans(client: Client) -> None:
    table = table_of(client)
    table.write(
        pa.table(
            {
                "id": range(8),
                "body": ["word"] * 8,
                "s": ["a b", "", None, "x%y", "x", "line\nbreak", "ü.ñ", "y" * 70_000],
                "n": [1, 2, 3, None, -5, 2**63 - 1, -(2**63), 0],
                "u": pa.array([0, 1, 2**62, 2**63 - 1, None, 5, 7, 9], pa.int64()),
                "f": [0.5, -0.0, 0.0, float("nan"), float("inf"), -float("inf"), None, 1.0],
                "f32": pa.array([0.1, 0.2, None, float("nan"), 0.0, 1.0, -1.0, 0.1], pa.float32()),
                "flag": [True, False, None, True, False, None, True, False],
                "d": pa.array([Decimal(d) if d else None for d in DECIMALS], pa.decimal128(7, 2)),
                "big": pa.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1, None, 5, 7], pa.uint64()),
                "clock": [dt.time(1, 2, 3, microsecond) for microsecond in range(6)] + [dt.time(0), None],
                "day": [dt.date(2026, 1, day) if day else None for day in (1, 2, 3, 0, 2, 31, 9, 1)],
                "at": [WHEN, None, WHEN + DAY, WHEN - DAY, WHEN, WHEN, WHEN, WHEN],
            }
        )
    )
    names = ["id", "s", "n", "u", "f", "f32", "flag", "day", "at", "d", "big", "clock"]
    index = client.create_text_index("filtered", text.field(table["body"]), table[names])
    for condition in FILTERS:
        expected = table.scan("id", where=condition).to_table()["id"].to_pylist()
        assert ids(index, "word", filters=condition) == expected, condition
    for same in (table["n"] > 1, index["n"] > 1, col("n") > 1):
        assert ids(index, "word", filters=same & col("s").is_not_null()) == [1, 5]
    assert found(index, "word", filters="n > 1")[0]["score"] == found(index, "word")[0]["score"]
    for bad, error in {
        "n = 1 or n = 2": InvalidArgumentError,
        "n = 1 and not (flag and n = 2)": InvalidArgumentError,
        f"s < '{'x' * 2_000}'": UnsupportedError,  # regular expressions of tantivy are short
        f"s like '{'x' * 2_000}%'": UnsupportedError,
        "n + 1 > 2": UnsupportedError,
        "n > id": UnsupportedError,
        "nope = 1": ColumnNotFoundError,
        "body = 'word'": ColumnNotFoundError,
        "n = 'a'": ExpressionError,
        "n >": ExpressionError,
    }.items():
        with pytest.raises(error):
            found(index, "word", filters=bad)


KEYS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), ["", "a", "\x00b", "ü", "x" * 300, "[1]"]),
    (pa.int16(), [-3, 0, 9, 10, 300]),
    (pa.bool_(), [False, True]),
    (pa.binary(), [b"", b"\xff\x00", b"a" * 150]),
    (pa.binary(2), [b"ab", b"\xff\x00"]),
    (pa.date32(), [dt.date(1969, 1, 1), dt.date(2026, 1, 1)]),
    (pa.timestamp("us", "UTC"), [WHEN - 30_000 * DAY, WHEN]),
    (pa.time64("us"), [dt.time(1, 2, 3, 4)]),
    (pa.decimal128(9, 2), ["1.20", "-3.00"]),
    (pa.uint8(), [0, 255]),
]


def test_keys_of_each_type_come_back_and_are_replaced(client: Client) -> None:
    for kind, values in KEYS:
        keys = pa.record_batch({"k": pa.array(values, pa.string()).cast(kind) if pa.types.is_decimal(kind) else values})
        keys = keys.cast(pa.schema({"k": kind}))
        assert decode_keys(encode_keys(keys, ["k"]), keys.schema) == keys
        assert len({term_of(each) for each in encode_keys(keys, ["k"])}) == len(keys)
    names = [f"k{number}" for number in range(len(KEYS))]
    table = client.create_table("typed", key_schema=dict(zip(names, [kind for kind, _ in KEYS], strict=True)))
    columns = [pa.array([values[0], values[-1], values[0]]).cast(kind) for kind, values in KEYS]
    columns[0] = pa.array(["", "x" * 300, "last"])
    rows = pa.table([*columns, ["word"] * 3], [*names, "body"])
    table.write(rows)
    index = client.create_text_index("typed", text.field(table["body"]))
    hits = client.search(99, text.find(index["body"], "word")).read_all()
    expected = table.scan().to_table()
    assert hits.drop_columns(["score"]) == expected.select(names)
    table.write(rows.slice(1, 1).set_column(len(names), "body", pa.array(["other"])))
    assert len(client.search(99, text.find(index["body"], "word")).read_all()) == 2


def changes(table: Table, draw: random.Random) -> None:
    """Makes one random change."""
    keys = draw.sample(range(60), draw.randint(1, 12))
    bodies = [" ".join(draw.choices(WORDS, k=4)) for _ in keys]
    match draw.randrange(7):
        case 0 | 1:
            table.write({"id": keys, "body": bodies, "n": [draw.randrange(5) for _ in keys]})
        case 2:
            table.write({"id": keys, "n": [draw.randrange(5) for _ in keys]})
        case 3:
            table.delete_keys(keys)
        case 4:
            longer = expr(f"body || ' {draw.choice(WORDS)}'")
            table.enrich({"body": longer}, where=f"n = {draw.randrange(5)}").apply()
        case 5:
            table.compact()
        case 6:
            dataset = Dataset(table.identifier)
            versions = [each.version for each in dataset.list_versions() if each.version > 1]
            dataset.restore(draw.choice(versions))


def check(index: SearchIndex, table: Table, draw: random.Random) -> None:
    word, number = draw.choice(WORDS), draw.randrange(5)
    rows = table.scan("id", "body", where=f"n <> {number} and id <> 7").to_table().to_pylist()
    expected = [row["id"] for row in rows if word in (row["body"] or "").split()]
    assert sorted(ids(index, word, filters=f"n <> {number}")) == expected


def test_a_search_sees_each_change_and_nothing_else(client: Client) -> None:
    draw, table = random.Random(11), table_of(client)
    table.write({"id": list(range(40)), "body": ["red cat"] * 40, "n": [0] * 40})
    index = client.create_text_index("bodies", text.field(table["body"]), table["n"], where=table["id"] != 7)
    for _ in range(4):
        for _ in range(draw.choice([1, 1, 3])):
            changes(table, draw)
        check(index, table, draw)
        assert index.version == table.snapshot().version


@pytest.mark.live
@pytest.mark.parametrize("seed", range(2))
def test_a_search_sees_each_of_many_changes(client: Client, seed: int) -> None:
    draw, table = random.Random(seed), table_of(client)
    table.write({"id": list(range(40)), "body": ["red cat"] * 40, "n": [0] * 40})
    index = client.create_text_index("bodies", text.field(table["body"]), table["n"], where=table["id"] != 7)
    for _ in range(30):
        changes(table, draw)
        check(index, table, draw)


@pytest.mark.live
def test_a_refresh_writes_new_segments_only_and_old_ones_go(client: Client, home: Path) -> None:
    table = table_of(client)
    draw = random.Random(1)
    bodies = [" ".join(draw.choices(WORDS, k=20)) for _ in range(3_000)]
    table.write({"id": list(range(3_000)), "body": bodies})
    index = client.create_text_index("bodies", text.field(table["body"]))
    ledger = IndexLedger(table.lake, index.definition)
    before = {each.name: each for each in read_files(ledger, ledger.load())}
    table.write({"id": [1, 5_000], "body": ["red", "green"]})
    index.refresh()
    after = {each.name: each for each in read_files(ledger, ledger.load())}
    new = [each for name, each in after.items() if before.get(name) != each]
    assert {name for name in before if name not in after} == set()
    assert len(new) <= 9
    assert sum(each.size for each in new) < 0.2 * sum(each.size for each in after.values())
    state = ledger.load()
    assert index.refresh().ledger.load().snapshot_id == state.snapshot_id  # there is nothing to do
    for number in range(9):
        table.write({"id": [number], "body": [f"word{number}"]})
        assert ids(index, f"word{number}") == [number]
    assert len(ledger.load().table.metadata.snapshots) <= 10
    assert len(list((Settings.load().cache / "indexes" / state.ledger_uuid).iterdir())) <= 4
    age(home)
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    shutil.rmtree(Settings.load().cache)
    assert ids(index, "word8 word0") == [0, 8]
    assert index.refresh().ledger.load().snapshot_id == ledger.load().snapshot_id


def test_an_index_that_is_damaged_or_away_says_how_to_make_it_anew(client: Client, home: Path) -> None:
    table = table_of(client)
    table.write({"id": [1, 2], "body": ["a cat", "a dog"]})
    index = client.create_text_index("bodies", text.field(table["body"]))
    ledger = IndexLedger(table.lake, index.definition)

    def lose_files() -> None:
        for pack in (home / "blobs" / "packs").iterdir():
            with pack.open("r+b") as stream:
                stream.write(bytes(700))
        for folder in ("indexes", "sha256"):
            shutil.rmtree(Settings.load().cache / folder, ignore_errors=True)

    def lose_metadata() -> None:
        location = str(ledger.load().table.metadata_location)
        Path(location.removeprefix("file://")).unlink()
        table.lake.close()

    table.write({"id": [3], "body": ["third"]})
    for lose in (lose_files, lose_metadata):
        lose()
        for _ in range(2):
            with pytest.raises(DamagedDatasetError, match=r"refresh\(\)|drop_index"):
                found(index, "cat")
        assert ids(index.refresh(), "cat") == [1]
        assert ids(index, "third") == [3]
    shutil.rmtree(Settings.load().cache)
    assert ids(index, "cat") == [1]
    for path in (Settings.load().cache / "indexes").rglob("*"):  # only the local copy is damaged
        if path.is_file():
            path.unlink()
            path.write_bytes(b"")
    text_segments._open.clear()
    assert ids(index, "cat") == [1]
    client.drop_index("bodies")
    for call in (lambda: found(index, "cat"), lambda: client.index("bodies"), lambda: client.drop_index("bodies")):
        with pytest.raises(IndexNotFoundError, match="create_text_index"):
            call()
    assert ids(index.refresh(), "cat") == [1]
    assert [each.name for each in client.list_indexes()] == ["bodies"]


def test_a_table_that_moves_keeps_its_indexes_and_one_that_is_dropped_says_so(client: Client) -> None:
    project = client.project("web")
    table = project.create_table("pages", key_schema={"id": pa.int64()})
    table.write({"id": [1], "body": ["a cat"]})
    index = project.create_text_index("bodies", text.field(table["body"]), table["id"], where="id > 0")
    assert index.name == "web.bodies"
    assert [each.name for each in client.list_indexes()] == [each.name for each in project.list_indexes()]
    moved = client.rename_table("web.pages", "sites")
    moved.write({"id": [2], "body": ["another cat"]})
    assert (ids(index, "cat"), index.table.identifier) == ([1, 2], "web.sites")
    for condition in ("id > 1", moved["id"] > 1, table["id"] > 1, index["id"] > 1):
        assert ids(index, "cat", filters=condition) == [2]
    opened = Counter[str]()
    with pytest.MonkeyPatch.context() as patch:
        load = Lake.table
        patch.setattr(Lake, "table", lambda lake, name: (opened.update([name]), load(lake, name))[1])
        ids(index, "cat")
    assert "web.pages" not in opened
    assert Dataset.exists("web.sites")
    assert "bodies" not in "".join(each.name or "" for each in client.list_tables())
    client.drop_table("web.sites")
    with pytest.raises(DatasetNotFoundError, match=r"drop_index\('web.bodies'\)"):
        found(index, "cat")
    again = project.create_table("pages", key_schema={"id": pa.int64()})
    again.write({"id": [7], "body": ["a new cat"]})
    assert ids(index, "cat") == [7]
    Dataset("web.pages").delete()
    with pytest.raises(DatasetNotFoundError, match="trash"):
        found(index, "cat")
    Dataset.undelete("web.pages")
    assert ids(index, "cat") == [7]


def test_a_renamed_column_says_what_to_do_with_its_index(client: Client) -> None:
    table = table_of(client)
    table.write({"id": [1], "body": ["cat"]})
    index = client.create_text_index("bodies", text.field(table["body"]))
    Dataset("pages").rename_column("body", "content")
    for act in (lambda: ids(index, "cat"), index.refresh):
        with pytest.raises(ColumnNotFoundError, match=r"(?s)renamed.*'content'.*drop_index\('bodies'\)"):
            act()
    Dataset("pages").rename_column("content", "body")
    assert ids(index, "cat") == [1]


@pytest.mark.live
def test_an_index_is_built_anew_if_a_column_was_dropped_and_added_again(client: Client) -> None:
    table = table_of(client)
    table.write({"id": [1, 2], "body": ["a cat", "a cat"], "n": [5, 6], "e": [[1.0], [2.0]]})
    index = client.create_text_index("bodies", text.field(table["body"]), table["n"])
    near = client.create_vector_index("near", table["e"], table["n"])

    def hits(condition: str, **options: Any) -> tuple[list[Any], list[Any]]:
        rank = vector.nearest(near["e"], [1.0])
        both = (text.find(index["body"], "cat"), rank)
        first, second = (client.search(9, each, filters=condition, **options).read_all()["id"] for each in both)
        return first.to_pylist(), second.to_pylist()

    assert hits("n > 5") == ([2], [2])
    for kind, value in ((pa.float64(), 7.5), (pa.int64(), 7), (pa.string(), "seven")):
        table.drop_columns(["n"])
        for search_now in (True, False):
            with pytest.raises(ColumnNotFoundError, match="'n'"):
                hits("n is null") if search_now else index.refresh()
        Dataset("pages").add_column("n", kind)  # that makes no version
        assert hits("n is null", freshness_window=DAY) == ([1, 2], [1, 2])
        table.write({"id": [2], "n": [value]})
        assert hits("n is not null") == ([2], [2])
    table.write(pa.table({"id": [3], "body": ["cat"], "e": [[3.0]], "m": pa.array([2], pa.int32())}))
    wide = client.create_text_index("wide", text.field(table["body"]), table["m"])
    table.write({"id": [1], "m": [2**40]})
    assert ids(wide, "cat", filters="m >= 2") == [3, 1]


def test_a_window_leaves_new_versions_for_later(client: Client) -> None:
    table = table_of(client)
    table.write({"id": [1], "body": ["a cat"]})
    index = client.create_text_index("bodies", text.field(table["body"]))
    table.write({"id": [2], "body": ["a cat"]})
    assert ids(index, "cat", freshness_window=DAY) == [1]
    assert (index.version, index.asof) == (2, table.snapshot(2).asof)
    assert ids(index, "cat", freshness_window=dt.timedelta(0)) == [1, 2]
    assert index.version == 3


def test_arguments_that_do_not_fit(client: Client) -> None:
    table, other = table_of(client), table_of(client, "other")
    table.write({"id": [1], "body": ["a"], "v": [[1.0]], "body2": ["b"]})
    other.write({"id": [1], "body": ["a"]})
    Dataset.from_dict({"body": ["a"]}).save("plain")
    index = client.create_text_index("bodies", text.field(table["body"]), table["id"])
    foreign = client.create_text_index("foreign", text.field(other["body"]))
    mark = text.field(table["body"])
    for arguments, error, message in (
        ((table["body"],), InvalidArgumentError, "text.field"),
        ((mark, other["body"]), InvalidArgumentError, "one table"),
        ((), InvalidArgumentError, "one table"),
        ((text.field(table["id"]),), TypeMismatchError, "needs text"),
        ((mark, table["v"]), UnsupportedError, "'v'"),
        ((mark, {"id": table["v"]}), SchemaError, "key column"),
        ((mark, table["nope"]), ColumnNotFoundError, "nope"),
        ((text.field(col("body")),), InvalidArgumentError, "one table"),
        ((mark, {"x": cast(table["id"], pa.list_(pa.int8()))}), UnsupportedError, "'x'"),
    ):
        with pytest.raises(error, match=message):
            client.create_text_index("new", *arguments)
    for name in ("Bad", "a b", ""):
        with pytest.raises(InvalidNameError):
            client.create_text_index(name, mark)
    with pytest.raises(InvalidArgumentError, match="key_schema="):
        client.create_text_index("new", text.field(Table("plain")["body"]))
    with pytest.raises(InvalidArgumentError, match="where"):
        client.create_text_index("new", mark, where=7)
    with pytest.raises(UnsupportedError, match="root_uri"):
        client.create_text_index("new", mark, root_uri="x")
    with pytest.raises(DatasetExistsError, match="exist_ok"):
        client.create_text_index("bodies", mark, table["id"])
    with pytest.raises(DatasetExistsError, match="other fields"):
        client.create_text_index("bodies", mark, exist_ok=True)
    assert isinstance(client.create_text_index("bodies", mark, table["id"], exist_ok=True), TextIndex)
    assert [each.name for each in client.list_indexes()] == ["bodies", "foreign"]
    rank = text.find(index["body"], "a")
    assert isinstance(text.boost(rank, np.float32(2)), type(rank))
    for bad in (1e10, 1e-10, float("nan"), 10**400, np.True_, "2"):
        with pytest.raises(InvalidArgumentError, match="boost must be"):
            text.boost(text.boost(rank, 2), bad)
    with pytest.raises(InvalidArgumentError, match="surrogate"):
        text.find(index["body"], "a \ud800")
    with pytest.raises(ColumnNotFoundError, match="filter fields are 'id'"):
        client.search(1, rank, filters=table["body"] == "a")
    for call, error in (  # type: ignore[var-annotated]
        (lambda: client.search(0, rank), InvalidArgumentError),
        (lambda: client.search(True, rank), InvalidArgumentError),
        (lambda: client.search(1), InvalidArgumentError),
        (lambda: client.search(1, "a"), InvalidArgumentError),
        (lambda: client.search(1, table["body"]), InvalidArgumentError),
        (lambda: client.search(1, rank, freshness_window=1), InvalidArgumentError),
        (lambda: client.search(1, rank, freshness_window=-DAY), InvalidArgumentError),
        (lambda: client.search(1, rank, filters=7), InvalidArgumentError),
        (lambda: client.search(1, rank, text.find(foreign["body"], "a")), SchemaError),
        (lambda: client.search(1, text.find(index["id"], "a")), ColumnNotFoundError),
        (lambda: index["nope"], ColumnNotFoundError),
        (lambda: index[7], InvalidArgumentError),
        (lambda: text.find(table["body"], "a"), InvalidArgumentError),
        (lambda: text.find(index["body"], 7), InvalidArgumentError),
        (lambda: text.boost(rank, 0), InvalidArgumentError),
        (lambda: text.boost("a", 1), InvalidArgumentError),
        (lambda: text.field(table["body"], tokenizer="nope"), InvalidArgumentError),
        (lambda: text.field("body"), InvalidArgumentError),
        (lambda: client.text_index("nope"), IndexNotFoundError),
    ):
        with pytest.raises(error):
            call()
    table.drop_columns(["body"])
    table.write({"id": [2]})
    with pytest.raises(ColumnNotFoundError, match="body"):
        client.search(1, rank)
