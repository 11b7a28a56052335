"""`Ingestion` and `FolderIngestion`, and a source as an asset: each run appends new rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from dagster import (
    AssetExecutionContext,
    AssetOut,
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
    define_asset_job,
    multi_asset,
    schedule,
    sensor,
)

from dataset_assets.asset_keys import identifier, ingest_key, key_of, op_name
from dataset_assets.heartbeat import heartbeat
from dataset_assets.run_tags import UNFINISHED, WORK_TAG, is_canceled_recently
from dataset_assets.synchronization import UNCHANGING
from dataset_assets.tracking import tracked
from lakefeed.ingest import FileSource, FolderSource, Source, arrivals, ingest, quarantine_of

EVERY_MINUTE = "* * * * *"
MAX_FILES = 10


@dataclass(frozen=True)
class Ingestion:
    """The declaration of a source that runs on a schedule, or as soon as new rows arrive.

    Args:
        source: such as `lakefeed.ingest.FolderSource`.
        cron: the schedule on which the source is examined.
        timezone: the time zone of the schedule.
        arrival_seconds: instead of the schedule, examine the source at this interval and start a run when there are new
            rows.
    """

    source: Source
    cron: str = EVERY_MINUTE
    timezone: str = "UTC"
    arrival_seconds: int | None = None

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.source.name

    @property
    def into(self) -> str:
        """The dataset that the source feeds."""
        return self.source.into

    @property
    def quarantine(self) -> str | None:
        """The dataset for files and rows that do not fit; None if the source has no quarantine."""
        quarantines = isinstance(self.source, FileSource) and self.source.drift == "quarantine"
        return quarantine_of(self.into) if quarantines else None

    @property
    def job_name(self) -> str:
        """The name of the job that ingests the new rows."""
        return f"ingest_{identifier(self.name)}"


@dataclass(frozen=True)
class FolderIngestion(FolderSource):
    """The declaration of a folder that is examined on a schedule.

    Args:
        cron: the schedule.
        timezone: the time zone of the schedule.

    The other arguments are those of `lakefeed.ingest.FolderSource`.
    """

    cron: str = EVERY_MINUTE
    timezone: str = "UTC"

    @property
    def job_name(self) -> str:
        """The name of the job that ingests the new files."""
        return as_ingestion(self).job_name


def as_ingestion(declared: Ingestion | FolderIngestion) -> Ingestion:
    """Returns the `Ingestion` of a declaration."""
    if isinstance(declared, Ingestion):
        return declared
    return Ingestion(declared, cron=declared.cron, timezone=declared.timezone)


def ingestion_asset(declared: Ingestion, group: str) -> AssetsDefinition:
    """Returns the asset whose runs append the new rows."""
    source = declared.source

    key = ingest_key(declared.name)

    # Not of an AssetSpec: its output would be named after the key, which may have any characters.
    output = AssetOut(key=key, description=source.description, kinds={"ingestion", "file"}, group_name=group)

    @multi_asset(name=op_name(key), outs={"result": output})
    def ingest_new_rows(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with heartbeat(context), tracked(context, f"ingest {declared.name}", f"ingest {declared.name}"):
            results = []
            for result in ingest(source, run=context.run.run_id):
                context.log.info("%d files, %d rows: v%d", len(result.files), result.rows, result.version)
                results.append(result)
            left = _waiting_files(source)
        quarantined = sorted({name for result in results for name in result.quarantined})
        return MaterializeResult(
            metadata={
                "files": sum(len(result.files) for result in results),
                "rows": sum(result.rows for result in results),
                "versions": ", ".join(key_of(result.version) for result in results),
                "quarantined": len(quarantined),
                "quarantined_files": ", ".join(quarantined[:MAX_FILES]),
                **left,
            },
            data_version=UNCHANGING,
        )

    return ingest_new_rows


def ingestion_trigger(declared: Ingestion) -> ScheduleDefinition | SensorDefinition:
    """Returns the schedule or the sensor that starts a run when there are new rows."""
    job = define_asset_job(declared.job_name, selection=[ingest_key(declared.name)])
    work = ingest_key(declared.name).to_user_string()
    if declared.arrival_seconds is None:

        @schedule(
            name=f"{declared.job_name}_schedule",
            job=job,
            cron_schedule=declared.cron,
            execution_timezone=declared.timezone,
            default_status=DefaultScheduleStatus.RUNNING,
        )
        def examine() -> RunRequest | SkipReason:
            return _request_if_waiting(declared)

        return examine

    @sensor(
        name=f"{declared.job_name}_arrivals",
        job=job,
        minimum_interval_seconds=declared.arrival_seconds,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def arrived(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        if context.instance.get_runs_count(RunsFilter(tags={WORK_TAG: work}, statuses=UNFINISHED)):
            return SkipReason("a run is ingesting already")
        if is_canceled_recently(context.instance, work):
            return SkipReason("a user canceled a run a few minutes ago")
        return _request_if_waiting(declared)

    return arrived


def _request_if_waiting(declared: Ingestion) -> RunRequest | SkipReason:
    if declared.source.waiting():
        return RunRequest(tags={WORK_TAG: ingest_key(declared.name).to_user_string()})
    return SkipReason(f"nothing new for {declared.into}")


def _waiting_files(source: Source) -> dict[str, int | str]:
    """Returns metadata about the files that were not ingested."""
    if not isinstance(source, FileSource):
        return {}
    left = arrivals(source)
    return {
        "files_settling": len(left.settling),
        "files_failed": _names([file.path for file in left.failed]),
        "files_changed_since": _names([file.path for file in left.changed]),
        "files_vanished": _names([file.path for file in left.vanished]),
    }


def _names(paths: Sequence[str]) -> str:
    return ", ".join(paths[:MAX_FILES])
