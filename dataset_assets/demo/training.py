"""Training as a user would do it: in processes of its own that know the SDK and torch, and nothing of Dagster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_assets.demo.server import ROOT

SCRIPT = ROOT / "examples" / "train_digits.py"
STOP_AFTER = 100
SECONDS = 120


class TrainingError(RuntimeError):
    """A training process failed, or resuming was not exact."""


@dataclass(frozen=True)
class Trained:
    """The result: ``stopped`` and ``total`` in steps, and the ``rows`` that were compared one by one."""

    stopped: int
    total: int
    rows: int
    accuracy: float
    rows_per_second: float


def train(version: int, work: Path) -> Trained:
    """Trains once in one go and once stopped in the middle of an epoch and resumed in a new process; compares both.

    Raises:
        TrainingError: a process failed, or the two runs differ in any row or weight.
    """
    shutil.rmtree(work, ignore_errors=True)
    straight = _started(version, work / "straight")
    _finished(_started(version, work / "resumed", "--stop-after", str(STOP_AFTER)))
    _finished(_started(version, work / "resumed"))
    _finished(straight)
    whole = _report(work / "straight", 0)
    first, second = _report(work / "resumed", 0), _report(work / "resumed", STOP_AFTER)
    if first["ids"] + second["ids"] != whole["ids"]:
        raise TrainingError("the resumed training saw other rows, or another order, than the uninterrupted one")
    if second["weights"] != whole["weights"]:
        raise TrainingError("the resumed training ended with other weights than the uninterrupted one")
    return Trained(STOP_AFTER, whole["steps"], len(whole["ids"]), second["accuracy"], second["rows_per_second"])


def _started(version: int, work: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), "--version", str(version), "--work", str(work), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finished(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=SECONDS)
    if process.returncode:
        raise TrainingError(f"training ended with exit code {process.returncode}:\n{output}")


def _report(work: Path, first_step: int) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((work / f"report-{first_step}.json").read_text())
    return report
