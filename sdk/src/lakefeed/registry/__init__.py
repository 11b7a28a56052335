"""The registry: datasets, files, runs and labels as records, with the names of LaminDB.

``import lakefeed.registry as ln`` runs code that was written for ``import lamindb as ln``.
"""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.registry import bionty, dev
    from lakefeed.registry.dataset_records import Dataset
    from lakefeed.registry.feature_records import Feature, FeatureSet
    from lakefeed.registry.file_records import File
    from lakefeed.registry.label_records import ULabel
    from lakefeed.registry.query_results import Query
    from lakefeed.registry.record_lineage import current_run, lineage, track
    from lakefeed.registry.run_records import Run, Transform
    from lakefeed.registry.storage_records import Storage, User
    from lakefeed.registry.visibility import Visibility

__all__ = [
    "Dataset",
    "Feature",
    "FeatureSet",
    "File",
    "Query",
    "Run",
    "Storage",
    "Transform",
    "ULabel",
    "User",
    "Visibility",
    "bionty",
    "current_run",
    "dev",
    "lineage",
    "track",
]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "dataset_records": ("Dataset",),
            "feature_records": ("Feature", "FeatureSet"),
            "file_records": ("File",),
            "label_records": ("ULabel",),
            "query_results": ("Query",),
            "record_lineage": ("current_run", "lineage", "track"),
            "run_records": ("Run", "Transform"),
            "storage_records": ("Storage", "User"),
            "visibility": ("Visibility",),
        },
    )
