"""Retries of reads of remote files: their number and the waits between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import uniform

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from lakefeed.config import FileSettings
from lakefeed.storage.remote.credentials import causes

RATE_LIMIT_RESET = re.compile(r";\s*t=(\d+)")
"""The seconds until the limit of a server ends, as in ``RateLimit: "api";r=0;t=55``."""


def make_retrying(
    settings: FileSettings, passes: Callable[[BaseException], bool], before_wait: Callable[[RetryCallState], None]
) -> Retrying:
    """Returns a Retrying that repeats a function after errors that ``passes`` accepts, and raises the last error."""
    return Retrying(
        stop=stop_after_attempt(settings.retries + 1),
        wait=_Wait(settings),
        retry=retry_if_exception(passes),
        before_sleep=before_wait,
        reraise=True,
    )


class _Wait(wait_exponential):
    """Waits that grow, vary at random, and are not shorter than the server asks for."""

    def __init__(self, settings: FileSettings) -> None:
        super().__init__(multiplier=settings.min_wait, max=settings.max_wait)
        self._most = settings.max_wait

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        requested = max((_retry_after(link) for link in causes(error)), default=0.0)
        return max(super().__call__(retry_state) * uniform(0.5, 1.0), min(requested, self._most))


def _retry_after(error: BaseException) -> float:
    """Returns the seconds to wait that the server gave, as a number or as a date, or as the end of a rate limit."""
    headers = getattr(error, "headers", None) or {}
    value = str(headers.get("Retry-After", ""))
    limit = RATE_LIMIT_RESET.search(str(headers.get("RateLimit", "")))
    if not value and limit is not None:
        return float(limit[1])
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max((until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
