"""The assets of the Dagster project: datasets with their versions as partitions, ingestions, and routines."""
