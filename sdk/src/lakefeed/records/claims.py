"""Claims: of several processes that save one content at once, one writes it, and the others wait for its record.

A claim is a row of the registry, which its owner renews while it works. That of a process that died is taken over.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, select, text, update

from lakefeed.errors import CatalogUnavailableError, CommitError
from lakefeed.records.inserts import insert_new
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import CLAIM

logger = logging.getLogger(__name__)

EXPIRY_SECONDS: Final = 60.0
RENEWAL_SECONDS: Final = 10.0
MIN_WAIT_SECONDS: Final = 0.02
MAX_WAIT_SECONDS: Final = 0.5


@dataclass
class Claim:
    """A claim of this process to save a content.

    Attributes:
        registry: the registry.
        hash: the hash of the content.
        kind: the kind of record that it will be.
        owner: identifies the claim.
    """

    registry: Registry
    hash: str
    kind: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    _ended: threading.Event = field(default_factory=threading.Event, init=False, repr=False)

    def require(self) -> None:
        """Checks that the claim is still held. Call it right before the commit of the content.

        Raises:
            CommitError: another process has taken it over, because this one was asleep for a minute.
        """
        if not self._renew():
            raise CommitError(
                "this process did not renew its claim to the content for a minute, and another one has taken it over. "
                "Nothing was written; save again"
            )

    def _is_own(self) -> ColumnElement[bool]:
        return and_(CLAIM.c.hash == self.hash, CLAIM.c.kind == self.kind, CLAIM.c.owner == self.owner)

    def _take(self) -> bool:
        """Returns whether the claim is this process's now: it was free, or its owner has not renewed it."""
        of_content = and_(CLAIM.c.hash == self.hash, CLAIM.c.kind == self.kind)
        with self.registry.write() as connection:
            now = _now(connection)
            row = {"hash": self.hash, "kind": self.kind, "owner": self.owner, "renewed": now}
            insert_new(connection, CLAIM, [row])
            expired = and_(of_content, CLAIM.c.renewed < now - EXPIRY_SECONDS)
            connection.execute(update(CLAIM).where(expired).values(owner=self.owner, renewed=now))
            return connection.scalar(select(CLAIM.c.owner).where(of_content)) == self.owner

    def _renew(self) -> bool:
        with self.registry.write() as connection:
            renewed = update(CLAIM).where(self._is_own()).values(renewed=_now(connection))
            return connection.execute(renewed).rowcount > 0

    def _renew_regularly(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            try:
                if not self._renew():
                    return
            except CatalogUnavailableError as error:
                logger.warning("cannot renew the claim to a content: %s", error)

    def _release(self) -> None:
        self._ended.set()
        try:
            with self.registry.write() as connection:
                connection.execute(delete(CLAIM).where(self._is_own()))
        except CatalogUnavailableError as error:  # the content may be saved; the claim expires
            logger.warning("a claim to a content stays for a minute: %s", error)


@contextmanager
def hold_claim(registry: Registry, hash: str, kind: str) -> Iterator[Claim]:
    """Waits until no other process saves the content, and claims it for the block.

    In the block, look for a record of the content first: the process that held the claim before may have made it.

    Args:
        registry: the registry.
        hash: the hash of the content.
        kind: the kind of record.

    Raises:
        CatalogUnavailableError: the database cannot be reached or refuses.
    """
    claim, wait = Claim(registry, hash, kind), MIN_WAIT_SECONDS
    while not claim._take():
        time.sleep(random.uniform(wait / 2, wait))
        wait = min(2 * wait, MAX_WAIT_SECONDS)
    thread = threading.Thread(target=claim._renew_regularly, name="lakefeed-claim", daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        claim._release()
        thread.join()


def _now(connection: Connection) -> float:
    """Returns the seconds of the clock that all processes share: that of the database, or of the machine."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    return time.time()
