"""The names of environment variables and settings, and suggestions for misspelt ones."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from string import ascii_lowercase
from typing import Any, Final, Literal

from pydantic import BaseModel

from lakefeed.errors import ConfigError, quoted_list

PREFIX: Final = "LAKEFEED_"
SETTINGS_PREFIX: Final = "LAKEFEED__"
VARIABLES: Final = frozenset(
    {
        "LAKEFEED_CACHE_BYTES",
        "LAKEFEED_CACHE_DIR",
        "LAKEFEED_CODE_HOST",
        "LAKEFEED_CODE_PORT",
        "LAKEFEED_COMPUTE",
        "LAKEFEED_CONFIG",
        "LAKEFEED_DAGSTER_LOCATION",
        "LAKEFEED_DAGSTER_URL",
        "LAKEFEED_DEMO_HOME",
        "LAKEFEED_HOME",
        "LAKEFEED_TEST_STACK",
    }
)
"""Those that are not settings: places, the Dagster project, its deployment, and the tests."""

# Kubernetes tells every pod of its services: one that is called "lakefeed-web" gives LAKEFEED_WEB_SERVICE_HOST, …
OF_A_SERVICE: Final = re.compile(
    r"LAKEFEED_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
PORT_OF_A_SERVICE: Final = re.compile(r"(tcp|udp|sctp)://\S+")
SIMILAR: Final = 0.7


def check_variables(settings: type[BaseModel], environment: Mapping[str, str]) -> None:
    """Checks that lakefeed reads every environment variable that begins with ``LAKEFEED_``, or nearly so.

    Raises:
        ConfigError: lakefeed does not read one. The message suggests similar names.
    """
    given = [name for name in environment if name.upper().startswith(PREFIX)]
    unknown = sorted(name for name in given if not _is_known(settings, name, environment[name]))
    every = [*(_variable(key) for key in setting_names(settings)), *VARIABLES]
    near = _near_misses(environment, every)
    if unknown or near:
        meant, unknown = [*unknown, *near.values()], [*unknown, *near]
        raise ConfigError(
            f"lakefeed has no environment variable {quoted_list(unknown)}.{did_you_mean(meant, every)} Correct or "
            f"unset it. There are settings, such as LAKEFEED__COMMIT__RETRIES, and {', '.join(sorted(VARIABLES))}"
        )


def setting_names(model: type[BaseModel]) -> Iterator[str]:
    """Yields the dotted names of all settings and sections, such as ``commit`` and ``commit.retries``."""
    for name, field in model.model_fields.items():
        yield name
        if _is_section(field.annotation):
            yield from (f"{name}.{inner}" for inner in setting_names(field.annotation))  # type: ignore[arg-type]


def did_you_mean(names: Iterable[str], existing: Iterable[str]) -> str:
    """Returns a question with the existing names that resemble ``names``, after a space; empty text if none does.

    Example:
        >>> did_you_mean(["comit"], ["commit", "read"])
        " Did you mean 'commit'?"
    """
    plain = {_letters(name): name for name in existing}
    near = [plain[hit] for name in names for hit in difflib.get_close_matches(_letters(name), plain, 2, SIMILAR)]
    return f" Did you mean {quoted_list(dict.fromkeys(near))}?" if near else ""


def _near_misses(environment: Mapping[str, str], every: Iterable[str]) -> dict[str, str]:
    """The names that are one of ``every`` but for one letter or underscores in the prefix, with that one."""
    names = [name for name in environment if is_near(name) and not name.upper().startswith(PREFIX)]
    known = {_letters(name): name for name in every}
    pairs = ((name, re.sub(r"[^a-z0-9]", "", name.lower())) for name in sorted(names))
    return {
        name: known[rest]
        for name, letters in pairs
        for rest in known
        if letters.endswith(rest) and letters[: -len(rest)] in NEAR_PREFIXES
    }


@functools.cache
def is_near(name: str) -> bool:
    """Returns whether a name begins with the prefix, or nearly so: then it may be one of ours."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return any(letters[:size] in NEAR_PREFIXES for size in NEAR_SIZES)


def _with_one_mistake(word: str) -> frozenset[str]:
    """The word, and all that one letter less, more or another, or two letters in the other order make of it."""
    halves = [(word[:index], word[index:]) for index in range(len(word) + 1)]
    less = {left + right[1:] for left, right in halves if right}
    turned = {left + right[1] + right[0] + right[2:] for left, right in halves if len(right) > 1}
    other = {left + letter + right[1:] for left, right in halves if right for letter in ascii_lowercase}
    more = {left + letter + right for left, right in halves for letter in ascii_lowercase}
    return frozenset(less | turned | other | more)


WORD: Final = "lakefeed"
NEAR_PREFIXES: Final = _with_one_mistake(WORD)
NEAR_SIZES: Final = (len(WORD) - 1, len(WORD), len(WORD) + 1)


def _is_known(settings: type[BaseModel], name: str, value: str) -> bool:
    upper = name.upper()
    if upper.startswith(SETTINGS_PREFIX):  # pydantic reads these in upper and lower case
        return _is_setting(settings, upper.removeprefix(SETTINGS_PREFIX).lower().split("__"))
    if OF_A_SERVICE.fullmatch(name) or (name.endswith("_PORT") and PORT_OF_A_SERVICE.fullmatch(value)):
        return True
    return name in VARIABLES


def _is_setting(model: type[BaseModel], path: list[str]) -> bool:
    first, *rest = path
    if first not in model.model_fields:
        return False
    kind: Any = model.model_fields[first].annotation
    if _is_section(kind):
        return not rest or _is_setting(kind, rest)
    return not rest or getattr(kind, "__origin__", None) is dict


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _variable(key: str) -> str:
    return SETTINGS_PREFIX + key.upper().replace(".", "__")


def _letters(name: str) -> str:
    """Returns the letters of a name without separators, because misspelt names often differ in underscores and dots."""
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("lakefeed"))


def disable_progress() -> Literal[True] | None:
    """Returns the argument ``disable`` for tqdm: True if ``TQDM_DISABLE`` is set, else None, for terminals only.

    tqdm reads the variable only where the argument is not given.
    """
    return True if os.environ.get("TQDM_DISABLE", "0") not in ("", "0") else None
