"""Fields of registries, against which the names of columns and variables are validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lakefeed.errors import InvalidArgumentError
from lakefeed.registry.validation import DeclaredFeature

FindDeclared: TypeAlias = Callable[[Sequence[str]], Mapping[str, DeclaredFeature]]


@dataclass(frozen=True)
class Field:
    """A field of a registry, such as ``Feature.name`` or ``bionty.Gene.ensembl_gene_id``.

    Attributes:
        registry: the name of the registry.
        name: the name of the field.
        find_declared: returns, for names, those that the registry declares, with the facts to validate.
    """

    registry: str
    name: str
    find_declared: FindDeclared

    def __str__(self) -> str:
        return f"{self.registry}.{self.name}"


class FieldAttribute:
    """An attribute that is a `Field` of the class and a value of an object.

    Args:
        find_declared: as of `Field`.
    """

    def __init__(self, find_declared: FindDeclared) -> None:
        self._find_declared = find_declared

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: Any, owner: type) -> Any:
        if record is None:
            return Field(owner.__name__, self._name, self._find_declared)
        return record._value(self._name)


def check_field(value: Any) -> Field:
    """Returns a field.

    Raises:
        InvalidArgumentError: this is not a field.
    """
    if not isinstance(value, Field):
        raise InvalidArgumentError(f"field must be a field of a registry, such as Feature.name, got {value!r:.80}")
    return value
