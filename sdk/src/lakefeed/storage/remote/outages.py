"""Distinguishes errors of the data from errors of a store, server or catalog that cannot be reached."""

from __future__ import annotations

import errno
import re

from lakefeed.errors import (
    AccessDeniedError,
    CatalogUnavailableError,
    ConfigError,
    IntegrityError,
    MissingDependencyError,
    UnreachableError,
)
from lakefeed.storage.remote.credentials import causes, status_of

OUTAGE_ERRORS = (
    AccessDeniedError, CatalogUnavailableError, ConfigError, MissingDependencyError, UnreachableError,
)  # fmt: skip
# The file or folder is missing, or is of another kind.
PATH_ERRNO = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL})
REFUSED_STATUS = frozenset({401, 403, 407, 408, 425, 429})
# By name: their libraries are optional.
OUTAGE_CLASSES = frozenset(
    {"ClientConnectionError", "ClientPayloadError", "ConnectTimeoutError", "EndpointConnectionError",
     "HTTPClientError", "NoCredentialsError", "PartialCredentialsError", "ReadTimeoutError", "ResponseStreamingError",
     "TokenRetrievalError", "UnauthorizedSSOTokenError"}
)  # fmt: skip
# pyarrow describes errors of stores only in text.
OUTAGE_TEXT = re.compile(r"AWS Error (?!NO_SUCH_KEY|RESOURCE_NOT_FOUND)|curlCode|HTTP status 5\d\d")


def is_outage(error: BaseException) -> bool:
    """Returns whether a store, server, catalog or library that is unavailable caused an error.

    Example:
        >>> is_outage(ConnectionRefusedError()), is_outage(FileNotFoundError())
        (True, False)
    """
    return any(_is_outage(link) for link in causes(error))


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, OUTAGE_ERRORS):
        return True
    if isinstance(error, IntegrityError):
        return False
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in REFUSED_STATUS
    if isinstance(error, ConnectionError | TimeoutError | PermissionError):
        return True
    if OUTAGE_CLASSES & {kind.__name__ for kind in type(error).__mro__}:
        return True
    if not isinstance(error, OSError):
        return False
    return error.errno not in PATH_ERRNO if error.errno is not None else OUTAGE_TEXT.search(str(error)) is not None
