"""The engine of distributed routines as a Dagster resource."""

from __future__ import annotations

from typing import Any

from dagster import ConfigurableResource

from lakefeed.compute import Engine, current_engine


class ComputeResource(ConfigurableResource[Any]):
    """The engine that ``$LAKEFEED_COMPUTE`` names (`lakefeed.compute.current_engine`)."""

    def engine(self) -> Engine:
        """Returns the engine of the environment; without one, processes of the run's machine.

        Raises:
            ConfigError: the variable does not name an engine.
        """
        return current_engine()
