"""The fields of datasets and files that lead to other records: versions, run, user, labels, features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from lakefeed.provenance.origin_index import FileKey, VersionKey
from lakefeed.records.record_tables import Presence
from lakefeed.records.version_rows import FILE_KIND
from lakefeed.registry import chain_versions, query_results, record_lineage
from lakefeed.registry.feature_records import FeatureSets
from lakefeed.registry.label_records import RecordLabels
from lakefeed.registry.queried_record import QueriedRecord
from lakefeed.registry.record_base import Record
from lakefeed.registry.run_records import Run, Transform, run_of, runs_with_input
from lakefeed.registry.storage_records import Storage, User

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.dataset import Dataset as Rows
    from lakefeed.provenance import Lineage
    from lakefeed.registry.query_results import Query


class DescribedRecord(Record, QueriedRecord):
    """A record of a dataset or a file. `Dataset` and `File` inherit from it."""

    _kinds: ClassVar[tuple[str, ...]]

    @classmethod
    def filter(cls, **lookups: Any) -> Query[Self]:
        """Returns the records that fit all conditions, as a lazy query. The trash is left out.

        Args:
            lookups: a field and its value, such as ``name="flowers"``; a field with a comparison, such as
                ``created_at__gt=…`` or ``name__contains="iris"``; or ``ulabels=``, ``feature=``, ``run=``,
                ``transform=``, ``dataset=``, ``input_of=``, ``latest=True`` and ``visibility=``.

        Raises:
            InvalidArgumentError: there is no such field or comparison. The message names similar ones.
        """
        return query_results.query_records(cls, cls._kinds, lookups)

    @classmethod
    def get(cls, uid: str) -> Self:
        """Returns a record, also one in the trash.

        Args:
            uid: the uid; its first 16 characters, for the newest version of the chain; or another unique beginning.

        Raises:
            RecordNotFoundError: there is none.
            MultipleRecordsError: several uids begin so.
        """
        record: Self = query_results.get_row(cls, cls._kinds, uid)
        return record

    @property
    def version(self) -> str:
        """The label of the version; before `save` that which it would get."""
        return chain_versions.label_of(self)

    @property
    def versions(self) -> list[Self]:
        """The saved versions of the chain, oldest first."""
        return chain_versions.versions_of(self)

    @property
    def initial_version(self) -> Self:
        """The first version of the chain. That of the first one is itself."""
        first: Self = chain_versions.initial_version_of(self)
        return first

    @property
    def run(self) -> Run | None:
        """The run that created the record."""
        return None if self._row is None else run_of(self._record_lake, self._row["run"])

    @property
    def transform(self) -> Transform | None:
        """The code whose run created the record."""
        run = self.run
        return None if run is None else run.transform

    @property
    def created_by(self) -> User | None:
        """The user who created the record."""
        return None if self._row is None or self._row["user"] is None else User.get(self._row["user"])

    @property
    def storage(self) -> Storage:
        """The blob store with the contents."""
        return Storage(self._record_lake.blobs.url)

    @property
    def ulabels(self) -> RecordLabels:
        """The labels, which may change."""
        return RecordLabels(self)

    @property
    def labels(self) -> RecordLabels:
        """The labels, which may change."""
        return RecordLabels(self)

    @property
    def feature_sets(self) -> FeatureSets:
        """The sets of measured features, by slot."""
        return FeatureSets(self)

    @property
    def input_of(self) -> list[Run]:
        """The runs that have read the record."""
        return [] if self._row is None else runs_with_input(self._record_lake, self._row["uid"])

    def __lakefeed_lineage__(self) -> tuple[FileKey | VersionKey | Rows, Lake]:
        row = self._current_row("lineage")
        if row["kind"] == FILE_KIND:
            return FileKey(row["uid"]), self._record_lake
        if row["presence"] == Presence.GONE:  # the lineage names it still
            return VersionKey(row["table_uuid"], row["revision"]), self._record_lake
        return self.dataset, self._record_lake  # type: ignore[attr-defined]  # of `Dataset`

    def view_lineage(self) -> Lineage:
        """Returns the lineage of the record, as data and as a picture, which notebooks show.

        Raises:
            UnsavedDatasetError: the record is not saved.
        """
        return record_lineage.lineage(self)
