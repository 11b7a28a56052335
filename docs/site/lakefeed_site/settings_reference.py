"""The reference of the settings, made from their classes."""

from __future__ import annotations

import inspect

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lakefeed.config import OTHER_VARIABLES, Settings

PAGE = "reference/settings.md"
INTRODUCTION = """\
An argument takes precedence over the environment, the environment over `lakefeed.toml`, and that over the defaults.
`lakefeed.toml` is searched in `$LAKEFEED_CONFIG`, the working directory and `$LAKEFEED_HOME`. `lakefeed config` shows
each setting and its origin. A name that does not exist is an error.
"""
GIVEN_DEFAULTS = {"home": "`~/.lakefeed`", "read.threads": "CPUs, 8 at most"}
"""The defaults that depend on the machine."""


def page_text() -> str:
    """Returns the page in Markdown: each setting with its variable and its default."""
    top = {name: field for name, field in Settings.model_fields.items() if not isinstance(field.default, BaseModel)}
    lines = [
        "# Settings",
        "",
        INTRODUCTION,
        "",
        *_table("", top),
    ]
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            lines += [f"## `[{name}]`", "", _prose(type(field.default)), ""]
            lines += _table(f"{name}.", type(field.default).model_fields)
    return "\n".join(lines) + "\n"


def _table(prefix: str, fields: dict[str, FieldInfo]) -> list[str]:
    rows = [
        f"| `{prefix}{name}` | `{_variable(prefix + name)}` | {_default(prefix + name, field)} |"
        for name, field in fields.items()
    ]
    return ["| setting | variable | default |", "|---|---|---|", *rows, ""]


def _variable(name: str) -> str:
    return OTHER_VARIABLES.get(name) or f"LAKEFEED__{name.upper().replace('.', '__')}"


def _default(name: str, field: FieldInfo) -> str:
    if name in GIVEN_DEFAULTS:
        return GIVEN_DEFAULTS[name]
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value in (None, (), {}) else f"`{value!r}`"


def _prose(section: type[BaseModel]) -> str:
    return inspect.getdoc(section).replace("``", "`")  # type: ignore[union-attr]  # each has a docstring
