"""Rows that are made by many processes, and land in one version: `save` and `append_to` with an engine."""

from lakefeed.compute.dask import Dask
from lakefeed.compute.engine import Engine
from lakefeed.compute.processes import Processes
from lakefeed.compute.write import append_to, save

__all__ = ["Dask", "Engine", "Processes", "append_to", "save"]
