"""`text_index` and `vector_index`, and an index as an asset: a run creates it, or brings it up to date."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dagster import (
    AllPartitionMapping,
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AssetSpec,
    multi_asset,
)

from dataset_assets.asset_keys import dataset_key, key_of, op_name
from dataset_assets.groups import group_of
from dataset_assets.heartbeat import heartbeat
from dataset_assets.run_tags import tag_outages
from dataset_assets.synchronization import unchanging_tags
from lakefeed import connect
from lakefeed.errors import DamagedDatasetError, DatasetExistsError, IndexNotFoundError
from lakefeed.expressions import text
from lakefeed.keyed import Client, SearchIndex


@dataclass(frozen=True)
class IndexSpec:
    """The declaration of an index. `text_index` and `vector_index` make one.

    Attributes:
        name: the name of the index.
        on: the name of its keyed table.
        fields: for each text field, its tokenizer; for an index of vectors, nothing.
        column: the column of the vectors; None for a text index.
        filters: the filter fields.
        metric: how vectors are compared.
        where: a condition of the rows, as text.
        owners: mail addresses, or ``team:name``.
        tags: the tags of the asset.
    """

    name: str
    on: str
    fields: Mapping[str, str] = field(default_factory=dict)
    column: str | None = None
    filters: Sequence[str] = ()
    metric: Literal["cosine", "l2", "dot"] = "cosine"
    where: str | None = None
    owners: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """A text that changes with the definition of the index."""
        return repr((self.on, dict(self.fields), self.column, tuple(self.filters), self.metric, self.where))

    def defines(self, index: SearchIndex) -> bool:
        """Returns whether an index has this definition."""
        if self.column is None:
            columns, options = [*self.fields], {_last(name): tokenizer for name, tokenizer in self.fields.items()}
        else:
            columns, options = [self.column], {"field": _last(self.column), "metric": self.metric}
        names = [_last(name) for name in (*columns, *self.filters)]
        present = index.definition
        return (dict(present.options), index.fields, present.where) == (options, names, self.where)

    def create(self, client: Client) -> SearchIndex:
        """Returns the index. It is created if it is missing, and created again if it has another definition."""
        try:
            return self._create(client)
        except (DatasetExistsError, DamagedDatasetError):
            client.drop_index(self.name)
            return self._create(client)

    def _create(self, client: Client) -> SearchIndex:
        table = client.table(self.on)
        others = [table[name] for name in self.filters]
        options: dict[str, Any] = {"where": self.where, "exist_ok": True}
        if self.column is not None:
            return client.create_vector_index(self.name, table[self.column], *others, metric=self.metric, **options)
        fields = [text.field(table[name], tokenizer=tokenizer) for name, tokenizer in self.fields.items()]
        return client.create_text_index(self.name, *fields, *others, **options)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def text_index(name: str, *, on: str, fields: Sequence[str] | Mapping[str, str], **settings: Any) -> IndexSpec:
    """Declares a text index of a keyed table, which the sensor keeps up to date.

    Args:
        name: the name of the index.
        on: the name of the table.
        fields: the columns that are searched for words; a mapping gives the tokenizer of each.
        settings: other attributes of `IndexSpec`, such as ``filters=``, ``where=`` and ``owners=``.
    """
    tokenizers = dict(fields) if isinstance(fields, Mapping) else dict.fromkeys(fields, "default")
    return IndexSpec(name, on, fields=tokenizers, **settings)


def vector_index(name: str, *, on: str, column: str, **settings: Any) -> IndexSpec:
    """Declares an index of vectors of a keyed table, which the sensor keeps up to date.

    Args:
        name: the name of the index.
        on: the name of the table.
        column: the column of the vectors.
        settings: other attributes of `IndexSpec`, such as ``metric=``, ``filters=``, ``where=`` and ``owners=``.
    """
    return IndexSpec(name, on, column=column, **settings)


def index_key(name: str) -> AssetKey:
    """Returns the asset key of an index."""
    return AssetKey(["indexes", name])


def indexed_version(declared: IndexSpec) -> int | None:
    """Returns the version of the table that an index has; None if it is missing, damaged, or defined otherwise."""
    try:
        index = connect().index(declared.name)
        return index.version if declared.defines(index) else None
    except (IndexNotFoundError, DamagedDatasetError):
        return None


def index_asset(declared: IndexSpec) -> AssetsDefinition:
    """Returns the asset of an index, downstream of its dataset."""
    spec = AssetSpec(
        index_key(declared.name),
        description=f"An index of {declared.on}, for `Client.search`. A run brings it up to date.",
        kinds={"index"},
        group_name=group_of(declared.owners, declared.on),
        owners=declared.owners,
        tags=dict(declared.tags),
        deps=[AssetDep(dataset_key(declared.on), partition_mapping=AllPartitionMapping())],
        skippable=True,
    )
    tags = unchanging_tags([dataset_key(declared.on)])

    @multi_asset(name=op_name(spec.key), specs=[spec])
    def run(context: AssetExecutionContext):  # type: ignore[no-untyped-def]  # a generator without items
        with heartbeat(context), tag_outages(context):
            index = declared.create(connect()).refresh()
            facts = {"version": key_of(index.version), "fields": ", ".join(index.fields)}
            context.log_event(AssetMaterialization(spec.key, metadata=facts, tags=tags))
        yield from ()

    return run
