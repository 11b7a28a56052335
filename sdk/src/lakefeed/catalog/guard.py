"""The last check of a write before its commit, and whether a commit may still land after the write has failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class PreCommitCheck:
    """Calls ``check`` right before each commit; an error of it ends the write.

    Attributes:
        in_doubt: nobody knows whether the commit landed. Nothing that its version would name may be deleted.
    """

    check: Callable[[], None]
    in_doubt: bool = False

    def __call__(self) -> None:
        self.check()
