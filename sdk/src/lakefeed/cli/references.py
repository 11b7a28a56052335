"""References to versions of datasets: ``photos``, ``photos@7``, ``photos@stable``, ``photos@2026-11-01``."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

import lakefeed
from lakefeed import overview

if TYPE_CHECKING:
    from lakefeed import Dataset

NUMBER = re.compile(r"[vV]?(\d+)")
SQLITE = "sqlite:///"
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
TIME = re.compile(rf"{DAY.pattern}([T ].*)?")
NEWEST = frozenset({"current", "head", "last", "latest", "newest"})
"""Words that other tools have for the newest version."""


@dataclass(frozen=True)
class Reference:
    """A dataset and one of its versions.

    Attributes:
        name: the name of the dataset.
        version: the number or the tag of a version; None for the newest.
        as_of: the time at which the version was the newest.
    """

    name: str
    version: int | str | None = None
    as_of: dt.datetime | None = None

    @classmethod
    def of_version(cls, name: str, version: str) -> Reference:
        """Returns the reference to a version that is named by itself, such as ``7`` or ``stable``."""
        return parse_reference(f"{name}@{version}")

    @property
    def is_pinned(self) -> bool:
        """True where a version is named."""
        return self.version is not None or self.as_of is not None

    def open(self) -> Dataset:
        """Returns the dataset.

        Raises:
            DatasetNotFoundError, VersionNotFoundError: it does not exist.
        """
        try:
            return lakefeed.get_dataset(self.name, version=self.version, as_of=self.as_of)
        except lakefeed.errors.InvalidNameError as error:
            raise lakefeed.errors.InvalidNameError(f"{error}{_hint(self.name)}") from None
        except lakefeed.errors.TagNotFoundError as error:
            if str(self.version).lower() not in NEWEST:
                raise
            raise lakefeed.errors.TagNotFoundError(f"{error}. {self.name} alone means the newest version") from None

    def version_before(self) -> int | None:
        """Returns the number of the version before this one; None if this is the first.

        Raises:
            DatasetNotFoundError, VersionNotFoundError: it does not exist.
        """
        dataset = self.open()
        number = dataset.version
        return next((each.version for each in dataset.list_versions() if each.version < number), None)


def parse_reference(text: str) -> Reference:
    """Returns the reference that a text names. A day means its end, and times without a zone are local.

    Raises:
        ValueError: nothing follows the ``@``, or what follows is a time that does not exist.

    Example:
        >>> parse_reference("photos@v7")
        Reference(name='photos', version=7, as_of=None)
    """
    name, at, pin = (part.strip() for part in text.partition("@"))
    if not at:
        return Reference(name)
    examples = f"write {name}@7, {name}@TAG or {name}@2026-11-01"
    if not pin:
        raise ValueError(f"{text!r} names no version: {examples}")
    if number := NUMBER.fullmatch(pin):
        if int(number[1]) == 0:
            raise ValueError(f"{text!r}: the first version is 1; {examples}")
        return Reference(name, int(number[1]))
    if TIME.fullmatch(pin) is None:
        return Reference(name, pin)
    try:
        return Reference(name, as_of=_parse_time(pin))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r}: {pin!r} is not a time ({error}); {examples}") from None


def _hint(name: str) -> str:
    """Returns a question with names of datasets that resemble one that is not valid."""
    near = difflib.get_close_matches(name.lower(), list_names(), n=3)
    return f". Did you mean {lakefeed.errors.quoted_list(near)}?" if near else ""


def _parse_time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    if DAY.fullmatch(text):
        time += dt.timedelta(days=1, milliseconds=-1)
    return time if time.tzinfo is not None else time.astimezone()


class DatasetName(click.ParamType[str]):
    """The name of a dataset, completed from the catalog."""

    name = "name"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Returns the names that begin with the text."""
        return [CompletionItem(name) for name in _names() if name.startswith(incomplete)]


class ReferenceType(click.ParamType[Reference]):
    """A reference to a version, completed from the catalog."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Reference:
        """Returns the reference."""
        if isinstance(value, Reference):
            return value
        try:
            return parse_reference(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Returns names of datasets, or after an ``@`` the tags and versions of one."""
        name, at, _ = incomplete.partition("@")
        offers = [f"{name}@{pin}" for pin in _pins(name)] if at else _names()
        return [CompletionItem(offer) for offer in offers if offer.startswith(incomplete)]


def list_names() -> list[str]:
    """Returns the names of the datasets of the lake. A lake that does not exist has none, and is not created.

    Raises:
        CatalogUnavailableError: the catalog cannot be reached.
    """
    return overview.list_names() if lake_exists() else []


def check_new_name(name: str) -> None:
    """Checks that a dataset of that name can be made.

    Raises:
        InvalidNameError: the name is not valid.
        DatasetExistsError: there is one.
    """
    if lakefeed.Dataset.exists(name):
        raise lakefeed.errors.DatasetExistsError.of(name)


def lake_exists() -> bool:
    """Returns whether there is a lake. One in a database server counts as existing."""
    uri = lakefeed.Settings.load().catalog_uri
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).exists()


def _names() -> list[str]:
    try:
        return list_names()
    except (lakefeed.errors.LakefeedError, OSError):
        return []  # a message would break the line that is being typed


def _pins(name: str) -> list[str]:
    try:
        return overview.list_pins(name) if lake_exists() else []
    except (lakefeed.errors.LakefeedError, OSError):
        return []


class TagName(click.ParamType[str]):
    """A tag of the dataset that the argument before names, completed from the catalog."""

    name = "tag"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Returns the tags that begin with the text."""
        tags = [pin for pin in _pins(str(ctx.params.get("name"))) if not pin.isdecimal()]
        return [CompletionItem(tag) for tag in tags if tag.startswith(incomplete)]


REFERENCE = ReferenceType()
TAG = TagName()
NAME = DatasetName()
