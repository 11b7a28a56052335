"""Requests to Dagster's webserver to reload the code location, so that new datasets become assets."""

from __future__ import annotations

import json
import logging
import os
import threading
import urllib.error
import urllib.request
from typing import Any

from dagster import ConfigurableResource

logger = logging.getLogger(__name__)

URL_VARIABLE = "LAKEFEED_DAGSTER_URL"
LOCATION_VARIABLE = "LAKEFEED_DAGSTER_LOCATION"
TIMEOUT_SECONDS = 60
RELOAD = """
mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message } } } } }
"""


class ReloadResource(ConfigurableResource[Any]):
    """The webserver at ``$LAKEFEED_DAGSTER_URL``. Without it, the code location must be reloaded manually."""

    def request(self) -> bool:
        """Starts a reload in the background, and returns whether it did.

        The reload ends the process that runs the sensors.
        """
        url = os.environ.get(URL_VARIABLE)
        if not url:
            return False
        threading.Thread(target=_reload_or_warn, args=(url,), daemon=True).start()
        return True


def reload_location(url: str) -> None:
    """Reloads the code location.

    Raises:
        OSError: the webserver cannot be reached, or the location does not load.
    """
    name = os.environ.get(LOCATION_VARIABLE, "lakefeed")
    body = json.dumps({"query": RELOAD, "variables": {"name": name}}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        answer = json.load(response)
    entry = (answer.get("data") or {}).get("reloadRepositoryLocation") or {}
    if entry.get("__typename") != "WorkspaceLocationEntry":
        raise OSError(f"{url} did not reload {name!r}: {answer}")


def _reload_or_warn(url: str) -> None:
    try:
        reload_location(url)
    except (OSError, ValueError) as error:
        logger.warning("the code location was not reloaded, so new datasets are not shown yet: %s", error)
