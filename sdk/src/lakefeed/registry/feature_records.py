"""`Feature` and `FeatureSet`: measured columns, and the sets of them that records have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import Connection, select

from lakefeed._validate import check_text
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError
from lakefeed.records import feature_rows
from lakefeed.records.entities import FEATURE_ENTITY, FEATURE_SET_ENTITY
from lakefeed.records.inserts import chunks
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import FEATURE, FEATURE_SET, FEATURE_SET_MEMBER, LABEL, RECORD_FEATURE_SET
from lakefeed.registry.record_base import Record, check_optional_text
from lakefeed.registry.record_rows import plain_rows, read_rows
from lakefeed.registry.registry_fields import FieldAttribute
from lakefeed.registry.table_record import TableRecord
from lakefeed.registry.validation import DeclaredFeature, check_dtype

if TYPE_CHECKING:
    pass

Result = TypeVar("Result")


def _query(work: Callable[[Connection], Result]) -> Result:
    return Registry.open(Lake.current()).read_current(work)


def _find_declared(names: Sequence[str]) -> Mapping[str, DeclaredFeature]:
    """Returns the declared features of names."""

    def read(connection: Connection) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        for chunk in chunks(names):
            rows += plain_rows(connection.execute(select(FEATURE).where(FEATURE.c.name.in_(chunk))))
        return rows

    rows = _query(read)
    labels = {kind: _label_names(kind) for kind in {row["label_type"] for row in rows} - {None}}
    return {
        row["name"]: DeclaredFeature(
            row["name"], row["dtype"], row["label_type"], labels.get(row["label_type"], frozenset())
        )
        for row in rows
    }


def _label_names(kind: str) -> frozenset[str]:
    query = select(LABEL.c.name).where(LABEL.c.kind == kind)
    return frozenset(_query(lambda connection: list(connection.scalars(query))))


class Feature(TableRecord):
    """A measured column, such as "height": declared once, and validated in each table.

    Args:
        name: the name of the column.
        dtype: the type, such as "int", "float", "str", "category", "bool" or "datetime"; None for any.
        unit: the unit, such as "m".
        label_type: the type of the labels that are its values: each value must be the name of one.
        description: a description.

    Raises:
        InvalidArgumentError: an argument is wrong. The message lists the types.

    Example:
        >>> Feature("sepal_length", "float", unit="m").save()
        >>> Feature.get("sepal_length").unit
        'm'
    """

    _entity = FEATURE_ENTITY
    _key = "name"
    _columns: ClassVar = {
        "uid": "uid",
        "name": "name",
        "dtype": "dtype",
        "unit": "unit",
        "label_type": "label_type",
        "description": "description",
        "created_at": "created",
    }

    name = FieldAttribute(_find_declared)
    """The name. ``Feature.name`` is the field that tables are validated against."""

    def __init__(
        self,
        name: str,
        dtype: Any = None,
        unit: str | None = None,
        label_type: str | None = None,
        description: str | None = None,
    ) -> None:
        if not check_text(name, "name"):
            raise InvalidArgumentError("name must be the name of a column, got an empty text")
        self._record_lake = Lake.current()
        self._row = {
            "name": name,
            "dtype": check_dtype(dtype),
            "unit": check_optional_text(unit, "unit"),
            "label_type": check_optional_text(label_type, "label_type"),
            "description": check_optional_text(description, "description"),
        }

    def save(self) -> None:
        """Stores the feature. One of this name gets the facts of this one. It may be called again."""
        row = {name: value for name, value in self._row.items() if name not in ("uid", "created")}
        with Registry.open(self._record_lake).write() as connection:
            feature_rows.ensure_features(connection, [row])
            named = FEATURE.c.name == row["name"]
            connection.execute(FEATURE.update().where(named).values(row))
            (self._row,) = plain_rows(connection.execute(select(FEATURE).where(named)))


class FeatureSet(TableRecord):
    """A set of features that records share. Two sets of equal features are one.

    Args:
        features: `Feature` objects, or names.
        name: a name.

    Raises:
        InvalidArgumentError: there is no feature, or one is neither.
    """

    _entity = FEATURE_SET_ENTITY
    _columns: ClassVar = {"uid": "uid", "hash": "hash", "name": "name", "n": "n", "created_at": "created"}

    def __init__(self, features: Sequence[Any], name: str | None = None) -> None:
        items = list(features) if isinstance(features, list | tuple | set | frozenset) else []
        names = [each._row["name"] if isinstance(each, Feature) else each for each in items]
        if not names or not all(isinstance(each, str) and each for each in names):
            raise InvalidArgumentError(f"features must be a list of Features or names, got {features!r:.80}")
        self._record_lake = Lake.current()
        self._names: list[str] | None = names
        self._row = {"name": check_optional_text(name, "name"), "n": len(set(names))}

    def save(self) -> None:
        """Stores the set, and those of its features that do not exist. It may be called again."""
        with Registry.open(self._record_lake).write() as connection:
            uid = self._row.get("uid") or feature_rows.ensure_feature_set(
                connection, self._names or [], self._row["name"]
            )
            (self._row,) = plain_rows(connection.execute(select(FEATURE_SET).where(FEATURE_SET.c.uid == uid)))

    @property
    def features(self) -> list[Feature]:
        """The features, in order."""
        if self._row.get("uid") is None:
            return [Feature(name) for name in self.__dict__.get("_names") or ()]
        query = (
            select(FEATURE)
            .join(FEATURE_SET_MEMBER, FEATURE_SET_MEMBER.c.feature == FEATURE.c.uid)
            .where(FEATURE_SET_MEMBER.c.feature_set == self._row["uid"])
            .order_by(FEATURE_SET_MEMBER.c.ordinal)
        )
        rows = read_rows(self._record_lake, query)
        return [Feature._of_row(self._record_lake, row) for row in rows]


class FeatureSets:
    """The sets of features of a record, by slot: "columns" of a table; "var" and "obs" of an AnnData."""

    def __init__(self, record: Record) -> None:
        self._record: Any = record

    def by_slot(self) -> dict[str, FeatureSet]:
        """Returns the sets by slot."""
        record = self._record
        if record._row is None:
            return {slot: FeatureSet(names) for slot, names in getattr(record, "_new_feature_sets", {}).items()}
        query = (
            select(RECORD_FEATURE_SET.c.slot, *FEATURE_SET.c)
            .join(FEATURE_SET, FEATURE_SET.c.uid == RECORD_FEATURE_SET.c.feature_set)
            .where(RECORD_FEATURE_SET.c.record == record.uid)
            .order_by(RECORD_FEATURE_SET.c.slot)
        )
        rows = read_rows(record._record_lake, query)
        return {row["slot"]: FeatureSet._of_row(record._record_lake, row) for row in rows}

    def all(self) -> list[FeatureSet]:
        """Returns the sets, sorted by slot."""
        return list(self.by_slot().values())

    def __getitem__(self, slot: str) -> FeatureSet:
        sets = self.by_slot()
        if slot not in sets:
            raise KeyError(f"there is no slot {slot!r}; there are {list(sets)}")
        return sets[slot]

    def __iter__(self) -> Iterator[FeatureSet]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.by_slot())

    def __repr__(self) -> str:
        return f"<feature sets of the slots {list(self.by_slot())}>"
