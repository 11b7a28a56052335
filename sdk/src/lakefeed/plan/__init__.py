"""The lazy plan: nodes, sources, walks, order."""

from lakefeed.plan.exact_fingerprint import exact_fingerprint
from lakefeed.plan.explain import explain, name_of
from lakefeed.plan.fingerprint import fingerprint
from lakefeed.plan.lineage import Lineage, Origin, lineage
from lakefeed.plan.node import Ahead, Failure, Input, Node, Step
from lakefeed.plan.source import (
    RESIDENT,
    Fragment,
    PartsSource,
    PlainSource,
    Pushdown,
    RangedSource,
    Source,
    cut_fragments,
    project_schema,
)
from lakefeed.plan.walk import flatten, rebuild

__all__ = [
    "RESIDENT",
    "Ahead",
    "Failure",
    "Fragment",
    "Input",
    "Lineage",
    "Node",
    "Origin",
    "PartsSource",
    "PlainSource",
    "Pushdown",
    "RangedSource",
    "Source",
    "Step",
    "cut_fragments",
    "exact_fingerprint",
    "explain",
    "fingerprint",
    "flatten",
    "lineage",
    "name_of",
    "project_schema",
    "rebuild",
]
