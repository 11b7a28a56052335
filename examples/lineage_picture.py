"""Make the picture of docs/lineage.md: photos are cleaned, labelled and split, and two models are trained on them.

    python examples/lineage_picture.py docs/images/lineage.svg

Runs in a lake of its own, in a temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import lakefeed
from lakefeed import Dataset


def main() -> None:
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAKEFEED_HOME"] = folder
        os.chdir(folder)
        target.write_text(draw(), encoding="utf-8")


def draw() -> str:
    """Returns the picture of the lineage of a version, in both directions."""
    numbers = list(range(200))
    Dataset.from_dict({"id": numbers, "width": [each % 640 for each in numbers]}).save("photos")
    Dataset.from_dict({"id": numbers, "label": [each % 10 for each in numbers]}).save("labels")
    with lakefeed.track("clean"):
        Dataset("photos").filter("width > 64").save("clean_photos")
    with lakefeed.track("join labels"):
        Dataset("clean_photos").join(Dataset("labels"), keys="id").save("training_set")
    for seed in (1, 2):
        with lakefeed.track(f"train, seed {seed}", params={"seed": seed}) as run:
            rows = sum(len(batch["id"]) for batch in Dataset("training_set").shuffle(seed=seed).batches(64))
            model = Path(f"model-{seed}.pt")
            model.write_text(f"a model of {rows} rows")
            run.log_file(model)
    return lakefeed.lineage("training_set").svg


if __name__ == "__main__":
    main()
