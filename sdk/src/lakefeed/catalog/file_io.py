"""What PyIceberg opens files with.

Local files are read directly, so that reading a lake on disk does not load pandas, which PyIceberg's own FileIO brings.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.io import PY_IO_IMPL, FileIO, InputFile, InputStream, OutputFile, load_file_io

from lakefeed.catalog.durable import local_path


class LakeFileIO(FileIO):
    """Opens local files to be read; everything else is done by the FileIO that PyIceberg would take."""

    def __init__(self, properties: dict[str, str]) -> None:
        super().__init__(properties)
        self._by_scheme = cache(self._loaded)

    def new_input(self, location: str) -> InputFile:
        path = local_path(location)
        return self.beneath(location).new_input(location) if path is None else LocalInput(location, path)

    def new_output(self, location: str) -> OutputFile:
        return self.beneath(location).new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        place = location if isinstance(location, str) else location.location
        self.beneath(place).delete(location)

    def beneath(self, location: str) -> FileIO:
        """PyIceberg's own for locations of this kind."""
        return self._by_scheme(location.partition("://")[0] if "://" in location else "")

    def _loaded(self, scheme: str) -> FileIO:
        properties = {name: value for name, value in self.properties.items() if name != PY_IO_IMPL}
        return load_file_io(properties, f"{scheme}://" if scheme else "file://")

    def __getstate__(self) -> dict[str, Any]:
        return {"properties": self.properties}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["properties"])  # type: ignore[misc]  # what else there is cannot be sent


IMPLEMENTATION = f"{LakeFileIO.__module__}.{LakeFileIO.__qualname__}"


class LocalInput(InputFile):
    """A local file to be read."""

    def __init__(self, location: str, path: Path) -> None:
        super().__init__(location)
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def exists(self) -> bool:
        return self._path.exists()

    def open(self, seekable: bool = True) -> InputStream:
        return pa.OSFile(str(self._path), "r")
