"""``lakefeed gc``: remove files that no version needs."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

import lakefeed
from lakefeed.cli.cell_text import Column, counted, human_size
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import change_options, lake_command

if TYPE_CHECKING:
    from lakefeed import GarbageReport


@lake_command("gc")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Keep files that are younger [hours].",
)
@change_options
def gc_command(invocation: Invocation, grace: float, dry_run: bool, yes: bool) -> None:
    """Remove files that deleted datasets and failed saves leave behind.

    It is safe while others read and write.
    """
    age = dt.timedelta(hours=grace)
    report = lakefeed.collect_garbage(dry_run=True, grace=age)
    if not dry_run and _number_of_files(report):
        invocation.confirm(_describe(report), "Remove these files?", yes)
        report = lakefeed.collect_garbage(dry_run=False, grace=age)
    _write(invocation, report)


def _number_of_files(report: GarbageReport) -> int:
    return report.blobs + report.packs + report.table_files + report.unfinished


def _describe(report: GarbageReport) -> str:
    return f"{counted(_number_of_files(report), 'file')}, {human_size(report.bytes)}"


def _write(invocation: Invocation, report: GarbageReport) -> None:
    invocation.write_record(
        {
            "removed": not report.dry_run and report.postponed is None,
            Column("blobs", "count"): report.blobs,
            Column("packs", "count"): report.packs,
            Column("table_files", "count"): report.table_files,
            Column("unfinished", "count"): report.unfinished,
            Column("bytes", "bytes"): report.bytes,
        }
    )
    if report.postponed is not None:
        invocation.message(f"lakefeed: not everything was removed: {report.postponed}")
    elif report.dry_run and _number_of_files(report):
        invocation.message(f"would remove {_describe(report)}")
