"""`log_and_go_on`: the trouble of one dataset or routine does not stop a sensor for all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import SensorEvaluationContext
from sqlalchemy.exc import SQLAlchemyError

from lakefeed.errors import CatalogUnavailableError, LakefeedError


@contextmanager
def log_and_go_on(context: SensorEvaluationContext, consequence: str) -> Iterator[list[Exception]]:
    """Logs an error of the block, and yields the list to which it is added.

    Raises:
        SQLAlchemyError, CatalogUnavailableError: a database cannot be reached, so no other block would work either.
    """
    trouble: list[Exception] = []
    try:
        yield trouble
    except (SQLAlchemyError, CatalogUnavailableError):
        raise
    except Exception as error:
        expected = isinstance(error, LakefeedError)
        context.log.error("%s: %s: %s", consequence, type(error).__name__, error, exc_info=not expected)
        trouble.append(error)
