"""Advice on settings for errors of stores that concern credentials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lakefeed.storage.urls import redact, scheme

S3_SCHEMES = ("s3", "s3a")
DENIED_STATUS = (401, 403)
DENIED_CODES = frozenset(
    {"403", "AccessDenied", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
     "TokenRefreshRequired"}
)  # fmt: skip
# By name: the libraries are optional.
MISSING_CLASSES = frozenset(
    {"CredentialRetrievalError", "DefaultCredentialsError", "NoAuthTokenError", "NoCredentialsError",
     "PartialCredentialsError", "ProfileNotFound", "SSOTokenLoadError", "TokenRetrievalError",
     "UnauthorizedSSOTokenError"}
)  # fmt: skip
ENDPOINT_CLASSES = frozenset({"InvalidEndpointConfigurationError", "InvalidRegionError", "NoRegionError"})


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error and its causes. fsspec hides the response of a server behind "not found"."""
    passed: set[int] = set()
    while error is not None and id(error) not in passed:
        yield error
        passed.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status of the response that an error reports; None if it reports none."""
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def access_advice(url: str, links: Sequence[BaseException], setting: str) -> str | None:
    """Returns advice on an error where a store refused the credentials or found none; None for other errors.

    Args:
        url: the URL of the file or store.
        links: the error and its causes.
        setting: the name of the setting that holds the credentials.
    """
    protocol = scheme(url)
    kinds = {kind.__name__ for cause in links for kind in type(cause).__mro__}
    if kinds & MISSING_CLASSES or kinds & ENDPOINT_CLASSES:
        problem = redact(str(links[-1]))
        return f"{problem}. Set {_settings_advice(protocol, setting)}"
    code = next((code for cause in links if (code := _denial_code(cause)) is not None), None)
    if code is not None and protocol not in ("http", "https"):
        reason = redact(str(links[0]))
        advice = _settings_advice(protocol, setting)
        return f"the store refuses the credentials or the access ({code}: {reason}). Check {advice}"
    return None


def _denial_code(error: BaseException) -> str | None:
    """Returns the code with which a store denied access; None for other errors."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return code or str(status) if code in DENIED_CODES or status in DENIED_STATUS else None
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if status in DENIED_STATUS:
        return str(status)
    return "no permission" if isinstance(error, PermissionError) and error.errno is None else None


def _settings_advice(protocol: str, setting: str) -> str:
    name = f"{setting}[{protocol!r}]" if setting == "files.options" else setting
    if protocol in S3_SCHEMES:
        return (
            f"key, secret, token and endpoint_url in the setting {name}, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_SESSION_TOKEN and AWS_ENDPOINT_URL in the environment"
        )
    return f"the setting {name}"
