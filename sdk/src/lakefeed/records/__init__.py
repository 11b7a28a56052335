"""The registry in SQL: an index over the versions of the lake, and facts that may change."""
