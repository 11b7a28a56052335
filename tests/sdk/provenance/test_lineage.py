"""Lineages: of datasets, runs, code, routines and files, whoever wrote them, and whatever happened since."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from pyiceberg.serializers import FromInputFile

from lakefeed import Dataset, FileTree, Lineage, Provenance, collect_garbage, connect, lineage, track
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake import Lake
from lakefeed.errors import DatasetNotFoundError, InvalidArgumentError, VersionNotFoundError
from lakefeed.provenance.fact_loader import FactLoader, Roots
from lakefeed.provenance.graph_layers import arrange
from lakefeed.provenance.lineage_graph import LineageEdge, LineageNode
from lakefeed.provenance.lineage_walk import LineageWalk
from lakefeed.provenance.origin_index import OriginIndex, VersionKey
from lakefeed.provenance.registry_facts import RegistryFacts
from lakefeed.records.origin_facts import TableFact, VersionFact
from lakefeed.routines import Routine, run_versions
from tests.sdk.processes import Program, finish_all
from tests.sdk.test_garbage import age, collected


def save(name: str, *values: int) -> Dataset:
    return Dataset.from_dict({"x": list(values)}).save(name, if_exists="append")


ASK = """
from lakefeed import lineage
from lakefeed.records.record_registry import Registry
assert len(Registry.open().query("dataset").all()) == 2
print(len(lineage("b").nodes))
"""


@pytest.mark.live
def test_a_lineage_does_not_wait_for_itself_in_a_lake_that_was_moved(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a", 1)
    Dataset("a").save("b")
    before = len(lineage("b").nodes)
    moved = home.parent / f"{home.name}_moved"
    home.rename(moved)
    monkeypatch.setenv("LAKEFEED_HOME", str(moved))
    assert finish_all([Program(ASK)]) == [f"{before}\n"]


def labels(graph: Lineage, *kinds: str) -> list[str]:
    """The nodes in order of their steps, without those of the code."""
    chosen = [each for each in graph.nodes if each.kind in (kinds or ("version", "run", "file"))]
    return [
        f"{each.label}{'' if each.state in ('present', 'completed', 'unknown') else f' {each.state}'}"
        for each in chosen
    ]


def links(graph: Lineage) -> set[tuple[str, str, str]]:
    label = {each.id: each.label for each in graph.nodes}
    return {(label[each.source], each.kind, label[each.target]) for each in graph.edges if each.kind != "code"}


def test_a_model_leads_back_to_its_versions_and_orders(home: Path, tmp_path: Path) -> None:
    save("photos", *range(4))
    save("photos", *range(4, 8))
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    with track("clean"):
        Dataset("photos", version=1).filter("x > 0").save("small")
    with track("train", params={"lr": 1}) as run:
        loader = Dataset("small").shuffle(seed=5).to_torch(batch_size=2)
        list(loader)
        logged = run.log_file(model)
        Dataset("photos").to_arrow()  # after the model was made
    up = lineage(model, down=0)
    assert labels(up) == ["model.pt", "train", "small v1", "clean", "photos v1"]
    assert links(up) == {
        ("photos v1", "read", "clean"),
        ("clean", "wrote", "small v1"),
        ("small v1", "read", "train"),
        ("train", "wrote", "model.pt"),
    }
    (read,) = [each for each in up.edges if each.kind == "read" and each.target == f"run:{run.id}"]
    assert read.facts == {"plan": loader.state_dict()["fingerprint"], "seed": 5, "epoch": 0}
    assert [each.steps for each in up.nodes if each.kind == "version"] == [-1, -2]
    same = (logged, str(model), logged.uid, "model.pt")
    assert all(labels(lineage(each, down=0)) == labels(up) for each in same)
    assert labels(lineage(model, up=0)) == ["model.pt"]
    assert labels(lineage(model, up=1, down=0)) == ["model.pt", "train", "small v1"]
    down = lineage("photos@1", up=0)
    assert labels(down)[:1] == ["photos v1"]
    assert set(labels(down)) == {"photos v1", "photos v2", "clean", "small v1", "train", "model.pt"}
    assert [labels(lineage(x, up=0, down=0)) for x in ("photos", "photos@v1", Dataset("photos", version=2))] == [
        ["photos v2"], ["photos v1"], ["photos v2"],
    ]  # fmt: skip
    assert labels(lineage(Dataset("photos").list_versions()[1], 0, 0)) == ["photos v1"]
    assert labels(lineage(Dataset("photos").filter("x > 1"), 0, 0)) == ["photos v2"]
    of_run = lineage(run)
    assert labels(of_run)[0] == "train"
    assert set(labels(of_run)) == {"train", "small v1", "photos v2", "clean", "photos v1", "model.pt"}
    assert labels(lineage(run.id)) == labels(of_run)
    (code,) = {each.name for each in of_run.nodes if each.kind == "code"}
    assert code == run.code.split(" ")[0] if run.code else False

    age(home)
    collected()
    assert logged.read() == b"weights"
    for x in (7, "", b"x", Dataset.from_dict({"x": [1]}), None):
        with pytest.raises(InvalidArgumentError):
            lineage(x)
    for bad in ({"up": -1}, {"down": 1.5}):
        with pytest.raises(InvalidArgumentError):
            lineage("photos", **bad)  # type: ignore[arg-type]
    with pytest.raises(DatasetNotFoundError, match="'photos', 'small'"):
        lineage("photo")
    with pytest.raises(VersionNotFoundError):
        lineage("photos@9")
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(DatasetNotFoundError, match="log_file"):
        lineage(tmp_path / "other")


def test_what_was_renamed_copied_trashed_deleted_or_expired_stays(home: Path) -> None:
    save("raw", 1)
    save("raw", 2)
    with track("make") as run:
        Dataset("raw", version=1).save("a")
        Dataset("raw", version=2).save("b")
    Dataset("raw").move("team.raw")
    assert labels(lineage("a", down=0)) == ["a v1", "make", "team.raw v1"]
    Dataset("team.raw").copy("copied")
    Dataset.from_dict({"x": [3]}).append_to("copied")
    assert labels(lineage("copied", down=0)) == ["copied v3", "copied v2", "team.raw v2", "team.raw v1"]
    assert links(lineage("copied@2", up=1, down=0)) == {("team.raw v2", "copy", "copied v2")}
    assert "copied v2" in labels(lineage("team.raw@2", up=0))
    Dataset("b").delete()
    assert set(labels(lineage(run, up=0))) == {"make", "a v1", "b v1 trash"}
    Dataset("team.raw").delete()
    assert labels(lineage("a", down=0)) == ["a v1", "make", "team.raw v1 trash"]
    assert labels(lineage("raw@1", up=0))[0] == "team.raw v1 trash"
    save("first", 1)
    for name in ("second", "third", "fourth"):
        Dataset("first" if name == "second" else {"third": "second", "fourth": "third"}[name]).move(name)
    assert [labels(lineage(each)) for each in ("first", "second", "third@1")] == [["fourth v1"]] * 3
    Dataset.empty_trash()
    assert labels(lineage("a", down=0)) == ["a v1", "make", "team.raw v1 deleted"]
    gone = {"team.raw v1 deleted", "team.raw v2 deleted"}
    users = {"make", "a v1", "b v1 deleted", "copied v1", "copied v2", "copied v3"}
    assert set(labels(lineage("team.raw", up=0))) == {*gone, *users}


def test_an_expired_version_keeps_its_run_and_sources(home: Path) -> None:
    save("source", 1)
    for number in range(3):
        with track(f"run {number}"):
            Dataset("source").append_to("a") if number else Dataset("source").save("a")
    lineage("a")  # the registry sees them
    table = Lake.current().table("a")
    table.maintenance.expire_snapshots().by_id(table.metadata.snapshots[0].snapshot_id).commit()
    expected = ["a v3", "run 2", "source v1", "a v2", "run 1", "a v1 expired", "run 0"]
    assert sorted(labels(lineage("a", down=0))) == sorted(expected)
    assert labels(lineage("a@1", down=0)) == ["a v1 expired", "run 0", "source v1"]
    with pytest.raises(VersionNotFoundError):
        lineage("a@7")


def test_pictures_of_names_and_parameters_that_are_odd_or_huge(home: Path) -> None:
    save("a", 1)
    with track("\x1b[31mred\x00", params={"text": "x" * 100_000, "list": list(range(100_000))}) as run:
        pass
    picture = lineage(run).svg
    assert ElementTree.fromstring(picture) is not None
    assert len(picture) < 10_000


def test_code_is_one_node_in_and_outside_of_runs(home: Path) -> None:
    save("a", 1)
    for code in ("train.py sha256:1f git:7d", "train.py sha256:1f git:7d+dirty"):
        Dataset.from_dict({"x": [2]}).append_to("a", provenance=Provenance(code=code))
    assert labels(lineage("a"), "code") == ["train.py"]


def test_versions_of_other_programs_and_replaced_rows(home: Path) -> None:
    save("a", 1, 2)
    Lake.current().catalog.load_table(("default", "a")).append(pa.table({"x": [3]}))
    with track("read") as run:
        Dataset("a").save("b")
    Dataset("a").filter("x > 1").overwrite("a")
    assert labels(lineage("b", down=0)) == ["b v1", "read", "a v2", "a v1"]
    assert links(lineage("a@2", down=0)) == {("a v1", "previous", "a v2")}
    assert links(lineage("a@3", down=0)) == set(), "all rows were replaced"
    assert Dataset("b").list_versions()[0].run == run.id


def double(rows: Dataset) -> Dataset:
    return rows.with_column("y", "x * 2")


def test_the_runs_of_a_routine(home: Path) -> None:
    doubling = Routine("double", double, "photos", "doubles")
    save("photos", 1)
    save("photos", 2)
    list(run_versions(doubling, run="abc", code="c1"))
    save("photos", 3)
    list(run_versions(doubling, run="def"))
    graph = lineage("doubles", down=0)
    assert labels(graph, "run") == ["routine double", "routine double"]
    reads = {
        (graph.node(each.source).label, each.target, each.facts.get("since"))
        for each in graph.edges
        if each.kind == "read"
    }
    assert ("photos v3", "run:def", 2) in reads
    (code,) = [each for each in graph.nodes if each.kind == "code" and "double" in each.name]
    assert {each.target for each in graph.edges if each.source == code.id} == {"run:abc", "run:def"}
    assert "doubles v1" in labels(lineage("photos@1", up=0))


def test_file_trees_and_nothing_outside_of_runs(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    tree = FileTree.create("tree", "p")
    with track("upload"):
        tree.add_files(tmp_path / "a.txt")
        tree.finalize(auto_upload=True)
    tree = FileTree.get(dataset_name="tree", dataset_project="p")
    with track("use") as run:
        tree.get_local_copy()
        save("out", 1)
    assert labels(lineage("out", down=0))[:3] == ["out v1", "use", f"{tree.dataset.name} 1.0.0"]
    assert labels(lineage(tree, down=0))[1] == "upload"
    assert [each.version for each in run.inputs] == [1]


def test_pictures_text_tables_and_json(home: Path) -> None:
    name = 'odd <name> & "quotes" – ünï'
    save("a", 1)
    with track(name, params={"a": [1, {"b": "<&>"}]}):
        Dataset("a").save("b")
    graph = lineage("b")
    picture = ElementTree.fromstring(graph.svg)
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "b v1" in texts
    assert name in texts
    assert graph._repr_html_() == graph.svg
    text = graph.mermaid
    assert text.startswith("flowchart LR\n")
    assert "#60;name#62; #38; #34;quotes#34;" in text
    assert "<" not in text
    table = graph.table
    assert table["name"].to_pylist()[:3] == ["b", name, table["name"][2].as_py()]
    assert table["sources"][0].as_py() == [graph.nodes[1].id]
    assert json.loads(json.dumps(graph.to_json()))["nodes"][0]["label"] == "b v1"
    assert repr(graph).startswith("Lineage of b v1: 4 nodes")
    empty = Lineage((), ())
    assert ElementTree.fromstring(empty.svg) is not None
    assert (empty.table.num_rows, empty.openlineage(), repr(empty)) == (0, [], "Lineage of nothing: 0 nodes, 0 edges")


def test_a_large_graph_is_cut_and_cycles_are_drawn() -> None:
    nodes = [LineageNode(f"n{number}", "version", "a", f"a v{number}", number, steps=number) for number in range(300)]
    edges = [LineageEdge(f"n{number}", f"n{number + 1}", "previous") for number in range(299)]
    edges.append(LineageEdge("n5", "n0", "read"))
    graph = Lineage(tuple(nodes), tuple(edges))
    assert "and 100 more nodes" in graph.svg
    assert "and 100 more nodes" in graph.mermaid
    assert graph.svg.count("<rect") == 201


def name_again(name: str, copies: int) -> None:
    """Makes tables whose metadata is that of one, but for the uuid."""
    lake = Lake.current()
    path = local_path(lake.table(name).metadata_location)
    assert path is not None
    metadata, rows = json.loads(path.read_bytes()), []
    for number in range(copies):
        copy = path.with_name(f"copy-{number:06d}.metadata.json")
        copy.write_text(json.dumps({**metadata, "table-uuid": str(uuid.uuid4())}))
        rows.append((lake.catalog.name, "default", f"other{number}", f"file://{copy}", "TABLE"))
    names = "catalog_name, table_namespace, table_name, metadata_location, iceberg_type"
    with closing(sqlite3.connect(lake.settings.home / "catalog.db")) as connection, connection:
        connection.executemany(f"INSERT INTO iceberg_tables ({names}) VALUES (?, ?, ?, ?, ?)", rows)


def test_a_lineage_reads_no_metadata_of_tables_that_are_not_connected(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a", 1)
    with track("one"):
        Dataset("a").save("b")
    with track("two"):
        Dataset("b").save("c")
    name_again("a", 200)
    opened: list[str] = []
    for reader in (Lake.read_file, FromInputFile.table_metadata):

        def counted(first: Any, *arguments: Any, read: Any = reader) -> Any:
            opened.append(str(arguments[0] if arguments else first.location))
            return read(first, *arguments)

        if reader is Lake.read_file:
            monkeypatch.setattr(Lake, "read_file", counted)
        else:
            monkeypatch.setattr(FromInputFile, "table_metadata", staticmethod(counted))
    assert len(lineage("c").nodes) == 6
    assert len(opened) >= 203, "the registry sees these tables for the first time"
    opened.clear()
    assert labels(lineage("c")) == ["c v1", "two", "b v1", "one", "a v1"]
    loader = FactLoader(Lake.current())
    loader.index(Roots(names=frozenset({"c"})), None, None)
    assert {each.name for each in loader.tables.values()} == {"a", "b", "c"}
    assert len(opened) <= 3
    save("c", 2)
    opened.clear()
    assert len(lineage("c").nodes) == 7
    assert len(opened) <= 4
    Lake.current().close()


def test_edges_over_several_layers_pass_between_the_nodes() -> None:
    layout = arrange(["a", "b", "c", "d"], [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "a"), ("b", "b")])
    (first, second) = layout.routes["a", "d"]
    assert [sorted(each) for each in layout.layers] == [["a"], sorted(["b", first]), sorted(["c", second]), ["d"]]
    assert layout.routes["a", "b"] == []
    assert set(layout.routes) == {("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")}, "the others close a cycle"
    nodes = tuple(LineageNode(each, "version", each, each) for each in "abcd")
    edges = tuple(LineageEdge(*each, "read") for each in [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")])
    picture = ElementTree.fromstring(Lineage(nodes, edges).svg)
    boxes = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx")]
    spans = [(float(each.get("y", 0)), float(each.get("y", 0)) + float(each.get("height", 0))) for each in boxes[1:3]]
    (path,) = [
        each.get("d", "") for each in picture.iter("{http://www.w3.org/2000/svg}path") if "H" in each.get("d", "")
    ]
    levels = [float(part.split("H")[0].split(" ")[-1]) for part in path.split("C")[1:-1]]
    assert len(levels) == 2
    assert not any(top <= level <= bottom for level in levels for top, bottom in spans)


@pytest.mark.live
def test_ten_thousand_nodes_take_less_than_a_second() -> None:
    versions = {
        number: VersionFact(number, number, number - 1 if number > 1 else None, number, 1, f"run {number}")
        for number in range(1, 5_001)
    }
    index = OriginIndex({"t": TableFact("t", "a", versions=versions)}, RegistryFacts())
    begun = time.process_time()
    graph = LineageWalk(index).lineage([VersionKey("t", 5_000)], None, None)
    picture = Lineage(graph.nodes, graph.edges).svg
    assert (len(graph.nodes), "more nodes" in picture) == (10_000, True)
    assert time.process_time() - begun < 2.0, "half a second on a quiet machine"


def test_a_collection_keeps_the_code_and_files_of_runs(home: Path, tmp_path: Path) -> None:
    save("a", 1)
    (tmp_path / "model").write_bytes(b"w" * 2_000_000)
    with track() as run:
        logged = run.log_file(tmp_path / "model")
    age(home)
    assert collect_garbage().bytes == 0
    collected()
    assert len(logged.read()) == 2_000_000


def test_keyed_tables_and_damaged_ones(home: Path) -> None:
    table = connect().create_table("pages", key_schema={"id": pa.int64()})
    with track("fill"):
        table.write({"id": [1, 2], "text": ["a", "b"]})
    save("lost", 1)
    with track("scan") as run:
        assert table.scan("text").to_table().num_rows == 2
        save("out", 1)
    assert [(each.dataset, each.version) for each in run.inputs] == [("pages", Dataset("pages").version)]
    words = connect().create_table("words", key_schema={"id": pa.int64()})
    words.write({"id": [1], "word": ["b"]})
    with track("enrich") as enriching:
        table.enrich({"word": words["word"]}).apply()
    assert sorted(each.dataset for each in enriching.inputs) == ["pages", "words"]
    up = labels(lineage(table, down=0))
    assert up[:2] == [f"pages v{Dataset('pages').version}", "enrich"]
    assert f"words v{Dataset('words').version}" in up
    (metadata,) = (home / "warehouse").glob("*/lost*/metadata/*.metadata.json")
    metadata.write_text("damaged")
    assert labels(lineage("out", down=0))[:3] == ["out v1", "scan", "pages v2"]
    assert "fill" in labels(lineage("out", down=0))
    assert labels(lineage("lost")) == ["lost v1"], "the registry has read it before"
