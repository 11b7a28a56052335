"""The filter language: parsing, evaluation on Arrow batches, and lowering to Iceberg and statistics."""

from lakefeed.expr.nodes import (
    And,
    Arithmetic,
    Column,
    Compare,
    Concat,
    Expr,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    Path,
    conjoin,
    conjuncts,
    dtype,
    paths,
    rename,
    roots,
    without_root,
)
from lakefeed.expr.parser import parse, parse_value
from lakefeed.expr.statistics_pruning import Bounds, can_match, merge_bounds, residual
from lakefeed.expr.terms import Term, col, expression_text, lit
from lakefeed.expr.to_arrow import evaluate
from lakefeed.expr.to_text import to_text

__all__ = [
    "And",
    "Arithmetic",
    "Bounds",
    "Column",
    "Compare",
    "Concat",
    "Expr",
    "In",
    "IsNull",
    "Like",
    "Literal",
    "Not",
    "Or",
    "Path",
    "Term",
    "can_match",
    "col",
    "conjoin",
    "conjuncts",
    "dtype",
    "evaluate",
    "expression_text",
    "lit",
    "merge_bounds",
    "parse",
    "parse_value",
    "paths",
    "rename",
    "residual",
    "roots",
    "to_text",
    "without_root",
]
