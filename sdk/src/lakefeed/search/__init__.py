"""Search indexes of keyed tables: immutable segment files, listed in a hidden table for each index."""
