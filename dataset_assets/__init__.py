"""The Dagster project: every dataset is an asset, its versions are partitions."""
