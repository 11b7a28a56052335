"""DuckDB does not tell capitals from small letters: no query reads one column for another."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import ExpressionError, InvalidArgumentError
from lakefeed.sql.case_folding import case_collisions, fold

TABLE = pa.table({"A": [1, 1], "a": [2, 2], "b": [3, 4], "a_1": [9, 9]})


def test_names_that_are_alike() -> None:
    assert fold("ÄBC") == "Äbc"
    assert case_collisions(["a", "B", "b", "c", "A", "A"]) == [["a", "A", "A"], ["B", "b"]]


@pytest.mark.parametrize("query", ["SELECT a FROM data", "SELECT * FROM data", "SELECT count(A) AS n FROM data"])
def test_a_query_that_means_a_name_of_several_columns_is_refused(query: str) -> None:
    with pytest.raises(ExpressionError, match="differ only in case"):
        Dataset.from_arrow(TABLE).sql(query)
    structs = Dataset.from_arrow(pa.table({"s": pa.array([[{"A": 1, "a": 2}]]), "b": [1], "a": [1]}))
    with pytest.raises(ExpressionError, match="'A', 'a'"):
        structs.sql(query.replace("(A)", "(s)").replace(" a ", " s[1].a "))


def test_other_columns_can_be_read_and_renamed_ones_as_well() -> None:
    rows = Dataset.from_arrow(TABLE)
    assert rows.sql("SELECT b, a_1 FROM data").to_arrow().to_pydict() == {"b": [3, 4], "a_1": [9, 9]}
    assert rows.sql("SELECT count(*) AS n FROM data").to_arrow().to_pydict() == {"n": [2]}
    assert rows.select(["A", "a"]).sql("SELECT 1 AS one FROM data").to_arrow().to_pydict() == {"one": [1, 1]}
    assert rows.rename({"A": "big"}).sql("SELECT big, a FROM data").to_arrow().to_pydict() == {
        "big": [1, 1],
        "a": [2, 2],
    }
    assert Dataset.from_dict({"Ä": [1], "ä": [2]}).sql('SELECT "ä" FROM data').to_arrow().to_pydict() == {"ä": [2]}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT X FROM (SELECT b AS x, b + 1 AS X FROM data)",
        "WITH c AS (SELECT b AS x, b + 1 AS X FROM data) SELECT X FROM c",
        "WITH c(x, X) AS (SELECT b, b + 1 FROM data) SELECT X FROM c",
        "SELECT X FROM (SELECT b, b + 1 FROM data) AS t(x, X)",
        "SELECT b AS x, -b AS X FROM data ORDER BY X",
        "SELECT B FROM (SELECT * FROM data JOIN other ON data.k = other.k)",
    ],
)
def test_results_that_differ_only_in_case_are_refused(query: str) -> None:
    data, other = Dataset.from_dict({"k": [1], "b": [2]}), Dataset.from_dict({"k": [1], "B": [3]})
    with pytest.raises(ExpressionError, match="only in case"):
        data.sql(query, tables={"other": other})


def test_tables_and_views_have_names_of_their_own() -> None:
    rows = Dataset.from_dict({"x": [1]})
    with pytest.raises(InvalidArgumentError, match="case"):
        rows.sql("SELECT * FROM data", tables={"Data": rows})
    with pytest.raises(ExpressionError, match="'A', 'a'"):
        Dataset.from_arrow(TABLE).to_duckdb()


def test_joins_sorts_upserts_and_checks_tell_capitals_apart() -> None:
    rows = Dataset.from_arrow(pa.table({"A": [1, 2, 1], "a": [1, 1, 2], "s": pa.array([{"B": 2, "b": 1}] * 3)}))
    assert rows.sort(["a", "A"]).to_arrow()["A"].to_pylist() == [1, 2, 1]
    joined = rows.join(Dataset.from_dict({"a": [2], "new": [7]}), "a").to_arrow()
    assert (joined["A"].to_pylist(), joined["new"].to_pylist()) == ([1], [7])
    rows.save("cases")
    changed = pa.table({"A": [1], "a": [2], "s": pa.array([{"B": 1, "b": 2}])})
    Dataset.from_arrow(changed).upsert_into("cases", ["A", "a"])
    assert Dataset("cases").added_since(1).to_arrow().to_pylist() == [{"A": 1, "a": 2, "s": {"B": 1, "b": 2}}]
    assert Dataset("cases").filter("a == 2 and A == 1").count() == 1
    assert Dataset("cases").filter("A == 2").to_arrow()["a"].to_pylist() == [1]
