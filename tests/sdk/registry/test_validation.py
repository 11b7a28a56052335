"""Tables are compared with declared features: all differences at once, with the right rows."""

from __future__ import annotations

import pickle

import pandas as pd
import pyarrow as pa
import pytest

from lakefeed.errors import InvalidArgumentError, ValidationError
from lakefeed.registry import bionty
from lakefeed.registry.dev.datasets import df_iris_in_meter_batch1
from lakefeed.registry.validation import (
    DTYPES,
    DeclaredFeature,
    Problem,
    check_dtype,
    find_problems,
    find_unknown_names,
    raise_problems,
)


def declared(**dtypes: str | None) -> dict[str, DeclaredFeature]:
    return {name: DeclaredFeature(name, dtype) for name, dtype in dtypes.items()}


def test_every_difference_is_a_problem_in_the_order_of_the_columns() -> None:
    table = pa.table({"b": ["x", None, "y"], "new": [1, 2, 3], "a": [1.0, 2.5, None], "species": ["cat", "dgo", "dgo"]})
    features = declared(a="int", b="float")
    features["species"] = DeclaredFeature("species", "category", "Species", frozenset({"cat", "dog"}))
    assert find_problems(table, features) == [
        Problem("b", "type", "float", "string", (0, 2)),
        Problem("new", "unknown column", "a name of Feature.name", "'new'"),
        Problem("a", "value", "whole numbers", "'2.5'", (1,)),
        Problem("species", "value", "labels of the type 'Species'", "'dgo'", (1, 2)),
    ]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int", pa.array([1, None])),
        ("int", pa.array([1.0, float("nan"), None])),
        ("float", pa.array([1])),
        ("number", pa.array([1.5])),
        ("str", pa.array(["a"]).dictionary_encode()),
        ("category", pa.array([True])),
        ("bytes", pa.array([b"a"])),
        ("datetime", pa.array([0], pa.timestamp("us", "UTC"))),
        ("timedelta", pa.array([0], pa.duration("s"))),
        ("list", pa.array([[1.0]])),
        ("bool", pa.nulls(2)),
        (None, pa.array([{"any": 1}])),
    ],
)
def test_values_that_fit_are_no_problem(dtype: str | None, values: pa.Array) -> None:
    assert find_problems(pa.table({"x": values}), declared(x=dtype)) == []


@pytest.mark.parametrize(
    ("dtype", "values", "rows"),
    [
        ("int", pa.array(["1"]), (0,)),
        ("int", pa.array([float("inf"), 1.0]), (0,)),
        ("bool", pa.array([None, 0, 1]), (1, 2)),
        ("str", pa.array(range(100)), (0, 1, 2, 3, 4)),
        ("datetime", pa.array(["2024-01-01"]), (0,)),
    ],
)
def test_the_first_rows_that_differ_are_named(dtype: str, values: pa.Array, rows: tuple[int, ...]) -> None:
    (problem,) = find_problems(pa.table({"x": values}), declared(x=dtype), "obs")
    assert (problem.rows, problem.slot) == (rows, "obs")


def test_one_error_has_all_problems() -> None:
    problems = find_problems(pa.table({f"c{number}": [1] for number in range(12)}), {})
    with pytest.raises(ValidationError, match=r"in 12 ways:\n- column 'c0'(?s:.*)- and 2 more") as caught:
        raise_problems(problems)
    assert caught.value.problems == tuple(problems)
    assert pickle.loads(pickle.dumps(caught.value)).problems == tuple(problems)
    raise_problems([])


def test_types_have_synonyms_and_the_message_lists_them() -> None:
    assert [check_dtype(each) for each in (float, int, "cat", None, "bool", str)] == [
        "float", "int", "category", None, "bool", "str",
    ]  # fmt: skip
    for wrong in ("complex", 7, [], object):
        with pytest.raises(InvalidArgumentError, match="dtype must be one of 'int'"):
            check_dtype(wrong)
    assert check_dtype("time") in DTYPES


def test_genes_are_those_of_the_organism(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["ENSG00000000003", "ENSMUSG00000000001.4", "TSPAN6", "ENSG3"]
    field = bionty.Gene.ensembl_gene_id
    assert str(field) == "Gene.ensembl_gene_id"
    assert set(field.find_declared(names)) == set(names[:2])
    monkeypatch.setattr(bionty.settings, "_organism", None)
    bionty.settings.organism = "human"
    problems = find_unknown_names(names, field.find_declared(names), "var", str(field))
    assert [(each.column, each.rows) for each in problems] == [(names[1], (1,)), ("TSPAN6", (2,)), ("ENSG3", (3,))]
    with pytest.raises(InvalidArgumentError, match="'zebrafish'"):
        bionty.settings.organism = "martian"


def test_the_flowers_are_the_same_every_time() -> None:
    frame = df_iris_in_meter_batch1()
    assert frame.head().to_dict("list") == {
        "sepal_length": [0.051, 0.049, 0.047, 0.046, 0.050],
        "sepal_width": [0.035, 0.030, 0.032, 0.031, 0.036],
        "petal_length": [0.014, 0.014, 0.013, 0.015, 0.014],
        "petal_width": [0.002] * 5,
        "iris_organism_code": [0] * 5,
    }
    pd.testing.assert_frame_equal(frame, df_iris_in_meter_batch1())
