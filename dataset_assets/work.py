"""Names of the tags by which a run says what it was requested for."""

WORK_TAG = "lakefeed/work"
RANGE_TAG = "lakefeed/range"
