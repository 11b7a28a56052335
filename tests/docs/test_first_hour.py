"""examples/first_hour.sh, a newcomer's first hour, runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "first_hour.sh"


@pytest.mark.live
@pytest.mark.timeout(600)
def test_the_first_hour(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if not name.startswith("LAKEFEED")}
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n# ") == 9
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
