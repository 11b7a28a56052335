"""The parser of filter text: a Pratt parser over the tokens that checks types against the schema.

Operators from the weakest: ``or``; ``and``; ``not``; comparisons, ``in``, ``is``, ``like``, ``between``; ``||``;
``+ -``; ``* / %``; unary minus. Comparisons chain: ``1 < x <= 5`` is ``1 < x and x <= 5``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

import pyarrow as pa

from lakefeed.errors import ColumnNotFoundError
from lakefeed.expr import literals, operands
from lakefeed.expr.literals import Blob, IncompatibleLiteralError, Moment, Null, Number, RawLiteral, Text
from lakefeed.expr.nodes import ArithmeticOp, CompareOp, Expr, IsNull, Literal, Not, Path, all_of, any_of
from lakefeed.expr.operands import Operand, OperandError, make_operand, to_condition
from lakefeed.expr.tokens import Token, point_at, syntax_error, tokenize

MAX_NESTING = 100
CACHED_EXPRESSIONS = 256
"""Parsed texts in the cache: every epoch parses the same filters."""
CACHED_LENGTH = 1000
"""Longer texts (lists of many values) are not cached, because they would hold memory."""
OR, AND, NOT, COMPARISON, CONCAT, SUM, PRODUCT, SIGN = range(1, 9)
_COMPARE: dict[str, CompareOp] = {
    "==": "==", "=": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_ARITHMETIC: dict[str, ArithmeticOp] = {"+": "+", "-": "-", "*": "*", "/": "/", "%": "%"}
_BINDING_POWER = {
    "or": OR,
    "and": AND,
    **dict.fromkeys((*_COMPARE, "in", "is", "like", "between", "not"), COMPARISON),
    "||": CONCAT,
    **dict.fromkeys("+-", SUM),
    **dict.fromkeys("*/%", PRODUCT),
}
_CLOSING = {"(": ")", "[": "]"}


def parse(text: str, schema: pa.Schema) -> Expr:
    """Returns the condition that the text states about rows of the schema.

    Args:
        text: for example ``score > 0.8 and label != None``, ``image.width >= 512``, ``day between '2024-01-01'
            and '2024-01-31'``, ``1 < x <= 5``, ``v[0] * 2 > -1``, ``name like 'a%'``, ``id in (1, 2)``,
            ``first || ' ' || last == 'Ada Lovelace'``, ``digest == x'00ff'`` (bytes, in hexadecimal digits).
            Write a name with other characters than letters, digits and underscores in backticks.
        schema: the columns and their types.

    Raises:
        ExpressionError: the text has a syntax error, or compares incompatible types; a caret marks the position.
        ColumnNotFoundError: a column or struct field does not exist.

    Example:
        >>> parse("x > 1", pa.schema({"x": pa.int8()}))
        Compare(op='>', left=Column(path=('x',), type=DataType(int8)), right=Literal(value=1, type=DataType(int8)))
    """
    return _parse_cached(text, schema) if len(text) <= CACHED_LENGTH else _parse(text, schema)


def _parse(text: str, schema: pa.Schema) -> Expr:
    try:
        return _Parser(text, schema).filter()
    except OperandError as error:
        raise syntax_error(text, error.offset, str(error)) from None


_parse_cached = lru_cache(CACHED_EXPRESSIONS)(_parse)


def parse_value(text: str, schema: pa.Schema) -> Expr:
    """Returns the value that the text states about rows of the schema: a column, a number, arithmetic, or a condition.

    Raises:
        ExpressionError: as `parse`.
        ColumnNotFoundError: as `parse`.

    Example:
        >>> dtype(parse_value("x / 2", pa.schema({"x": pa.int8()})))
        DataType(double)
    """
    parser = _Parser(text, schema)
    try:
        return parser.value()
    except OperandError as error:
        raise syntax_error(text, error.offset, str(error)) from None


class _Parser:
    """One pass over one text. A method parses what it is named after."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text = text
        self.schema = schema
        self.tokens = tokenize(text)
        self.position = 0
        self.level = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.token
        self.position += token.kind != "end"
        return token

    def sees(self, *texts: str) -> bool:
        return self.token.kind in ("word", "operator") and self.token.text in texts

    def accept(self, *texts: str) -> bool:
        accepted = self.sees(*texts)
        self.position += accepted
        return accepted

    def demand(self, text: str) -> None:
        if not self.accept(text):
            raise self.expected(f"`{text}`")

    def expected(self, alternatives: str) -> OperandError:
        return OperandError(self.token.offset, f"expected {alternatives}, found {self.token}")

    def filter(self) -> Expr:
        return to_condition(self.whole())

    def value(self) -> Expr:
        return operands.to_expression(self.whole())

    def whole(self) -> Operand:
        operand = self.expression(0)
        if self.token.kind != "end":
            raise self.expected("an operator, `and`, `or` or the end")
        return operand

    def expression(self, floor: int) -> Operand:
        """Parses the operators that bind more strongly than ``floor``."""
        self.level += 1
        if self.level > MAX_NESTING:
            raise OperandError(
                self.token.offset, f"nested more than {MAX_NESTING} levels; split the filter, or use `in`"
            )
        left = self.prefix(floor)
        while self.token.kind in ("word", "operator") and _BINDING_POWER.get(self.token.text, 0) > floor:
            left = self.infix(left)
        self.level -= 1
        return left

    def prefix(self, floor: int) -> Operand:
        offset = self.token.offset
        if floor <= NOT and self.accept("not"):
            inner = self.expression(NOT)
            return make_operand(Not(to_condition(inner)), offset, [inner])
        if self.accept("-"):
            return operands.negative(self.expression(SIGN), offset)
        if self.accept("("):
            inner = self.expression(0)
            self.demand(")")
            return replace(inner, offset=offset, compared=False)
        return Operand(self.primary(), offset)

    def infix(self, left: Operand) -> Operand:
        if self.sees("or", "and"):
            return self.junction(left)
        if self.sees(*_ARITHMETIC):
            op = self.take().text
            return operands.arithmetic(_ARITHMETIC[op], left, self.expression(_BINDING_POWER[op]))
        if self.accept("||"):
            return operands.concatenation(left, self.expression(CONCAT))
        if left.compared:
            raise self.expected("`and`, `or` or the end (write a comparison in parentheses to compare its result)")
        return self.chain(left) if self.sees(*_COMPARE) else self.test(left)

    def junction(self, left: Operand) -> Operand:
        word = self.token.text
        power, join = (OR, any_of) if word == "or" else (AND, all_of)
        terms = [left]
        while self.accept(word):
            terms.append(self.expression(power))
        return make_operand(join(*map(to_condition, terms)), left.offset, terms)

    def chain(self, left: Operand) -> Operand:
        comparisons: list[Expr] = []
        sides = [left]
        while self.sees(*_COMPARE):
            op = self.take()
            sides.append(self.expression(COMPARISON))
            comparisons.append(operands.comparison(sides[-2], _COMPARE[op.text], sides[-1], op.offset))
        return make_operand(all_of(*comparisons), left.offset, sides, compared=True)

    def test(self, left: Operand) -> Operand:
        """Parses ``is null``, ``in``, ``like``, ``between`` and their negations."""
        if self.accept("is"):
            negated = self.accept("not")
            if not self.accept("null", "none"):
                raise self.expected("`null` or `none`")
            test = make_operand(IsNull(operands.to_expression(left)), left.offset, [left], compared=True)
        else:
            negated = self.accept("not")
            test = self.range_or_set(left)
        return make_operand(Not(to_condition(test)), left.offset, [test], compared=True) if negated else test

    def range_or_set(self, left: Operand) -> Operand:
        offset = self.token.offset
        if self.accept("in"):
            return make_operand(operands.membership(left, self.items()), left.offset, [left], compared=True)
        if self.accept("like"):
            return make_operand(operands.like(left, self.expression(COMPARISON)), left.offset, [left], compared=True)
        if not self.accept("between"):
            raise self.expected("`in`, `like` or `between`")
        low = self.expression(COMPARISON)
        self.demand("and")
        high = self.expression(COMPARISON)
        both = operands.comparison(left, ">=", low, offset), operands.comparison(left, "<=", high, offset)
        return make_operand(all_of(*both), left.offset, [left, low, high], compared=True)

    def items(self) -> list[Operand]:
        opening = self.token.text
        if not self.accept(*_CLOSING):
            raise self.expected("a list in parentheses")
        items: list[Operand] = []
        while not self.sees(_CLOSING[opening]):
            items.append(self.expression(0))
            if not self.accept(","):
                break
        self.demand(_CLOSING[opening])
        return items

    def primary(self) -> Expr | RawLiteral:
        token = self.token
        if self.accept("true", "false"):
            return Literal(token.text == "true", pa.bool_())
        if self.accept("null", "none"):
            return Null()
        if token.kind in ("word", "operator", "end"):
            raise self.expected("a column or a value")
        self.take()
        if token.kind == "string":
            return Text(token.text)
        if token.kind == "number":
            return _parse_number(token)
        if token.kind == "name" and token.text.lower() in ("date", "timestamp") and self.token.kind == "string":
            return _parse_moment(token.text.lower(), self.take())
        if token.kind == "name" and token.text.lower() == "x" and self.token.kind == "string":
            return _parse_blob(self.take())
        return self.column(token)

    def column(self, name: Token) -> Expr:
        path: Path = (name.text, *self.steps())
        try:
            return operands.column(self.schema, path)
        except IncompatibleLiteralError as error:
            raise OperandError(name.offset, str(error)) from None
        except ColumnNotFoundError as error:
            raise ColumnNotFoundError(f"{error}\n{point_at(self.text, name.offset)}") from None

    def steps(self) -> list[str | int]:
        """Parses the ``.field`` and ``[0]`` that follow a name."""
        steps: list[str | int] = []
        while self.sees(".", "["):
            steps.append(self.field() if self.take().text == "." else self.index())
        return steps

    def field(self) -> str:
        if self.token.kind not in ("name", "quoted", "word"):
            raise self.expected("the name of a field")
        token = self.take()
        return self.text[token.offset : token.offset + len(token.text)] if token.kind == "word" else token.text

    def index(self) -> int:
        sign = -1 if self.accept("-") else 1
        if self.token.kind != "number" or not self.token.text.isdigit():
            raise self.expected("the index of an element, counted from 0")
        index = sign * int(self.take().text)
        self.demand("]")
        return index


def _parse_number(token: Token) -> Number:
    if float(token.text) == float("inf"):
        raise OperandError(token.offset, "the number is out of the range of float64")
    return Number(token.text)


def _parse_blob(token: Token) -> Blob:
    if _HEX.fullmatch(token.text) is None:
        raise OperandError(token.offset, "bytes are pairs of hexadecimal digits, such as x'00ff'")
    return Blob(bytes.fromhex(token.text))


def _parse_moment(form: str, token: Token) -> Moment:
    try:
        moment = literals.parse_moment(token.text)
    except IncompatibleLiteralError as error:
        raise OperandError(token.offset, str(error)) from None
    if form == "date" and moment.form != "date":
        raise OperandError(token.offset, "expected a date without a time; write `timestamp` before it")
    return replace(moment, form="date" if form == "date" else "timestamp")
