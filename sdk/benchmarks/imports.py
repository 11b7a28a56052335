"""Imports, each in a process of its own and in turn, beside `import pyarrow`; the first row of a dataset, and a batch.

    python sdk/benchmarks/imports.py

The best of the rounds counts. Times begin when the interpreter runs the first statement, so its own start is not in
them; the first row and the first batch include the imports. The goal of the batch is counted from `import torch`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from lakefeed import Dataset

ROUNDS = 5
BASE = "import pyarrow"
TORCH = "import torch"
FIRST_ROW = "from lakefeed import Dataset; next(iter(Dataset('digits')))"
FIRST_BATCH = "from lakefeed import Dataset; next(iter(Dataset('digits').select(['x']).to_torch(batch_size=2)))"
GOALS = {  # times the base, seconds, or seconds above `import torch`
    BASE: None,
    "import lakefeed": (2.0, "x"),
    "from lakefeed import Dataset": (2.0, "x"),
    "from lakefeed import Dataset; Dataset.from_dict({'x': [1]}).filter('x > 0')": None,
    "import pyiceberg.catalog.sql": None,
    FIRST_ROW: (1.0, "s"),
    TORCH: None,
    FIRST_BATCH: (0.5, "s above torch"),
}
TIMED = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"


def seconds(statement: str) -> float:
    """Runs a statement in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(statement)], stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    """Prints a line for each statement."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAKEFEED_HOME"] = home
        Dataset.from_dict({"x": [1, 2, 3]}).save("digits")
        times: dict[str, list[float]] = {statement: [] for statement in GOALS}
        for _ in range(ROUNDS + 1):  # the first round writes bytecode and warms the disk cache
            for statement, taken in times.items():
                taken.append(seconds(statement))
    best = {statement: min(taken[1:]) for statement, taken in times.items()}
    print(f"{'':106}{'s':>7}{'x base':>8}  goal")
    for statement, goal in GOALS.items():
        wanted = "" if goal is None else f"{goal[0]:.1f} {goal[1]}"
        print(f"{statement:106}{best[statement]:7.3f}{best[statement] / best[BASE]:8.2f}  {wanted}", flush=True)


if __name__ == "__main__":
    main()
