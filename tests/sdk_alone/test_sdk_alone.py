"""The SDK in an environment of its own: neither Dagster nor torch, then only what its tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST_TOOLS = ("hypothesis", "pytest", "pytest-timeout")
ABSENT = ("dagster", "torch")
OWN_LIMIT = 600  # seconds
SHARE = ("formats", "media", "sources", "test_client.py", "test_dataset.py", "test_import_light.py", "test_show.py")
"""Where optional libraries come in; `make soak` runs all the tests of the SDK."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(OWN_LIMIT + 60)]

SMOKE = """
import importlib.util, lakefeed
from lakefeed import Dataset
for name in {absent}:
    assert importlib.util.find_spec(name) is None, name
saved = Dataset.from_dict({{"a": [1, 2, 3]}}).save("smoke")
Dataset.from_dict({{"a": [4]}}).append_to("smoke")
assert Dataset("smoke").filter("a > 2").to_arrow().to_pydict() == {{"a": [3, 4]}}
assert saved.version == 1 and lakefeed.list_datasets()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds `pip install ./sdk` and nothing else."""
    place = tmp_path_factory.mktemp("sdk-alone")
    # From a copy: a build in the tree would leave its folders there, and pick up old ones.
    source = shutil.copytree(ROOT / "sdk", place / "sdk", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    venv.create(place / "env", with_pip=True, symlinks=True)
    interpreter = place / "env" / "bin" / "python"
    _pip_install(interpreter, str(source))
    return interpreter


def test_the_bare_sdk_works(python: Path, tmp_path: Path) -> None:
    _run([python, "-W", "error", "-c", SMOKE.format(absent=(*ABSENT, "pandas", "PIL"))], cwd=tmp_path)


@pytest.mark.parametrize(
    "share",
    [pytest.param(SHARE, id="share"), pytest.param(("",), marks=[pytest.mark.soak, pytest.mark.timeout(0)], id="all")],
)
def test_the_tests_of_the_sdk_pass(python: Path, share: tuple[str, ...]) -> None:
    _pip_install(python, "av", "mcap", "pandas", "pillow", *TEST_TOOLS)
    quick = ["-m", "not slow and not soak and not live", "-p", "no:cacheprovider", "-q", "-x"]
    limit = OWN_LIMIT if share == SHARE else None
    _run([python, "-m", "pytest", *(f"tests/sdk/{part}" for part in share), *quick], cwd=ROOT, limit=limit)


def _pip_install(python: Path, *what: str) -> None:
    _run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *what], cwd=python.parent)


def _run(command: list[str | Path], cwd: Path, limit: float | None = OWN_LIMIT) -> None:
    # What the outer run was told (its report file, its workers) is not meant for the inner one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONPATH"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, f"{done.stdout[-5_000:]}\n{done.stderr[-5_000:]}"
