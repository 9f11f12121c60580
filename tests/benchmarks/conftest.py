"""A small task that every peer can be made for: drawn faces of 48 pixels, an untrained clean network. And a small export."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sfumato.batches import Batch, Batches, seed_everything
from sfumato.clean import make_cloud
from sfumato.config import make_config
from sfumato.data import Split, open_dataset
from sfumato.peers import Peer, Task, create

DATA = "synthetic,size=48,count=600"


@pytest.fixture(scope="session")
def task() -> Task:
    config = make_config(
        {
            "data": DATA,
            "keep": ("smiling",),
            "hide": ("skin",),
            "epochs": 1,
            "warm_epochs": 1,
            "clean_epochs": 1,
            "adversary_steps": 1,
        }
    )
    dataset = open_dataset(DATA, keep=("smiling",), hide=("skin",))
    seed_everything("clean")
    return Task(config=config, dataset=dataset, clean=make_cloud(config, dataset).eval())


@pytest.fixture
def make(task: Task) -> Callable[[str], Peer]:
    """`make("cloak")`: an untrained peer, the same every time."""

    def build(name: str) -> Peer:
        seed_everything("peer", name)
        return create(name, task)

    return build


@pytest.fixture(scope="session")
def batch(task: Task) -> Batch:
    """32 training images with their labels."""
    batches = Batches(task.dataset, Split.DEFENDER, ("smiling", "skin"), 32)
    return batches.load(torch.from_numpy(task.dataset.splits[Split.DEFENDER][:32].copy()))


@pytest.fixture(scope="session")
def sealed(small_export: Callable[..., Path]) -> Path:
    """The export of tests/export, its int8 model alone."""
    return small_export("int8")
