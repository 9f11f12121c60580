"""The models of an answer bundle, and every check of them: the int8 scores decide, so decisions are what is compared.

    network = freeze_answer(run.local, run.dataset.size)
    model = check_answer_model("int8", content, run, network)
    shipped = ship(run, content)                    # table and cloud network fitted to the int8 model's own scores
    gates = answer_gates(models, cloud_gap=gap)

Scores have no fixed scale, unlike the probabilities of a channel: the converter chooses it from the calibration images, and
the contract says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.data import Split
from sfumato.data.truth import guess_errors, truth, truths
from sfumato.export.check import Lint, lint_model
from sfumato.export.freeze import AnswerPhone
from sfumato.export.gates import ACCURACY_LIMIT, CLOUD_LIMIT, UNDECIDED_LIMIT, lint_gates, make_gate
from sfumato.export.parity import MARGIN, batches
from sfumato.runtime import answer
from sfumato.runtime.contract import AnswerPart, ChannelPart, Gate, Tensor, UploadPart
from sfumato.runtime.interpreter import Session, open_model
from sfumato.runtime.sampler import to_int8
from sfumato.runtime.tflite_graph import read_graph
from sfumato.runtime.upload_codec import encode_png, pack
from sfumato.training.answer import Answer, Images, Reader, build_answer, judge_answer
from sfumato.training.answer_table import Scores
from sfumato.training.run import AnswerRun

PARITY_IMAGES = 64
IMAGES = 2000
"""Test images that are measured, at most."""
FLOAT_LIMITS = {"float32": 1e-5, "float16": 1e-2, "dynamic": 5e-2}
"""Largest difference of a score, as a share of the scores' range."""
DIFFERING_LIMIT = 0.02
"""Largest share of the clear decisions that int8 makes otherwise than the trained network. On the edge of a decision rounding
decides, and no conversion is at fault; what that costs is measured as accuracy."""
TUNE_ACCURACY = 0.003
"""Loss of accuracy beyond which the network is fine-tuned for int8."""


@dataclass(frozen=True)
class AnswerModel:
    """A converted model of answer mode with all that was found about it."""

    content: bytes
    lint: Lint
    gap: float
    """Largest difference of a score from the trained network's, as a share of the range; of int8, the mean one."""
    differing: float = 0.0
    """Share of test images with a clear decision on which any attribute is decided otherwise; of int8 alone."""
    unclear: float = 0.0
    """Share of test images on which the trained network's decision is too close to call; of int8 alone."""
    accuracy: Mapping[str, tuple[float, float]] | None = None
    """Attribute -> share of right decisions of the trained network and of this one; of int8 alone."""
    tuned: bool = False

    @property
    def movement(self) -> float:
        """How far int8 moved decisions or accuracy, in units of what is tolerated; above 1 the network is fine-tuned."""
        assert self.accuracy is not None
        lost = max(trained - shipped for trained, shipped in self.accuracy.values())
        return max(self.differing / DIFFERING_LIMIT, lost / TUNE_ACCURACY)


def trained_scores(network: AnswerPhone, images: Images) -> NDArray[np.float32]:
    """Scores of the trained network for images (N, H, W, 3), (N, S)."""
    with torch.no_grad():
        return torch.cat([network(pixels)[0].flatten(1) for pixels in batches(images)]).numpy()


def float_scores(session: Session, images: Images) -> NDArray[np.float32]:
    """Scores of a model with float input and output, (N, S)."""
    rows = [session.run(image[None].astype(np.float32) / np.float32(255))["scores"] for image in images]
    return np.stack([row.reshape(-1) for row in rows])


def int8_reader(session: Session) -> Reader:
    """The scores of an int8 model, (N, S)."""

    def read(images: Images) -> Scores:
        rows = [session.run(to_int8(image)[None])["scores"] for image in images]
        return np.stack([row.reshape(-1) for row in rows])

    return read


def check_answer_model(
    variant: str, content: bytes, run: AnswerRun, network: AnswerPhone, *, tuned: bool = False
) -> AnswerModel:
    """Lint a model and compare it with the trained network; the int8 one on all test images.

    Args:
        variant: float32, float16, dynamic or int8.
        content: the file.
        run: names data set and kept attributes.
        network: the network as it was trained.
        tuned: the model comes from fine-tuned weights.
    """
    session, data = open_model(content), run.dataset
    lint = lint_model(content, session)
    if variant != "int8":
        images = np.array(data.images[data.splits[Split.VALIDATION][:PARITY_IMAGES]])
        wanted, found = trained_scores(network, images), float_scores(session, images)
        return AnswerModel(content, lint, share_of_range(np.abs(wanted - found).max(), wanted))
    rows = data.splits[Split.TEST][:IMAGES]
    images = np.array(data.images[rows])
    wanted, bytes_ = trained_scores(network, images), int8_reader(session)(images)
    (out,) = read_graph(content).outputs
    found = (bytes_.astype(np.float64) - out.zero_points[0]) * out.scales[0]
    ends = np.cumsum(list(run.local.classes.values()))[:-1]
    accuracy, other, clear = {}, np.zeros(len(images), dtype=bool), np.ones(len(images), dtype=bool)
    for name, before, after in zip(
        run.keep, np.split(wanted, ends, axis=1), np.split(bytes_, ends, axis=1), strict=True
    ):
        facts, decided, shipped = truth(data, name, rows), before.argmax(1), after.argmax(1)
        accuracy[name] = float(facts.credit_of(decided).mean()), float(facts.credit_of(shipped).mean())
        other |= decided != shipped
        second, first = np.sort(before, axis=1)[:, -2:].T
        clear &= first - second > MARGIN
    gap = share_of_range(float(np.abs(wanted - found).mean()), wanted)
    differing = float((other & clear).sum() / max(1, clear.sum()))
    return AnswerModel(content, lint, gap, differing, float(1 - clear.mean()), accuracy, tuned)


def share_of_range(gap: float, scores: NDArray[np.float32]) -> float:
    """A difference as a share of the range of scores; not a number counts as infinite."""
    spread = float(scores.max() - scores.min())
    return float(gap) / spread if np.isfinite(gap) and spread > 0 else float("inf")


def answer_gates(models: Mapping[str, AnswerModel], *, cloud_gap: float, images: int) -> list[Gate]:
    """All gates of an answer bundle.

    Args:
        models: by variant.
        cloud_gap: largest difference of a logit of cloud.onnx.
        images: test images that int8 was measured on.
    """
    gates = [
        gate for variant, model in models.items() for gate in lint_gates(variant, model.lint, logistic=False)
    ]
    gates += [
        make_gate(
            f"{variant}: largest difference of a score, share of the range", model.gap, FLOAT_LIMITS[variant]
        )
        for variant, model in models.items()
        if variant != "int8"
    ]
    if "int8" in models:
        gates += int8_gates(models["int8"], images=images)
    return [*gates, make_gate("cloud.onnx: largest difference of a logit", cloud_gap, CLOUD_LIMIT)]


def int8_gates(model: AnswerModel, *, images: int) -> list[Gate]:
    """Decisions and accuracy of the int8 model."""
    assert model.accuracy is not None
    limit = round(max(ACCURACY_LIMIT, 1 / images), 6)
    note = f"mean difference of a score {model.gap:.1e} of the range"
    return [
        make_gate("int8: share of clear decisions made otherwise", model.differing, DIFFERING_LIMIT, note),
        make_gate("int8: share of decisions too close to call", model.unclear, UNDECIDED_LIMIT),
        *(
            make_gate(f"int8: loss of {name} accuracy", trained - shipped, limit)
            for name, (trained, shipped) in model.accuracy.items()
        ),
    ]


def ship(run: AnswerRun, read: Reader) -> AnswerRun:
    """The run as it ships: table and cloud network fitted to the scores of the model that ships."""
    made = build_answer(run.config, run.dataset, read)
    return replace(run, table=made.table, cloud=made.cloud)


def write_table(run: AnswerRun, folder: Path) -> None:
    """The table of a randomised answer; without one there is no file."""
    if run.table.cumulative is not None:
        (folder / answer.TABLE).write_bytes(answer.table_bytes(run.table.cumulative))


def answer_figures(run: AnswerRun, shipped: AnswerRun, read: Reader) -> dict[str, Any]:
    """Accuracy, what a word tells, leak and upload size of the shipped answer, beside the trained one, for the contract."""
    assert isinstance(shipped.cloud, type(run.cloud))
    found = judge_answer(Answer(shipped.table, shipped.cloud), run.dataset, run.config, read)  # type: ignore[arg-type]
    told, before = found["told"], run.card["told"]
    height, width = run.dataset.size
    picture = answer.word_image(shipped.table.words - 1, shipped.table.words, height, width)
    return {
        "images": len(run.dataset.splits[Split.TEST]),
        "accuracy": {
            name: {"float": round(run.card["desired_accuracy"][name], 6), "int8": round(value, 6)}
            for name, value in found["desired_accuracy"].items()
        },
        "guess_error": guess_errors(truths(run.dataset, run.keep, run.dataset.splits[Split.TEST])),
        "rate_bits": {
            name: {"float": round(before[key], 6), "int8": round(told[key], 6)}
            for name, key in (("mean", "entropy_bits"), ("max", "most_bits"))
        },
        "leak": {
            name: {key: value if isinstance(value, bool) else round(value, 6) for key, value in one.items()}
            for name, one in found["leak"].items()
        },
        "upload_bytes": {
            "word": float(answer.word_size(shipped.table.words)),
            "png": float(len(encode_png(picture, bits=1))),
            "packed": float(len(pack(picture, bits=1))),
        },
    }


def answer_parts(
    run: AnswerRun, content: bytes, entropy_bits: float
) -> tuple[Tensor, ChannelPart, UploadPart, AnswerPart]:
    """What the contract says of scores, channel, upload and words.

    Args:
        run: as it ships.
        content: a model; the int8 one where there is one, since it alone has a scale.
        entropy_bits: of the words on test.
    """
    height, width = run.dataset.size
    (out,) = read_graph(content).outputs
    quantised = len(out.scales) == 1
    scale, zero = (out.scales[0], out.zero_points[0]) if quantised else run.scale
    ends = tuple(float((end - zero) * scale) for end in (-128, 127))
    return (
        Tensor(
            name="scores",
            shape=(1, 1, 1, sum(run.table.classes)),
            range=(ends[0], ends[1]),
            int8_scale=float(scale),
            int8_zero_point=int(zero),
        ),
        ChannelPart(name="answer", levels=2),
        UploadPart(
            encoding="word",
            bit_depth=1,
            colour="grey, planes red, green, blue one below the other",
            width=width,
            height=3 * height,
        ),
        AnswerPart(
            words=run.table.words,
            margins=run.table.margins,
            table=None if run.table.shares is None else answer.TABLE,
            entropy_bits=entropy_bits,
        ),
    )


def shortfall(model: AnswerModel, images: int) -> tuple[int, float]:
    """Failed gates, then movement: the smaller the better."""
    gates: Sequence[Gate] = [
        *lint_gates("int8", model.lint, logistic=False),
        *int8_gates(model, images=images),
    ]
    return sum(not gate.passed for gate in gates), model.movement
