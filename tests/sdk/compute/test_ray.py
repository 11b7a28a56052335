"""`Ray`: what it says without Ray installed, and, in an environment of its own, a cluster whose workers are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table
from lakefeed.compute import Ray, save
from lakefeed.errors import InvalidArgumentError, MissingDependencyError

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("ray_program.py")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_error_names_the_extra(home: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    with pytest.raises(MissingDependencyError, match=r"Ray is not installed: pip install 'lakefeed\[ray\]'"):
        save(Dataset("rows"), "copies", Ray())
    with pytest.raises(MissingDependencyError, match="Ray"):
        _ = Ray("auto").width
    assert not Dataset.exists("copies")
    table = Table.create("pages", key_schema={"id": pa.int64()})
    with pytest.raises(MissingDependencyError, match=r"lakefeed\[ray,pandas\]"):
        table.scan().to_ray()
    with pytest.raises(InvalidArgumentError, match="shards"):
        table.scan().to_ray(shards=[7])  # type: ignore[list-item]


def test_bad_arguments() -> None:
    for arguments in ({"address": 7}, {"address": ""}, {"workers": 0}, {"workers": 1.5}):
        with pytest.raises(InvalidArgumentError):
            Ray(**arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="either an address or a number of workers"):
        Ray("auto", 2)
    assert Ray() == Ray(None, None)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_cluster_in_an_environment_of_its_own(home: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    packages = next((environment / "lib").iterdir()) / "site-packages"
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *constraints, "ray"], check=True)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "sdk" / "src"), str(ROOT)])}
    done = subprocess.run([str(python), str(PROGRAM)], env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr[-4000:]
