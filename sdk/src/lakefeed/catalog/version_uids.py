"""Global ids of versions: functions of the table's uuid and the version number, so nothing has to store them."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
STEM_CHARACTERS: Final = 16
REVISION_CHARACTERS: Final = 4
UID_CHARACTERS: Final = STEM_CHARACTERS + REVISION_CHARACTERS
MAX_REVISION: Final = len(ALPHABET) ** REVISION_CHARACTERS - 1


def version_uid(table_uuid: str | uuid.UUID, version: int) -> str:
    """Returns the uid of a version of a table: 16 characters for the table, 4 for the version.

    Versions from 14,776,336 on have longer uids.

    Example:
        >>> version_uid("00000000-0000-0000-0000-0000000000ff", 62)
        '00000000000000470010'
    """
    return revision_uid(table_stem(table_uuid), version)


def table_stem(table_uuid: str | uuid.UUID) -> str:
    """Returns the part of the uids that all versions of a table share."""
    number = table_uuid.int if isinstance(table_uuid, uuid.UUID) else uuid.UUID(table_uuid).int
    return base62(number % len(ALPHABET) ** STEM_CHARACTERS, STEM_CHARACTERS)


def revision_uid(stem: str, revision: int) -> str:
    """Returns the uid of a revision of a stem."""
    return stem + base62(revision, REVISION_CHARACTERS)


def revision_of(uid: str) -> int:
    """Returns the revision of a uid.

    Example:
        >>> revision_of(revision_uid("a" * 16, 63))
        63
    """
    number = 0
    for digit in uid[STEM_CHARACTERS:]:
        number = number * len(ALPHABET) + ALPHABET.index(digit)
    return number


def text_uid(text: str, characters: int = UID_CHARACTERS) -> str:
    """Returns the uid that belongs to a text, such as the id of a run in another system."""
    number = int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest(), "big")
    return base62(number % len(ALPHABET) ** characters, characters)


def random_uid(characters: int = UID_CHARACTERS) -> str:
    """Returns a uid that was never used."""
    return "".join(secrets.choice(ALPHABET) for _ in range(characters))


def base62(number: int, characters: int) -> str:
    """Returns a number in base 62, with leading zeros."""
    digits = []
    while number:
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits)).rjust(characters, ALPHABET[0])
