"""The definition of an index: its table, its fields, and how they are indexed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["text", "vector"]
FORMAT: Final = 1


@dataclass(frozen=True)
class IndexDefinition:
    """The definition of an index. It never changes.

    Attributes:
        name: the full name of the index.
        kind: "text" or "vector".
        table: the name of the table when the index was created. The text of the columns names the table by it.
        table_uuid: the table.
        columns: the columns of the scan that is indexed, as in the state of a scan.
        where: the condition of the rows; None for all rows.
        options: for a text index, the tokenizer of each text field; for a vector index, its metric and its field.
    """

    name: str
    kind: Kind
    table: str
    table_uuid: str
    columns: Mapping[str, Any]
    where: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def table_name(self) -> str:
        """The name of the hidden table of the index."""
        return f"x{hashlib.sha256(self.name.encode()).hexdigest()[:12]}"

    @property
    def rows_indexed(self) -> tuple[object, ...]:
        """Returns everything but the name and the table."""
        return self.kind, dict(self.columns), self.where, dict(self.options)

    def to_json(self) -> str:
        """Returns the definition as text."""
        return json.dumps({"format": FORMAT, **self.__dict__})

    @classmethod
    def from_json(cls, text: str) -> IndexDefinition:
        """Returns the definition in a text.

        Raises:
            ValueError, TypeError, KeyError: the text is not a definition of this format.
        """
        values = json.loads(text)
        if values.pop("format") != FORMAT:
            raise ValueError("the definition has another format")
        return cls(**values)
