"""Checks of versions as asset checks, and what they said of each version, for the UI and for routines."""

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

# What every dataset has: what a commit says it added can be read, and its files are there.
DEFAULT_CHECKS: tuple[Check, ...] = (Readable(), FilesIntact())
MAX_PROBLEMS = 10
PASSED = "checks_passed"


@dataclass(frozen=True)
class CheckReport:
    """A profile and what each check says of it."""

    found: Profile
    verdicts: Mapping[str, Verdict]
    blocking: frozenset[str]

    @property
    def failed(self) -> list[str]:
        """The checks that the version fails, blocking or not."""
        return [name for name, verdict in self.verdicts.items() if not verdict.passed]

    @property
    def passed(self) -> bool:
        """Whether routines that read only checked versions may have it."""
        return not self.blocking.intersection(self.failed)


def check_specs(asset: AssetKey, checks: Sequence[Check]) -> list[AssetCheckSpec]:
    """The asset checks of a dataset."""
    return [
        AssetCheckSpec(each.name, asset=asset, description=type(each).__doc__) for each in (*DEFAULT_CHECKS, *checks)
    ]


def evaluate_checks(found: Profile, checks: Sequence[Check]) -> CheckReport:
    """What all checks say of a version."""
    every = (*DEFAULT_CHECKS, *checks)
    blocking = frozenset(each.name for each in every if each.blocking)
    return CheckReport(found, {each.name: evaluate(each, found) for each in every}, blocking)


def check_results(asset: AssetKey, checks: Sequence[Check], done: Sequence[CheckReport]) -> list[AssetCheckResult]:
    """Over all versions of a run: Dagster evaluates a check once a run, so its metadata names the versions."""
    return [_result(asset, each, done) for each in (*DEFAULT_CHECKS, *checks)]


def recorded_verdicts(
    instance: DagsterInstance, dataset: str, table_uuid: str, versions: Iterable[int]
) -> dict[int, bool]:
    """Which of the versions passed their blocking checks; one that was not checked yet is missing."""
    keys = {key_of(version): version for version in versions}
    if not keys:
        return {}
    wanted = AssetRecordsFilter(dataset_key(dataset), asset_partitions=list(keys))
    found: dict[int, bool] = {}
    cursor = None
    while len(found) < len(keys):
        page = instance.fetch_materializations(wanted, limit=1_000, cursor=cursor)
        for record in page.records:  # newest first
            facts = record.asset_materialization.metadata if record.asset_materialization else {}
            version = keys[record.partition_key or ""]
            if PASSED in facts and "table_uuid" in facts and facts["table_uuid"].value == table_uuid:
                found.setdefault(version, bool(facts[PASSED].value))
        if not page.has_more:
            break
        cursor = page.cursor
    return found


def _result(asset: AssetKey, check: Check, done: Sequence[CheckReport]) -> AssetCheckResult:
    said = [(key_of(each.found.version.version), each.verdicts[check.name]) for each in done]
    bad = [f"{version}: {verdict.problem}" for version, verdict in said if not verdict.passed]
    return AssetCheckResult(
        check_name=check.name,
        asset_key=asset,
        passed=not bad,
        severity=AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN,
        metadata={
            "versions": ", ".join(version for version, _ in said),
            "problems": "; ".join(bad[:MAX_PROBLEMS]),
            **_totals([verdict for _, verdict in said]),
        },
    )


def _totals(said: Sequence[Verdict]) -> dict[str, float | int | str]:
    """The facts of the newest version; what was counted is added up."""
    facts = dict(said[-1].facts) if said else {}
    return {
        name: sum(int(each.facts.get(name, 0)) for each in said) if isinstance(value, int) else value
        for name, value in facts.items()
    }
