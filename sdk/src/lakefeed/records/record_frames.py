"""Rows of the registry as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lakefeed.errors import MissingDependencyError
from lakefeed.records.record import as_time

if TYPE_CHECKING:
    import pandas as pd

TIMES = frozenset({"created", "updated", "started", "finished"})


def frame(rows: Sequence[Any], columns: Sequence[str]) -> pd.DataFrame:
    """Returns values of one dataclass as a DataFrame with these columns. Times are datetimes in UTC.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError("df() needs pandas: pip install 'lakefeed[pandas]'") from error
    values = {
        name: [as_time(getattr(row, name)) if name in TIMES else getattr(row, name) for row in rows] for name in columns
    }
    return pd.DataFrame(values, columns=list(columns))
