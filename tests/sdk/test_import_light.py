"""`import lakefeed` is cheap, and what it offers is what it says."""

from __future__ import annotations

import json
import pickle
import pkgutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import lakefeed
from lakefeed import Dataset
from lakefeed.catalog.lake import Lake

HEAVY = {"PIL", "av", "dagster", "datasets", "duckdb", "fsspec", "hypothesis", "mcap", "pandas", "polars", "pydantic"}
HEAVY |= {"pydantic_settings", "pyiceberg", "pytest", "s3fs", "scipy", "sklearn", "sqlalchemy", "tenacity", "torch"}
HEAVY |= {"tqdm", "urllib3"}
OURS = 40
"""Modules of lakefeed that ``from lakefeed import Dataset`` may load."""

LIST_MODULES = "import json, sys\n{}\njson.dump(sorted(sys.modules), sys.stdout)"
IMPORT = "from lakefeed import Dataset"


def loaded_by(statement: str) -> set[str]:
    command = [sys.executable, "-c", LIST_MODULES.format(statement)]
    return set(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))


def test_import_loads_no_heavy_library_and_few_modules_of_ours() -> None:
    loaded = loaded_by(f"import lakefeed; {IMPORT}")
    assert HEAVY & loaded == set()
    assert "pyarrow.compute" not in loaded
    assert len([name for name in loaded if name.startswith("lakefeed")]) < OURS


def test_rows_in_memory_load_neither_a_catalog_nor_file_systems() -> None:
    loaded = loaded_by(f"{IMPORT}; Dataset.from_dict({{'x': [1]}}).filter('x > 0').shuffle(seed=1).to_arrow()")
    # pyarrow itself imports pandas, where it is installed, to make an array; settings are checked by pydantic
    assert (HEAVY - {"pandas", "pydantic", "pydantic_settings"}) & loaded == set()


NOT_ON_THE_WAY = {"aiohttp", "asyncpg", "duckdb", "fsspec", "pandas", "pyarrow.compute", "pyarrow.dataset", "rich"}
NOT_ON_THE_WAY |= {"sqlalchemy", "tenacity", "tqdm", "urllib3", "PIL", "av"}
NOT_ON_THE_WAY |= {"lakefeed.catalog.sql_catalog", "lakefeed.catalog.snapshot_builder", "lakefeed.media.load_columns"}
NOT_ON_THE_WAY |= {"lakefeed.sql.query_engine", "lakefeed.storage.blobs.blob_store", "lakefeed.storage.fetch"}
OF_PYICEBERG = {"pyiceberg", "pyiceberg.exceptions"}
"""Modules of PyIceberg that a version may load which this machine has read before."""
OURS_AT_FIRST_ROW = 180
"""Modules of lakefeed that the first row of a saved dataset may load."""


def test_the_first_row_of_a_dataset_loads_what_reads_it_and_no_more(lake: Lake) -> None:
    Dataset.from_dict({"x": [1, 2], "s": ["a", "b"]}).save("rows")
    loaded = loaded_by(f"{IMPORT}; next(iter(Dataset('rows')))")
    assert (NOT_ON_THE_WAY | {"torch"}) & loaded == set()
    assert len([name for name in loaded if name.startswith("lakefeed")]) < OURS_AT_FIRST_ROW


@pytest.mark.live
def test_the_first_batch_of_a_loader_loads_no_more_than_torch_and_the_reader(lake: Lake) -> None:
    pytest.importorskip("torch")
    Dataset.from_dict({"x": [1, 2], "s": ["a", "b"]}).save("rows")
    loaded = loaded_by(f"{IMPORT}; next(iter(Dataset('rows').select(['x']).to_torch(batch_size=2)))")
    of_torch = loaded_by("import torch.utils.data")
    assert NOT_ON_THE_WAY & (loaded - of_torch) == set()


@pytest.mark.live
def test_a_version_that_was_read_before_is_read_without_pyiceberg(lake: Lake) -> None:
    Dataset.from_dict({"x": [1, 2], "s": ["a", "b"]}).save("rows")
    Dataset("rows").to_arrow()
    reads = ["next(iter(Dataset('rows')))", "next(iter(Dataset('rows', version=1)))", "len(Dataset('rows'))"]
    if find_spec("torch"):
        reads.append("next(iter(Dataset('rows').select(['x']).shuffle(seed=1).to_torch(batch_size=2)))")
    loaded = loaded_by(f"{IMPORT}; next(iter(Dataset('rows', version=1)))")  # caches the plan of this version, too
    loaded = loaded_by(f"{IMPORT}; {'; '.join(reads)}")
    assert {name for name in loaded if name.partition(".")[0] == "pyiceberg"} <= OF_PYICEBERG
    assert {"mmh3", "pyparsing", "pydantic_settings", "strictyaml", "zstandard"} & loaded == set()


RUN_COMMANDS = """
from lakefeed.cli.main import cli
output, sys.stdout = sys.stdout, sys.stderr
for arguments in {}:
    try:
        cli.main(arguments)
    except SystemExit as end:
        assert not end.code, end.code
sys.stdout = output
"""


@pytest.mark.live
def test_quick_commands_load_no_pyiceberg(lake: Lake) -> None:
    Dataset.from_dict({"x": [1, 2]}).save("rows")
    Dataset("rows").tag("t")
    lists = [["ls"], ["log", "rows@t"], ["tag", "rows"]]
    rows = [["count", "rows"], ["head", "rows@t"], ["head", "rows"], ["show", "rows"], ["schema", "rows"]]
    subprocess.run([sys.executable, "-c", f"import sys{RUN_COMMANDS.format(rows)}"], check=True)  # caches the plans
    loaded = loaded_by(RUN_COMMANDS.format([*lists, *rows]))
    heavy = {"pyiceberg", "sqlalchemy", "pydantic_settings", "fsspec", "duckdb", "rich"}
    assert {each for each in loaded if each.partition(".")[0] in heavy} <= OF_PYICEBERG
    assert "pyarrow" not in loaded_by(RUN_COMMANDS.format([["ls"]]))


def test_values_of_the_catalog_load_no_catalog() -> None:
    loaded = loaded_by("from lakefeed import Changes, DatasetVersion, Fence, Provenance, SchemaChanges, World")
    assert {"pyiceberg", "sqlalchemy", "fsspec", "duckdb"} & loaded == set()


def test_all_is_sorted_and_equals_the_public_namespace() -> None:
    assert list(lakefeed.__all__) == sorted(lakefeed.__all__)
    assert set(lakefeed.__all__) == {name for name in dir(lakefeed) if _is_public(name)} | {"errors"}


@pytest.mark.parametrize("package", ["lakefeed", "lakefeed.catalog", "lakefeed.run", "lakefeed.storage"])
def test_every_public_name_is_there_and_not_that_of_a_module(package: str) -> None:
    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    modules = {info.name for info in pkgutil.iter_modules(module.__path__)}
    assert modules & set(module.__all__) <= {"errors"}


def test_a_module_is_imported_when_it_is_used_and_replaced_through_its_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazy_package").mkdir()
    (tmp_path / "lazy_package" / "__init__.py").write_text(
        "from lakefeed._lazy import lazy_attributes\n__getattr__ = lazy_attributes(__name__, {'inner': ('NUMBER',)})\n"
    )
    (tmp_path / "lazy_package" / "inner.py").write_text("NUMBER = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    package = import_module("lazy_package")
    inner = package.inner
    assert "lazy_package.inner" not in sys.modules
    assert (package.NUMBER, inner.NUMBER, "NUMBER" in dir(inner)) == (1, 1, True)
    assert pickle.loads(pickle.dumps(inner)) is package.inner is sys.modules["lazy_package.inner"]
    for stand_in in (package.__getattr__("inner"), inner):
        with monkeypatch.context() as patch:
            patch.setattr(stand_in, "NUMBER", 3)
            assert package.inner.NUMBER == 3
        assert package.inner.NUMBER == stand_in.NUMBER == 1
    monkeypatch.setattr(inner, "NUMBER", 2)
    assert package.inner.NUMBER == 2
    monkeypatch.delattr(inner, "NUMBER")
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = package.absent
    with pytest.raises(ImportError, match="absent"):
        exec("from lazy_package import absent")


def _is_public(name: str) -> bool:
    value = getattr(lakefeed, name)
    submodule = isinstance(value, ModuleType) and value.__name__.startswith("lakefeed.")
    return not name.startswith("_") and name != "annotations" and not submodule


@pytest.mark.live
def test_forked_workers_of_a_loader_import_nothing_of_their_own(lake: Lake, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "a.bin").write_bytes(b"content")
    Dataset.from_dict({"x": [1, 2], "file": [str(tmp_path / "a.bin")] * 2}).save("rows", column_types={"file": "file"})
    program = f"""{IMPORT}
import sys
known = set()
def collate(batch):
    return sorted(name for name in set(sys.modules) - known if name.startswith("lakefeed"))
loader = Dataset("rows").to_torch(batch_size=1, num_workers=2, collate_fn=collate, load_files="bytes")
assert list(loader)
known = set(sys.modules)
assert list(loader) == [[], []], list(loader)
"""
    loaded_by(program)
