"""The engine that the environment names."""

from __future__ import annotations

import os

from lakefeed.compute.compute_engine import Engine
from lakefeed.compute.dask import Dask
from lakefeed.compute.processes import Processes
from lakefeed.compute.ray_cluster import Ray
from lakefeed.errors import ConfigError

VARIABLE = "LAKEFEED_COMPUTE"


def current_engine() -> Engine:
    """Returns the engine that ``$LAKEFEED_COMPUTE`` names; without it, processes of this machine.

    Its values are ``processes``, ``processes:8``, ``dask``, ``dask:8``, ``ray``, ``ray:8``, and a cluster's
    ``tcp://host:8786`` or ``ray://host:10001``.

    Raises:
        ConfigError: the variable does not name an engine.
    """
    return engine_of(os.environ.get(VARIABLE) or "processes")


def engine_of(text: str) -> Engine:
    """Returns the engine that a text names.

    Raises:
        ConfigError: the text does not name an engine.
    """
    if "://" in text:
        return Ray(text) if text.startswith("ray:") else Dask(text)
    kind, _, number = text.partition(":")
    if kind not in ("processes", "dask", "ray") or (number and not number.isdecimal()):
        raise ConfigError(
            f'{VARIABLE}={text!r} does not name an engine; use "processes", "processes:8", "dask", "dask:8", "ray", '
            '"ray:8", "tcp://host:8786" or "ray://host:10001"'
        )
    workers = int(number) if number else None
    if kind != "processes":
        return Dask(workers=workers) if kind == "dask" else Ray(workers=workers)
    return Processes() if workers is None else Processes(workers)
