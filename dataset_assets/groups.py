"""The groups of assets in the UI: the team that owns them, or the namespace of their dataset."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Of datasets without a namespace that no team owns.
NO_TEAM = "lake"


def group_of(owners: Sequence[str], *datasets: str) -> str:
    """Returns the name of an asset's group.

    Args:
        owners: the owners of the asset. The first team among them is the group.
        datasets: the asset's datasets. The first namespace among them is the group of assets without a team.

    Example:
        >>> group_of(["ada@example.com", "team:vision"], "photos"), group_of([], "nlp.words"), group_of([], "photos")
        ('vision', 'nlp', 'lake')
    """
    teams = [owner.removeprefix("team:") for owner in owners if owner.startswith("team:")]
    namespaces = [name.partition(".")[0] for name in datasets if "." in name]
    return re.sub(r"[^A-Za-z0-9_]", "_", next(iter([*teams, *namespaces]), NO_TEAM))
