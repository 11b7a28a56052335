"""What a mistake shows: one typed error that says what to do, and no chain of causes that say nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, get_dataset
from lakefeed.errors import (
    ColumnNotFoundError,
    ConfigError,
    DatasetExistsError,
    DatasetNotFoundError,
    ExpressionError,
    InvalidArgumentError,
    LakefeedError,
    SchemaError,
    SubscriptError,
    TagNotFoundError,
    VersionNotFoundError,
)

ROWS = [{"user": {"id": 1}, "n": 1, "l": [{"k": 1}], "s": "a", "d": dt.date(2020, 1, 1)}]


def there() -> Dataset:
    return Dataset("there")


MISTAKES: dict[str, tuple[type[LakefeedError], str, Callable[[], Any]]] = {
    "dataset": (DatasetNotFoundError, "Did you mean 'there'", lambda: Dataset("ther").to_arrow()),
    "get": (DatasetNotFoundError, "Did you mean 'there'", lambda: get_dataset("ther")),
    "delete": (DatasetNotFoundError, "Did you mean 'there'", lambda: Dataset("ther").delete()),
    "append": (DatasetNotFoundError, "Did you mean 'there'", lambda: there().append_to("ther")),
    "version": (
        VersionNotFoundError,
        "versions, newest first, are '1'",
        lambda: Dataset("there", version=9).to_arrow(),
    ),
    "tag": (TagNotFoundError, "the tags are", lambda: Dataset("there", version="good").to_arrow()),
    "as of": (VersionNotFoundError, "the oldest", lambda: Dataset("there", as_of=1).to_arrow()),
    "exists": (DatasetExistsError, "if_exists=", lambda: there().save("there")),
    "select": (ColumnNotFoundError, "Did you mean 'user'", lambda: there().select(["usr"])),
    "filter column": (ColumnNotFoundError, "the columns are", lambda: there().filter("zzz == 1")),
    "filter end": (ExpressionError, "found the end", lambda: there().filter("n ==")),
    "filter text": (ExpressionError, "a column or a value", lambda: there().filter("")),
    "filter field": (ExpressionError, "has no fields", lambda: there().filter("n.x == 1")),
    "filter date": (ExpressionError, "invalid date or timestamp", lambda: there().filter("d > '2020-13-45'")),
    "filter types": (ExpressionError, "n", lambda: there().filter("n == 'a'")),
    "filter like": (ExpressionError, "quoted pattern", lambda: there().filter("s like s")),
    "filter or": (ExpressionError, "join conditions with `or`", lambda: there().filter("n > 1 || s == 'a'")),
    "filter bar": (ExpressionError, "write `or`", lambda: there().filter("n > 1 | n < 0")),
    "delete_rows": (ExpressionError, "found the end", lambda: there().delete_rows("n ==")),
    "with_column": (ExpressionError, "found the end", lambda: there().with_column("m", "n +")),
    "query": (ExpressionError, "cannot be parsed", lambda: there().sql("SELEC n")),
    "query column": (ExpressionError, "query failed", lambda: there().sql("SELECT zzz FROM data")),
    "query value": (
        ExpressionError,
        "query failed",
        lambda: there().sql("SELECT CAST(s AS INT) AS i FROM data").to_arrow(),
    ),
    "add_column": (SchemaError, "ambiguous field name 'user.id'", lambda: there().add_column("user.id", pa.int64())),
    "add_column of a list": (
        SchemaError,
        "ambiguous field name",
        lambda: there().add_column("l.element.k", pa.int64()),
    ),
    "rename_column": (SchemaError, "ambiguous field name 'user.id'", lambda: there().rename_column("n", "user.id")),
    "save": (
        SchemaError,
        "ambiguous field name 'user.id'",
        lambda: Dataset.from_pylist([{"user": {"id": 1}, "user.id": 2}]).save("twice"),
    ),
    "values": (SchemaError, "do not fit", lambda: Dataset.from_dict({"x": ["a", 1]})),
    "place": (SubscriptError, r"take\(.*head\(n\).*mapped\(\)", lambda: there()[0]),
    "places": (SubscriptError, r"mapped\(\)", lambda: there()[[0, 1]]),
    "slice": (SubscriptError, r"slice\(start, stop\)", lambda: there()[1:2]),
    "column": (SubscriptError, r"select\(\['n'\]\)", lambda: there()["n"]),
    "if_exists": (InvalidArgumentError, '"append"', lambda: there().save("t", if_exists="fail")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_typed_error(name: str) -> None:
    kind, message, mistake = MISTAKES[name]
    Dataset.from_pylist(ROWS).save("there", column_types=None)
    with pytest.raises(kind, match=message) as found:
        mistake()
    shown = found.value.__cause__ or (None if found.value.__suppress_context__ else found.value.__context__)
    assert shown is None
    assert there().count() == 1


def test_a_name_with_a_dot_is_fine_where_it_names_one_thing() -> None:
    Dataset.from_dict({"x": [1]}).save("dotted")
    dotted = Dataset("dotted")
    dotted.add_column("user.id", pa.int64())
    dotted.rename_column("x", "a.b")
    assert dotted.filter("`a.b` == 1").to_arrow().to_pylist() == [{"a.b": 1, "user.id": None}]


def test_texts_are_joined_in_filters_columns_and_queries() -> None:
    rows = Dataset.from_arrow(
        pa.table({"a": ["x", None, "z"], "b": pa.array(["1", "2", "3"], pa.large_string()), "n": [1, 2, 3]})
    )
    assert rows.filter("a || '-' || b == 'x-1'").to_arrow()["n"].to_pylist() == [1]
    assert rows.filter("a || b is null").to_arrow()["n"].to_pylist() == [2]
    assert rows.filter("a || b like 'z%' or n + 1 == 2").to_arrow()["n"].to_pylist() == [1, 3]
    assert rows.filter("a || b in ('x1', 'y')").to_arrow()["n"].to_pylist() == [1]
    assert rows.filter("'x' || '1' == a || b").to_arrow()["n"].to_pylist() == [1]
    joined = rows.with_column("c", "b || ('<' || a || '>')").to_arrow()
    assert (joined["c"].type, joined["c"].to_pylist()) == (pa.large_string(), ["1<x>", None, "3<z>"])
    assert rows.sql("SELECT a || '!' AS c FROM data ORDER BY n").to_arrow()["c"].to_pylist() == ["x!", None, "z!"]
    coded = Dataset.from_arrow(pa.table({"k": pa.array(["p", "q", "p", None]).dictionary_encode()}))
    assert coded.with_column("c", "k || k").to_arrow()["c"].to_pylist() == ["pp", "qq", "pp", None]
    rows.save("saved")
    assert Dataset("saved").filter("a || b == 'z3' and n > 1").to_arrow()["n"].to_pylist() == [3]
    assert Dataset("saved").delete_rows("a || b == 'z3'").count() == 2


@pytest.mark.parametrize("variable", ["LAKEFEED__READ__THREADS=many", "LAKEFEED_CONFIG=broken.toml"])
def test_settings_that_do_not_fit_are_one_error_too(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.toml").write_text("[read\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(*variable.split("=", 1))
    with pytest.raises(ConfigError) as found:
        Dataset("there")
    assert found.value.__cause__ is None
    assert found.value.__suppress_context__
