"""The engine of distributed routines as a Dagster resource."""

from __future__ import annotations

import os
from typing import Any

from dagster import ConfigurableResource

from lakefeed.compute import Dask, Engine, Processes, Ray
from lakefeed.errors import ConfigError

VARIABLE = "LAKEFEED_COMPUTE"


class ComputeResource(ConfigurableResource[Any]):
    """The engine that ``$LAKEFEED_COMPUTE`` names.

    Its values are ``processes``, ``processes:8``, ``dask``, ``dask:8``, ``ray``, ``ray:8``, and a cluster's
    ``tcp://host:8786`` or ``ray://host:10001``.
    """

    def engine(self) -> Engine:
        """Returns the engine of the environment; without one, processes of the run's machine.

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
