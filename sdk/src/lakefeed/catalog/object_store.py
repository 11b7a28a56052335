"""Where the object store is, as the environment says it to every client of an S3."""

from __future__ import annotations

import os
from collections.abc import Mapping

# PyIceberg's property, and the variables that stand for it, the first of them that is set.
VARIABLES = {
    "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}


def s3_properties_from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """PyIceberg's properties for what its two S3 clients do not both read from the environment themselves.

    Keys and roles they find (``AWS_ACCESS_KEY_ID``, …, the files of the AWS tools, the metadata service of a machine).

    Example:
        >>> s3_properties_from_environment({"AWS_ENDPOINT_URL": "https://s3.example.com"})
        {'s3.endpoint': 'https://s3.example.com'}
    """
    given = {key: next(filter(None, map(environment.get, names)), None) for key, names in VARIABLES.items()}
    return {key: value for key, value in given.items() if value}
