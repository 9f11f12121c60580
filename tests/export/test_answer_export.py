"""Bundles of answer mode: what ships decides as the trained network does, and says so."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from sfumato.data import Split
from sfumato.export.answer_bundle import AnswerModel, answer_gates, check_answer_model, int8_reader, ship
from sfumato.export.artifact import AnswerExport, load_export
from sfumato.export.check import Lint
from sfumato.export.freeze import freeze_answer
from sfumato.export.onnx_files import probe_uploads
from sfumato.export.quant_finetune import answer_divergence
from sfumato.models.word_decoder import WordDecoder
from sfumato.runtime import answer
from sfumato.runtime.contract import read_contract
from sfumato.runtime.interpreter import open_model
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.verification import verify
from sfumato.training.run import AnswerRun

KEY = bytes(range(32))


def test_a_frozen_network_gives_the_trained_scores(answer_run: AnswerRun) -> None:
    phone = freeze_answer(answer_run.local, answer_run.dataset.size)
    image = torch.rand(3, 32, 32, 3)
    wanted = answer_run.local.scores(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    with torch.no_grad():
        assert torch.allclose(phone(image)[0], wanted, atol=1e-4)


@pytest.mark.slow
def test_the_bundle_says_what_it_sends(answer_bundle: Path, answer_run: AnswerRun) -> None:
    contract = read_contract(answer_bundle)
    assert (contract.mode, contract.channel.name, contract.upload.encoding) == ("answer", "answer", "word")
    assert contract.answer is not None
    assert (contract.answer.words, contract.answer.table, contract.answer.margins) == (8, None, ())
    assert contract.outputs[0].shape == (1, 1, 1, 6)
    assert contract.figures["rate_bits"]["max"]["int8"] == 3
    assert contract.figures["upload_bytes"]["word"] == 1
    assert set(contract.figures["leak"]) == {"smiling", "skin", "background", "identity"}
    assert not contract.failed_gates
    checks = verify(answer_bundle)
    assert checks.passed, checks.failed


@pytest.mark.slow
def test_the_phone_sends_the_word_of_its_own_scores(answer_bundle: Path, answer_run: AnswerRun) -> None:
    phone, artifact = PhoneModel.load(answer_bundle), load_export(answer_bundle)
    assert isinstance(artifact, AnswerExport)
    images = np.array(answer_run.dataset.images[answer_run.dataset.splits[Split.TEST][:40]])
    words = artifact.table.states(artifact.scores(images))
    sent = [phone.perturb(image, key=KEY) for image in images]
    assert [one.word for one in sent] == words.tolist()
    shown = artifact.parameters(images)["p"].permute(0, 2, 3, 1).numpy()
    assert (shown == np.stack([one.levels for one in sent])).all()
    trained = answer_run.words(images)
    assert (trained == words).mean() > 0.7  # an untrained network is seldom sure


@pytest.mark.slow
def test_cloud_onnx_reads_every_word(answer_bundle: Path, answer_run: AnswerRun) -> None:
    artifact = load_export(answer_bundle)
    session = onnxruntime.InferenceSession(str(answer_bundle / "cloud.onnx"))
    images = np.stack([answer.word_image(word, 8, 32, 32) for word in range(8)])
    upload = images.transpose(0, 3, 1, 2).astype(np.float32)
    found = session.run(list(answer_run.keep), {session.get_inputs()[0].name: upload})
    with torch.no_grad():
        wanted = artifact.cloud(torch.from_numpy(upload))
    for name, values in zip(answer_run.keep, found, strict=True):
        assert values == pytest.approx(wanted[name].numpy())
        assert np.exp(values).sum(1) == pytest.approx(np.ones(8))


@pytest.mark.slow
def test_a_randomised_answer_ships_its_table(drawn_bundle: Path, drawn_run: AnswerRun) -> None:
    contract = read_contract(drawn_bundle)
    assert contract.answer is not None
    assert contract.answer.table == answer.TABLE
    content = (drawn_bundle / answer.TABLE).read_bytes()
    table = answer.read_table(content, (2, 4), contract.answer.margins)
    artifact = load_export(drawn_bundle)
    assert isinstance(artifact, AnswerExport)
    assert np.array_equal(artifact.table.cumulative, table)  # type: ignore[arg-type]
    images = np.array(drawn_run.dataset.images[drawn_run.dataset.splits[Split.TEST]])
    states = artifact.table.states(artifact.scores(images))
    phone = PhoneModel.load(drawn_bundle)
    sent = np.array([phone.perturb(image, key=KEY).word for image in images])
    again = np.array([phone.perturb(image, key=KEY).word for image in images[:10]])
    assert (again == sent[:10]).all()
    expected = artifact.table.counts(states, np.zeros_like(states), 1)[:, 0]
    spread = np.sqrt(np.maximum(expected, 1))
    assert (np.abs(np.bincount(sent, minlength=8) - expected) < 4 * spread).all()
    assert verify(drawn_bundle).passed


@pytest.mark.slow
def test_the_table_is_fitted_to_the_scores_that_ship(drawn_bundle: Path, drawn_run: AnswerRun) -> None:
    session = open_model((drawn_bundle / "local_int8.tflite").read_bytes())
    shipped = ship(drawn_run, int8_reader(session))
    artifact = load_export(drawn_bundle)
    assert isinstance(artifact, AnswerExport)
    assert shipped.table.shares is not None
    assert artifact.table.shares is not None
    assert np.array_equal(shipped.table.shares, artifact.table.shares)


@pytest.mark.slow
def test_a_model_of_other_weights_fails_the_gates(answer_bundle: Path, answer_run: AnswerRun) -> None:
    content = (answer_bundle / "local_int8.tflite").read_bytes()
    other = freeze_answer(answer_run.local, answer_run.dataset.size)
    with torch.no_grad():
        other.network.decision.answer.weight.mul_(-1)
    model = check_answer_model("int8", content, answer_run, other)
    gates = answer_gates({"int8": model}, cloud_gap=0.0, images=160)
    assert "int8: share of clear decisions made otherwise" in [gate.name for gate in gates if not gate.passed]


def test_gates_name_what_is_wrong() -> None:
    lint = Lint(1000, (), (), (), 1, "ai-edge-litert", 0.0, float("inf"))
    good = AnswerModel(b"", lint, 0.01, 0.01, 0.2, {"a": (0.8, 0.799)})
    assert all(gate.passed for gate in answer_gates({"int8": good}, cloud_gap=0.0, images=1000))
    worse = AnswerModel(b"", lint, 0.01, 0.01, 0.2, {"a": (0.8, 0.79)})
    failed = [
        gate.name for gate in answer_gates({"int8": worse}, cloud_gap=0.0, images=1000) if not gate.passed
    ]
    assert failed == ["int8: loss of a accuracy"]
    rough = AnswerModel(b"", lint, float("inf"))
    failed = [
        gate.name for gate in answer_gates({"float32": rough}, cloud_gap=1.0, images=9) if not gate.passed
    ]
    assert failed == [
        "float32: largest difference of a score, share of the range",
        "cloud.onnx: largest difference of a logit",
    ]


def test_the_loss_of_fine_tuning_is_the_divergence_of_the_answers() -> None:
    teacher, student = torch.randn(3, 1, 1, 7), torch.randn(3, 1, 1, 7)
    wanted = 0.0
    for part in (slice(0, 2), slice(2, 7)):
        p, q = (scores.flatten(1)[:, part].softmax(1) for scores in (teacher, student))
        wanted += float((p * (p / q).log()).sum(1).mean())
    loss = answer_divergence((2, 5))
    assert float(loss((teacher,), (student,))) == pytest.approx(wanted, rel=1e-5)
    assert float(loss((teacher,), (teacher,))) == pytest.approx(0, abs=1e-6)


def test_cloud_onnx_is_asked_about_words_that_rounding_cannot_change(answer_run: AnswerRun) -> None:
    """Of random bits, half of a bit's cells may be set: then the sums of two libraries decide otherwise."""
    probe = probe_uploads(answer_run)
    cells = torch.nn.functional.adaptive_avg_pool2d(probe, 4).permute(0, 2, 3, 1).flatten(1)
    cloud = answer_run.cloud
    assert isinstance(cloud, WordDecoder)
    assert ((cells @ cloud.shares) - 0.5).abs().min() > 0.49
    words = np.unique(np.linspace(0, answer_run.table.words - 1, 16).astype(int))
    assert cloud.index(probe).tolist() == words.tolist()
