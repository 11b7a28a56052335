"""Loading: any legal names stand beside each other, and what is wrong in one file or declaration stops nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey, DagsterInstance, Definitions, SensorResult, build_sensor_context
from hypothesis import given
from hypothesis import strategies as st

import dataset_assets.defs
from dataset_assets.asset_keys import (
    check_identifier,
    dataset_key,
    identifier,
    ingest_key,
    op_name,
    routine_key,
    version_of,
)
from dataset_assets.broken_declaration import BrokenDeclaration
from dataset_assets.dataset import DatasetSpec
from dataset_assets.ingestion import FolderIngestion, Ingestion, as_ingestion
from definitions import build_definitions, load_declarations
from lakefeed import Dataset
from lakefeed.checks import Custom, InRange, NotNull, Unique
from lakefeed.routines import Routine
from resources.catalog_resource import CatalogResource
from resources.reload_resource import ReloadResource
from tests.orchestration.daemon import Dagster, write

ROOT = Path(__file__).parents[2]


def same(*rows: Dataset) -> Dataset:
    return rows[0]


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def keys(found: Definitions) -> set[str]:
    return {key.to_user_string() for key in found.get_repository_def().asset_graph.get_all_asset_keys()}


def described(found: Definitions, key: str) -> str:
    return found.get_repository_def().asset_graph.get(AssetKey(key.split("/"))).description or ""


# ------------------------------------------------------------------ names


NAMES = st.text(st.sampled_from("ab-._xX02dfé "), max_size=9)


@given(st.lists(NAMES, unique=True, min_size=2, max_size=30))
def test_different_names_have_different_identifiers(names: list[str]) -> None:
    assert len({identifier(name).casefold() for name in names}) == len(names)
    assert len({check_identifier(name) for name in names}) == len(names)
    assert len({ingest_key(name) for name in names}) == len(names)
    jobs, ops = {f"ingest_{identifier(name)}" for name in names}, {op_name(ingest_key(name)) for name in names}
    assert len(jobs | ops) == 2 * len(names)


@pytest.mark.parametrize("name", ["my_data", "digits", "a__b", "crop_x2_y2", "x1", "a_xff_b", "a_"])
def test_ordinary_names_are_their_own_identifiers(name: str) -> None:
    assert identifier(name) == check_identifier(name) == name
    assert op_name(dataset_key(name)) == f"datasets__{name}"


@pytest.mark.parametrize("key", ["latest", "abc", "", "v", "v0", "v03", "v-1", "v1 ", "V1", "v１", "v1.0", "1", "vv1"])
def test_keys_that_name_no_version_are_none(key: str) -> None:
    assert version_of(key) is None


@pytest.mark.live
@pytest.mark.usefixtures("lake")
def test_names_that_look_alike_load_and_run_beside_each_other(instance: DagsterInstance, home: Path) -> None:
    alike = ["my-data", "my_data", "team.photos", "team_photos"]
    boxes = ["in-box", "in_box", "in.box", "In_box", "größe 1", "_box", "box", "x002d_box", ""]
    declared = [
        *(Routine(name.replace(".", "-x-"), same, name, f"{name}-copy") for name in alike),
        Routine("both", same, ("my-data", "my_data"), "both"),
        Routine("bo-th", same, ("my_data", "my-data"), "both"),
        *(FolderIngestion(name, "boxed", f"box{at}", settle=0) for at, name in enumerate(boxes)),
    ]
    dagster = Dagster(instance, *declared)
    found = dagster.definitions()
    assert not {key for key in keys(found) if key.startswith("broken")}
    graph = found.get_repository_def().asset_graph
    assert graph.get(routine_key("both")).parent_keys == {dataset_key("my-data"), dataset_key("my_data")}
    for value, name in enumerate(alike):
        write(value, to=name)
    dagster.work()
    for value, name in enumerate(alike):
        assert Dataset(f"{name}-copy").to_arrow()["x"].to_pylist() == [value]
        assert set(dagster.reported(dataset_key(name))) == {"v1"}
    jobs = {as_ingestion(each).job_name for each in declared if isinstance(each, FolderIngestion)}
    assert len(jobs) == len(boxes)
    assert jobs <= {job.name for job in found.get_repository_def().get_all_jobs()}
    ran = range(0, len(boxes), 3)
    for at in ran:
        (home / f"box{at}").mkdir(parents=True)
        (home / f"box{at}" / "a.jsonl").write_text(f'{{"x": {at}}}\n')
    for at in ran:
        assert dagster.run_asset(ingest_key(boxes[at])).success
    assert sorted(Dataset("boxed").to_arrow()["x"].to_pylist()) == list(ran)


@pytest.mark.usefixtures("lake")
def test_checks_of_one_class_stand_beside_each_other(instance: DagsterInstance) -> None:
    checks = [NotNull("x"), NotNull("y"), InRange("x", 0, 9), InRange("x", 0, 5, blocking=False), Unique("x")]
    spec = DatasetSpec("photos", checks=[*checks, Custom("no night!", lambda rows: True)])
    Dataset.from_dict({"x": [1, 7], "y": [1, None]}).save("photos")
    dagster = Dagster(instance, spec)
    [request] = dagster.tick("versions")
    results = {each.check_name: each.passed for each in dagster.run(request).get_asset_check_evaluations()}
    assert results == {
        "readable": True,
        "files": True,
        "nulls_x": True,
        "nulls_y": False,
        "range_x_least_0_greatest_9": True,
        "range_x_least_0_greatest_5_blocking_False": False,
        "unique": True,
        "no_x0020_night_x0021_": True,
    }


# ------------------------------------------------------------------ broken


FILES = {
    "a_syntax": "def broken(:\n",
    "b_raises": 'from dataset_assets.dataset import DatasetSpec\nspec = DatasetSpec("held")\nraise KeyError("lost")\n',
    "c_argument": 'from dataset_assets.routine import routine\n@routine(on="photos", into="x", wen=3)\ndef f(): 0\n',
    "d_exits": "import sys\nsys.exit(3)\n",
    "e_imports": "import no_such_module_of_anybody\n",
    "f_sound": 'from dataset_assets.dataset import DatasetSpec\nsound = DatasetSpec("sound")\nagain = sound\n',
    "g-odd name": 'from dataset_assets.dataset import DatasetSpec\nodd = DatasetSpec("odd", owners=["nobody"])\n',
    "h_encoding": "x = '\xff'\n",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "declared"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_bytes(text.encode("latin-1"))
    monkeypatch.setattr(dataset_assets.defs, "__path__", [str(folder)])
    before = set(sys.modules)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("dataset_assets.defs."):
            del sys.modules[name]


@pytest.mark.usefixtures("lake")
def test_a_broken_file_is_one_broken_asset(instance: DagsterInstance, files: Path) -> None:
    found = build_definitions(list(load_declarations()), ["held", "photos"])
    broken = {key for key in keys(found) if key.startswith("broken/")}
    files_shown = {"a_syntax", "b_raises", "c_argument", "d_exits", "e_imports", "h_encoding"}
    assert broken == {f"broken/{name}" for name in [*files_shown, "dataset_odd"]}
    assert {"datasets/sound", "datasets/photos", "datasets/held"} <= keys(found)
    text = described(found, "broken/b_raises")
    assert f"{files}/b_raises.py does not load: KeyError: 'lost'" in text
    assert "line 3" in text
    assert "importlib" not in text
    assert "SyntaxError" in described(found, "broken/a_syntax")
    job = found.resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(
        instance=instance, asset_selection=[AssetKey(["broken", "b_raises"])], raise_on_error=False
    )
    assert not done.success


@pytest.mark.usefixtures("lake", "files")
def test_a_broken_declaration_is_a_failed_check_without_a_run(instance: DagsterInstance) -> None:
    found = build_definitions(list(load_declarations()))
    [sensor] = [each for each in found.get_repository_def().sensor_defs if each.name == "declarations"]
    with build_sensor_context(instance, definitions=found) as context:
        result = sensor(context)
    assert isinstance(result, SensorResult)
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    [record] = instance.event_log_storage.get_asset_check_execution_history(
        AssetCheckKey(AssetKey(["broken", "b_raises"]), "loads"), limit=2
    )
    assert record.status.value == "FAILED"
    with build_sensor_context(instance, cursor=result.cursor, definitions=found) as context:
        assert not isinstance(sensor(context), SensorResult), "once"


@pytest.mark.usefixtures("lake", "files")
def test_a_dataset_of_a_broken_file_is_not_passed_without_its_checks(instance: DagsterInstance) -> None:
    write(1, to="held")
    write(1, to="photos")
    found = build_definitions(list(load_declarations()), ["held", "photos"])
    [sensor] = [each for each in found.get_repository_def().sensor_defs if each.name == "versions"]
    with build_sensor_context(instance, definitions=found) as context:
        result = sensor(context, catalog=CatalogResource(), reload=ReloadResource())
    assert isinstance(result, SensorResult)
    asked = [run.asset_selection for run in result.run_requests or []]
    assert asked == [[dataset_key("photos")]], "a broken routine that reads a dataset declares no checks of it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('DatasetSpec("a")', {"a"}),
        ("x = DatasetSpec(\n  name='a', checks=[", {"a"}),
        ('DatasetSpec("a"); DatasetSpec("b")', {"a", "b"}),
        ('NAME = "c"\nDatasetSpec(NAME)', {"c"}),
        ('NAME = "c"\nDatasetSpec(name=NAME); DatasetSpec("a")', {"a", "c"}),
        ('@routine(on="a", into="b")', set()),
        ("", set()),
    ],
)
def test_a_broken_file_may_declare(text: str, expected: set[str]) -> None:
    broken = BrokenDeclaration("file", "file.py", "", "", text)
    assert {name for name in "abcd" if broken.may_declare(name)} == expected


def test_declarations_that_contradict_are_broken_one_by_one() -> None:
    found = build_definitions(
        [
            DatasetSpec("sound"),
            DatasetSpec("sound", checks=[NotNull("x")]),
            DatasetSpec("nobody", owners=["nobody"]),
            DatasetSpec("tagged", tags={"a b": "c d"}),
            DatasetSpec("a", upstreams=["b"]),
            DatasetSpec("b", upstreams=["a"]),
            Routine("copy", same, "sound", "copies"),
            Routine("copy", same, "sound", "others"),
            Routine("needs", same, "sound", "needed", resources=("missing",)),
            FolderIngestion("box", "sound", "box"),
            FolderIngestion("box", "sound", "box2"),
            FolderIngestion("never", "sound", "box3", cron="nonsense"),
            FolderIngestion("nowhere", "sound", "box4", timezone="Mars/Olympus"),
            Ingestion(None),  # type: ignore[arg-type]
        ],
        ["stray"],
    )
    assert {key for key in keys(found) if key.startswith("broken/")} == {
        "broken/dataset_sound",
        "broken/dataset_nobody",
        "broken/dataset_tagged",
        "broken/dataset_b",
        "broken/routine_copy",
        "broken/routine_needs",
        "broken/ingestion_box",
        "broken/ingestion_never",
        "broken/ingestion_nowhere",
        "broken/ingestion_unnamed",
    }
    assert {"datasets/sound", "datasets/a", "datasets/stray", "routines/copy", "ingest/box"} <= keys(found)
    assert "'sound' are declared several times" in described(found, "broken/dataset_sound")


@pytest.mark.live
def test_a_declaration_that_claims_what_another_has_is_the_broken_one() -> None:
    sound = Routine("sound", lambda rows: rows, "photos", "output")
    for wrong, name in (
        (DatasetSpec("photos", upstreams=["output"]), "dataset_photos"),
        (Routine("renamed", lambda rows: rows, "photos", "other", formerly="sound"), "routine_renamed"),
    ):
        found = keys(build_definitions([wrong, sound]))
        assert f"broken/{name}" in found
        assert {"routines/sound", "datasets/photos", "datasets/output"} <= found


@pytest.mark.live
def test_validation_reports_what_is_broken(tmp_path: Path) -> None:
    """As `dg check defs` and `dagster definitions validate` do it."""
    code = (
        "import dataset_assets.defs, sys; dataset_assets.defs.__path__ = [sys.argv[1]]\n"
        "import definitions; print(len(definitions.defs.assets))"
    )
    (tmp_path / "bad.py").write_text("raise KeyError('lost')\n")
    for strict in ("", "1"):
        variables = {"DAGSTER_IS_DEFS_VALIDATION_CLI": strict, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is not bool(strict)
        assert "bad.py does not load: KeyError: 'lost'" in done.stderr
