"""Datasets of every kind of data: saved whole or not at all, found again, and hardly changed afterwards."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import lakefeed
import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    BudgetExceededError,
    CatalogUnavailableError,
    ColumnNotFoundError,
    CredentialsError,
    ImmutableRecordError,
    InUseError,
    InvalidArgumentError,
    MissingFileError,
    RecordNotFoundError,
    TypeMismatchError,
    UnsavedDatasetError,
    UnsupportedError,
)
from lakefeed.registry import record_rows

pytestmark = pytest.mark.live  # many lakes


def saved(data: object, name: str | None = "x", **facts: object) -> ln.Dataset:
    dataset = ln.Dataset(data, name=name, **facts)  # type: ignore[arg-type]
    dataset.save()
    return dataset


def frame(*values: int) -> pd.DataFrame:
    return pd.DataFrame({"x": list(values)})


@pytest.mark.parametrize(
    "data",
    [None, 7, b"x", {}, {"x": [1]}, [], ["a"], [frame(1)], (), object(), pd.Series([1]), float("nan"), "", "a\0b"],
    ids=lambda data: type(data).__name__,
)
def test_data_of_other_types_are_errors_at_once(data: object) -> None:
    with pytest.raises(InvalidArgumentError):
        ln.Dataset(data, name="x")


def test_arguments_are_checked_before_anything_is_read(lake: Lake) -> None:
    with pytest.raises(InvalidArgumentError, match="needs a name"):
        ln.Dataset(frame(1))
    with pytest.raises(TypeMismatchError, match="must be a Dataset"):
        ln.Dataset(frame(1), is_new_version_of=frame(1))  # type: ignore[arg-type]
    with pytest.raises(TypeMismatchError, match="must be a File or a Dataset"):
        ln.File("gone.csv", is_new_version_of=7)
    with pytest.raises(InvalidArgumentError, match="meta describes"):
        ln.Dataset(frame(1), name="x", meta=frame(1))
    with pytest.raises(InvalidArgumentError, match="meta must be"):
        ln.Dataset("folder", name="x", meta="meta.csv")
    with pytest.raises(CredentialsError):
        ln.Dataset("https://user:secret@example.com/x.csv", name="x")
    for version in ("", " ", "a\n", "v" * 129, 7):
        with pytest.raises(InvalidArgumentError, match="version must be"):
            ln.Dataset(frame(1), name="x", version=version)  # type: ignore[arg-type]
    for facts in ({"description": 7}, {"reference": 7}, {"labels": 7}, {"labels": [7]}, {"run": 7}):
        with pytest.raises(InvalidArgumentError):
            ln.Dataset(frame(1), name="x", **facts)  # type: ignore[arg-type]
    unread = ln.Dataset("gone/", name="x")
    with pytest.raises(MissingFileError):
        unread.save()
    assert lakefeed.list_datasets() == []


def test_what_is_not_saved_has_provisional_facts(lake: Lake) -> None:
    dataset = ln.Dataset(frame(1), name="x", labels=["raw"])
    assert (dataset.uid, dataset.id, dataset.hash, dataset.created_at, dataset.run) == (None,) * 5
    assert (dataset.version, dataset.initial_version, dataset.versions) == ("1", dataset, [])
    third = ln.Dataset(frame(3), is_new_version_of=ln.Dataset(frame(2), is_new_version_of=dataset))
    assert (third.version, third.initial_version, third.name) == ("3", dataset, "x")
    assert dataset.labels.list() == ["raw"]
    for method in ("load", "backed", "stage"):
        with pytest.raises(UnsavedDatasetError, match="is not saved yet"):
            getattr(dataset, method)()
    with pytest.raises(UnsavedDatasetError, match="call save"):
        third.save()


def test_a_record_has_the_facts_of_its_commit(lake: Lake) -> None:
    dataset = saved(
        frame(1, 2),
        "Two numbers",
        description="d",
        reference="r-1",
        reference_type="id",
        labels=["raw", ln.ULabel("b")],
    )
    found = ln.Dataset.get(str(dataset.uid))
    assert found == dataset
    assert found is not dataset
    for record in (dataset, found):
        assert (record.name, record.description, record.version) == ("Two numbers", "d", "1")
        assert (record.reference, record.reference_type) == ("r-1", "id")
        assert record.labels.list() == ["b", "raw"]
        assert record.created_by is not None
        assert len(str(record.uid)) == 20
        assert len(str(record.hash)) == 64
        assert (record.visibility, record.files, record.file, record.tree) == (ln.Visibility.default, [], None, None)
        assert record.dataset.to_pandas()["x"].tolist() == [1, 2]
    assert ln.Dataset.get(str(dataset.uid)[:16]) == dataset
    assert [each.name for each in lakefeed.list_datasets()] == [dataset.dataset.name]
    dataset.save()
    assert len(dataset.dataset.list_versions()) == 1
    with pytest.raises(RecordNotFoundError):
        ln.Dataset.get("0" * 20)


def test_a_saved_record_hardly_changes(lake: Lake) -> None:
    dataset = saved(frame(1))
    for name in ("name", "version", "hash", "uid", "run", "initial_version", "created_at", "key"):
        if name != "key":
            with pytest.raises(ImmutableRecordError, match="'description'"):
                setattr(dataset, name, "y")
    with pytest.raises(AttributeError, match="no field 'nmae'"):
        dataset.nmae = "y"
    with pytest.raises(InvalidArgumentError):
        dataset.description = 7  # type: ignore[assignment]
    with pytest.raises(InvalidArgumentError, match=r"0 \(default\)"):
        dataset.visibility = 9  # type: ignore[assignment]
    dataset.description, dataset.reference, dataset.visibility = "new", "r", ln.Visibility.hidden  # type: ignore[misc]
    dataset.save()
    dataset.labels.add("checked")
    found = ln.Dataset.get(str(dataset.uid))
    assert (found.description, found.reference, found.visibility) == ("new", "r", 1)
    assert found.labels.list() == ["checked"]
    assert not ln.Dataset.filter(name="x")
    assert ln.Dataset.filter(visibility=1).one() == dataset
    dataset.labels.remove("checked")
    assert len(found.labels) == 0


def test_identical_content_is_one_record(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    first = saved(frame(1, 2), "first")
    with caplog.at_level(logging.INFO, "lakefeed.registry"):
        second = saved(pa.table({"x": [1, 2]}), "second")
    assert (second == first, second.name, len(caplog.records)) == (True, "first", 1)
    assert saved(lakefeed.Dataset.from_dict({"x": [1, 2]}), "rows") == first
    assert saved(frame(2, 1), "order") != first
    assert saved(pd.DataFrame({"x": [1.0, 2.0]}), "type") != first
    assert saved(pd.DataFrame({"y": [1, 2]}), "name") != first
    twice = saved(frame(1, 2), "twice", allow_duplicate=True)
    assert (twice != first, twice.hash) == (True, first.hash)
    first.delete()
    twice.delete()
    assert saved(frame(1, 2), "again") not in (first, twice)


def test_versions_have_labels_of_their_own(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    first = saved(frame(1), "numbers", version="2024.1")
    second = saved(frame(1, 2), None, is_new_version_of=first)
    assert (first.version, second.version, second.name) == ("2024.1", "2", "numbers")
    with pytest.raises(InvalidArgumentError, match=r"'2024.1' is taken.*'2', '2024.1'"):
        saved(frame(3), None, is_new_version_of=second, version="2024.1")
    with caplog.at_level(logging.WARNING, "lakefeed.registry"):
        third = saved(frame(3), None, is_new_version_of=first)
    assert "is not the newest version" in caplog.text
    assert [each.version for each in first.versions] == ["2024.1", "2", "3"]
    assert third.initial_version == second.initial_version == first.initial_version == first
    assert [record.load()["x"].tolist() for record in third.versions] == [[1], [1, 2], [3]]
    assert ln.Dataset.filter(name="numbers", latest=True).one() == third
    assert lakefeed.Dataset(third.dataset.name, version="2024.1").count() == 1


def test_each_version_has_its_own_columns(lake: Lake) -> None:
    first = saved(pd.DataFrame({"a": [1], "b": ["x"]}), "columns")
    second = saved(pd.DataFrame({"c": [2.5], "a": [2]}), None, is_new_version_of=first)
    assert first.load().columns.tolist() == ["a", "b"]
    assert second.load().to_dict("list") == {"c": [2.5], "a": [2]}
    third = saved(pd.DataFrame({"b": ["y"]}), None, is_new_version_of=second)
    fourth = saved(pd.DataFrame({"a": [3], "d": [True]}), None, is_new_version_of=third)
    assert [each.load().to_dict("list") for each in fourth.versions[2:]] == [{"b": ["y"]}, {"a": [3], "d": [True]}]
    with pytest.raises(TypeMismatchError, match="'b'"):
        saved(pd.DataFrame({"b": [1]}), None, is_new_version_of=fourth)


def test_two_datasets_of_one_name_are_two_chains(lake: Lake) -> None:
    first, second = saved(frame(1), "same"), saved(frame(2), "same")
    assert first.dataset.name != second.dataset.name
    assert (first.version, second.version) == ("1", "1")
    assert len(ln.Dataset.filter(name="same")) == 2


def test_a_folder_has_versions_metadata_and_a_tree(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub/b.txt").write_text("b")
    first = saved(folder, "photos", meta=pd.DataFrame({"path": ["a.txt"], "kind": ["plain"]}))
    assert first.tree is not None
    assert first.tree.list_files() == ["a.txt", "sub/b.txt"]
    assert first.dataset.to_pandas()["kind"].fillna("").tolist() == ["plain", ""]
    assert saved(str(folder), "other", meta=pa.table({"path": ["a.txt"], "kind": ["plain"]})) == first
    (folder / "a.txt").write_text("changed")
    second = saved(folder, None, is_new_version_of=first)
    assert (second.version, second.initial_version == first) == ("2", True)
    assert (Path(str(second.stage())) / "a.txt").read_text() == "changed"
    assert (Path(str(first.stage())) / "a.txt").read_text() == "a"
    with pytest.raises(ColumnNotFoundError, match="'path'"):
        saved(folder, "x", meta=frame(1))
    for paths in (["gone.txt"], ["a.txt", "a.txt"]):
        with pytest.raises(InvalidArgumentError, match="path"):
            saved(folder, "x", meta=pa.table({"path": paths}))
    with pytest.raises(InvalidArgumentError, match="rename"):
        saved(folder, "x", meta=pa.table({"path": ["a.txt"], "etag": ["x"]}))


def test_files_keep_their_order_and_may_occur_twice(lake: Lake, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"x\n{name}\n")
    a, b = ln.File(tmp_path / "a.csv", key="raw/a.csv"), ln.File(tmp_path / "b.csv")
    a.save()
    dataset = saved([b, a, b], "list")
    assert dataset.load()["x"].tolist() == ["b", "a", "b"]
    assert [each.uid for each in dataset.files] == [b.uid, a.uid, b.uid]
    assert ln.File.filter(dataset=dataset).count() == 2
    assert saved([b, a, b], "same") == dataset
    assert saved([a, b, b], "other order") != dataset
    with pytest.raises(InUseError, match="dataset list") as caught:
        a.delete(permanent=True)
    assert len(caught.value.users) == 2
    a.delete()
    assert dataset.load()["x"].tolist() == ["b", "a", "b"]
    with pytest.raises(TypeMismatchError, match="opens one file"):
        dataset.backed()


def test_loads_are_bounded_and_files_of_several_kinds_are_not_joined(lake: Lake, tmp_path: Path) -> None:
    dataset = saved(frame(*range(1000)), "numbers")
    with pytest.raises(BudgetExceededError):
        dataset.load(max_bytes=100)
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "a.txt").write_text("text")
    text = ln.File(tmp_path / "a.txt")
    mixed = saved([ln.File(tmp_path / "a.csv"), text], "mixed")
    with pytest.raises(TypeMismatchError, match=r"'.csv', '.txt'"):
        mixed.load()
    with pytest.raises(BudgetExceededError, match="max_bytes=4"):
        text.load(max_bytes=3)
    with pytest.raises(InvalidArgumentError, match="join must be"):
        mixed.load(join="left")  # type: ignore[arg-type]
    with pytest.raises(TypeMismatchError, match=r"opens \.h5ad files"):
        text.backed()


def test_the_trash_and_what_is_deleted_for_good(lake: Lake) -> None:
    first = saved(frame(1), "numbers")
    second = saved(frame(2), None, is_new_version_of=first)
    second.delete()
    assert ln.Dataset.filter(name="numbers").one() == first
    assert ln.Dataset.filter(name="numbers", latest=True).one() == first
    assert ln.Dataset.get(str(second.uid)).load()["x"].tolist() == [2]
    with pytest.raises(InvalidArgumentError, match="permanent=True"):
        second.delete()
    with pytest.raises(UnsupportedError, match="collect_garbage"):
        first.delete(storage=False)
    second.restore()
    assert [each.version for each in ln.Dataset.filter(name="numbers").order_by("created_at")] == ["1", "2"]
    second.delete(permanent=True)
    assert [each.version for each in first.dataset.list_versions()] == [1]
    assert ln.Dataset.filter(name="numbers").list() == [first]
    third = saved(frame(3), None, is_new_version_of=first)
    assert (third.version, third.versions) == ("3", [first, third])
    lakefeed.Dataset(first.dataset.name).delete()
    assert ln.Dataset.get(str(first.uid)).visibility == ln.Visibility.trash
    assert not ln.Dataset.filter(name="numbers")


def test_a_record_follows_its_dataset(lake: Lake) -> None:
    record, gone = saved(frame(1), "first"), saved(frame(2), "gone")
    saved(frame(3), None, is_new_version_of=gone)
    lakefeed.Dataset(record.dataset.name).move("second")
    assert (record.load()["x"].tolist(), record.dataset.name) == ([1], "second")
    assert [node.name for node in record.view_lineage().nodes if node.kind == "version"] == ["second"]
    lakefeed.Dataset("second").delete()
    with pytest.raises(UnsupportedError, match="undelete"):
        record.restore()
    lakefeed.Dataset.undelete("second")
    assert record.load()["x"].tolist() == [1]
    ln.Dataset.get(str(gone.uid)).delete(permanent=True)
    for change in (gone.save, gone.restore, gone.delete):
        with pytest.raises(RecordNotFoundError, match="expired"):
            change()
    graph = gone.view_lineage()
    assert [(node.name, node.version, node.state) for node in graph.nodes][:1] == [(gone.dataset.name, 1, "expired")]


def test_a_table_is_read_without_the_registry(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    record = saved(frame(1))

    def fail(*arguments: object) -> None:
        raise CatalogUnavailableError("the database is away")

    monkeypatch.setattr(record_rows, "find_row", fail)
    assert (record.dataset.count(), record.load()["x"].tolist()) == (1, [1])


def test_a_list_whose_files_were_deleted(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.csv").write_text("x\n2\n")
    file, other = ln.File(tmp_path / "a.csv"), ln.File(tmp_path / "b.csv")
    ln.File.save_all([file, other])
    files = saved([file], "files")
    file.delete(permanent=True, force=True)
    assert (files.load()["x"].tolist(), files.rows().count()) == ([1], 1)  # the list has what reads need
    assert [(each.uid, each.visibility, each.load()["x"].tolist()) for each in files.files] == [(file.uid, 2, [1])]
    with pytest.raises(RecordNotFoundError, match="deleted for good"):
        file.save()
    with pytest.raises(RecordNotFoundError, match=str(file.uid)):
        saved([other, file], "both")
    assert ln.Dataset.filter(name="both").count() == 0
    again = saved([ln.File(tmp_path / "a.csv")], "again")
    assert (again == files, again.load()["x"].tolist()) == (False, [1])
    assert saved([ln.File(tmp_path / "a.csv")], "third") == again


def test_versions_of_other_writers_are_records(lake: Lake) -> None:
    lakefeed.Dataset.from_dict({"x": [1]}).save("plain", description="of a plain save")
    record = ln.Dataset.filter(name="plain").one()
    assert (record.version, record.description, record.load()["x"].tolist()) == ("1", "of a plain save", [1])
    second = saved(frame(5), None, is_new_version_of=record)
    assert (second.version, second.name) == ("2", "plain")
    assert lakefeed.Dataset("plain").to_pandas()["x"].tolist() == [5]


def test_versions_of_a_chain_have_data_of_one_form(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.csv").write_text("x\n1\n")
    table, folder = saved(frame(1), "table"), saved(tmp_path / "folder", "folder")
    files = saved([ln.File(tmp_path / "folder/a.csv")], "files")
    for former, data in ((table, tmp_path / "folder"), (folder, frame(2)), (files, frame(2)), (table, files.files)):
        with pytest.raises(TypeMismatchError, match="save them as a new dataset"):
            saved(data, None, is_new_version_of=former)
    assert len(ln.Dataset.filter()) == 3
    folder.delete(permanent=True)
    assert ln.Dataset.filter(name="folder").list() == []
    with pytest.raises(RecordNotFoundError, match="were deleted"):
        saved(tmp_path / "folder", None, is_new_version_of=folder)


def test_a_known_list_gives_its_files_to_new_ones(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    known = saved([ln.File(tmp_path / "a.csv", labels=[ln.ULabel("raw", type="State")])], "known")
    assert [(each.type, each.name) for each in known.files[0].labels] == [("State", "raw")]
    file = ln.File(tmp_path / "a.csv")
    labelled = ln.Dataset([file], name="same", labels=[ln.ULabel("x", type="T")])
    labelled.save()
    assert (labelled, file.uid, len(labelled.labels)) == (known, known.files[0].uid, 0)
    typed = saved(frame(1), "typed", labels=[ln.ULabel("cat", type="Species"), "plain"])
    assert [(each.type, each.name) for each in typed.labels] == [("", "plain"), ("Species", "cat")]
    assert ln.ULabel.filter(name="cat").one().type == "Species"


def test_tables_without_rows_and_folders_elsewhere(lake: Lake) -> None:
    import fsspec

    empty = saved(pa.table({"x": pa.array([], pa.int64())}), "empty")
    assert (empty.load().shape, empty.version) == ((0, 1), "1")
    for name in ("a", "b"):
        fsspec.filesystem("memory").pipe(f"/bucket-of-registry/images/{name}.png", name.encode())
    remote = saved("memory://bucket-of-registry/images/", "remote", meta=pa.table({"path": ["a.png"], "well": [1]}))
    assert remote.tree is not None
    assert remote.tree.list_files() == ["a.png", "b.png"]
    assert remote.dataset.filter("well = 1").count() == 1
    one = saved("memory://bucket-of-registry/images/a.png", "one")
    assert one.file is not None
    assert (one.file.suffix, one.file.size, one.load()) == (".png", 1, b"a")


def test_the_index_of_a_frame_is_part_of_the_content(lake: Lake) -> None:
    first, second = (saved(frame(1, 2).set_axis(index), "indexed") for index in (["a", "b"], ["a", "c"]))
    assert first != second
    assert second.load().equals(frame(1, 2).set_axis(["a", "c"]))
    assert second.dataset.schema.names == ["x", "index"]
    levels = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["index", None])
    several = saved(frame(1, 2).set_index(levels), "levels")
    assert several.dataset.schema.names == ["x", "index", "level_1"]
    assert several.load().equals(frame(1, 2).set_index(levels))
    same = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["k", "k"])
    several = saved(frame(1, 2).set_index(same), "names of levels that are the same")
    assert several.dataset.schema.names == ["x", "k", "level_1"]
    assert several.load().equals(frame(1, 2).set_index(same))
    pair = saved(frame(1, 2).set_index(pd.Index(["a", "b"], name=("k", 1))), "a name that is no text")
    assert (pair.load().index.name, pair.load().columns.tolist()) == ("('k', 1)", ["x"])
    named = saved(frame(1, 2).rename_axis("row"), "named")
    assert (named.load().index.name, named.load().columns.tolist()) == ("row", ["x"])
    filtered = saved(frame(5, 6, 7).iloc[1:], "filtered")  # numbers of rows are no content
    assert filtered.load().equals(frame(6, 7))
    assert ln.Dataset.from_df(frame(8).set_axis(["a"]), name="described").problems[0].column == "x"
    assert len(ln.Dataset.from_df(frame(8).set_axis(["a"]), name="described").problems) == 1
    later = saved(frame(9), None, is_new_version_of=second)
    assert later.load().equals(frame(9))


def test_a_record_that_is_gone_gets_no_labels(lake: Lake) -> None:
    first = saved(frame(1), "short")
    saved(frame(2), None, is_new_version_of=first)
    first.delete(permanent=True)
    with pytest.raises(RecordNotFoundError):
        first.labels.add("late")


def test_columns_of_the_metadata_of_a_folder_come_and_go(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for name in ("a.txt", "b.txt"):
        Path(f"folder/{name}").write_text(name)
    first, columns = saved("folder", "folder"), list[list[str]]()
    for number, meta in enumerate(({"split": ["train"]}, {"score": [0.5]}, None, {"split": ["test"]})):
        Path("folder/a.txt").write_text(str(number))
        frame_of_meta = None if meta is None else pd.DataFrame({"path": ["a.txt"], **meta})
        version = saved("folder", None, is_new_version_of=first.versions[-1], meta=frame_of_meta)
        columns.append(version.dataset.schema.names[5:])
    assert columns == [["split"], ["score"], [], ["split"]]
    assert version.dataset.to_pandas()["split"].tolist()[0] == "test"
    assert [len(each.dataset.schema.names) for each in first.versions] == [5, 6, 6, 5, 6]
    meta_of_numbers = pd.DataFrame({"path": ["a.txt"], "split": [1]})
    with pytest.raises(TypeMismatchError, match="split"):
        saved("folder", None, is_new_version_of=version, meta=meta_of_numbers)
    Path("empty").mkdir()
    with pytest.raises(MissingFileError, match=r"there are no files in '/.*/empty'"):
        saved("empty", "empty")
