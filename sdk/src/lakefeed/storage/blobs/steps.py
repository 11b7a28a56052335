"""The points of a protocol between processes at which another one may come in between: tests stop there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

StepHook: TypeAlias = Callable[[str], object]
"""Called with the name of each such point."""


def ignore_step(step: str) -> None:
    """Does nothing."""
