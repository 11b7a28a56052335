"""Claims: of several processes that save one content at once, one writes it, and the others wait for its record.

A claim is a row of the registry, which its owner renews while it works. That of a process that died is taken over: at
once on the same machine, else after `EXPIRY_SECONDS`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Update, and_, bindparam, delete, select, text, update

from lakefeed.errors import CatalogUnavailableError, CommitError
from lakefeed.records.inserts import insert_one
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import CLAIM
from lakefeed.storage.disk.process_identity import ProcessIdentity

logger = logging.getLogger(__name__)

EXPIRY_SECONDS: Final = 60.0
RENEWAL_SECONDS: Final = 10.0
MIN_WAIT_SECONDS: Final = 0.02
MAX_WAIT_SECONDS: Final = 0.5

SEPARATOR: Final = "/"

Result = TypeVar("Result")

_OF_CONTENT: Final = and_(CLAIM.c.hash == bindparam("h"), CLAIM.c.kind == bindparam("k"))
_OWNED: Final = and_(_OF_CONTENT, CLAIM.c.owner == bindparam("o"))
_HOLDER: Final = select(CLAIM.c.owner, CLAIM.c.renewed).where(_OF_CONTENT)
_RENEW: Final = update(CLAIM).where(_OWNED).values(renewed=bindparam("t"))
_TAKE_OVER: Final[Update] = _RENEW.values(owner=bindparam("new"))
_RELEASE: Final = delete(CLAIM).where(_OWNED)


def new_owner() -> str:
    """Returns a text that was never used, with the machine and the process."""
    own = ProcessIdentity.own()
    return SEPARATOR.join((own.machine, str(own.pid), str(own.began), uuid.uuid4().hex))


def is_gone(owner: str) -> bool:
    """Returns whether the process of an owner has ended; False if this machine cannot tell."""
    machine, *numbers = owner.split(SEPARATOR)[:3]
    if len(numbers) != 2 or not all(map(str.isdecimal, numbers)):
        return False
    return bool(ProcessIdentity(machine, int(numbers[0]), int(numbers[1])).is_gone)


@dataclass
class Claim:
    """A claim of this process to save a content.

    Attributes:
        registry: the registry.
        hash: the hash of the content.
        kind: the kind of record that it will be.
        owner: identifies the claim.
        find: finds the record of the content.
        known: the record that it found when the claim was taken.
    """

    registry: Registry
    hash: str
    kind: str
    owner: str = field(default_factory=new_owner)
    find: Callable[[Connection], Any] = field(default=lambda connection: None, repr=False)
    known: Any = field(default=None, init=False)
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

    def end_with(self, dataset: str, work: Callable[[Connection], Result]) -> Result:
        """Ends the claim in the transaction that makes records of the versions of a dataset.

        Args:
            dataset: the name of the dataset, to which the content was written.
            work: is called in the transaction.

        Returns:
            The result of ``work``.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """

        def end(connection: Connection) -> Result:
            connection.execute(_RELEASE, self._own)
            return work(connection)

        result = self.registry.add_version(dataset, end)
        self._ended.set()
        return result

    @property
    def _own(self) -> dict[str, Any]:
        return {"h": self.hash, "k": self.kind, "o": self.owner}

    def _take(self) -> bool:
        """Returns whether the claim is this process's now: it was free, or its owner has ended or not renewed it."""
        holder = self.registry.write_current(self._try)
        if holder not in (self.owner, None):
            self.known = self.registry.read_current(self.find)  # its last owner may have died right after the commit
        return holder is not None

    def _try(self, connection: Connection) -> str | None:
        """Returns the owner whose claim this one has taken: itself if it was free, None if another one holds it."""
        now = _now(connection)
        row = {"hash": self.hash, "kind": self.kind, "owner": self.owner, "renewed": now}
        if insert_one(connection, CLAIM, row):
            self.known = self.find(connection)
            return self.owner
        of_content = {"h": self.hash, "k": self.kind}
        holder = connection.execute(_HOLDER, of_content).first()
        if holder is None:
            return None
        has_expired = abs(now - holder.renewed) > EXPIRY_SECONDS  # also after the clock was set back
        if not (has_expired or is_gone(holder.owner)):
            return None
        taken = connection.execute(_TAKE_OVER, {**of_content, "o": holder.owner, "new": self.owner, "t": now})
        return str(holder.owner) if taken.rowcount else None

    def _renew(self) -> bool:
        with self.registry.write() as connection:
            return connection.execute(_RENEW, {**self._own, "t": _now(connection)}).rowcount > 0

    def _renew_regularly(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            try:
                if not self._renew():
                    return
            except CatalogUnavailableError as error:
                logger.warning("cannot renew the claim to a content: %s", error)

    def _end(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        try:
            with self.registry.write() as connection:
                connection.execute(_RELEASE, self._own)
        except CatalogUnavailableError as error:  # the content may be saved; the claim expires
            logger.warning("a claim to a content stays for a minute: %s", error)


@contextmanager
def hold_claim(
    registry: Registry, hash: str, kind: str, find: Callable[[Connection], Any] = lambda connection: None
) -> Iterator[Claim]:
    """Waits until no other process saves the content, and claims it for the block.

    The process that held the claim before may have made the record of the content: look at `Claim.known` first.

    Args:
        registry: the registry.
        hash: the hash of the content.
        kind: the kind of record.
        find: finds the record of the content, in the transaction that takes the claim.

    Raises:
        CatalogUnavailableError: the database cannot be reached or refuses.
    """
    claim, wait = Claim(registry, hash, kind, find=find), MIN_WAIT_SECONDS
    while not claim._take():
        time.sleep(random.uniform(wait / 2, wait))
        wait = min(2 * wait, MAX_WAIT_SECONDS)
    thread = threading.Thread(target=claim._renew_regularly, name="lakefeed-claim", daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        claim._end()
        thread.join()


def _now(connection: Connection) -> float:
    """Returns the seconds of the clock that all processes share: that of the database, or of the machine."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    return time.time()
