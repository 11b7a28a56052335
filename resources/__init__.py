"""Thin Dagster resources over the objects of the SDK."""
