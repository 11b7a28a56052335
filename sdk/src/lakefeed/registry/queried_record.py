"""The queries that records of all kinds have."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pandas as pd

    from lakefeed.registry.query_results import Query


class QueriedRecord:
    """A record that queries find. Subclasses have ``filter``."""

    @classmethod
    @abstractmethod
    def filter(cls, **lookups: Any) -> Query[Self]:
        """Returns the records that fit all conditions, as a lazy query."""

    @classmethod
    def search(cls, text: str, limit: int = 20) -> list[Self]:
        """Returns the records that have every word of a text in their name, texts or labels, the best first.

        Args:
            text: the words.
            limit: the most records to return.
        """
        return cls.filter().search(text).limit(limit).all()

    @classmethod
    def df(cls) -> pd.DataFrame:
        """Returns the records as a DataFrame. Those in the trash are left out."""
        return cls.filter().df()
