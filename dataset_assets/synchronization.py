"""Settings that keep Dagster from showing versions as unsynced, for a version never changes.

Dagster compares the data version of each upstream asset with that of the time when a partition was made.
"""

from __future__ import annotations

from collections.abc import Iterable

from dagster import AssetKey, DataVersion, SpecificPartitionsPartitionMapping
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    DEFAULT_DATA_VERSION,
    NULL_EVENT_POINTER,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

# The data version of an asset that was never materialized. An ingestion that runs for the first time, or again, changes
# no version that exists.
UNCHANGING: DataVersion = DEFAULT_DATA_VERSION
# A version may hold rows of any upstream run, and those that come later do not change it.
NO_PARTITIONS = SpecificPartitionsPartitionMapping([])


def unchanging_tags(inputs: Iterable[AssetKey]) -> dict[str, str]:
    """Returns the tags of a materialization that a run reports itself, which Dagster adds to the others.

    Args:
        inputs: the upstream assets.
    """
    tags = {DATA_VERSION_TAG: UNCHANGING.value, DATA_VERSION_IS_USER_PROVIDED_TAG: "true", CODE_VERSION_TAG: "1"}
    for key in inputs:
        tags[get_input_data_version_tag(key)] = UNCHANGING.value
        tags[get_input_event_pointer_tag(key)] = NULL_EVENT_POINTER
    return tags
