"""From a finished run to a bundle for the phone. `export` reads from top to bottom.

Nothing appears at the output's path before the last step has succeeded.

    contract = export("run", "export")
"""

import tempfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError, first_line, unknown
from sfumato.core.files import atomic_folder
from sfumato.core.strengths import FULL, check_strengths
from sfumato.data import Split
from sfumato.export import answer_bundle
from sfumato.export.answer_bundle import AnswerModel, answer_gates, check_answer_model, int8_reader, ship
from sfumato.export.bundle import (
    AUDIT,
    CLOUD,
    LOCAL,
    describe,
    describe_answer,
    write_audit_files,
    write_contract,
    write_vectors,
)
from sfumato.export.calibration import answer_logits, calibrate, picture_logits, validation_photos
from sfumato.export.check import CheckedModel, check_model
from sfumato.export.freeze import AnswerPhone, PhoneNetwork, freeze_answer, freeze_network
from sfumato.export.gates import export_gates, int8_gates, require_passed
from sfumato.export.goal import require_goal, shipped_goal
from sfumato.export.index_encoding import index_part, measure_index, read_encoding, with_index
from sfumato.export.measure import Figures, measure_points
from sfumato.export.onnx_files import write_cloud, write_local
from sfumato.export.parity import ParityImages, parity_images
from sfumato.export.quant_finetune import answer_divergence, fine_tune
from sfumato.export.tflite import BACKENDS, convert, model_file, name_tensors
from sfumato.runtime.contract import FILE, VARIANTS, Contract
from sfumato.runtime.interpreter import open_model
from sfumato.training.run import AnswerRun, Run, load_run

CALIBRATION_IMAGES = 200
RATE_MOVEMENT, ACCURACY_MOVEMENT = 0.05, 0.003
"""Movement of rate (relative) and accuracy (fraction) by int8 beyond which the network is fine-tuned."""

Tune = Literal["auto", "never", "always"]
TUNE: tuple[Tune, ...] = ("auto", "never", "always")


class Step(StrEnum):
    """What an export does, in this order (docs/decisions/0006-export.md lists it too)."""

    FREEZE = "freeze, fold batch norm"
    ONNX = "write local.onnx"
    CONVERT = "convert to TensorFlow Lite"
    CHECK = "lint, compare and measure"
    TUNE = "fine-tune for int8 where needed"
    CLOUD = "write and check cloud.onnx"
    GATES = "check the gates"
    VECTORS = "write test vectors"
    BUNDLE = "write the contract"


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    variants: Sequence[str] = VARIANTS,
    backend: str = "direct",
    overwrite: bool = False,
    signer: Ed25519PrivateKey | None = None,
    tune: Tune = "auto",
    points: Sequence[int] | None = None,
    encoding: str = "packed",
    allow_missed_goal: bool = False,
    cloud: str | None = None,
    watch: Callable[[int, str], None] = lambda done, title: None,
) -> Contract:
    """Export a run; `out` appears only if every gate holds.

    Args:
        run: a finished run, or its folder.
        out: folder of the export.
        variants: which models; `perturb` and the audit need int8.
        backend: which converter, a key of `tflite.BACKENDS`.
        overwrite: replace an export that is there.
        signer: sign the contract with this key.
        tune: whether the network is fine-tuned for int8; `auto`: where int8 moves rate or accuracy too far or fails a gate.
        points: strengths at which the phone may use the model, from 128 down; None: those of training (`dial`), if any. Each is
            measured with the int8 model.
        encoding: what uploads are: `packed`, the levels themselves, or `index[:BITS[:POWER[:MEMORY]]]`, the index of an entry
            of a public book (`sfumato.export.index_encoding`).
        allow_missed_goal: export a model whose int8 form misses the goal of training on test; the contract says so.
        cloud: the `module:factory` of the run's cloud network, where that is the user's own and `run` is a folder.
        watch: called with the number of steps done and the title of the step that begins.

    Raises:
        UsageError: an unknown variant, back-end or way of tuning, or points or an encoding that cannot be.
        SfumatoError: a step failed; one line says which figure, and what is allowed.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise UsageError(unknown("variant", variant, VARIANTS))
    if not variants:
        raise UsageError(f"no variant was chosen: known are {', '.join(VARIANTS)}")
    if tune not in TUNE:
        raise UsageError(unknown("tune", tune, TUNE))
    if backend not in BACKENDS:
        raise UsageError(unknown("back-end", backend, BACKENDS))
    request = read_encoding(encoding)
    chosen, out = [variant for variant in VARIANTS if variant in variants], Path(out)
    refuse_occupied(out, overwrite=overwrite)
    run = run if isinstance(run, Run) else load_run(Path(run), cloud=cloud)
    strengths = chosen_points(run, points, chosen)
    book = None if request is None else index_part(run, request, strengths=strengths, variants=chosen)
    dataset, size = run.dataset, run.dataset.size

    def begin(step: Step) -> None:
        watch(list(Step).index(step), step)

    with atomic_folder(out) as folder:
        if isinstance(run, AnswerRun):
            return export_answer(run, folder, chosen, backend=backend, signer=signer, tune=tune, begin=begin)

        begin(Step.FREEZE)
        network = freeze_network(run.local, size)

        begin(Step.ONNX)
        write_local(network, size, folder / LOCAL)

        begin(Step.CONVERT)
        calibration = calibration_images(dataset.images, dataset.splits[Split.DEFENDER])
        converted, backend = convert_local(
            folder / LOCAL, calibration, chosen, backend=backend, own=run.config.local is not None
        )
        named = {variant: name_tensors(content, network.names) for variant, content in converted.items()}

        begin(Step.CHECK)
        images = parity_images(network, dataset)
        models = {
            variant: check_model(variant, content, run, network, images) for variant, content in named.items()
        }

        begin(Step.TUNE)
        if "int8" in models and needs_tuning(models["int8"], tune):
            tuned = tune_int8(run, network, calibration, images, backend=backend)
            # The better of both ships: fewer failed gates, then the smaller movement.
            models["int8"] = min((one for one in (tuned, models["int8"]) if one), key=shortfall)

        begin(Step.CLOUD)
        cloud_gap = write_cloud(run, folder / CLOUD)

        begin(Step.GATES)
        gates = export_gates(models, undecided=images.undecided, cloud_gap=cloud_gap)
        require_passed(gates)
        goal = None
        if "int8" in models:
            figures, session = models["int8"].figures, open_model(models["int8"].content)
            assert figures is not None
            goal = shipped_goal(run, session, {name: one.int8 for name, one in figures.accuracy.items()})
        if not allow_missed_goal:
            require_goal(goal)

        begin(Step.VECTORS)
        for variant, model in models.items():
            (folder / model_file(variant)).write_bytes(model.content)
        conversion = conversion_of(backend, calibration, tuned=any(m.tuned for m in models.values()))
        contract = describe(
            run, folder, network=network, models=models, gates=gates, conversion=conversion, goal=goal
        )
        if "int8" in models:
            photos, labels = validation_photos(run)
            logits = picture_logits(run, open_model(models["int8"].content), photos)
            contract = with_figures(contract, calibrate(run, labels, logits))
            if strengths:
                measured = measure_points(run, open_model(models["int8"].content), strengths)
                contract = contract.model_copy(update={"points": measured})
            if book is not None:
                measured_book = measure_index(run, open_model(models["int8"].content), book)
                contract = with_index(contract, book, measured_book)
        if "int8" in models:
            write_vectors(folder, contract)

        begin(Step.BUNDLE)
        write_audit_files(run, folder / AUDIT)
        return write_contract(contract, folder, signer)


def chosen_points(run: Run, given: Sequence[int] | None, variants: Sequence[str]) -> tuple[int, ...]:
    """The strengths of an export: those that are given, else those of training, for an int8 model.

    Raises:
        UsageError: they are no points, or there is no dither channel or no int8 model that they could be measured with.
    """
    if given is None:
        return (FULL, *run.config.dial) if run.config.dial and "int8" in variants else ()
    if not given:
        return ()
    try:
        check_strengths(given)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if isinstance(run, AnswerRun) or run.config.channel != "dither":
        raise UsageError("points belong to picture mode and the channel dither: leave them out")
    if run.config.shortlist:
        raise UsageError(
            "a weaker draw would list classes by chance, which the cloud network trusts: leave points out"
        )
    if "int8" not in variants:
        raise UsageError("points are measured with the int8 model: export the variant int8 too")
    return tuple(given)


def convert_local(
    model: Path, calibration: NDArray[np.uint8], variants: Sequence[str], *, backend: str, own: bool
) -> tuple[dict[str, bytes], str]:
    """`convert`, and the back-end that did it: a network of the user's own that our lowering refuses goes through onnx2tf.

    Raises:
        SfumatoError: as `convert`; of a network that both refuse, both reasons.
    """
    if not own or backend != "direct":
        return convert(model, calibration, variants, backend=backend), backend
    try:
        return convert(model, calibration, variants, backend=backend), backend
    except SfumatoError as refused:
        note(f"{refused}; onnx2tf converts it instead")
        try:
            return convert(model, calibration, variants, backend="onnx2tf"), "onnx2tf"
        except SfumatoError as error:
            raise SfumatoError(f"{refused}; {error}") from None


def export_answer(
    run: AnswerRun,
    folder: Path,
    chosen: Sequence[str],
    *,
    backend: str,
    signer: Ed25519PrivateKey | None,
    tune: Tune,
    begin: Callable[[Step], None],
) -> Contract:
    """`export` of a run in answer mode, into `folder`: the same steps, other models and other checks."""
    dataset, size = run.dataset, run.dataset.size
    tested = min(answer_bundle.IMAGES, len(dataset.splits[Split.TEST]))

    begin(Step.FREEZE)
    network = freeze_answer(run.local, size)

    begin(Step.ONNX)
    write_local(network, size, folder / LOCAL)

    begin(Step.CONVERT)
    calibration = calibration_images(dataset.images, dataset.splits[Split.DEFENDER])
    converted = convert(folder / LOCAL, calibration, chosen, backend=backend)

    begin(Step.CHECK)
    models = {
        variant: check_answer_model(variant, name_tensors(content, network.names), run, network)
        for variant, content in converted.items()
    }

    begin(Step.TUNE)
    if "int8" in models and tune != "never":
        rank = partial(answer_bundle.shortfall, images=tested)
        if tune == "always" or rank(models["int8"]) > (0, 1.0):
            tuned = tune_answer(run, network, calibration, backend=backend)
            models["int8"] = min(tuned, models["int8"], key=rank)

    begin(Step.CLOUD)
    # The words of the model that ships; without an int8 model those of the trained network stand.
    read = int8_reader(open_model(models["int8"].content)) if "int8" in models else run.scores
    shipped = ship(run, read)
    cloud_gap = write_cloud(shipped, folder / CLOUD)

    begin(Step.GATES)
    gates = answer_gates(models, cloud_gap=cloud_gap, images=tested)
    require_passed(gates)

    begin(Step.VECTORS)
    for variant, model in models.items():
        (folder / model_file(variant)).write_bytes(model.content)
    answer_bundle.write_table(shipped, folder)
    figures = answer_bundle.answer_figures(run, shipped, read)
    if "int8" in models:
        photos, labels = validation_photos(run)
        figures |= calibrate(run, labels, answer_logits(shipped, read, photos))
    contract = describe_answer(
        shipped,
        folder,
        models={variant: model.content for variant, model in models.items()},
        gates=gates,
        figures=figures,
        conversion=conversion_of(backend, calibration, tuned=any(model.tuned for model in models.values())),
    )
    if "int8" in models:
        write_vectors(folder, contract)

    begin(Step.BUNDLE)
    write_audit_files(shipped, folder / AUDIT)
    return write_contract(contract, folder, signer)


def with_figures(contract: Contract, more: dict[str, Any]) -> Contract:
    """A contract with further figures."""
    return contract.model_copy(update={"figures": {**contract.figures, **more}})


def tune_answer(
    run: AnswerRun, network: AnswerPhone, calibration: NDArray[np.uint8], *, backend: str
) -> AnswerModel:
    """Fine-tune a copy of the network so that its int8 decisions are those of the trained one, and convert it."""
    rows = run.dataset.splits[Split.DEFENDER]
    images, loss = np.array(run.dataset.images[rows]), answer_divergence(run.table.classes)
    student = fine_tune(network, images, calibration, divergence=loss)
    content = convert_tuned(student, run, calibration, backend=backend)
    return check_answer_model("int8", content, run, network, tuned=True)


def convert_tuned(
    student: PhoneNetwork | AnswerPhone, run: Run, calibration: NDArray[np.uint8], *, backend: str
) -> bytes:
    """The int8 model of fine-tuned weights; local.onnx of the bundle stays that of the trained network."""
    with tempfile.TemporaryDirectory(prefix="sfumato-tune-") as name:
        source = Path(name) / "tuned.onnx"
        write_local(student, run.dataset.size, source)
        content = convert(source, calibration, ["int8"], backend=backend)["int8"]
    return name_tensors(content, student.names)


def conversion_of(backend: str, calibration: NDArray[np.uint8], *, tuned: bool) -> dict[str, object]:
    """What the contract says about the conversion."""
    return {
        "backend": backend,
        "calibration_images": len(calibration),
        "quantization": "fine-tuned" if tuned else "post-training",
    }


def calibration_images(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images (N, H, W, 3) spread over `rows`; they hold the exact values 0 and 255."""
    picks = rows[np.linspace(0, len(rows) - 1, min(CALIBRATION_IMAGES, len(rows))).astype(int)]
    chosen = np.array(images[picks])
    # Two pixels fix the image's scale at 1/255; a whole black or white image would widen every other range.
    chosen[0, 0, 0], chosen[0, 0, 1] = 0, 255
    return chosen


def needs_tuning(int8: CheckedModel, tune: Tune) -> bool:
    """Whether the network is fine-tuned for int8."""
    return tune == "always" or (tune == "auto" and shortfall(int8) > (0, 1.0))


def shortfall(int8: CheckedModel) -> tuple[int, float]:
    """Failed gates, then movement: the smaller the better."""
    assert int8.figures is not None
    return sum(not gate.passed for gate in int8_gates(int8)), movement(int8.figures)


def movement(figures: Figures) -> float:
    """How far int8 moved accuracy or rate, in units of what is tolerated; above 1 the network is fine-tuned."""
    rate = figures.rate_bits["mean"]
    moved = abs(rate.int8 - rate.trained) / max(rate.trained, 1e-9) / RATE_MOVEMENT
    lost = max(pair.trained - pair.int8 for pair in figures.accuracy.values()) / ACCURACY_MOVEMENT
    return max(moved, lost)


def tune_int8(
    run: Run, network: PhoneNetwork, calibration: NDArray[np.uint8], images: ParityImages, *, backend: str
) -> CheckedModel | None:
    """Fine-tune a copy of the network and convert it; the float models and local.onnx stay those of the trained network.

    None for a network of the user's own that fine-tuning cannot follow: it ships as it was quantised, if the gates allow it.
    """
    rows = run.dataset.splits[Split.DEFENDER]
    try:
        student = fine_tune(network, np.array(run.dataset.images[rows]), calibration)
    except Exception as error:  # torch.fx has many types for what it cannot trace
        if run.config.local is None:
            raise
        note(
            f"{run.config.local} cannot be fine-tuned for int8 ({first_line(error)}): it stays as it was quantised"
        )
        return None
    content = convert_tuned(student, run, calibration, backend=backend)
    return check_model("int8", content, run, network, images, tuned=True)


def refuse_occupied(out: Path, *, overwrite: bool) -> None:
    """Refuse a path that holds something else than an export, or an export without `overwrite`."""
    if out.is_file():
        raise SfumatoError(f"{out} is a file: give a folder for the export")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / FILE).exists():
        raise SfumatoError(f"{out} is not empty and holds no {FILE}: choose another --out")
    if not overwrite:
        raise SfumatoError(f"{out} already holds an export: choose another --out, or pass --overwrite")
