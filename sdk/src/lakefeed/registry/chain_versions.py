"""Chains of versions: their labels and first versions, also of records that are not saved yet."""

from __future__ import annotations

from typing import Any

from lakefeed._validate import check_text
from lakefeed.errors import InvalidArgumentError
from lakefeed.records.record_tables import Presence
from lakefeed.registry import record_rows
from lakefeed.registry.version_labels import choose_label


def next_of_dataset(former: Any, data: Any, key: Any = None, description: Any = None, **options: Any) -> Any:
    """Returns the next version of a dataset, made with the arguments of a `File`."""
    from lakefeed.registry.dataset_records import Dataset

    return Dataset(data, name=key, description=description, is_new_version_of=former, **options)


def label_of(record: Any) -> str:
    """Returns the label of a version: that of its record; of one that is not saved yet, the label that it would get.

    Raises:
        InvalidArgumentError: the wanted label is taken.
    """
    if record._row is not None:
        return str(record._row["label"] or record._row["revision"])
    wanted, former = record._values.get("version"), record._former
    if former is None:
        return choose_label(wanted, ())
    if former._row is None:
        return choose_label(wanted, [label_of(each) for each in _unsaved_chain(former)])
    chain = record_rows.find_chain(record._record_lake, former._row["stem"])
    used = [str(row["label"] or row["revision"]) for row in chain]
    return choose_label(wanted, used[::-1])


def _unsaved_chain(record: Any) -> list[Any]:
    """Returns a record and those before it, newest first."""
    chain = [record]
    while chain[-1]._row is None and chain[-1]._former is not None:
        chain.append(chain[-1]._former)
    return chain


def versions_of(record: Any) -> list[Any]:
    """Returns the saved versions of the chain of a record, oldest first."""
    start = record if record._row is not None or record._former is None else _unsaved_chain(record)[-1]
    if start._row is None:
        return []
    chain = record_rows.find_chain(start._record_lake, start._row["stem"])
    rows = [row for row in chain if row["presence"] != Presence.GONE]
    return [record if _is(record, row) else type(record)._of_row(start._record_lake, row) for row in rows]


def initial_version_of(record: Any) -> Any:
    """Returns the first version of the chain of a record: the record itself if there is none before it."""
    versions = versions_of(record)
    return versions[0] if versions else _unsaved_chain(record)[-1]


def _is(record: Any, row: record_rows.RecordRow) -> bool:
    return record._row is not None and record._row["uid"] == row["uid"]


def run_id_of(run: Any) -> str | None:
    """Returns the id of a run: of a run that `track` began, of a record of a run, or of text.

    Raises:
        InvalidArgumentError: this is not a run.
    """
    if run is None or isinstance(run, str):
        return run
    found = getattr(run, "external", None) or getattr(run, "id", None)
    if not isinstance(found, str):
        raise InvalidArgumentError(f"run must be a run of track(), a Run, or the id of one, got {run!r:.80}")
    return found


def typed_labels(labels: Any) -> list[tuple[str, str]]:
    """Returns the types and names of labels, which are given as names or `ULabel` objects, each once.

    Raises:
        InvalidArgumentError: one is neither.
    """
    if labels is None:
        return []
    items = [labels] if isinstance(labels, str) or hasattr(labels, "_label_name") else labels
    if not isinstance(items, list | tuple | set | frozenset):
        raise InvalidArgumentError(f"labels must be a list of ULabels or names, got {labels!r:.80}")
    return list(dict.fromkeys((str(getattr(each, "_label_type", "")), _label_name(each)) for each in items))


def _label_name(label: Any) -> str:
    name = check_text(getattr(label, "_label_name", label), "labels")
    if not name.strip():
        raise InvalidArgumentError("labels: the name of a label is empty")
    return name
