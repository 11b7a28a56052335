"""Errors in a notebook: the lines of the reader's own code and the message, without the frames of libraries."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

MAX_FRAMES = 20
HINT = "(All frames: import traceback; traceback.print_last())"
_INSTALLED = ("site-packages", "dist-packages")


def short_traceback(error: BaseException) -> list[str]:
    """Returns the lines for an error and its causes. A cause that began inside of a library is left out."""
    lines: list[str] = []
    for each in _causes_first(error):
        frames = [frame for frame in traceback.extract_tb(each.__traceback__) if _is_own(frame.filename)]
        if not frames and each is not error:
            continue
        lines += [line for frame in frames[-MAX_FRAMES:] for line in _frame_lines(frame)]
        lines += ["".join(traceback.format_exception_only(type(each), each)).rstrip(), ""]
    return [*lines, HINT]


def _causes_first(error: BaseException) -> Iterator[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and all(following is not each for each in chain):  # an error may define equality
        chain.append(following)
        following = following.__cause__ if following.__suppress_context__ else following.__context__
    return reversed(chain)


def _is_own(filename: str) -> bool:
    """Returns whether the reader wrote a file, which is neither of lakefeed nor installed."""
    if filename.startswith("<frozen"):
        return False
    path = Path(filename)
    libraries = [Path(__file__).parent, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))]
    return not any(map(path.is_relative_to, libraries)) and not any(name in path.parts for name in _INSTALLED)


def _frame_lines(frame: traceback.FrameSummary) -> list[str]:
    function = "" if frame.name == "<module>" else f", in {frame.name}"
    return [f"{_origin(frame.filename)}, line {frame.lineno}{function}", *([f"    {frame.line}"] if frame.line else [])]


def _origin(filename: str) -> str:
    """Returns ``Cell In[3]`` for the file of a cell, as IPython calls it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cell = shell.compile.format_code_name(filename) if shell is not None else None
    return " ".join(cell) if cell else f"File {filename}"
