"""``pyarrow.compute``, imported when something of it is first used: to import it takes longer than to read a first row.

Modules that are on the way to a first row take it from here (``from lakefeed._arrow import compute as pc``).
"""

from typing import TYPE_CHECKING

from lakefeed._lazy import LazyModule

if TYPE_CHECKING:
    import pyarrow.compute as compute
else:
    compute = LazyModule("pyarrow.compute")

__all__ = ["compute"]
