"""The fields of text indexes, and rows as documents of tantivy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.errors import MissingDependencyError, TypeMismatchError, UnsupportedError
from lakefeed.search.key_text import encode_keys, term_of

Tokenizer: TypeAlias = Literal["default", "en_stem", "raw", "whitespace"]
TOKENIZERS: Final = ("default", "en_stem", "raw", "whitespace")
FieldKind: TypeAlias = Literal["text", "string", "integer", "unsigned", "float", "boolean"]
ID: Final = "id"
KEY: Final = "key"
"""Only of keys that are too long for a term."""
POSITIONS: Final = "+positions"
"""Ends the tokenizer, in the definition of an index, of a field that can be searched for phrases."""
MAX_TERM_BYTES: Final = 60_000
"""Of longer texts, filter fields have the beginning and a digest, as tantivy leaves out long terms."""
DOCUMENTS: Final = 1_024
"""The number of documents that are made at a time, and held in memory."""
DECIMAL_DIGITS: Final = 18
"""Decimals of so many digits are integers of 64 bits."""


def tantivy() -> Any:
    """Returns the module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import tantivy
    except ModuleNotFoundError as error:
        raise MissingDependencyError("text indexes need tantivy: pip install 'lakefeed[search]'") from error
    return tantivy


@dataclass(frozen=True)
class TextField:
    """A field of a text index.

    Attributes:
        name: the name of the column.
        stored_name: the name in segments.
        kind: how values are indexed.
        type: the Arrow type of the column.
        tokenizer: the tokenizer of a text field.
        positions: whether the index has the positions of words, which phrases need.
    """

    name: str
    stored_name: str
    kind: FieldKind
    type: pa.DataType
    tokenizer: str = "raw"
    positions: bool = False

    def values(self, column: Any) -> list[Any]:
        """Returns the values of a column as documents have them."""
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        match self.kind:
            case "text":
                texts: list[Any] = pc.cast(column, pa.large_string()).to_numpy(zero_copy_only=False).tolist()
                return texts
            case "string":
                return [text and term_of_text(text) for text in pc.cast(column, pa.large_string()).to_pylist()]
            case "integer":
                column = pc.cast(_as_integers(column), pa.int64())
            case "float":
                return [None if value is None else value + 0.0 for value in pc.cast(column, pa.float64()).to_pylist()]
        values: list[Any] = column.to_pylist()
        return values


def term_of_text(text: str) -> str:
    """Returns the text of a filter field as an index has it. Equal texts, and no others, have equal terms."""
    if len(text) * 4 <= MAX_TERM_BYTES:
        return text
    encoded = text.encode()
    if len(encoded) <= MAX_TERM_BYTES:
        return text
    return encoded[:MAX_TERM_BYTES].decode(errors="ignore") + hashlib.sha256(encoded).hexdigest()


def units_of_decimal(kind: Any) -> int:
    """Returns how many integers of the index a decimal of 1 is."""
    return int(10 ** max(kind.scale, 0))


def _as_integers(column: Any) -> Any:
    if pa.types.is_decimal(column.type):
        wide = pc.cast(column, pa.decimal128(DECIMAL_DIGITS, column.type.scale))
        return pc.multiply(wide, pa.scalar(Decimal(units_of_decimal(column.type))))
    if pa.types.is_temporal(column.type):
        return pc.cast(column, pa.int32() if column.type.bit_width == 32 else pa.int64())
    return column


def field_kind(name: str, kind: pa.DataType) -> FieldKind:
    """Returns how a filter field of a type is indexed.

    Raises:
        UnsupportedError: it cannot be a filter field.
    """
    types = pa.types
    if isinstance(kind, pa.DictionaryType):
        return field_kind(name, kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "string"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_uint64(kind):
        return "unsigned"
    if types.is_integer(kind) or types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return "integer"
    if types.is_floating(kind):
        return "float"
    if pa.types.is_decimal(kind) and max(kind.precision, kind.scale, kind.precision - kind.scale) <= DECIMAL_DIGITS:
        return "integer"
    raise UnsupportedError(
        f"field {name!r} is {kind}: filter fields are text, numbers (decimals of at most {DECIMAL_DIGITS} digits), "
        "booleans, dates and times. Leave it out, or index a part of it"
    )


@dataclass(frozen=True)
class TextSchema:
    """The key and the fields of a text index.

    Attributes:
        key: the key columns.
        fields: the fields.
    """

    key: pa.Schema
    fields: tuple[TextField, ...]

    @classmethod
    def of(cls, key: pa.Schema, columns: pa.Schema, tokenizers: Mapping[str, str]) -> TextSchema:
        """Returns the schema of an index.

        Args:
            key: the key columns.
            columns: the columns of the fields.
            tokenizers: the tokenizer of each text field, with `POSITIONS` at the end if the index has the positions of
                its words; the other columns are filter fields.

        Raises:
            TypeMismatchError: a text field is not text.
            UnsupportedError: a filter field has a type that cannot be filtered by.
        """
        fields = []
        for index, column in enumerate(columns):
            kind = None
            try:
                kind = field_kind(column.name, column.type)
            except UnsupportedError:
                if column.name not in tokenizers:
                    raise
            if column.name in tokenizers:
                if kind != "string":
                    raise TypeMismatchError(f"field {column.name!r} is {column.type}; text.field needs text")
                kind = "text"
            assert kind is not None
            option = tokenizers.get(column.name, "raw")
            tokenizer, positions = option.removesuffix(POSITIONS), option.endswith(POSITIONS)
            fields.append(TextField(column.name, f"f{index}", kind, column.type, tokenizer, positions))
        return cls(key, tuple(fields))

    @property
    def text_names(self) -> list[str]:
        """The names of the text fields."""
        return [each.name for each in self.fields if each.kind == "text"]

    @property
    def filter_schema(self) -> pa.Schema:
        """The columns of the filter fields."""
        return pa.schema([pa.field(each.name, each.type) for each in self.fields if each.kind != "text"])

    def field(self, name: str) -> TextField:
        """Returns a field by its name."""
        return next(each for each in self.fields if each.name == name)

    @cached_property
    def compiled(self) -> Any:
        """The schema of tantivy."""
        builder = tantivy().SchemaBuilder()
        builder.add_text_field(ID, stored=True, tokenizer_name="raw", index_option="basic")
        builder.add_bytes_field(KEY, stored=True)
        for each in self.fields:
            match each.kind:
                case "text":
                    option = "position" if each.positions else "freq"
                    builder.add_text_field(each.stored_name, tokenizer_name=each.tokenizer, index_option=option)
                case "string":
                    builder.add_text_field(each.stored_name, tokenizer_name="raw", index_option="basic", fast=True)
                case _:
                    add = getattr(builder, f"add_{each.kind}_field")
                    add(each.stored_name, indexed=True, fast=True)
        return builder.build()

    def documents(self, batch: pa.RecordBatch) -> Iterator[Any]:
        """Yields the documents of rows with the columns of the key and of the fields."""
        for start in range(0, batch.num_rows, DOCUMENTS):
            yield from self._documents(batch.slice(start, DOCUMENTS))

    def _documents(self, batch: pa.RecordBatch) -> list[Any]:
        # Column by column, which takes half of the time of a `Document.from_dict` for each row.
        make = tantivy().Document
        texts = encode_keys(batch, self.key.names)
        documents = [make() for _ in texts]
        for document, text in zip(documents, texts, strict=True):
            term = term_of(text)
            document.add_text(ID, term)
            if term is not text:
                document.add_bytes(KEY, text.encode())
        for each in self.fields:
            name, add = each.stored_name, getattr(make, "add_text" if each.kind == "string" else f"add_{each.kind}")
            for document, value in zip(documents, each.values(batch.column(each.name)), strict=True):
                if value is not None:
                    add(document, name, value)
        return documents


def key_of(document: Any) -> str:
    """Returns the key of a document as text."""
    long = document[KEY]
    return bytes(long[0]).decode() if long else str(document[ID][0])


def analyze(tokenizer: str, text: str) -> Sequence[str]:
    """Returns the distinct words of a text, as a tokenizer cuts it."""
    return [text] if tokenizer == "raw" else list(dict.fromkeys(_analyzer(tokenizer).analyze(text)))


def analyze_phrase(tokenizer: str, text: str) -> list[tuple[int, str]]:
    """Returns the words of a text with their positions. Words that the tokenizer leaves out have one, too."""
    if tokenizer == "raw":
        return [(0, text)]
    parts = _analyzer("whitespace" if tokenizer == "whitespace" else "parts").analyze(text)
    analyzer = _analyzer(tokenizer)
    return [(position, word) for position, part in enumerate(parts) for word in analyzer.analyze(part)]


def _analyzer(tokenizer: str) -> Any:
    module = tantivy()
    first, filters = module.Tokenizer, module.Filter
    match tokenizer:
        case "whitespace":
            chain = [first.whitespace()]
        case "parts":
            chain = [first.simple()]
        case "default":
            chain = [first.simple(), filters.remove_long(40), filters.lowercase()]
        case _:
            chain = [first.simple(), filters.remove_long(40), filters.lowercase(), filters.stemmer("english")]
    builder = module.TextAnalyzerBuilder(chain[0])
    for each in chain[1:]:
        builder = builder.filter(each)
    return builder.build()
