"""The sensor that reports broken declarations as failed checks, so that the UI shows them in red without a run."""

from collections.abc import Mapping

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetSelection,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from sensors.sensor_cursor import fingerprint

TICK_SECONDS = 30


def declarations_sensor(errors: Mapping[AssetKey, str], check: str) -> SensorDefinition:
    """Returns the sensor that reports each asset of ``errors`` with its message, once for each set of messages.

    Args:
        errors: the messages.
        check: the name of the check of these assets that has failed.
    """
    state = fingerprint(*(f"{key.to_user_string()}: {error}" for key, error in errors.items()))

    @sensor(
        name="declarations",
        description="Reports declarations that do not load.",
        asset_selection=AssetSelection.assets(*errors),
        minimum_interval_seconds=TICK_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def report_broken(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        if context.cursor == state:
            return SkipReason("reported already")
        events = [
            AssetCheckEvaluation(key, check, passed=False, description=error, metadata={"error": error})
            for key, error in errors.items()
        ]
        return SensorResult(asset_events=events, cursor=state)

    return report_broken
