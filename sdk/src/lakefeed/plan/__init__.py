"""The lazy plan: nodes, sources, walks, order."""

from lakefeed.plan.exact_fingerprint import exact_fingerprint
from lakefeed.plan.explain import explain, name_of
from lakefeed.plan.fingerprint import fingerprint
from lakefeed.plan.lineage import Lineage, Origin, lineage
from lakefeed.plan.node import Ahead, Input, Node, Step
from lakefeed.plan.source import RESIDENT, Fragment, InParts, Plain, Pushdown, Ranged, Source, cut, projected
from lakefeed.plan.walk import flatten, rebuild

__all__ = [
    "RESIDENT",
    "Ahead",
    "Fragment",
    "InParts",
    "Input",
    "Lineage",
    "Node",
    "Origin",
    "Plain",
    "Pushdown",
    "Ranged",
    "Source",
    "Step",
    "cut",
    "exact_fingerprint",
    "explain",
    "fingerprint",
    "flatten",
    "lineage",
    "name_of",
    "projected",
    "rebuild",
]
