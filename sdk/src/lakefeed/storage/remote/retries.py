"""Reads of remote files that are tried again: how often, and how long the waits are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import uniform

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from lakefeed.config import FileSettings
from lakefeed.storage.remote.credentials import causes


def make_retrying(
    settings: FileSettings, passes: Callable[[BaseException], bool], before_wait: Callable[[RetryCallState], None]
) -> Retrying:
    """Returns what calls a function again after errors that ``passes`` accepts; the last error is raised."""
    return Retrying(
        stop=stop_after_attempt(settings.retries + 1),
        wait=_Wait(settings),
        retry=retry_if_exception(passes),
        before_sleep=before_wait,
        reraise=True,
    )


class _Wait(wait_exponential):
    """Longer each time, not the same for all who wait, and no shorter than the server asks for."""

    def __init__(self, settings: FileSettings) -> None:
        super().__init__(multiplier=settings.min_wait, max=settings.max_wait)
        self._most = settings.max_wait

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        wanted = max((_retry_after(link) for link in causes(error)), default=0.0)
        return max(super().__call__(retry_state) * uniform(0.5, 1.0), min(wanted, self._most))


def _retry_after(error: BaseException) -> float:
    """Returns the seconds for which the server asked to wait, given as a number or as a date."""
    asked_for = str((getattr(error, "headers", None) or {}).get("Retry-After", ""))
    if asked_for.isdecimal():
        return float(asked_for)
    try:
        until = parsedate_to_datetime(asked_for)
    except ValueError:
        return 0.0
    return max((until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
