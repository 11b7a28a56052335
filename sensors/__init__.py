"""Sensors: what the catalog says, turned into partitions and runs."""
