"""`BrokenDeclaration`: a file or a declaration that does not load, as an asset of its own beside all others that do."""

import re
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from dagster import (
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    MaterializeResult,
    MetadataValue,
    multi_asset,
)

from dataset_assets.asset_keys import check_identifier, op_name
from lakefeed.errors import InvalidArgumentError

PREFIX = "broken"
CHECK = "loads"
# The first argument of a declared dataset if it is a literal, and otherwise "".
SPEC = re.compile(r"""DatasetSpec\(\s*(?:name\s*=\s*)?((?:"[^"\n]*"|'[^'\n]*')?)""")
LOADERS = ("<frozen importlib", "/importlib/", "/dataset_assets/loading.py")


@dataclass(frozen=True)
class BrokenDeclaration:
    """A file of declarations, or one declaration, that does not load.

    Attributes:
        name: its name in the UI.
        about: the file or the declaration, for messages.
        error: the message of the error.
        trace: the traceback.
        text: the content of the file.
        dataset: the dataset that it declares, if it is known.
    """

    name: str
    about: str
    error: str
    trace: str
    text: str = ""
    dataset: str | None = None

    @classmethod
    def of_file(cls, path: Path, error: BaseException) -> "BrokenDeclaration":
        """Returns the broken declaration for a file that raises an error when it is imported."""
        text = path.read_text(errors="replace") if path.is_file() else ""
        return cls(path.stem, str(path), *_texts(error), text)

    @classmethod
    def of_declaration(
        cls, kind: str, name: str, error: BaseException, dataset: str | None = None
    ) -> "BrokenDeclaration":
        """Returns the broken declaration for one of which Dagster makes no asset, or that contradicts another."""
        return cls(f"{kind}_{name}", f"{kind} {name!r}", *_texts(error), dataset=dataset)

    @property
    def key(self) -> AssetKey:
        """The key of its asset."""
        return AssetKey([PREFIX, check_identifier(self.name)])

    @property
    def message(self) -> str:
        """The error, with the file or declaration that it comes from."""
        return f"{self.about} does not load: {self.error}"

    def may_declare(self, dataset: str) -> bool:
        """Returns whether it may declare a dataset: by its name, or by one that its file computes."""
        names = {first.strip("\"'") for first in SPEC.findall(self.text)}
        computed = "" in names and re.search(rf"""["']{re.escape(dataset)}["']""", self.text) is not None
        return dataset == self.dataset or dataset in names or computed


def distinct(broken: list[BrokenDeclaration]) -> list[BrokenDeclaration]:
    """Returns the broken declarations with names that are unique."""
    names: set[str] = set()
    unique = []
    for each in broken:
        name, number = each.name, 1
        while name in names:
            number += 1
            name = f"{each.name}_{number}"
        names.add(name)
        unique.append(replace(each, name=name))
    return unique


def broken_asset(broken: BrokenDeclaration) -> AssetsDefinition:
    """Returns an asset that shows the error. Its runs fail with it."""

    @multi_asset(
        name=op_name(broken.key),
        specs=[
            AssetSpec(
                broken.key,
                description=f"{broken.message}\n\n```\n{broken.trace}\n```",
                metadata={"error": MetadataValue.text(broken.error), "traceback": MetadataValue.text(broken.trace)},
                kinds={"error"},
                group_name=PREFIX,
            )
        ],
        check_specs=[AssetCheckSpec(CHECK, asset=broken.key, description="The declaration loads.")],
    )
    def fail(context: AssetExecutionContext) -> MaterializeResult:  # type: ignore[type-arg]  # subscripted, Dagster does not know it
        raise InvalidArgumentError(broken.message)

    return fail


def _texts(error: BaseException) -> tuple[str, str]:
    """Returns the message of an error, and its traceback without the frames that load the declarations."""
    trace = "".join(traceback.format_exception(error))
    frames = re.split(r"(?m)^(?=  File )", trace)
    shown = [frame for frame in frames if not any(each in frame for each in LOADERS)]
    return "".join(traceback.format_exception_only(error)).strip(), "".join(shown).strip()
