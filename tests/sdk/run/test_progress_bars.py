"""Progress bars are shown on terminals, and hidden by ``TQDM_DISABLE`` and ``-q``."""

from __future__ import annotations

import io
import sys

import pytest

from lakefeed.cli.progress_bar import show_progress
from lakefeed.run.progress import counted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown() -> str:
    list(show_progress(range(3), "rows"))
    with counted("saving", "files") as update:
        update(2)
    assert isinstance(sys.stderr, io.StringIO)
    return sys.stderr.getvalue()


@pytest.mark.parametrize(("value", "visible"), [(None, True), ("0", True), ("1", False), ("true", False)])
def test_a_variable_hides_bars_of_a_terminal(value: str | None, visible: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    if value is None:
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
    else:
        monkeypatch.setenv("TQDM_DISABLE", value)
    assert bool(shown()) is visible


def test_bars_are_not_shown_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert shown() == ""
