"""Types that DuckDB lacks: a column that a query hands on has the type that it had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset, File, sparse_field
from lakefeed._sparse import sparse_width

MS, HALF = pa.duration("ms"), pa.float16()
ROWS = pa.table(
    {
        "k": [1, 2, 3],
        "d": pa.array([10, None, -3], MS),
        "h": pa.array(np.array([1.5, 2, 0.25], np.float16)),
        "l": pa.array([[1], [], None], pa.list_(pa.duration("s"))),
        "s": pa.array([{"h": np.float16(1)}, None, {"h": None}], pa.struct([("h", HALF)])),
        "m": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.duration("ns"))),
    }
)


def test_every_column_comes_back_as_it_was() -> None:
    dataset = Dataset.from_arrow(ROWS)
    found = dataset.sql("SELECT * FROM data ORDER BY k").to_arrow()
    assert found.to_pylist() == ROWS.to_pylist()
    assert [field.type for field in found.schema] == [field.type for field in ROWS.schema]
    saved = dataset.save("spans")
    again = saved.sql("WITH q AS (SELECT d AS e, k FROM data WHERE d > 0) SELECT e, k FROM q").save("later")
    assert again.to_arrow().to_pylist() == ROWS.select(["d", "k"]).rename_columns(["e", "k"]).slice(0, 1).to_pylist()


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("SELECT d, h AS half FROM data WHERE d > 3 OR h < 1 ORDER BY d LIMIT 2", [MS, HALF]),
        ("SELECT x.d, y.h FROM data x JOIN data y USING (k) WHERE x.d IS NOT NULL", [MS, HALF]),
        ("SELECT max(d) AS m, min(h) AS n, count(*) AS c FROM data", [MS, HALF, pa.int64()]),
        ("SELECT d FROM data UNION ALL SELECT d FROM data", [MS]),
        ("SELECT d FROM data UNION ALL SELECT NULL", [MS]),
        ("SELECT * EXCLUDE (l, s, m) REPLACE (k + 1 AS d) FROM data", [pa.int64(), pa.int64(), HALF]),
        ("SELECT h AS d, k AS h FROM data", [HALF, pa.int64()]),
        # What is worked out has the type that DuckDB gives it.
        ("SELECT d + 1 AS d, h FROM data", [pa.int64(), HALF]),
        ("SELECT sum(d) AS s, h * 2 AS t, CAST(d AS BIGINT) AS c FROM data GROUP BY ALL", None),
        ("SELECT d FROM data UNION ALL SELECT k FROM data", [pa.int64()]),
        ("SELECT coalesce(d, k) AS c FROM data", [pa.int64()]),
    ],
)
def test_values_of_a_column_have_its_type_and_others_do_not(query: str, kinds: list[Any] | None) -> None:
    found = Dataset.from_arrow(ROWS).sql(query)
    expected = kinds or [pa.int64(), pa.float32(), pa.int64()]
    assert found.schema.types == expected
    assert found.to_arrow().schema.types == expected


def test_rows_of_a_matrix_and_files_keep_what_they_are_under_another_name(tmp_path: Path) -> None:
    cell = {"indices": [1, 3], "values": [1.0, 2.0]}
    schema = pa.schema([pa.field("k", pa.int64()), sparse_field("x", 4), sparse_field("wide", 9)])
    cells = Dataset.from_dict({"k": [1, 2], "x": [cell, None], "wide": [cell, cell]}, schema)
    for query, widths in (
        ("SELECT x AS y, k FROM data", [4, None]),
        ("SELECT wide AS x, x AS wide FROM data", [9, 4]),
        ("WITH q AS (SELECT x AS y FROM data) SELECT y AS z, y FROM q ORDER BY 1", [4, 4]),
        ("SELECT first(x) AS f, any_value(wide) AS g FROM data GROUP BY k", [4, 9]),
        ("SELECT x AS y FROM data UNION ALL SELECT x FROM data", [4]),
        ("SELECT x AS y, wide.values[1] AS v FROM data WHERE k = 1", [4, None]),
        ("SELECT x AS y FROM data UNION ALL SELECT wide FROM data", [None]),
    ):
        result = cells.sql(query)
        assert [sparse_width(field) for field in result.schema] == widths, query
        assert result.to_arrow().schema.equals(result.schema, check_metadata=True)
    other = cells.select(["k", "wide"]).rename({"wide": "x"})
    joined = cells.sql("SELECT a.x, b.x AS z FROM data a JOIN b USING (k)", tables={"b": other})
    assert [sparse_width(field) for field in joined.schema] == [4, 9]
    (tmp_path / "a.txt").write_text("a")
    files = Dataset.from_dict({"f": [File(str(tmp_path / "a.txt"))]}).sql("SELECT f AS g FROM data")
    assert [row["g"].path().read_bytes() for row in files] == [b"a"]
