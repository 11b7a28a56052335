"""Checks of versions as Dagster asset checks, and their recorded results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
)

from dataset_assets.asset_keys import dataset_key, key_of
from lakefeed.checks import Check, FilesIntact, Readable, Verdict, evaluate
from lakefeed.profiles import Profile

# The checks of every dataset: the added rows can be read, and their files exist.
DEFAULT_CHECKS: tuple[Check, ...] = (Readable(), FilesIntact())
MAX_PROBLEMS = 10
PASSED = "checks_passed"


@dataclass(frozen=True)
class CheckReport:
    """The profile of a version, and the verdict of each check."""

    profile: Profile
    verdicts: Mapping[str, Verdict]
    blocking: frozenset[str]

    @property
    def failed(self) -> list[str]:
        """The names of the checks that the version failed, blocking or not."""
        return [name for name, verdict in self.verdicts.items() if not verdict.passed]

    @property
    def passed(self) -> bool:
        """True if the version passed its blocking checks, so that routines with ``only_checked`` read it."""
        return not self.blocking.intersection(self.failed)


def check_specs(asset: AssetKey, checks: Sequence[Check]) -> list[AssetCheckSpec]:
    """Returns the asset checks of a dataset."""
    return [
        AssetCheckSpec(each.name, asset=asset, description=type(each).__doc__) for each in (*DEFAULT_CHECKS, *checks)
    ]


def evaluate_checks(profile: Profile, checks: Sequence[Check]) -> CheckReport:
    """Returns the verdicts of all checks on a version."""
    all_checks = (*DEFAULT_CHECKS, *checks)
    blocking = frozenset(each.name for each in all_checks if each.blocking)
    return CheckReport(profile, {each.name: evaluate(each, profile) for each in all_checks}, blocking)


def check_results(asset: AssetKey, checks: Sequence[Check], reports: Sequence[CheckReport]) -> list[AssetCheckResult]:
    """Returns one result for each check, over all versions of a run.

    Dagster evaluates a check once a run, so the metadata name the versions.
    """
    return [_result(asset, each, reports) for each in (*DEFAULT_CHECKS, *checks)]


def recorded_verdicts(
    instance: DagsterInstance, dataset: str, table_uuid: str, versions: Iterable[int]
) -> dict[int, bool]:
    """Returns which of the versions passed their blocking checks. Versions that are not checked yet are missing."""
    keys = {key_of(version): version for version in versions}
    if not keys:
        return {}
    wanted = AssetRecordsFilter(dataset_key(dataset), asset_partitions=list(keys))
    passed: dict[int, bool] = {}
    cursor = None
    while len(passed) < len(keys):
        page = instance.fetch_materializations(wanted, limit=1_000, cursor=cursor)
        for record in page.records:  # newest first
            facts = record.asset_materialization.metadata if record.asset_materialization else {}
            version = keys[record.partition_key or ""]
            if PASSED in facts and "table_uuid" in facts and facts["table_uuid"].value == table_uuid:
                passed.setdefault(version, bool(facts[PASSED].value))
        if not page.has_more:
            break
        cursor = page.cursor
    return passed


def _result(asset: AssetKey, check: Check, reports: Sequence[CheckReport]) -> AssetCheckResult:
    verdicts = [(key_of(each.profile.version.version), each.verdicts[check.name]) for each in reports]
    problems = [f"{version}: {verdict.problem}" for version, verdict in verdicts if not verdict.passed]
    return AssetCheckResult(
        check_name=check.name,
        asset_key=asset,
        passed=not problems,
        severity=AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN,
        metadata={
            "versions": ", ".join(version for version, _ in verdicts),
            "problems": "; ".join(problems[:MAX_PROBLEMS]),
            **_totals([verdict for _, verdict in verdicts]),
        },
    )


def _totals(verdicts: Sequence[Verdict]) -> dict[str, float | int | str]:
    """Returns the facts of the newest version. Counts are summed over all versions."""
    facts = dict(verdicts[-1].facts) if verdicts else {}
    return {
        name: sum(int(each.facts.get(name, 0)) for each in verdicts) if isinstance(value, int) else value
        for name, value in facts.items()
    }
