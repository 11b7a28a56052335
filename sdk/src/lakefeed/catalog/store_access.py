"""Files in an object store: that it refuses the keys, or has no such bucket, is told with what to set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream

from lakefeed.errors import AccessDeniedError

# As the clients of AWS's C++ library and of boto name it.
MISSING_BUCKET = re.compile("NO_?SUCH_?BUCKET|bucket does not exist", re.IGNORECASE)
ACCESS_DENIED = re.compile(
    "access.?denied|invalid.?access.?key|signature.?does.?not.?match|(expired|invalid).?(client.?)?token|forbidden"
    "|unrecognized.?client|unable to locate credentials|missing.?authentication",
    re.IGNORECASE,
)


class RemoteInput(InputFile):
    """A file in an object store, whose refusal is told as such."""

    def __init__(self, location: str, beneath: InputFile) -> None:
        super().__init__(location)
        self._beneath = beneath

    def __len__(self) -> int:
        with access_errors(self.location):
            return len(self._beneath)

    def exists(self) -> bool:
        with access_errors(self.location):
            return self._beneath.exists()

    def open(self, seekable: bool = True) -> InputStream:
        with access_errors(self.location):
            return self._beneath.open(seekable)


class RemoteOutput(OutputFile):
    """A file to be written in an object store, whose refusal is told as such."""

    def __init__(self, location: str, beneath: OutputFile) -> None:
        super().__init__(location)
        self._beneath = beneath

    def __len__(self) -> int:
        with access_errors(self.location):
            return len(self._beneath)

    def exists(self) -> bool:
        with access_errors(self.location):
            return self._beneath.exists()

    def to_input_file(self) -> InputFile:
        return RemoteInput(self.location, self._beneath.to_input_file())

    def create(self, overwrite: bool = False) -> OutputStream:
        with access_errors(self.location):
            return self._beneath.create(overwrite)


@contextmanager
def access_errors(location: str) -> Iterator[None]:
    """Raises AccessDeniedError where an object store refuses the credentials, or has no such bucket."""
    try:
        yield
    except AccessDeniedError:
        raise  # of a store beneath, which has said it
    except OSError as error:
        reason = " ".join(str(error).split())
        if MISSING_BUCKET.search(reason):
            raise AccessDeniedError(
                f"the bucket of {location!r} does not exist: make it, or correct catalog.warehouse ({reason})"
            ) from error
        if isinstance(error, PermissionError) or ACCESS_DENIED.search(reason):
            raise AccessDeniedError(
                f"the object store refuses {location!r}: {reason}. Check the keys (AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or s3.access-key-id and s3.secret-access-key in catalog.properties), what they "
                "may do in that bucket, and the endpoint and region"
            ) from error
        raise
