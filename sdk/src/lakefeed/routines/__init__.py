"""Routines: functions that run exactly once over every row appended to, or removed from, a dataset.

The *position* of a routine is stored with its output, as a fence: a table property that moves in the same commit as the
rows. So each range of versions is written once, no matter who starts runs, how often, and how many at once. This
package decides what is due and which rows are read. Whatever starts runs only asks it.
"""

from typing import TYPE_CHECKING

from lakefeed._deprecated import deprecated_names
from lakefeed.routines.column_lineage import Lineage, column_lineage
from lakefeed.routines.cycles import cycles
from lakefeed.routines.declaring import routine, with_neighbours
from lakefeed.routines.due import Decision, due
from lakefeed.routines.error_records import FailedRow, failed_rows
from lakefeed.routines.pending import Pending, Verdicts, VersionRange, pending, position
from lakefeed.routines.retrying import RetryResult, drop_failed, retry_failed
from lakefeed.routines.routine_declaration import Routine, RoutineFn, RoutineRun
from lakefeed.routines.routine_history import RoutineResult, Span, history, routine_of
from lakefeed.routines.routine_position import Position
from lakefeed.routines.routine_run import run_routine, run_versions
from lakefeed.routines.skipped_rows import SkippedRows
from lakefeed.routines.skipping import skip
from lakefeed.routines.triggers import After, Appended, Cron, Every, Manual, Removed, Trigger

__all__ = [
    "After",
    "Appended",
    "Cron",
    "Decision",
    "Every",
    "FailedRow",
    "Lineage",
    "Manual",
    "Pending",
    "Position",
    "Removed",
    "RetryResult",
    "Routine",
    "RoutineFn",
    "RoutineResult",
    "RoutineRun",
    "SkippedRows",
    "Span",
    "Trigger",
    "Verdicts",
    "VersionRange",
    "column_lineage",
    "cycles",
    "drop_failed",
    "due",
    "failed_rows",
    "history",
    "pending",
    "position",
    "retry_failed",
    "routine",
    "routine_of",
    "run_routine",
    "run_versions",
    "skip",
    "with_neighbours",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = deprecated_names(__name__, {"ByHand": "Manual"})
