"""Signed URLs of stores without their signatures. The same file has another signature in every list."""

from __future__ import annotations

import re

SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature", "x-oss-signature"})
"""Parameters that make a URL a signed one, in lower case."""

_COMPANIONS = re.compile(
    r"x-(?:amz|goog|oss)-.*|sig|signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid|ossaccesskeyid"
    r"|s[etpvr]|spr|sip|srt|ss|skoid|sktid|skt|ske|sks|skv|saoid|suoid|scid|sdd|ses",
    re.IGNORECASE,
)
"""Parameters that a signature covers and that change with it: times, keys and rights."""


def unsigned_url(url: str) -> str:
    """Returns a URL without the parameters of its signature; a URL without a signature unchanged.

    Example:
        >>> unsigned_url("https://host/a.csv?id=7&se=2026-01-01&sp=r&sig=a%2Fb"), unsigned_url("https://host/a.csv?se=1")
        ('https://host/a.csv?id=7', 'https://host/a.csv?se=1')
    """
    path, mark, query = url.partition("?")
    if not mark or "://" not in path:
        return url
    query, sharp, fragment = query.partition("#")
    parameters = query.split("&")
    names = [parameter.partition("=")[0] for parameter in parameters]
    if SIGNATURES.isdisjoint(name.lower() for name in names):
        return url
    others = [parameter for parameter, name in zip(parameters, names, strict=True) if not _COMPANIONS.fullmatch(name)]
    return path + (mark + "&".join(others) if others else "") + sharp + fragment
