"""Files in an object store. Denied access raises AccessDeniedError, which names the settings to check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream

from lakefeed.errors import AccessDeniedError

# Messages of the clients of AWS's C++ library and of boto.
MISSING_BUCKET = re.compile("NO_?SUCH_?BUCKET|bucket does not exist", re.IGNORECASE)
ACCESS_DENIED = re.compile(
    "access.?denied|invalid.?access.?key|signature.?does.?not.?match|(expired|invalid).?(client.?)?token|forbidden"
    "|unrecognized.?client|unable to locate credentials|missing.?authentication",
    re.IGNORECASE,
)


class RemoteInput(InputFile):
    """A file in an object store. Raises AccessDeniedError if access is denied."""

    def __init__(self, location: str, file: InputFile) -> None:
        super().__init__(location)
        self._file = file

    def __len__(self) -> int:
        with access_errors(self.location):
            return len(self._file)

    def exists(self) -> bool:
        with access_errors(self.location):
            return self._file.exists()

    def open(self, seekable: bool = True) -> InputStream:
        with access_errors(self.location):
            return self._file.open(seekable)


class RemoteOutput(OutputFile):
    """A new file in an object store. Raises AccessDeniedError if access is denied."""

    def __init__(self, location: str, file: OutputFile) -> None:
        super().__init__(location)
        self._file = file

    def __len__(self) -> int:
        with access_errors(self.location):
            return len(self._file)

    def exists(self) -> bool:
        with access_errors(self.location):
            return self._file.exists()

    def to_input_file(self) -> InputFile:
        return RemoteInput(self.location, self._file.to_input_file())

    def create(self, overwrite: bool = False) -> OutputStream:
        with access_errors(self.location):
            return self._file.create(overwrite)


@contextmanager
def access_errors(location: str) -> Iterator[None]:
    """Raises AccessDeniedError if an object store denies access or does not have the bucket."""
    try:
        yield
    except AccessDeniedError:
        raise  # of the wrapped store
    except OSError as error:
        reason = " ".join(str(error).split())
        if MISSING_BUCKET.search(reason):
            raise AccessDeniedError(
                f"the bucket of {location!r} does not exist: create it, or correct catalog.warehouse ({reason})"
            ) from error
        if isinstance(error, PermissionError) or ACCESS_DENIED.search(reason):
            raise AccessDeniedError(
                f"the object store denies access to {location!r}: {reason}. Check the keys (AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or s3.access-key-id and s3.secret-access-key in catalog.properties), their "
                "permissions in that bucket, the endpoint and the region"
            ) from error
        raise
