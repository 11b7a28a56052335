"""The processes that tests of the registry kill: each saves one thing, and dies before one of its steps."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES: Final = frozenset({"os.rename", "os.remove", "os.mkdir", "os.link", "os.rmdir", "sqlite3.connect"})
"""The audit events of changes of files. A file that is opened for writing is another step, and so is an SQL commit."""


def kill_before(step: int) -> None:
    """Makes this process kill itself before a step, counted from 1: an SQL commit, or a change of a file."""
    from sqlalchemy import Engine, event

    steps, lock = 0, threading.Lock()

    def count() -> None:
        nonlocal steps
        with lock:
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: Any) -> None:
        if name in CHANGES or (name == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
            count()

    event.listen(Engine, "commit", lambda connection: count())
    sys.addaudithook(audit)


def _table(number: int, **options: Any) -> Any:
    import pandas as pd

    import lakefeed.registry as ln

    labels = ["red", ln.ULabel("cat", type="Species")]
    return ln.Dataset.from_df(pd.DataFrame({"height": [float(number)]}), labels=labels, **options)


def _named_table(name: str, number: int) -> Any:
    return _table(number, name=name)


def _next(name: str, number: int) -> Any:
    import lakefeed.registry as ln

    return _table(number, version=name, is_new_version_of=ln.Dataset.filter(name="chain", latest=True).one())


def _paths(name: str, number: int) -> list[Path]:
    folder = Path(f"folder {name}")
    if not folder.exists():
        folder.mkdir()
        for part in ("a", "b"):
            (folder / f"{part}.csv").write_text(f"x\n{number}{part}\n")
    return [folder / "a.csv", folder / "b.csv"]


def _list(name: str, number: int) -> Any:
    import lakefeed.registry as ln

    files = [ln.File(path, key=f"{name}/{path.name}", labels=["part"]) for path in _paths(name, number)]
    return ln.Dataset(files, name=name, labels=["red", ln.ULabel("cat", type="Species")])


def _folder(name: str, number: int) -> Any:
    import pandas as pd

    import lakefeed.registry as ln

    meta = pd.DataFrame({"path": ["a.csv", "b.csv"], "split": ["train", "test"]})
    labels = ["red", ln.ULabel("cat", type="Species")]
    return ln.Dataset(_paths(name, number)[0].parent, name=name, meta=meta, labels=labels)


def _file(name: str, number: int) -> Any:
    import lakefeed.registry as ln

    return ln.File(_paths(name, number)[0], key=name, labels=["red", ln.ULabel("cat", type="Species")])


def _change(name: str, number: int) -> Any:
    import lakefeed.registry as ln

    dataset = ln.Dataset.filter(name=name, visibility="all").one()
    dataset.description, dataset.reference, dataset.visibility = name, f"doi:{number}", 1
    return dataset


def _anndata(name: str, number: int) -> Any:
    import anndata
    import numpy as np
    import pandas as pd

    import lakefeed.registry as ln

    var = pd.DataFrame(index=["ENSG00000000003", "ENSG00000000005"])
    data = anndata.AnnData(np.full((1, 2), number, np.float32), pd.DataFrame({"height": [1.0]}, ["c"]), var)
    labels = ["red", ln.ULabel("cat", type="Species")]
    return ln.Dataset.from_anndata(data, ln.bionty.Gene.ensembl_gene_id, name=name, labels=labels)


MAKERS: Final[dict[str, Callable[[str, int], Any]]] = {
    "table": _named_table,
    "next version": _next,
    "list": _list,
    "folder": _folder,
    "file": _file,
    "change": _change,
    "anndata": _anndata,
}
"""What is saved, by a name. Each takes the name of the record and a number, which its content has."""


def save(kind: str, name: str, number: int) -> Any:
    """Saves one thing, and returns its record."""
    record = MAKERS[kind](name, number)
    record.save()
    return record


def killed_save(folder: str, kind: str, name: str, number: int, step: int) -> None:
    """Saves one thing, and dies before a step."""
    os.chdir(folder)
    record = MAKERS[kind](name, number)
    kill_before(step)
    record.save()
