"""Loaders and their metrics as text and HTML."""

from __future__ import annotations

from lakefeed import Dataset, World
from lakefeed.loaders.metrics import LoaderMetrics


def test_metrics_print_as_a_table() -> None:
    metrics = LoaderMetrics(3, 300, 12_345, waited=0.5, seconds=2.0, rows_skipped=1)
    lines = [line.split() for line in str(metrics).splitlines()]
    assert lines[0] == ["metric", "value"]
    assert ["bytes", "12,345"] in lines
    assert lines[-2:] == [["waited", "0.50", "(25%)"], ["rows_per_second", "150"]]
    assert "<td>rows_skipped</td><td>1</td>" in metrics._repr_html_()
    assert str(LoaderMetrics()).splitlines()[-1].split() == ["rows_per_second", "0"]


def test_a_loader_prints_its_division_and_position() -> None:
    data = Dataset.from_dict({"x": list(range(10))}).shuffle(seed=1)
    loader = data.to_torch(batch_size=3)
    assert repr(loader) == "<TorchLoader: batches of 3, epoch 0, row 0>"
    batches = iter(loader)
    next(batches)
    assert repr(loader) == "<TorchLoader: batches of 3, epoch 0, row 3>"
    assert repr(data.to_torch(batch_size=None, world=World(1, 2))) == (
        "<TorchLoader: single rows, rank 1 of 2, epoch 0, row 0>"
    )
