"""The metrics of a loader as text and HTML."""

from __future__ import annotations

from lakefeed.loaders.metrics import LoaderMetrics


def test_metrics_print_as_a_table() -> None:
    metrics = LoaderMetrics(3, 300, 12_345, waited=0.5, seconds=2.0, rows_skipped=1)
    lines = [line.split() for line in str(metrics).splitlines()]
    assert lines[0] == ["metric", "value"]
    assert ["bytes", "12,345"] in lines
    assert lines[-2:] == [["waited", "0.50", "(25%)"], ["rows_per_second", "150"]]
    assert "<td>rows_skipped</td><td>1</td>" in metrics._repr_html_()
    assert str(LoaderMetrics()).splitlines()[-1].split() == ["rows_per_second", "0"]
