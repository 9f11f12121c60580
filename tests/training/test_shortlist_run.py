"""Training with a shortlist, and how much the cloud network trusts it."""

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from pydantic import ValidationError
from torch import Tensor, nn

from sfumato.data import Split, open_dataset
from sfumato.models.cloud import answer, inner_network
from sfumato.models.shortlist import ShortlistReader
from sfumato.training.clean import first_cloud
from sfumato.training.config import TrainConfig
from sfumato.training.list_trust import CANDIDATES, DRAWS, best_trust
from sfumato.training.loader import Batches
from sfumato.training.run import make_local
from sfumato.training.trainer import CoTrainer, first_model

CONFIG = TrainConfig(
    data="synthetic,size=32,count=600",
    keep=("skin", "smiling"),
    cloud="resnet,width=8",
    mode="picture",
    bits=200,
    levels=4,
    subsample=2,
    shortlist=True,
    pretrain_epochs=1,
    epochs=2,
    batch_size=32,
    distill=0.0,
)


class Blind(nn.Module):
    """Always the same answer, whatever the picture shows."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> logits."""
        certain = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(x), 4)
        return {"skin": certain, "smiling": certain[:, :2]}


def test_the_list_ships_and_no_gradient_of_the_upload_reaches_its_classifier(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    dataset = open_dataset(CONFIG.data, keep=CONFIG.keep)
    clean = first_cloud(CONFIG, dataset)
    model = first_model(CONFIG, dataset, clean, tmp_path)
    assert model.classifier() is not None
    assert isinstance(model.cloud, ShortlistReader)
    assert all(
        torch.equal(value, clean.state_dict()[name])
        for name, value in inner_network(model.cloud).state_dict().items()
    )
    batch = next(Batches(dataset, Split.VALIDATION, CONFIG.keep, 32).ordered())
    output = model.train()(batch.images)
    torch.cat(list(output.logits.values()), 1).sum().backward()
    assert model.local.shortlist is not None
    assert all(weight.grad is None for weight in model.local.shortlist.parameters())
    seen, _ = answer(model.cloud.eval(), output.upload.detach())
    plain = model.cloud.network(model.cloud.picture(output.upload.detach()))
    assert all(torch.equal(seen[name], plain[name]) for name in seen), "training answers from the picture"

    trainer = CoTrainer(CONFIG, dataset, clean, tmp_path, fabric, first=model)
    record = trainer.run_epoch()
    assert record["aux_loss"] > 0
    shipped, made = trainer.best.local.state_dict(), make_local(CONFIG, dataset).state_dict()
    assert shipped.keys() == made.keys()
    assert any(name.startswith("shortlist.") for name in shipped)


def test_trust_is_the_best_of_all_candidates(tmp_path: Path) -> None:
    """A list of a phone that knows `skin` by its label, beside a cloud network that is always wrong: found by trying all."""
    dataset = open_dataset(CONFIG.data, keep=CONFIG.keep)
    model = first_model(CONFIG, dataset, first_cloud(CONFIG, dataset), tmp_path).eval()
    assert isinstance(model.cloud, ShortlistReader)
    reader = ShortlistReader(Blind(), model.cloud.channel, model.heads, dataset.size)
    batches = Batches(dataset, Split.VALIDATION, CONFIG.keep, 64)
    found = best_trust(reader, batches, model.local, seed=3)

    counts = {name: [0] * len(CANDIDATES) for name in CONFIG.keep}
    for place, value in enumerate(CANDIDATES):
        generator = torch.Generator().manual_seed(3)
        reader.trust.fill_(value)
        with torch.no_grad():
            for batch in batches.ordered():
                parameters = model.local(batch.images)
                for _ in range(DRAWS):
                    noise = model.local.channel.noise(parameters, generator)
                    logits = reader(model.local.channel.sample(parameters, noise))
                    for name, label in batch.labels.items():
                        counts[name][place] += int((logits[name].argmax(1) == label).sum())
    for name, chosen in zip(CONFIG.keep, found.tolist(), strict=True):
        assert counts[name][CANDIDATES.index(chosen)] == max(counts[name])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gates": True, "subsample": 1}, "gates"),
        ({"beyond": 0.1}, "beyond"),
        ({"dial": (64,)}, "dial"),
        ({"decision": "largest"}, "decision"),
        ({"frozen_cloud": "network.onnx"}, "frozen_cloud"),
        ({"objective": "literal", "bits": None}, "dither"),
        ({"channel": "gaussian", "levels": 2, "subsample": 1}, "dither"),
    ],
)
def test_what_cannot_be_had_with_it_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainConfig.model_validate(CONFIG.model_dump(exclude_unset=True) | more)
