"""A source of rows as an asset: each run appends what is new, on a schedule or as soon as something arrives."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    MaterializeResult,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    asset,
    define_asset_job,
    schedule,
    sensor,
)

from dataset_assets.asset_keys import ingest_key, key_of
from dataset_assets.heartbeat import heartbeat
from dataset_assets.run_tags import UNFINISHED, WORK_TAG
from lakefeed.ingest import FileSource, FolderSource, Source, arrivals, ingest, quarantine_of

EVERY_MINUTE = "* * * * *"
MAX_FILES = 10


@dataclass(frozen=True)
class Ingestion:
    """A source that the team declares; looked at when ``cron`` (in ``timezone``) says so.

    ``arrival_seconds``: instead of a schedule, looked at so often, and taken as soon as something is there.
    """

    source: Source
    cron: str = EVERY_MINUTE
    timezone: str = "UTC"
    arrival_seconds: int | None = None

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def into(self) -> str:
        """The dataset that it feeds."""
        return self.source.into

    @property
    def quarantine(self) -> str | None:
        """Where what does not fit goes; None if it goes nowhere."""
        aside = isinstance(self.source, FileSource) and self.source.drift == "quarantine"
        return quarantine_of(self.into) if aside else None

    @property
    def job_name(self) -> str:
        """The job that ingests what is new, now."""
        return f"ingest_{re.sub(r'[^a-z0-9_]', '_', self.name)}"


@dataclass(frozen=True)
class FolderIngestion(FolderSource):
    """A folder that the team declares; looked at when ``cron`` (in ``timezone``) says so."""

    cron: str = EVERY_MINUTE
    timezone: str = "UTC"

    @property
    def job_name(self) -> str:
        """The job that ingests what is new, now."""
        return as_ingestion(self).job_name


def as_ingestion(declared: Ingestion | FolderIngestion) -> Ingestion:
    """The ingestion that a declaration stands for."""
    if isinstance(declared, Ingestion):
        return declared
    return Ingestion(declared, cron=declared.cron, timezone=declared.timezone)


def ingestion_asset(declared: Ingestion) -> AssetsDefinition:
    """The asset whose runs append what is new."""
    source = declared.source

    @asset(key=ingest_key(declared.name), description=source.description, kinds={"file"})
    def take_what_is_new(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with heartbeat(context):
            done = []
            for result in ingest(source, run=context.run.run_id):
                context.log.info("%d files, %d rows: v%d", len(result.files), result.rows, result.version)
                done.append(result)
            left = _waiting_files(source)
        quarantined = sorted({name for result in done for name in result.quarantined})
        return MaterializeResult(
            metadata={
                "files": sum(len(result.files) for result in done),
                "rows": sum(result.rows for result in done),
                "versions": ", ".join(key_of(result.version) for result in done),
                "quarantined": len(quarantined),
                "quarantined_files": ", ".join(quarantined[:MAX_FILES]),
                **left,
            }
        )

    return take_what_is_new


def ingestion_trigger(declared: Ingestion) -> ScheduleDefinition | SensorDefinition:
    """What starts a run when there is something new: a schedule, or a sensor that looks more often."""
    job = define_asset_job(declared.job_name, selection=[ingest_key(declared.name)])
    if declared.arrival_seconds is None:

        @schedule(
            name=f"{declared.job_name}_schedule",
            job=job,
            cron_schedule=declared.cron,
            execution_timezone=declared.timezone,
            default_status=DefaultScheduleStatus.RUNNING,
        )
        def look() -> RunRequest | SkipReason:
            return RunRequest() if declared.source.waiting() else SkipReason(f"nothing new for {declared.into}")

        return look

    @sensor(
        name=f"{declared.job_name}_arrivals",
        job=job,
        minimum_interval_seconds=declared.arrival_seconds,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def arrived(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        work = ingest_key(declared.name).to_user_string()
        if context.instance.get_runs_count(RunsFilter(tags={WORK_TAG: work}, statuses=UNFINISHED)):
            return SkipReason("what is there is being taken")
        waiting = declared.source.waiting()
        return RunRequest(tags={WORK_TAG: work}) if waiting else SkipReason(f"nothing new for {declared.into}")

    return arrived


def _waiting_files(source: Source) -> dict[str, int | str]:
    """What is there and did not go in, for who looks at the run."""
    if not isinstance(source, FileSource):
        return {}
    left = arrivals(source)
    return {
        "files_settling": len(left.settling),
        "files_changed_since": _names([file.path for file in left.changed]),
        "files_vanished": _names([file.path for file in left.vanished]),
    }


def _names(paths: Sequence[str]) -> str:
    return ", ".join(paths[:MAX_FILES])
