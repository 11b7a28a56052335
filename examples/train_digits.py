"""Train on a pinned version of a dataset, stop at any step, and go on in a new process as if nothing had happened.

    python examples/train_digits.py --version 3 --work /tmp/run --stop-after 100
    python examples/train_digits.py --version 3 --work /tmp/run

The second call continues from the checkpoint that the first one left: the same rows in the same order, to the last bit
of the weights. It registers the model, so that ``lakefeed lineage /tmp/run/model.pt`` names the version, the order and
the code that made it. Needs a dataset with ``id``, ``label`` and ``features`` (of ``make demo``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lakefeed
from lakefeed import Dataset

logger = logging.getLogger("train_digits")

BATCH_ROWS = 64
EPOCHS = 12
PIXELS, CLASSES = 64, 10
RESTORED = ("loader", "model", "optimizer")


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(0)
    # The model is small; and the same sums whatever else the machine does.
    torch.set_num_threads(1)
    rows = Dataset(options.dataset, version=options.version).select(["id", "label", "features"])
    # By the hash of the id: rows of later versions never move anyone to the other side.
    sides = rows.train_test_split(test_size=0.2, seed=0, by="id")
    loader = sides["train"].shuffle(seed=1, global_=False, window=1_000).to_torch(batch_size=BATCH_ROWS)
    options.work.mkdir(parents=True, exist_ok=True)
    training = Training(loader, options.work / "checkpoint.pt")
    with lakefeed.track("train digits", params=options) as run:
        training.train(options.stop_after)
        if options.stop_after is None:
            torch.save(training.model.state_dict(), options.work / "model.pt")
            run.log_file(options.work / "model.pt")
    report: dict[str, Any] = {"first_step": training.begun, "steps": training.steps, "ids": training.ids}
    report["weights"] = training.digest()
    if options.stop_after is None:
        report |= {"accuracy": training.accuracy(sides["test"]), "rows_per_second": throughput(sides["train"])}
    (options.work / f"report-{training.begun}.json").write_text(json.dumps(report))


class Training:
    """A model and how far its training has come; picks up the checkpoint if there is one."""

    def __init__(self, loader: Any, checkpoint: Path) -> None:
        self.loader = loader
        self.checkpoint = checkpoint
        self.model = nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, CLASSES))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3, weight_decay=1e-2)
        self.ids: list[int] = []
        self.steps = 0
        if checkpoint.exists():
            self._restore()
        self.begun = self.steps

    def train(self, stop_after: int | None) -> None:
        """Trains to the end, or until ``stop_after`` steps; what comes after goes on from the checkpoint."""
        while self.loader.epoch < EPOCHS:
            for batch in self.loader:
                self._step(batch)
                if self.steps == stop_after:
                    self._save()
                    logger.info("stopped in epoch %d, at step %d", self.loader.epoch, self.steps)
                    return
        logger.info("trained %d steps, the last %d of them here", self.steps, self.steps - self.begun)

    def accuracy(self, held_out: Dataset) -> float:
        """The share of the held-out rows that the model gets right."""
        right = total = 0
        with torch.no_grad():
            for batch in held_out.to_torch(batch_size=1_024):
                right += int((self.model(batch["features"]).argmax(dim=1) == batch["label"]).sum())
                total += len(batch["label"])
        return right / total

    def digest(self) -> str:
        """The same for two runs only if every weight is the same to the last bit."""
        weights = b"".join(value.numpy().tobytes() for value in self.model.state_dict().values())
        return hashlib.sha256(weights).hexdigest()

    def _step(self, batch: dict[str, torch.Tensor]) -> None:
        loss = nn.functional.cross_entropy(self.model(batch["features"]), batch["label"])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.ids += batch["id"].tolist()
        self.steps += 1

    def _save(self) -> None:
        state = {name: getattr(self, name).state_dict() for name in RESTORED}
        torch.save({**state, "steps": self.steps}, self.checkpoint)

    def _restore(self) -> None:
        state = torch.load(self.checkpoint)
        for name in RESTORED:
            getattr(self, name).load_state_dict(state[name])
        self.steps = state["steps"]


def throughput(train: Dataset, epochs: int = 5) -> float:
    """Rows a second that the loader gives when nothing else is done, over a few epochs."""
    loader = train.shuffle(seed=2, global_=False, window=1_000).to_torch(batch_size=BATCH_ROWS)
    begun = time.perf_counter()
    rows = sum(len(batch["id"]) for _ in range(epochs) for batch in loader)
    return rows / (time.perf_counter() - begun)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits_features")
    parser.add_argument("--version", type=int, required=True, help="the version to train on; it never changes")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint and the report")
    parser.add_argument("--stop-after", type=int, help="stop after this many steps and leave a checkpoint")
    return parser.parse_args()


if __name__ == "__main__":
    main()
