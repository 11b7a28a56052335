from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from lakefeed import Dataset, World  # noqa: E402
from lakefeed.catalog.lake import Lake  # noqa: E402
from lakefeed.dataset.core import dataset_of  # noqa: E402
from lakefeed.errors import InvalidArgumentError  # noqa: E402
from lakefeed.loaders.torch_loader import TorchLoader  # noqa: E402
from lakefeed.ops import Scan  # noqa: E402
from lakefeed.plan import Fragment, Pushdown  # noqa: E402
from lakefeed.plan.source import PlainSource  # noqa: E402

ROWS, A_FRAGMENT = 40, 10
X = pa.schema({"x": pa.int64()})


@dataclass(frozen=True, eq=False)
class Counting(PlainSource):
    """Counts the fragments that it names and the rows that it gives."""

    addressable: bool
    named: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)

    schema = X
    identity = "counting"

    @property
    def ranged(self) -> bool:
        return False

    def count(self) -> int | None:
        return ROWS if self.addressable else None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        for start in range(0, ROWS, A_FRAGMENT):
            self.named.append(start)
            yield Fragment(start, A_FRAGMENT if self.addressable else None, size=1)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        values = list(range(fragment.key, fragment.key + A_FRAGMENT))
        self.given.extend(values)
        rows = pa.RecordBatch.from_pydict({"x": values}, X)
        yield rows if pushdown.columns is None else rows.select(list(pushdown.columns))

    def describe(self, pushdown: Pushdown) -> str:
        return self.identity


PLANS: dict[str, tuple[Callable[[Dataset], Dataset], int]] = {
    "rows": (lambda data: data, ROWS),
    "filter": (lambda data: data.filter("x >= 10"), 30),
    "shuffle": (lambda data: data.shuffle(1), ROWS),
    "filter above a shuffle": (lambda data: data.shuffle(1).filter("x >= 10"), 30),
    "map": (lambda data: data.map(dict, schema=X), ROWS),
    "map_batches": (lambda data: data.map_batches(lambda rows: rows, schema=X), ROWS),
    "head": (lambda data: data.head(25), 25),
    "repeat": (lambda data: data.repeat(2), 2 * ROWS),
    "sort": (lambda data: data.sort("x"), ROWS),
}
KNOWN = ("shuffle", "filter above a shuffle", "sort")
"""Plans that put the rows on disk, where their number is known."""


def rows(loader: TorchLoader) -> int:
    return sum(len(batch["x"]) for batch in loader)


@pytest.mark.parametrize("addressable", [True, False], ids=["addressable", "streamed"])
@pytest.mark.parametrize("plan", PLANS)
def test_a_loader_reads_nothing_before_it_is_used(lake: Lake, plan: str, addressable: bool) -> None:
    prepare, expected = PLANS[plan]
    uses: tuple[Callable[[TorchLoader], Any], ...] = (rows, len, TorchLoader.state_dict)
    for use, result in zip(uses, (expected, -(-expected // 8), None), strict=True):
        source = Counting(addressable)
        loader = prepare(dataset_of(lake, Scan(source))).to_torch(batch_size=8)
        assert (loader.epoch, loader.metrics.batches) == (0, 0)
        loader.set_epoch(0)
        assert source.named == source.given == []
        if use is len and not addressable and plan not in KNOWN:
            with pytest.raises(TypeError, match="the length of a stream is unknown"):
                use(loader)
            assert source.given == []
            continue
        found = use(loader)
        assert result is None or found == result
        assert source.named


@pytest.mark.parametrize("addressable", [True, False], ids=["addressable", "streamed"])
def test_bad_arguments_are_refused_at_the_call_and_read_nothing(lake: Lake, addressable: bool) -> None:
    source = Counting(addressable)
    data = dataset_of(lake, Scan(source))
    bad: list[dict[str, Any]] = [{"batch_size": 0}, {"num_workers": -1}, {"prefetch_batches": -1}, {"rank": 2}]
    bad += [{"ragged": "x"}, {"infinite": 2}, {"shuffle": True}, {"nonsense": 1}, {"collate_fn": 3}]
    bad += [{"in_order": False}]
    for arguments in bad:
        with pytest.raises(InvalidArgumentError):
            data.filter("x >= 10").to_torch(**arguments)
    assert source.named == source.given == []


def test_too_few_rows_for_the_ranks_are_told_as_soon_as_their_number_is_known(lake: Lake) -> None:
    known, unknown = Counting(True), Counting(False)
    wide = World(0, ROWS + 1)
    with pytest.raises(InvalidArgumentError, match="40 rows are too few for 41 ranks"):
        dataset_of(lake, Scan(known)).to_torch(batch_size=2, world=wide)
    for use, data in ((list, dataset_of(lake, Scan(unknown))), (len, dataset_of(lake, Scan(unknown)).sort("x"))):
        loader = data.to_torch(batch_size=2, world=wide)
        with pytest.raises(InvalidArgumentError, match="40 rows are too few for 41 ranks"):
            use(loader)
    assert known.given == []


def test_single_rows_of_a_large_part_come_in_order(lake: Lake) -> None:
    data = Dataset.from_dict({"x": list(range(3_000)), "s": [str(row) for row in range(3_000)]})
    assert [row["x"].item() for row in data.select(["x"]).to_torch()] == list(range(3_000))
    assert [row["s"] for row in data.to_torch()] == [str(row) for row in range(3_000)]
