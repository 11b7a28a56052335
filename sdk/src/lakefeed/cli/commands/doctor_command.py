"""``lakefeed doctor``: checks of the installation."""

from __future__ import annotations

from lakefeed import diagnosis
from lakefeed.cli import exit_codes
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import lake_command


@lake_command("doctor")
def doctor_command(invocation: Invocation) -> int:
    """Check settings, catalog, stores, disks and the metadata of all datasets.

    The exit code is 10 if there is a problem.
    """
    findings = list(diagnosis.diagnose())
    rows = [("ok" if each.passed else "problem", each.subject, each.text) for each in findings]
    invocation.write_table(("result", "subject", "text"), rows)
    return exit_codes.DONE if all(each.passed for each in findings) else exit_codes.ANSWER_IS_NO
