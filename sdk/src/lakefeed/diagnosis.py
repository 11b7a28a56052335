"""Settings with their origins, and checks of the installation."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial, reduce
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

from lakefeed._units import GIB
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.warehouse import is_warehouse_missing
from lakefeed.config import Settings, setting_origins
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetNotFoundError, LakefeedError, PluginError, UnreachableError, quoted_list
from lakefeed.formats import FORMATS
from lakefeed.media import MEDIA
from lakefeed.run.plugin_parts import OPERATIONS, SOURCES
from lakefeed.storage.urls import redact

Answer = TypeVar("Answer")

LOW_SPACE_BYTES = GIB
SECRET_SETTINGS = ("catalog.properties", "blobs.options", "files.options")
"""Mappings of which only the keys are shown."""
SECRET_ENDINGS = ("api_key", "password", "secret", "token")
"""Ends of the names of settings whose values are not shown."""
PATIENCE_SECONDS: Final = 8.0
"""A check waits so long for a server."""
PACKAGES = ("lakefeed", "pyiceberg", "pyarrow", "duckdb", "torch", "pillow", "av", "datasets", "s3fs")


@dataclass(frozen=True)
class SettingValue:
    """A setting: its dotted name, its value without secrets, its origin, and origins whose values do not count."""

    name: str
    value: str
    origin: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The result of a check of the installation.

    Attributes:
        subject: the part that was checked, such as "catalog".
        passed: False if something must be done.
        text: the facts, or the problem and its remedy.
    """

    subject: str
    passed: bool
    text: str


def describe_settings() -> list[SettingValue]:
    """Returns all settings. Derived locations, such as that of the catalog, have their values.

    Raises:
        ConfigError: the settings cannot work.
    """
    settings = Settings.load()
    derived = {
        "cache_dir": settings.cache,
        "cache_bytes": settings.cache_limit,
        "catalog.uri": settings.catalog_uri,
        "catalog.warehouse": settings.warehouse,
        "blobs.url": settings.blob_url,
    }
    return [
        SettingValue(
            name,
            _value_text(name, derived.get(name, reduce(getattr, name.split("."), settings))),
            origin,
            tuple(each for each in others if each != "default"),
        )
        for name, (origin, *others) in setting_origins().items()
    ]


def _value_text(name: str, value: Any) -> str:
    if name.endswith(SECRET_ENDINGS):
        return "(none)" if value is None else "(hidden)"
    if name in SECRET_SETTINGS and isinstance(value, Mapping):
        return ", ".join(value) or "(none)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(none)"
    return redact(str(value))


def diagnose() -> Iterator[Finding]:
    """Yields the results of all checks. A check that fails does not end the others, unless they need it."""
    yield Finding("software", True, _software())
    yield from _check_plugins()
    try:
        lake = Lake.current()
        changed = [setting for setting in describe_settings() if setting.origin != "default"]
    except LakefeedError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, f"{len(changed)} set, the others have their defaults" if changed else "defaults")
    for each in changed:
        yield Finding("setting", True, f"{each.name} = {each.value} (from {each.origin})")
    yield from _check_disks(lake)
    try:
        names = _wait_for(lake.names, f"the catalog {redact(lake.settings.catalog_uri)}")
    except Exception as error:  # noqa: BLE001 - clients of catalogs raise errors of their own
        yield Finding("catalog", False, redact(str(error)) or type(error).__name__)
        return
    yield Finding(
        "catalog", True, f"{redact(lake.settings.catalog_uri)}: {len(names)} dataset{'' if len(names) == 1 else 's'}"
    )
    yield from _check_datasets(lake, names)


def _wait_for(call: Callable[[], Answer], server: str) -> Answer:
    """Returns the result of a call, which may ask a server.

    Raises:
        UnreachableError: the server does not answer in time. The call goes on in a thread that ends with the process.
        Exception: what the call raises.
    """
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            answer.set_exception(error)

    Thread(target=run, name="lakefeed-doctor", daemon=True).start()
    try:
        return answer.result(PATIENCE_SECONDS)
    except TimeoutError:
        if answer.done():  # the call raised it
            raise
        raise UnreachableError(f"{server} does not answer within {PATIENCE_SECONDS:g} seconds") from None


def _software() -> str:
    versions = [f"Python {sys.version.split()[0]}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)


def _check_plugins() -> Iterator[Finding]:
    """Yields the packages that add parts to lakefeed, and the parts that cannot be loaded."""
    for plugins in (FORMATS, MEDIA, OPERATIONS, SOURCES):
        for name, package in plugins.packages().items():
            try:
                _ = plugins[name]
            except PluginError as error:
                yield Finding("plug-ins", False, str(error))
            else:
                yield Finding("plug-ins", True, f"{name!r} in {plugins.group} from {package}")


def _check_disks(lake: Lake) -> Iterator[Finding]:
    """Yields the free space of each local file system once."""
    settings = lake.settings
    locations = {
        "warehouse": local_path(settings.warehouse),
        "blobs": local_path(settings.blob_url),
        "cache": settings.cache,
        "temporary files": Path(tempfile.gettempdir()),
    }
    by_device: dict[int, tuple[list[str], Path]] = {}
    for name, path in locations.items():
        if path is not None:
            folder = _existing(path)
            by_device.setdefault(folder.stat().st_dev, ([], folder))[0].append(name)
    for names, folder in by_device.values():
        free = shutil.disk_usage(folder).free
        text = f"{free / GIB:,.1f} GiB free for {', '.join(names)} ({folder})"
        low = free < LOW_SPACE_BYTES
        yield Finding("disk", not low, f"{text}: saves will fail soon, make room" if low else text)
        if not os.access(folder, os.W_OK):
            yield Finding("disk", False, f"{folder} cannot be written to by this user")


def _existing(path: Path) -> Path:
    """Returns the path, or its nearest parent that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def _column_types(name: str) -> dict[str, str]:
    return Dataset(name).column_types


def _check_datasets(lake: Lake, names: list[str]) -> Iterator[Finding]:
    warehouse = f"the warehouse {redact(lake.settings.warehouse)}"
    try:
        missing = bool(names) and _wait_for(lambda: is_warehouse_missing(lake), warehouse)
    except Exception as error:  # noqa: BLE001 - clients of stores raise errors of their own
        yield Finding("warehouse", False, redact(str(error)) or type(error).__name__)
        return
    if missing:
        yield Finding("warehouse", False, f"{lake.settings.warehouse} is empty or not there: is its disk mounted?")
        return
    damaged, with_files = [], []
    for name in names:
        try:
            if _wait_for(partial(_column_types, name), warehouse):
                with_files.append(name)
        except DatasetNotFoundError:
            continue  # deleted since
        except UnreachableError as error:
            damaged.append(Finding("warehouse", False, redact(str(error))))
            break  # the others would wait as long
        except (LakefeedError, OSError) as error:
            damaged.append(Finding("dataset", False, redact(str(error))))
    yield from damaged
    if names and not damaged:
        yield Finding("datasets", True, "the metadata of every dataset can be read")
    if not with_files:
        return
    try:
        _wait_for(lake.blobs.require_reachable, f"the blob store {redact(lake.settings.blob_url)}")
    except (LakefeedError, OSError) as error:
        yield Finding("blobs", False, f"{error} The files of {quoted_list(with_files)} cannot be read")
    else:
        yield Finding("blobs", True, f"{redact(lake.settings.blob_url)} can be reached")
