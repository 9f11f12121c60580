"""A small task that every peer can be made for: drawn faces of 48 pixels, an untrained clean network. And a small export."""

import importlib.util
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
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of tests/export, its int8 model alone."""
    from sfumato.exporting import export

    path = Path(__file__).parent.parent / "export" / "conftest.py"
    spec = importlib.util.spec_from_file_location("export_fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    out = tmp_path_factory.mktemp("sealed") / "export"
    export(fixtures.build_run("dither"), out, variants=("int8",))
    return out
