"""`TreeLogger`: reports about a tree, with the calls of ClearML's ``Logger``."""

from __future__ import annotations

import io
import json
import logging
import math
from typing import Any, Final

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed._validate import check_text, is_whole
from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError
from lakefeed.trees.folder_scan import local_path_of
from lakefeed.trees.tree_identity import check_title
from lakefeed.trees.tree_reports import METADATA, TreeReports, read_media

logger = logging.getLogger(__name__)

MAX_ROWS: Final = 10
MAX_MEDIA: Final = 10
MAX_MEDIA_BYTES: Final = 5 * MIB
MAX_VALUES: Final = 10_000
MEDIA_KINDS: Final = ("image", "media")


class TreeLogger:
    """Adds reports to a tree, which may be final: texts, numbers, and previews of tables, images and other media.

    Previews are bounded: 10 rows of a table, and 10 media of at most 5 MiB; further ones are only counted. Each report
    is one small commit.

    Example:
        >>> from lakefeed.trees import FileTree
        >>> tree = FileTree.create("reported", "animals")
        >>> tree.get_logger().report_scalar("size", "files", 3.0, 0)
        >>> [(row["title"], row["value"]) for row in tree.get_logger().reports()]
        [('size', 3.0)]
    """

    def __init__(self, reports: TreeReports) -> None:
        self._reports = reports

    def report_text(self, msg: str, level: int | None = None, print_console: bool = True) -> None:
        """Adds a text.

        Args:
            msg: the text.
            level: the level of `logging` at which the text is logged too; None for ``logging.INFO``.
            print_console: log the text.
        """
        check_text(msg, "msg")
        if print_console:
            logger.log(logging.INFO if level is None else level, "%s", msg)
        self._reports.add("text", "", text=msg)

    def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        """Adds a number.

        Args:
            title: the title.
            series: the name of the series.
            value: the number.
            iteration: the position in the series.
        """
        number = _number(value, "value")
        self._reports.add(
            "scalar", check_title(title, "title"), series=_series(series), value=number, iteration=_position(iteration)
        )

    def report_single_value(self, name: str, value: float) -> None:
        """Adds a number that is not of a series.

        Args:
            name: its name.
            value: the number.
        """
        self._reports.add("scalar", check_title(name, "name"), value=_number(value, "value"))

    def report_histogram(self, title: str, series: str, values: Any, iteration: int | None = None) -> None:
        """Adds numbers as the heights of a histogram.

        Args:
            title: the title.
            series: the name of the series.
            values: the numbers, at most 10,000.
            iteration: the position in the series.
        """
        try:
            numbers = [float(each) for each in values]
        except (TypeError, ValueError):
            raise InvalidArgumentError(f"values must be numbers, got {values!r:.80}") from None
        if len(numbers) > MAX_VALUES or not all(map(math.isfinite, numbers)):
            raise InvalidArgumentError(f"values must be at most {MAX_VALUES:,} finite numbers, got {len(numbers):,}")
        self._add("histogram", title, series, iteration, text=json.dumps(numbers))

    def report_table(
        self, title: str, series: str, iteration: int | None = None, table_plot: Any = None, csv: Any = None
    ) -> None:
        """Adds the first rows of a table.

        Args:
            title: the title.
            series: the name of the series.
            iteration: the position in the series.
            table_plot: a pandas or polars DataFrame, a pyarrow Table, a mapping of columns, or a list of rows, of which
                the first one has the names.
            csv: the path of a CSV file, instead of ``table_plot``.
        """
        if (table_plot is None) == (csv is None):
            raise InvalidArgumentError("give either table_plot or csv")
        table = _table(table_plot) if csv is None else _csv(csv)
        rows = [[_plain(value) for value in row.values()] for row in table.slice(0, MAX_ROWS).to_pylist()]
        text = json.dumps({"columns": table.column_names, "rows": rows, "total": table.num_rows})
        self._add("table", title, series, iteration, text=text)

    def report_image(
        self, title: str, series: str, iteration: int | None = None, local_path: Any = None, image: Any = None
    ) -> None:
        """Adds an image.

        Args:
            title: the title.
            series: the name of the series.
            iteration: the position in the series.
            local_path: the path of an image file.
            image: a Pillow image, instead of ``local_path``.
        """
        if (local_path is None) == (image is None):
            raise InvalidArgumentError("give either local_path or image")
        file = _file(local_path) if image is None else ("image.png", _png(image))
        self._add_media("image", title, series, iteration, file)

    def report_media(
        self,
        title: str,
        series: str,
        iteration: int | None = None,
        local_path: Any = None,
        stream: Any = None,
        file_extension: str | None = None,
    ) -> None:
        """Adds a sound, a video or another file.

        Args:
            title: the title.
            series: the name of the series.
            iteration: the position in the series.
            local_path: the path of the file.
            stream: an open binary stream, instead of ``local_path``.
            file_extension: the suffix of the name of a stream.
        """
        if (local_path is None) == (stream is None):
            raise InvalidArgumentError("give either local_path or stream")
        if stream is None:
            file = _file(local_path)
        else:
            data = stream.read(MAX_MEDIA_BYTES + 1)
            if not isinstance(data, bytes) or len(data) > MAX_MEDIA_BYTES:
                raise InvalidArgumentError(f"stream must have at most {MAX_MEDIA_BYTES:,} bytes")
            suffix = "" if file_extension is None else check_text(file_extension, "file_extension")
            file = f"media.{suffix.lstrip('.')}".rstrip("."), data
        self._add_media("media", title, series, iteration, file)

    def reports(self) -> list[dict[str, Any]]:
        """Returns the reports, oldest first, as rows: time, kind, title, series, iteration, value, text and file."""
        rows = (row for row in self._reports.rows() if row["kind"] != METADATA)
        return [{name: value for name, value in row.items() if name != "tree"} for row in rows]

    def _add(self, kind: str, title: str, series: str, iteration: Any, **values: Any) -> None:
        position = None if iteration is None else _position(iteration)
        self._reports.add(kind, check_title(title, "title"), series=_series(series), iteration=position, **values)

    def _add_media(self, kind: str, title: str, series: str, iteration: Any, file: tuple[str, bytes]) -> None:
        stored = sum(row["file"] is not None for row in self._reports.rows(*MEDIA_KINDS))
        if stored < MAX_MEDIA:
            self._add(kind, title, series, iteration, file=file)
        else:
            self._add(kind, title, series, iteration, text=f"not stored: the tree has {MAX_MEDIA} media already")


def _series(value: Any) -> str:
    return check_text(value, "series")


def _position(value: Any) -> int:
    if not is_whole(value):
        raise InvalidArgumentError(f"iteration must be a whole number, got {value!r:.80}")
    return int(value)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"{name} must be a number, got {value!r:.80}") from None


def _file(path: Any) -> tuple[str, bytes]:
    local = local_path_of(path, "local_path")
    if not local.is_file():
        raise MissingFileError(f"local_path: there is no file {str(local)!r}")
    try:
        return read_media(local, MAX_MEDIA_BYTES)
    except OSError as error:
        raise FileError(f"{str(local)!r} cannot be read: {error.strerror or error}") from error


def _png(image: Any) -> bytes:
    if not hasattr(image, "save") or not hasattr(image, "mode"):
        raise InvalidArgumentError(f"image must be a Pillow image, got {image!r:.80}")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    if buffer.tell() > MAX_MEDIA_BYTES:
        raise InvalidArgumentError(f"image has {buffer.tell():,} bytes as PNG; give one of at most {MAX_MEDIA_BYTES:,}")
    return buffer.getvalue()


def _table(value: Any) -> pa.Table:
    try:
        if isinstance(value, pa.Table):
            return value
        if hasattr(value, "__arrow_c_stream__"):
            return pa.table(value)
        if isinstance(value, dict):
            return pa.table(value)
        names, *rows = value
        return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"table_plot cannot be read as a table: {error}") from None


def _csv(path: Any) -> pa.Table:
    from pyarrow import csv

    local = local_path_of(path, "csv")
    try:
        return csv.read_csv(local)
    except (OSError, pa.ArrowException) as error:
        raise FileError(f"csv: {str(local)!r} cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else f"{value!s:.1000}"
