"""Profiles of versions: statistics of the rows that a version added, from one streamed pass of bounded memory."""

from lakefeed.profiles.column_profile import Column, ColumnStatistics
from lakefeed.profiles.version_profile import Profile, is_unreachable, profile, profiles

__all__ = ["Column", "ColumnStatistics", "Profile", "is_unreachable", "profile", "profiles"]
