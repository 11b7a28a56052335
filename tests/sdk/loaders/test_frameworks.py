"""Loaders in accelerate, Lightning and the trainer of transformers, where these packages are installed."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from lakefeed import Dataset

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]

ROWS, EPOCHS = 31, 3


def loader(**options: Any) -> Any:
    return Dataset.from_dict({"x": [float(x) for x in range(ROWS)]}).shuffle(7).to_torch(batch_size=4, **options)


def values(batches: Any) -> list[list[float]]:
    return [batch["x"].tolist() for batch in batches]


@pytest.fixture
def expected() -> list[list[list[float]]]:
    whole = loader()
    return [values(whole) for _ in range(EPOCHS)]


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate(expected: list[Any], workers: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(loader(num_workers=workers))
    assert (len(prepared), prepared.total_dataset_length) == (8, ROWS)
    assert [values(prepared) for _ in range(EPOCHS)] == expected
    prepared.set_epoch(1)
    assert values(accelerate.skip_first_batches(prepared, 3)) == expected[1][3:]
    plain = loader(num_workers=workers)
    assert values(accelerate.skip_first_batches(plain, 3)) == expected[0][3:]
    assert values(plain) == expected[1]


RANK = """
import json, sys
import accelerate, torch
from lakefeed import Dataset, World

accelerator = accelerate.Accelerator(cpu=True)
world = World.from_torch()
assert (world.rank, world.world_size) == (accelerator.process_index, 2)
rows = Dataset.from_dict({"x": [float(x) for x in range(31)]}).shuffle(7)

def make():
    return accelerator.prepare(rows.to_torch(batch_size=4, world=world, num_workers=int(sys.argv[1])))

def values(batches):
    return [batch["x"].tolist() for batch in batches]

loader = make()
epochs = [values(loader) for _ in range(2)]
skipped = values(accelerate.skip_first_batches(make(), 2))
resumed, first = make(), make()
batches = iter(first)
next(batches)
resumed.load_state_dict(first.state_dict())
rest = values(resumed)
accelerator.end_training()
print(json.dumps([len(loader), epochs, skipped, rest]))
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_accelerate_on_two_ranks(expected: list[Any], workers: int) -> None:
    """docs/loader.md: "With several ranks `prepare` returns the loader itself"."""
    pytest.importorskip("accelerate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(workers)],
            stdout=subprocess.PIPE,
            text=True,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(2)
    ]
    try:
        results = [json.loads(rank.communicate(timeout=200)[0].splitlines()[-1]) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    (steps, first, first_skipped, first_rest), (others, second, second_skipped, second_rest) = results
    assert steps == others == len(first[0]) == len(second[0]) == 4
    for epoch in range(2):
        pairs = zip(first[epoch], second[epoch], strict=True)
        assert [row for pair in pairs for batch in pair for row in batch] == list(chain(*expected[epoch]))
    assert (first_skipped, second_skipped) == (first[0][2:], second[0][2:])
    assert (first_rest, second_rest) == (first[0][1:], second[0][1:])


def lightning() -> tuple[Any, Any]:
    module = pytest.importorskip("lightning")

    class Model(module.LightningModule):  # type: ignore[misc, name-defined]  # the package is optional
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.epochs: list[list[list[float]]] = []

        def training_step(self, batch: Any, step: int) -> Any:
            while len(self.epochs) <= self.current_epoch:
                self.epochs.append([])
            self.epochs[self.current_epoch].append(batch["x"].tolist())
            return self.layer(batch["x"].float()[:, None]).mean()

        def predict_step(self, batch: Any, step: int) -> Any:
            return batch["x"]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    def trainer(**options: Any) -> Any:
        settings = {"max_epochs": EPOCHS, "logger": False, "enable_checkpointing": False, **options}
        return module.Trainer(
            enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", devices=1, **settings
        )

    return Model, trainer


def test_lightning(expected: list[Any]) -> None:
    model_type, trainer = lightning()
    for options in ({}, {"limit_train_batches": 2}, {"overfit_batches": 2}):
        model = model_type()
        trainer(**options).fit(model, loader())
        if "overfit_batches" in options:
            assert model.epochs == [expected[0][:2]] * EPOCHS
        else:
            assert model.epochs == [epoch[: options.get("limit_train_batches")] for epoch in expected]
    for workers in (0, 2):
        predicted = trainer().predict(model_type(), loader(num_workers=workers))
        assert [batch.tolist() for batch in predicted] == expected[0]


@pytest.mark.parametrize("step", [3, 8, 11, 16])
def test_lightning_resumes(expected: list[Any], step: int, tmp_path: Path) -> None:
    model_type, trainer = lightning()
    callbacks = importlib.import_module("lightning.pytorch.callbacks")
    checkpoints = callbacks.ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=step, save_top_k=-1)
    first, second = model_type(), model_type()
    trainer(enable_checkpointing=True, max_steps=step, callbacks=[checkpoints]).fit(first, loader())
    (path,) = tmp_path.glob("*.ckpt")
    trainer().fit(second, loader(), ckpt_path=str(path))
    assert [*chain(*first.epochs), *chain(*second.epochs)] == list(chain(*expected))


def test_transformers(expected: list[Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is optional here
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.batches: list[list[float]] = []

        def forward(self, x: Any = None, **_: Any) -> Any:
            self.batches.append(x.tolist())
            return {"loss": self.layer(x.float()[:, None]).mean()}

    class Trainer(transformers.Trainer):  # type: ignore[misc, name-defined]  # the package is optional
        def get_train_dataloader(self) -> Any:
            return self.accelerator.prepare(loader())

    def trained(**options: Any) -> list[list[float]]:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=EPOCHS, report_to=[], use_cpu=True, disable_tqdm=True,
            save_strategy="steps", save_steps=11, logging_strategy="no",
        )  # fmt: skip
        model = Model()
        Trainer(model=model, args=arguments).train(**options)
        return model.batches

    assert trained() == list(chain(*expected))
    assert trained(resume_from_checkpoint=str(tmp_path / "checkpoint-11")) == list(chain(*expected))[11:]


def test_the_loader_counts_as_torchdata_does(expected: list[Any]) -> None:
    """A control: torchdata's loader, which counts samples, resumes at the same batches."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    rows = [{"x": float(x)} for x in range(ROWS)]

    def control() -> Any:
        return stateful.StatefulDataLoader(rows, batch_size=4)

    def ours() -> Any:
        return Dataset.from_dict({"x": [float(x) for x in range(ROWS)]}).to_torch(batch_size=4)

    for step in range(1, 8):
        rests = []
        for make in (control, ours):
            first, second = make(), make()
            for _, _ in zip(range(step), first, strict=False):
                pass
            second.load_state_dict(first.state_dict())
            rests.append((len(second), values(second), len(values(second))))
        assert rests[0] == rests[1]
