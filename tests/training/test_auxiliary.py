"""A classifier that helps the encoder in training and stays behind when the phone's network ships."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from pydantic import ValidationError

from sfumato.data import Split, open_dataset
from sfumato.training.clean import first_cloud, training_batches
from sfumato.training.config import TrainConfig
from sfumato.training.evaluate import evaluate
from sfumato.training.loader import Batches
from sfumato.training.losses import task_loss
from sfumato.training.pretrain import pretrain
from sfumato.training.run import make_local
from sfumato.training.trainer import CoTrainer, first_model

CONFIG = TrainConfig(
    data="synthetic,size=16,count=600",
    keep=("skin",),
    cloud="resnet,width=8",
    mode="picture",
    bits=200,
    decision="none",
    auxiliary_classifier=True,
    pretrain_epochs=6,
    epochs=2,
    batch_size=32,
    distill=0.0,
)


def test_the_encoder_learns_before_co_training_and_goes_on_in_it(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    dataset = open_dataset(CONFIG.data, keep=CONFIG.keep)
    clean = first_cloud(CONFIG, dataset)
    model = first_model(CONFIG, dataset, clean, tmp_path)
    classifier = model.classifier()
    assert classifier is not None
    validation = Batches(dataset, Split.VALIDATION, CONFIG.keep, 64)
    before, weights = (
        evaluate(classifier, validation).cross_entropy,
        deepcopy(model.local.encoder.state_dict()),
    )
    pretrain(classifier, clean, training_batches(CONFIG, dataset, fabric), CONFIG, fabric, None)
    assert evaluate(classifier, validation).cross_entropy < before - 0.1
    assert any(
        not torch.equal(value, weights[name]) for name, value in model.local.encoder.state_dict().items()
    )

    trainer = CoTrainer(CONFIG, dataset, clean, tmp_path, fabric, first=model)
    assert trainer.run_epoch()["aux_loss"] > 0
    shipped, made = trainer.best.local.state_dict(), make_local(CONFIG, dataset).state_dict()
    assert shipped.keys() == made.keys(), "nothing of the classifier is in the phone's network"


def test_its_loss_is_a_term_of_its_own_and_moves_the_encoder(tmp_path: Path) -> None:
    dataset = open_dataset(CONFIG.data, keep=CONFIG.keep)
    model = first_model(CONFIG, dataset, first_cloud(CONFIG, dataset), tmp_path)
    batch = next(Batches(dataset, Split.VALIDATION, CONFIG.keep, 32).ordered())
    output = model(batch.images)
    assert output.decision == {}, "the upload goes on carrying features, not a decision"
    assert model.auxiliary is not None
    coarse = model.local.encoder(batch.images)[-1]
    slow = model.auxiliary.answer(model.auxiliary.mix(model.auxiliary.shrink(coarse)).relu()).flatten(1)
    assert torch.allclose(output.aux_logits["skin"], slow)
    task_loss(output.aux_logits, batch.labels).backward()
    assert all(weight.grad is not None for weight in model.local.encoder.parameters())
    assert all(weight.grad is None for weight in model.cloud.parameters())


@pytest.mark.parametrize("more", [{"local": "module:factory"}, {"objective": "literal", "bits": None}])
def test_networks_that_have_no_such_encoder_refuse_it(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="auxiliary_classifier"):
        TrainConfig.model_validate(CONFIG.model_dump(exclude_unset=True) | more)


def test_a_network_with_a_decision_has_no_second_one(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"decision": "largest"})
    dataset = open_dataset(config.data, keep=config.keep)
    model = first_model(config, dataset, first_cloud(config, dataset), tmp_path)
    assert model.auxiliary is None
    assert model.classifier() is not None
