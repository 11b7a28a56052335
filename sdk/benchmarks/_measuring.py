"""Contestants that take turns, and lines of a table."""

from __future__ import annotations

import time
from collections.abc import Callable


def section(
    title: str, contestants: dict[str, Callable[[], int]], goals: dict[str, tuple[str, float]], rounds: int
) -> None:
    """Lets the contestants take turns and prints a line for each."""
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            begun, worked = time.perf_counter(), time.process_time()
            rows = work()
            taken[name].append((time.perf_counter() - begun, time.process_time() - worked, rows))
    print(f"\n{title}\n{'':36}{'rows/s':>12}{'s CPU/M rows':>14}{'of base':>9}{'goal':>7}  base")
    best = {name: min(seconds / rows for seconds, _, rows in times) for name, times in taken.items()}
    for name, times in taken.items():
        base, goal = goals.get(name, ("", 0.0))
        ratio = f"{best[base] / best[name]:9.2f}{goal:7.2f}  {base}" if base else ""
        worked = min(seconds / rows for _, seconds, rows in times) * 1e6
        print(f"{name:36}{1 / best[name]:12,.0f}{worked:14.2f}{ratio}", flush=True)


def line(name: str, value: float, goal: float, unit: str) -> None:
    """Prints a line of its own."""
    print(f"{name:36}{value:12,.3f} {unit:10}{goal:12,.3f}", flush=True)
