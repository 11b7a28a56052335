"""The tree drawn in errors.py is the tree there is."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re

import pytest

from lakefeed import errors
from lakefeed.errors import ColumnNotFoundError, LakefeedError, quoted_list

LINE = re.compile(r"^\s*([│ ]*)[├└]── (\w+)\s+(?:\((\w+)\))?")


def drawn() -> dict[str, tuple[str, str | None]]:
    """Each class in the drawing with the one that it hangs from and its builtin."""
    above: list[tuple[int, str]] = [(-1, "LakefeedError")]
    found: dict[str, tuple[str, str | None]] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        depth = line.index("── ")
        while above[-1][0] >= depth:
            above.pop()
        found[match[2]] = (above[-1][1], match[3])
        above.append((depth, match[2]))
    return found


CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, LakefeedError) and kind is not LakefeedError
}


def test_every_class_is_drawn() -> None:
    assert set(drawn()) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_it_hangs_where_it_is_drawn(name: str) -> None:
    parent, builtin = drawn()[name]
    own, *others = CLASSES[name].__bases__
    assert own.__name__ == parent
    assert [other.__name__ for other in others] == ([builtin] if builtin else [])
    assert any(
        base in vars(builtins).values() and base not in (Exception, object) for base in CLASSES[name].__mro__[1:]
    )
    assert CLASSES[name].__doc__


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_messages_print_as_written_and_travel(name: str) -> None:
    error = CLASSES[name]("no column 'x'\nnext line")
    assert str(error) == "no column 'x'\nnext line"
    assert isinstance(type(error).__new__(type(error)), LakefeedError), "it can be made as Dask makes what was raised"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_near_misses() -> None:
    assert "Did you mean 'label'?" in str(ColumnNotFoundError.of("lable", ["label", "x"]))
    message = str(ColumnNotFoundError.of(["a", "b"], [f"c{n}" for n in range(30)], "the table"))
    assert message.startswith("no columns 'a', 'b' in the table")
    assert "and 20 more" in message


def test_listed() -> None:
    assert quoted_list([]) == "(none)"
    assert quoted_list(range(3), most=2) == "'0', '1' and 1 more"
