"""Running plans."""

from lakefeed.run.local import Local

__all__ = ["Local"]
