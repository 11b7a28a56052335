"""Lists of damaged copies in a store, so that no collector, of any machine, counts one as the copy that stays.

Readers record damage on their machine only, since they may have no right to write. A save publishes it before it stores
contents anew. A list is an object whose name depends on what it lists; lists that are out of date do no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from lakefeed.storage.blobs.objects import Copy, Objects

FOLDER: Final = "damaged"


def publish_damage(objects: Objects, damaged: Collection[Copy]) -> None:
    """Writes a list of damaged copies, unless it is there."""
    if not damaged:
        return
    data = json.dumps(sorted(damaged)).encode()
    key = f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:32]}.json"
    try:
        objects.info(key)
    except FileNotFoundError:
        objects.write(key, data)


def read_damage(objects: Objects) -> set[Copy]:
    """Returns the damaged copies that saves of all machines have listed."""
    damaged: set[Copy] = set()
    for info in objects.list(FOLDER):
        with suppress(FileNotFoundError, ValueError, TypeError):  # it was deleted or damaged itself
            damaged |= {(str(key), int(start)) for key, start in json.loads(objects.read(info.key))}
    return damaged
