"""``lakefeed cache rm``: remove versions from local disk."""

from __future__ import annotations

import click

from lakefeed.cli.cell_text import counted, human_size
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import change_options, lake_command
from lakefeed.mirrors import list_mirrors, remove_mirror


@lake_command("rm")
@click.argument("ref", type=REFERENCE)
@click.option("--older", is_flag=True, help="Remove the versions before this one instead.")
@change_options
def cache_rm_command(invocation: Invocation, ref: Reference, older: bool, dry_run: bool, yes: bool) -> None:
    """Remove a version from local disk, or all versions of a dataset. The lake stays as it is.

    The dataset may be deleted; then REF has a version number, or none.
    """
    version = ref.version
    if ref.as_of is not None or isinstance(version, str) or (older and version is None):
        version = ref.open().version
    mirrors = [
        each
        for each in list_mirrors()
        if each.dataset == ref.name
        and (version is None or (each.version < int(version) if older else each.version == version))
    ]
    facts = ", ".join(f"version {each.version} ({human_size(each.bytes)})" for each in mirrors)
    versions = [each.version for each in mirrors]
    if not mirrors:
        invocation.message("nothing to remove", dataset=ref.name, versions=[])
    elif dry_run:
        invocation.message(
            f"would remove from local disk: {ref.name} {facts}", dry_run=True, dataset=ref.name, versions=versions
        )
    else:
        invocation.confirm(f"{ref.name}: {facts}", "Remove them from local disk?", yes)
        for each in mirrors:
            remove_mirror(each)
        invocation.message(
            f"removed {counted(len(mirrors), 'version')} of {ref.name} from local disk",
            dataset=ref.name,
            versions=versions,
        )
