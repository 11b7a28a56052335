"""Profiles of versions: statistics of the rows that a version added, from one streamed pass of bounded memory."""

from lakefeed.profiles.version_profile import Profile, is_unreachable, profile, profiles
from lakefeed.statistics import Column, ColumnStatistics

__all__ = ["Column", "ColumnStatistics", "Profile", "is_unreachable", "profile", "profiles"]
