"""Records know the runs that made them and read them, and lead to their lineage."""

from __future__ import annotations

import pandas as pd
import pytest

import lakefeed
import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InUseError, InvalidArgumentError, UnsavedDatasetError

pytestmark = pytest.mark.live  # many lakes


def frame(*values: int) -> pd.DataFrame:
    return pd.DataFrame({"x": list(values)})


def test_runs_lead_from_inputs_to_outputs(lake: Lake, tmp_path: object) -> None:
    source = ln.Dataset(frame(1, 2), name="source")
    source.save()
    unread = ln.Dataset(frame(7), name="unread")
    unread.save()
    with ln.track("doubling", params={"factor": 2}) as run:
        assert ln.current_run() is run
        doubled = ln.Dataset(source.load() * 2, name="doubled")
        doubled.save()
        unread.load(is_run_input=False)
        file = ln.File(frame(3), key="three.parquet")
        file.save()
    with ln.track("reading a file") as reader:
        assert file.load()["x"].tolist() == file.load()["x"].tolist() == [3]
        file.stage(is_run_input=False)
        evaluated = ln.Dataset(frame(4), name="evaluated")
        evaluated.save()
    found = ln.Dataset.get(str(doubled.uid))
    assert found.run is not None
    assert (found.run.external, found.run.name, found.run.params) == (run.id, "doubling", {"factor": 2})
    assert found.transform is not None
    assert found.run.inputs == [source.uid]
    assert source.input_of == [found.run]
    assert (unread.input_of, source.run) == ([], None)
    assert [each.external for each in file.input_of] == [reader.id]
    assert ln.Dataset.filter(run=run).one() == ln.Dataset.filter(run=found.run).one() == doubled
    assert ln.Dataset.filter(input_of=found.run).one() == source
    assert ln.File.filter(run=found.run).one() == file
    assert found.run in found.transform.runs.list()
    labels = {node.label for node in found.view_lineage().nodes}
    assert {"doubling", "source 1", "doubled 1"} <= labels
    assert "doubling" in {node.label for node in ln.lineage(file).nodes}
    assert "doubled 1" in {node.label for node in ln.lineage(found.run).nodes}
    made_of = ln.lineage(evaluated, down=0)
    path = ["evaluated 1", "reading a file", "three.parquet", "doubling", "source 1"]
    assert [node.label for node in made_of.nodes if node.kind != "code"] == path
    assert {"reading a file", "evaluated 1"} <= {node.label for node in lakefeed.lineage(source, up=0).nodes}
    used = lakefeed.lineage(file, up=0)
    assert [node.label for node in used.nodes if node.kind != "code"] == [path[2], path[0], path[1]]
    assert [node.label for node in ln.lineage(reader, down=0).nodes if node.kind != "code"] == path[1:]
    for each in (found, file, found.run):
        assert lakefeed.lineage(each).nodes == ln.lineage(each).nodes
    with pytest.raises(InUseError, match="run reading a file"):
        file.delete(permanent=True)
    with pytest.raises(InUseError, match="run doubling") as caught:
        source.delete(permanent=True)
    assert caught.value.users == ("run doubling",)
    source.delete(permanent=True, force=True)
    assert not ln.Dataset.filter(name="source")


def test_a_run_may_be_named(lake: Lake) -> None:
    dataset = ln.Dataset(frame(1), name="x", run="job-17")
    dataset.save()
    file = ln.File(frame(2), run=dataset.run)
    file.save()
    assert dataset.run is not None
    assert (dataset.run.external, file.run) == ("job-17", dataset.run)
    assert lakefeed.Dataset(dataset.dataset.name).list_versions()[0].run == "job-17"
    with pytest.raises(InvalidArgumentError):
        dataset.load(is_run_input="no")  # type: ignore[arg-type]
    with pytest.raises(UnsavedDatasetError):
        ln.lineage(ln.Dataset(frame(9), name="y"))
