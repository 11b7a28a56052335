"""Statistics of columns in one pass of bounded memory, for profiles and checks."""

from lakefeed.statistics.column_statistics import Column, ColumnStatistics, is_file_type

__all__ = ["Column", "ColumnStatistics", "is_file_type"]
