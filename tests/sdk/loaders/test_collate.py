from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from lakefeed._typing import Ragged  # noqa: E402
from lakefeed.errors import InvalidArgumentError, TypeMismatchError  # noqa: E402
from lakefeed.loaders.collate import Columns, check_ragged, tensors  # noqa: E402


def column(values: Any, kind: pa.DataType | None = None, *, copy: bool = False, ragged: Ragged = "jagged") -> Any:
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return tensors(pa.record_batch({"c": array}), copy=copy, ragged=ragged)["c"]


NUMBERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_keep_their_dtype(name: str) -> None:
    found = column(pa.array(np.array([1, 2, 3], name)))
    assert found.dtype == getattr(torch, name)
    assert found.tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_null_floats_are_nan_of_the_same_dtype(name: str) -> None:
    found = column(pa.array(np.array([1, 0, 3], name), mask=np.array([False, True, False])))
    assert found.dtype == getattr(torch, name)
    assert found.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None]),
        pa.array([True, None]),
        pa.array([dt.date(2020, 1, 1), None]),
        pa.array([[1, 2], [3, None]], pa.list_(pa.int8(), 2)),
        pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        pa.array([[1], [None]], pa.list_(pa.int8())),
        pa.array([1, None]).dictionary_encode(),
    ],
    ids=str,
)
def test_null_where_no_value_can_stand_for_it_is_an_error(array: pa.Array[Any]) -> None:
    with pytest.raises(TypeMismatchError, match=r"column 'c' of type .* holds null.*c is not null"):
        column(array)


def test_booleans() -> None:
    found = column(pa.array([True, False, True, True])[1:])
    assert found.dtype == torch.bool
    assert found.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (pa.date32(), 18262),
        (pa.date64(), 86_400_000),
        (pa.timestamp("us", tz="UTC"), 7),
        (pa.timestamp("ns"), 7),
        (pa.timestamp("s"), 7),
        (pa.duration("ms"), 7),
        (pa.time32("s"), 7),
        (pa.time64("us"), 7),
    ],
    ids=str,
)
def test_times_are_counts_of_their_unit(kind: pa.DataType, count: int) -> None:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    found = column(pa.array([count, count], width).cast(kind))
    assert found.dtype == torch.int64
    assert found.tolist() == [count, count]


def test_vectors_have_a_dimension_more() -> None:
    found = column(pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2))[1:])
    assert found.dtype == torch.float32
    assert found.tolist() == [[3, 4], [5, 6]]


def test_matrices() -> None:
    kind = pa.list_(pa.list_(pa.int32(), 2), 3)
    found = column([[[1, 2], [3, 4], [5, 6]]], kind)
    assert found.shape == (1, 3, 2)
    assert found.tolist() == [[[1, 2], [3, 4], [5, 6]]]


def test_a_null_vector_is_nan_and_stays_a_tensor() -> None:
    found = column(pa.array([[9, 9], [1, 2], None, [3, None]], pa.list_(pa.float32(), 2))[1:])
    assert found.dtype == torch.float32
    assert found.isnan().tolist() == [[False, False], [True, True], [False, True]]


def test_a_null_row_of_a_matrix_is_nan() -> None:
    found = column([[[1, 2], None], None], pa.list_(pa.list_(pa.float32(), 2), 2))
    assert found.isnan().tolist() == [[[False, False], [True, True]], [[True, True], [True, True]]]


def test_only_nulls_keep_the_dtype() -> None:
    assert column([None, None], pa.float32()).dtype == torch.float32
    assert column([None], pa.list_(pa.float16(), 3)).shape == (1, 3)


def test_vectors_of_no_elements_and_of_booleans() -> None:
    assert column([[], []], pa.list_(pa.float32(), 0)).shape == (2, 0)
    assert column([[True, False]], pa.list_(pa.bool_(), 2)).tolist() == [[True, False]]


@pytest.mark.parametrize("kind", [pa.list_(pa.int16()), pa.large_list(pa.int16())], ids=str)
def test_lists_of_varying_length_are_jagged(kind: pa.DataType) -> None:
    found = column(pa.array([[9], [1, 2], [], [3]], kind)[1:])
    assert found.layout == torch.jagged
    assert found.dtype == torch.int16
    assert [row.tolist() for row in found.unbind()] == [[1, 2], [], [3]]
    assert column(pa.array([], kind)).shape[0] == 0


def test_a_null_list_is_an_error_where_no_tensor_has_it() -> None:
    values = pa.array([[1], None])
    for ragged in ("jagged", "pad"):
        with pytest.raises(TypeMismatchError, match=r'null lists.*take ragged="list"'):
            column(values, ragged=ragged)
    assert column(values, ragged="list")[1] is None


def test_padding_comes_with_lengths() -> None:
    batch = tensors(pa.record_batch({"c": pa.array([[1, 2], [], [3, 4, 5]])}), copy=False, ragged="pad")
    assert batch["c"].tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert batch["c_lengths"].tolist() == [2, 0, 3]
    assert column([[1.5, None], [2.5]], pa.list_(pa.float32()), ragged="pad").isnan().tolist() == [
        [False, True],
        [False, False],
    ]


@pytest.mark.parametrize("ragged", ["jagged", "pad", "list"])
def test_lists_of_vectors(ragged: Ragged) -> None:
    found = column([[[1, 2]], [], [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.float32(), 2)), ragged=ragged)
    if ragged == "pad":
        assert found.tolist() == [[[1, 2], [0, 0]], [[0, 0], [0, 0]], [[3, 4], [5, 6]]]
    else:
        assert [row.tolist() for row in found] == [[[1, 2]], [], [[3, 4], [5, 6]]]


def test_forms_of_lists_are_checked() -> None:
    schema = pa.schema({"c": pa.list_(pa.int8()), "c_lengths": pa.int8()})
    with pytest.raises(InvalidArgumentError, match="the forms are 'jagged', 'pad', 'list'"):
        check_ragged("dense", schema)
    with pytest.raises(InvalidArgumentError, match="lengths of rows into 'c_lengths'"):
        check_ragged("pad", schema)
    check_ragged("jagged", schema)


@pytest.mark.parametrize("kind", [pa.list_(pa.int16()), pa.large_list(pa.int16())], ids=str)
def test_lists_of_varying_length_as_lists_of_tensors(kind: pa.DataType) -> None:
    found = column(pa.array([[9], [1, 2], [], None, [3]], kind)[1:], ragged="list")
    assert [None if row is None else row.tolist() for row in found] == [[1, 2], [], None, [3]]
    assert {row.dtype for row in found if row is not None} == {torch.int16}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], pa.string()),
        (["a", "b"], pa.large_string()),
        ([b"a", None], pa.binary()),
        ([{"a": 1}, {"a": None}], None),
        ([["a"], []], pa.list_(pa.string())),
        ([["a", "b"]], pa.list_(pa.string(), 2)),
        ([[[1], []]], pa.list_(pa.list_(pa.int8()))),
        ([None, None], pa.null()),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
    ],
)
def test_everything_else_is_a_python_list(values: list[Any], kind: pa.DataType | None) -> None:
    assert column(values, kind) == values


def test_dictionaries_are_what_they_stand_for() -> None:
    assert column(pa.array(["a", "b", "a"]).dictionary_encode()) == ["a", "b", "a"]
    assert column(pa.array([5, 6, 5]).dictionary_encode()).tolist() == [5, 6, 5]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(np.arange(6)),
        pa.array([1.0, 2.0, 3.0], pa.float32()),
        pa.array([1, 2, 3], pa.timestamp("us")),
        pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
    ],
    ids=lambda array: str(array.type),
)
@pytest.mark.parametrize("copy", [False, True])
def test_memory_is_shared_unless_it_is_somebody_elses(array: pa.Array[Any], copy: bool) -> None:
    numbers = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
    begin, length = numbers.buffers()[1].address, numbers.buffers()[1].size
    shared = begin <= column(array[1:], copy=copy).data_ptr() < begin + length
    assert shared is not copy


def test_ragged_lists_are_copied_where_memory_is_somebody_elses() -> None:
    array = pa.array([[1, 2], [3]])
    column(array, copy=True)[0][0] = 9
    assert array.to_pylist() == [[1, 2], [3]]


MANY = {
    "int": pa.array([1, 2, 3, 4], pa.int16()),
    "float": pa.array([1.0, None, 3.0, 4.0], pa.float32()),
    "bool": pa.array([True, False, True, True]),
    "day": pa.array([dt.date(2020, 1, day) for day in (1, 2, 3, 4)]),
    "vector": pa.array([[1, 2], None, [3, None], [5, 6]], pa.list_(pa.float32(), 2)),
    "pair": pa.array([[1, 2], [3, 4], [5, 6], [7, 8]], pa.list_(pa.int8(), 2)),
    "ragged": pa.array([[1], [], [2, 3], None]),
    "text": pa.array(["a", None, "c", "d"]),
    "kind": pa.array(["a", "b", "a", "b"]).dictionary_encode(),
    "code": pa.array([7, 8, 7, 8]).dictionary_encode(),
}


def shown(batch: dict[str, Any]) -> str:
    def plain(made: Any) -> Any:
        return list(made.unbind()) if isinstance(made, torch.Tensor) and made.is_nested else made

    return repr({name: (getattr(made, "dtype", None), plain(made)) for name, made in batch.items()})


@pytest.mark.parametrize("ragged", ["jagged", "pad", "list"])
@pytest.mark.parametrize("copy", [False, True])
def test_batches_cut_from_columns_are_what_tensors_gives(copy: bool, ragged: Ragged) -> None:
    rows = pa.record_batch(MANY if ragged == "list" else MANY | {"ragged": pa.array([[1], [], [2, 3], [4]])})
    columns = Columns(rows, copy=copy, ragged=ragged)
    for ranges in ([(0, 4)], [(0, 1), (1, 3), (3, 4)], [(1, 2), (3, 4)], [(2, 4)], []):
        expected = [tensors(rows.slice(low, high - low), copy=copy, ragged=ragged) for low, high in ranges]
        assert [shown(batch) for batch in columns.batches(ranges)] == [shown(batch) for batch in expected]


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.int64(), 2)], ids=str)
def test_an_error_over_null_waits_for_its_batch(kind: pa.DataType) -> None:
    values = [1, 2, None] if kind == pa.int64() else [[1, 2], [3, 4], [5, None]]
    columns = Columns(pa.record_batch({"c": pa.array(values, kind)}), copy=False)
    batches = columns.batches([(0, 2), (2, 3)])
    assert len(next(batches)["c"]) == 2
    with pytest.raises(TypeMismatchError):
        next(batches)


@pytest.mark.parametrize("copy", [False, True])
def test_rows_without_columns_are_empty_batches(copy: bool) -> None:
    rows = pa.record_batch({"x": [1, 2, 3]}).select([])
    assert list(Columns(rows, copy=copy).batches([(0, 2), (2, 3)])) == [{}, {}]


def test_jagged_batches_share_memory() -> None:
    array = pa.array([[1, 2], [3], [4, 5]])
    first, second = Columns(pa.record_batch({"c": array}), copy=False).batches([(0, 1), (1, 3)])
    assert second["c"].values().data_ptr() - first["c"].values().data_ptr() == 16


def test_batches_cut_from_lent_columns_are_copies() -> None:
    rows = pa.record_batch({"x": pa.array([1, 2, 3]), "v": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8(), 2))})
    before = rows.to_pydict()
    for made in next(Columns(rows, copy=True).batches([(0, 2)])).values():
        made.fill_(9)
    assert rows.to_pydict() == before


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [None, 1.5]])
def test_run_ends_are_what_they_stand_for(values: list[Any]) -> None:
    array = pa.RunEndEncodedArray.from_arrays([3, 5], values)
    whole = [values[0]] * 3 + [values[1]] * 2
    assert shown({"c": column(array[2:])}) == shown({"c": column(whole[2:])})
    viewed = pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int16()), pa.array(["a", "b"], pa.string_view()))
    assert column(viewed[1:]) == ["b", "b"]
