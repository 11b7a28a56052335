"""What a version is, found out by reading the rows that it added: once, streamed, in bounded memory."""

from lakefeed.profiles.column_profile import Column, ColumnStatistics
from lakefeed.profiles.version_profile import Profile, is_unreachable, profile, profiles

__all__ = ["Column", "ColumnStatistics", "Profile", "is_unreachable", "profile", "profiles"]
