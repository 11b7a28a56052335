"""Several rankings as one, by the places that rows have in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from lakefeed.search.key_text import decode_keys, encode_keys
from lakefeed.search.text_segments import Hits, best_hits

FIRST_PLACE: Final = 60
"""The usual constant of reciprocal rank fusion: it limits what the first places of one ranking count."""


def fuse_rankings(rankings: Sequence[Hits], weights: Sequence[float], top_k: int) -> Hits:
    """Returns the best rows of several rankings. A row of place n (from 1) in a ranking gets weight / (60 + n) for it.

    Example:
        >>> left, right = (Hits(pa.record_batch({"k": keys}), np.array([2, 1], "f4")) for keys in ([1, 2], [2, 3]))
        >>> fuse_rankings([left, right], [1, 1], 2).keys["k"].to_pylist()
        [2, 1]
    """
    scores: dict[str, float] = {}
    for hits, weight in zip(rankings, weights, strict=True):
        for place, key in enumerate(encode_keys(hits.keys, hits.keys.schema.names), 1):
            scores[key] = scores.get(key, 0.0) + weight / (FIRST_PLACE + place)
    keys = decode_keys(list(scores), rankings[0].keys.schema)
    return best_hits(keys, np.array(list(scores.values()), np.float32), top_k)
