"""Writes whose rows are made by many processes, in one version: `save` and `append_to` with an engine."""

from lakefeed.compute.compute_engine import Engine
from lakefeed.compute.dask import Dask
from lakefeed.compute.distributed_write import append_to, save
from lakefeed.compute.engine_names import current_engine
from lakefeed.compute.processes import Processes
from lakefeed.compute.ray_cluster import Ray

__all__ = ["Dask", "Engine", "Processes", "Ray", "append_to", "current_engine", "save"]
