"""The sensors of the Dagster project. They turn the state of the catalog into partitions and runs."""
