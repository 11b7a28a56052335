"""Biological entities whose identifiers are names of variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.registry.registry_fields import FieldAttribute
from lakefeed.registry.validation import DeclaredFeature

ENSEMBL_PREFIXES: Final = {
    "chicken": "ENSGALG",
    "cow": "ENSBTAG",
    "dog": "ENSCAFG",
    "human": "ENSG",
    "macaque": "ENSMMUG",
    "mouse": "ENSMUSG",
    "pig": "ENSSSCG",
    "rabbit": "ENSOCUG",
    "rat": "ENSRNOG",
    "zebrafish": "ENSDARG",
}
"""The prefixes of the stable gene identifiers of Ensembl, by organism."""


class Settings:
    """The settings of this module.

    Example:
        >>> settings.organism = "mouse"
        >>> settings.organism
        'mouse'
        >>> settings.organism = None
    """

    def __init__(self) -> None:
        self._organism: str | None = None

    @property
    def organism(self) -> str | None:
        """The organism whose identifiers are valid, such as "human"; None for those of every known organism."""
        return self._organism

    @organism.setter
    def organism(self, name: str | None) -> None:
        if name not in (None, *ENSEMBL_PREFIXES):
            raise InvalidArgumentError(
                f"organism must be one of {quoted_list(ENSEMBL_PREFIXES)}, or None, got {name!r:.80}"
            )
        self._organism = name


settings = Settings()


def _find_genes(names: Sequence[str]) -> Mapping[str, DeclaredFeature]:
    organism = settings.organism
    prefixes = ENSEMBL_PREFIXES.values() if organism is None else (ENSEMBL_PREFIXES[organism],)
    pattern = re.compile(rf"(?:{'|'.join(prefixes)})[0-9]{{11}}(?:\.[0-9]{{1,3}})?")
    return {name: DeclaredFeature(name) for name in names if pattern.fullmatch(name)}


class Gene:
    """The genes. Their identifiers are recognized by their form; nothing is looked up."""

    ensembl_gene_id = FieldAttribute(_find_genes)
    """The stable identifier of Ensembl, such as ENSG00000000003, with or without its version."""
