"""Dagster resources that wrap objects of the SDK."""
