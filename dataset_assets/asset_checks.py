"""Checks of versions as Dagster asset checks, and their recorded results."""

from __future__ import annotations

import functools
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

from dataset_assets.asset_keys import check_identifier, dataset_key, key_of
from dataset_assets.tree_metadata import summary_of
from lakefeed.checks import Check, FilesIntact, Readable, Verdict, check_names, evaluate
from lakefeed.profiles import Profile
from lakefeed.trees import TreeSummary

# The checks of every dataset: the added rows can be read, and their files exist.
DEFAULT_CHECKS: tuple[Check, ...] = (Readable(), FilesIntact())
MAX_PROBLEMS = 10
PASSED = "checks_passed"
# Only these decide about routines with ``only_checked``.
PASSED_BLOCKING = "blocking_checks_passed"


@dataclass(frozen=True)
class CheckReport:
    """The profile of a version, and the verdict of each check; of a file tree also its summary."""

    profile: Profile
    verdicts: Mapping[str, Verdict]
    blocking: frozenset[str]
    tree: TreeSummary | None = None

    @property
    def failed(self) -> list[str]:
        """The names of the checks that the version failed, blocking or not."""
        return [name for name, verdict in self.verdicts.items() if not verdict.passed]

    @property
    def passed_blocking(self) -> bool:
        """True if the version passed its blocking checks, so that routines with ``only_checked`` read it."""
        return not self.blocking.intersection(self.failed)


def named_checks(checks: Sequence[Check]) -> dict[str, Check]:
    """Returns the checks of a dataset with their names, including those that every dataset has.

    Raises:
        InvalidArgumentError: two checks share a name.
    """
    return _named([*DEFAULT_CHECKS, *checks]) if checks else dict(_default_checks())


@functools.cache
def _default_checks() -> dict[str, Check]:
    return _named(DEFAULT_CHECKS)


def _named(checks: Sequence[Check]) -> dict[str, Check]:
    return dict(zip(check_names(checks), checks, strict=True))


def check_specs(asset: AssetKey, checks: Sequence[Check]) -> list[AssetCheckSpec]:
    """Returns the asset checks of a dataset."""
    return [
        AssetCheckSpec(check_identifier(name), asset=asset, description=type(each).__doc__)
        for name, each in named_checks(checks).items()
    ]


def evaluate_checks(profile: Profile, checks: Sequence[Check]) -> CheckReport:
    """Returns the verdicts of all checks on a version, and what is told of it beside them."""
    named = named_checks(checks)
    blocking = frozenset(name for name, each in named.items() if each.blocking)
    verdicts = {name: evaluate(each, profile) for name, each in named.items()}
    return CheckReport(profile, verdicts, blocking, summary_of(profile))


def check_results(asset: AssetKey, checks: Sequence[Check], reports: Sequence[CheckReport]) -> list[AssetCheckResult]:
    """Returns one result for each check, over all versions of a run.

    Dagster evaluates a check once a run, so the metadata name the versions.
    """
    return [_result(asset, name, each, reports) for name, each in named_checks(checks).items()]


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
            verdict = facts.get(PASSED_BLOCKING, facts.get(PASSED))  # older ones have only that
            if verdict is not None and "table_uuid" in facts and facts["table_uuid"].value == table_uuid:
                passed.setdefault(version, bool(verdict.value))
        if not page.has_more:
            break
        cursor = page.cursor
    return passed


def _result(asset: AssetKey, name: str, check: Check, reports: Sequence[CheckReport]) -> AssetCheckResult:
    verdicts = [(key_of(each.profile.version.version), each.verdicts[name]) for each in reports]
    problems = [f"{version}: {verdict.problem}" for version, verdict in verdicts if not verdict.passed]
    return AssetCheckResult(
        check_name=check_identifier(name),
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
