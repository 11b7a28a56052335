"""A landing folder as an asset: each run appends what is new, on a schedule."""

import re
from dataclasses import dataclass

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    DefaultScheduleStatus,
    MaterializeResult,
    RunRequest,
    ScheduleDefinition,
    SkipReason,
    asset,
    define_asset_job,
    schedule,
)

from dataset_assets.alive import alive
from dataset_assets.partitions import ingest_key, key_of
from lakefeed.ingest import FolderSource, arrivals, ingest

EVERY_MINUTE = "* * * * *"


@dataclass(frozen=True)
class FolderIngestion(FolderSource):
    """A folder that the team declares; looked at when ``cron`` (in ``timezone``) says so."""

    cron: str = EVERY_MINUTE
    timezone: str = "UTC"

    @property
    def job_name(self) -> str:
        """The job that ingests what is new, now."""
        return f"ingest_{re.sub(r'[^a-z0-9_]', '_', self.name)}"


def ingestion_asset(source: FolderIngestion) -> AssetsDefinition:
    """The asset whose runs append the new files of the folder."""

    @asset(key=ingest_key(source.name), description=source.description, kinds={"file"})
    def ingest_folder(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        with alive(context):
            done = []
            for result in ingest(source, run=context.run.run_id):
                context.log.info("%d files, %d rows: v%d", len(result.files), result.rows, result.version)
                done.append(result)
            left = arrivals(source)
        return MaterializeResult(
            metadata={
                "files": sum(len(result.files) for result in done),
                "rows": sum(result.rows for result in done),
                "versions": ", ".join(key_of(result.version) for result in done),
                "files_settling": len(left.settling),
                "files_changed_since": ", ".join(file.path for file in left.changed[:10]),
            }
        )

    return ingest_folder


def ingestion_schedule(source: FolderIngestion) -> ScheduleDefinition:
    """The schedule that starts a run when there is something new."""

    @schedule(
        name=f"{source.job_name}_schedule",
        job=define_asset_job(source.job_name, selection=[ingest_key(source.name)]),
        cron_schedule=source.cron,
        execution_timezone=source.timezone,
        default_status=DefaultScheduleStatus.RUNNING,
    )
    def look() -> RunRequest | SkipReason:
        return RunRequest() if arrivals(source).new else SkipReason(f"nothing new in {source.path}")

    return look
