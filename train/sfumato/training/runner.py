"""`train`: from a configuration to a finished run on disk.

    run = train(data="synthetic", keep=["smiling"], bits=8, out="runs/smile")
    run = train(TrainConfig(data="synthetic", keep=("smiling",), bits=8), "runs/smile")

The stages of picture mode: the clean cloud network, pretraining of the local network's encoder, co-training
(`sfumato.training.trainer`), and the card that marks the folder as a finished run. A killed run continues after the clean
network, or after the last epoch of co-training. With `frozen_cloud` the local network alone learns; a cloud network that is
given takes the place of the clean one (docs/decisions/0011-frozen-cloud.md).

The stages of answer mode: the clean cloud network, then the phone's own network and its answer table
(`sfumato.training.answer`). `auto` begins as answer mode and goes on in picture mode where the phone's answer is not good
enough; what the phone has learned is then its pretraining.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sfumato.core.console import note, progress
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import (
    atomic_write,
    claim_folder,
    is_scratch,
    only_process,
    read_object,
    sha256,
    write_json,
)
from sfumato.core.memory import keep_freed_memory
from sfumato.core.provenance import provenance
from sfumato.core.seeding import derive_seed
from sfumato.data import Dataset, Split, open_dataset
from sfumato.data.truth import guess_errors, guess_ious, truths
from sfumato.models.cost import cost
from sfumato.models.local import LocalNetwork, check_names, check_size
from sfumato.models.shortlist import ShortlistReader
from sfumato.training import checkpoint
from sfumato.training.advice import Figures, reaches, recommend
from sfumato.training.answer import (
    CHECKPOINT,
    AnswerTrainer,
    build_answer,
    check_answer,
    float_reader,
    has_words,
    judge_answer,
    score_range,
)
from sfumato.training.clean import (
    ONNX_COPY,
    check_cloud,
    make_cloud,
    read_onnx,
    train_clean,
    training_batches,
)
from sfumato.training.config import TrainConfig, differences, make_config, stored_config
from sfumato.training.epoch_selection import nearest
from sfumato.training.evaluate import Evaluation, evaluate, figure_name
from sfumato.training.gating import learn_gates
from sfumato.training.list_trust import best_trust
from sfumato.training.loader import Batches
from sfumato.training.local_cloud import EncoderClassifier, LocalCloudModel
from sfumato.training.log import TrainingLog, read_records
from sfumato.training.pretrain import pretrain
from sfumato.training.run import SCHEMA, Run, check_own, decision_form, load_run, write_answer
from sfumato.training.start import CARD, CONFIG, check_devices, check_free
from sfumato.training.started import changed, data_facts, record
from sfumato.training.team import Team
from sfumato.training.trainer import CoTrainer, first_model
from sfumato.training.windows import learn_windows

NEAREST = 8
"""Epochs that a card names where goals were not met together."""


def describe(record: dict[str, Any], figure: str) -> str:
    """The figures that matter, for the progress bar; `figure` is what the validation figure is (`figure_name`)."""
    parts = [f"{figure} {100 * record['val_accuracy']:.1f} %"]
    if record["val_rate_bits"] is not None:
        parts.append(f"{record['val_rate_bits']:.1f} bits")
    if "val_leak" in record:
        parts.append("leak " + ", ".join(f"{name} {leak:.3f}" for name, leak in record["val_leak"].items()))
    elif "adversary_accuracy" in record:
        parts.append(f"adversary {100 * record['adversary_accuracy']:.1f} %")
    return ", ".join(parts)


@overload
def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    processes: int = 1,
    accelerator: str = "auto",
    auto: bool = False,
) -> Run: ...


@overload
def train(
    *,
    out: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    processes: int = 1,
    accelerator: str = "auto",
    auto: bool = False,
    **options: Any,
) -> Run: ...


def train(
    config: TrainConfig | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    processes: int = 1,
    accelerator: str = "auto",
    auto: bool = False,
    **options: Any,
) -> Run:
    """Train and write a run into `out`.

    Args:
        config: what to train; or leave it out and give the fields of `TrainConfig` as keywords.
        out: the run's folder.
        resume: continue a run that was interrupted; a finished one is returned as it is.
        overwrite: replace a run that is there.
        processes: processes to share each batch; more than one runs on the CPU with DistributedDataParallel. Where torchrun
            started several, on one machine or on more, those share it (`sfumato.training.team`), and this stays 1.
        accelerator: `auto`, `cpu` or `cuda`.
        auto: choose between the modes once the phone's own network is trained; the configuration must suit both.
        **options: fields of `TrainConfig`, for example `data="synthetic", keep=["smiling"], bits=8`.

    Returns:
        The finished run, read back from disk.

    Raises:
        UsageError: unknown or contradictory options.
        SfumatoError: the data or a given cloud network cannot be used, the folder is taken, the run on disk was started with
            other options, or so was another process of torchrun.
    """
    if out is None:
        raise UsageError("train needs a folder for the run: give out=...")
    if config is not None and options:
        raise UsageError(f"give either a TrainConfig or its fields, not both ({', '.join(options)})")
    given, out = make_config(options) if config is None else config, Path(out)
    folder = out
    team = Team.join()

    def opened() -> Dataset:
        check_devices(accelerator, processes)
        check_free(folder, resume=resume, overwrite=overwrite)
        dataset = open_dataset(given.data, keep=given.keep, hide=given.hide)
        check_size(*dataset.size, given.subsample)
        check_names((*given.keep, *given.hide))
        return dataset

    dataset = team.each(opened)
    team.agree(
        {
            **given.model_dump(mode="json"),
            "out": str(folder.absolute()),
            "resume": resume,
            "overwrite": overwrite,
            "auto": auto,
            "pictures": dataset.id,
            "sfumato": version("sfumato"),
            "torch": torch.__version__,
        }
    )
    settled, auto = team.first(
        lambda: _begin(given, dataset, folder, resume=resume, overwrite=overwrite, auto=auto)
    )
    with ExitStack() as held:

        def hold() -> None:
            held.enter_context(only_process(folder))
            _keep_onnx(settled, dataset, folder)

        team.first(hold)
        team.each(lambda: _see(folder))
        if not (out / CARD).exists():
            with given_back(out) if team.leads else nullcontext():
                if team.fabric is not None:
                    _train(team.fabric, settled, out, auto)
                else:
                    strategy = "ddp_spawn" if processes > 1 else "auto"
                    kind = "cpu" if processes > 1 else accelerator
                    fabric = Fabric(accelerator=kind, devices=processes, strategy=strategy)
                    launch: Callable[..., None] = fabric.launch
                    launch(_train, settled, out, auto)
    run = load_run(out, cloud=",".join(filter(None, (settled.factory, settled.local))))
    team.leave()
    return run


def _see(out: Path) -> None:
    """The folder that the first process has made is here, too."""
    if not (out / CONFIG).exists():
        raise SfumatoError(f"{out} is not there: every machine has to see the folder of the run")


def _begin(
    config: TrainConfig, dataset: Dataset, out: Path, *, resume: bool, overwrite: bool, auto: bool
) -> tuple[TrainConfig, bool]:
    """Claim the folder, or find that an interrupted run may go on; what is trained, and whether the mode is still open."""
    if auto and (auto := has_words(config, dataset)):
        config = config.model_copy(update={"mode": "answer"})
    asked, config = config.decision, settle_decision(config, dataset)
    if resume and barely_begun(out):
        (out / CONFIG).unlink()
    if resume and (out / CONFIG).exists():
        before = stored_config(read_object(out / CONFIG))
        if asked == "auto":
            config = config.model_copy(update={"decision": before.decision})
        kept = {"padding", "phone_input"} - config.model_fields_set  # nobody asked for another one
        config = config.model_copy(update={name: getattr(before, name) for name in kept})
        other = changed(out, config, dataset, auto=auto)
        if auto and before.mode == "picture":  # the choice was made
            auto, config = False, config.model_copy(update={"mode": "picture"})
        if other := differences(before, config) + other:
            raise SfumatoError(
                f"{out} was started with other options or data: {', '.join(other)}; resume it with the same ones"
            )
    else:
        check_cloud(config, dataset)
        check_own(config, dataset)
        if config.mode == "answer":
            check_answer(config, dataset)
        if config.given_onnx is not None and out.resolve() in config.given_onnx.resolve().parents:
            raise UsageError(
                f"{config.given_onnx} lies in {out}, which is to be replaced: choose another --out"
            )
        claim_folder(out, holds=CONFIG, overwrite=overwrite)
        with given_back(out):
            write_json(out / CONFIG, config.model_dump(mode="json"))
            record(out, config, dataset, auto=auto)
    return config, auto


def settle_decision(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The configuration with the form of the decision written out, so that a later rule leaves the run as it is."""
    form = decision_form(config, dataset) or "none"
    if (
        form == "none"
        and config.decision == "auto"
        and config.local is None
        and not config.shortlist
        and config.objective != "literal"
        and config.mode == "picture"
        and not config.masks
    ):
        note(
            "the phone's own decision is left out: so many classes would make most of its network "
            '(decision = "largest" in --config keeps it)'
        )
    return config.model_copy(update={"decision": form})


def barely_begun(out: Path) -> bool:
    """Whether a start was killed between its first two files, so that nothing says what data it began with."""
    return out.is_dir() and [path.name for path in out.iterdir() if not is_scratch(path)] == [CONFIG]


@contextmanager
def given_back(out: Path) -> Iterator[None]:
    """A start that fails before any stage is finished leaves the folder as free as it was; Ctrl-C leaves it to --resume."""
    try:
        yield
    except Exception:
        if not any((out / part).exists() for part in ("clean.safetensors", CHECKPOINT, "checkpoint")):
            shutil.rmtree(out, ignore_errors=True)
        raise


def _keep_onnx(config: TrainConfig, dataset: Dataset, out: Path) -> None:
    """A run stays whole without the ONNX file that it was given, so it holds a copy, in which what was said of it is true."""
    if config.given_onnx is not None and not (out / ONNX_COPY).exists():
        try:
            with atomic_write(out / ONNX_COPY) as scratch:
                scratch.write_bytes(read_onnx(config, dataset))
        except OSError as error:
            raise SfumatoError(f"{config.given_onnx} cannot be copied ({error.strerror})") from None


def _train(fabric: Fabric, config: TrainConfig, out: Path, auto: bool = False) -> None:
    """What every process runs; each opens the memory-mapped data set itself."""
    keep_freed_memory()
    dataset = open_dataset(config.data, keep=config.keep, hide=config.hide)
    threads = torch.get_num_threads()
    if fabric.world_size > 1:
        here = len(fabric.strategy.parallel_devices or ())  # type: ignore[attr-defined]  # DDP's, of this machine
        torch.set_num_threads(max(1, threads // max(1, here)))
    log_file = TrainingLog(out) if fabric.is_global_zero else None
    clean = _clean_stage(fabric, config, dataset, out, log_file)
    if config.mode == "answer":
        answerer = _answer_stage(fabric, config, dataset, clean, out, log_file)
        if auto and not _answer_suits(answerer, clean, fabric):
            config = config.model_copy(update={"mode": "picture"})
            if log_file is not None:
                write_json(out / CONFIG, config.model_dump(mode="json"))
        elif log_file is not None:
            _finish_answer(answerer, dataset)
    if config.mode == "picture":
        _cotraining_stage(fabric, config, dataset, clean, out, log_file)
    fabric.barrier()
    torch.set_num_threads(threads)


def _cotraining_stage(
    fabric: Fabric,
    config: TrainConfig,
    dataset: Dataset,
    clean: nn.Module,
    out: Path,
    log_file: TrainingLog | None,
) -> None:
    """Pretraining, co-training and the finished run of picture mode."""
    first = _pretraining_stage(fabric, config, dataset, clean, out, log_file)
    if first is not None and fabric.is_global_zero:
        _warn_between_modes(config, dataset, first.local, clean, fabric)
    if config.gates and not checkpoint.exists(out / "checkpoint"):
        first = _gate_stage(fabric, config, dataset, clean, out, first, log_file)
    trainer = CoTrainer(config, dataset, clean, out, fabric, first=first)
    if log_file is not None:
        log_file.drop_after("cotrain", trainer.epoch)
    _announce(fabric, dataset, local=trainer.model.local, cloud=trainer.model.cloud)
    _run_epochs(trainer, config.epochs, "co-training", log_file)
    if fabric.is_global_zero:
        _finish(trainer)


def _run_epochs(
    trainer: CoTrainer | AnswerTrainer,
    epochs: int,
    title: str,
    log_file: TrainingLog | None,
    more: Callable[[dict[str, Any]], str] = lambda record: "",
) -> None:
    """The epochs that are still to come: a line of the log and a checkpoint after each.

    `more` makes what the progress bar says of an epoch beside `describe`.
    """
    figure = figure_name(trainer.validation.dataset, trainer.config.keep)
    with progress() as bar:
        steps = trainer.batches.steps
        task = bar.add_task(
            title,
            total=epochs * steps,
            completed=trainer.epoch * steps,
            figures="",
            visible=trainer.fabric.is_global_zero,
        )
        while trainer.epoch < epochs:
            record = trainer.run_epoch(lambda: bar.advance(task))
            bar.update(task, figures=describe(record, figure) + more(record))
            if log_file is not None:
                log_file.write(record)
                trainer.save()
            trainer.fabric.barrier()


BETWEEN_MODES_BITS = 10.0
"""From about here on `suppress` lets through more than an answer."""


def _warn_between_modes(
    config: TrainConfig, dataset: Dataset, local: LocalNetwork, clean: nn.Module, fabric: Fabric
) -> None:
    """Say so where `suppress` is given tens of bits although the phone decides alone: more than answers, less than pictures."""
    bits = config.bits or config.rate.default_bits
    if config.objective != "suppress" or bits <= BETWEEN_MODES_BITS or local.decision is None:
        return
    classes = {name: len(dataset.attributes[name].classes) for name in config.keep}
    validation = Batches(dataset, Split.VALIDATION, config.keep, config.batch_size, device=fabric.device)
    networks = EncoderClassifier(local, classes), clean
    phone, cloud = (evaluate(fabric.to_device(one), validation).accuracy_by_head for one in networks)
    if reaches(phone, cloud):
        note(
            f"the phone alone decides as well as the cloud network, so {bits:g} bits buy little and leak: measured on age "
            "bands at 118 bits, the cloud gained 0.25 points and gender was found with 71.5 % (guessing 60.1 %). --mode answer "
            "sends the answer alone; picture mode is for questions that the phone cannot answer"
        )


def _answer_stage(
    fabric: Fabric,
    config: TrainConfig,
    dataset: Dataset,
    clean: nn.Module,
    out: Path,
    log_file: TrainingLog | None,
) -> AnswerTrainer:
    """Train the phone's network of answer mode, or go on where an interrupted run stood."""
    trainer = AnswerTrainer(config, dataset, clean, out, fabric)
    if log_file is not None:
        log_file.drop_after("answer", trainer.epoch)
    _announce(fabric, dataset, phone=trainer.network)
    _run_epochs(
        trainer,
        trainer.epochs,
        "phone's answer",
        log_file,
        lambda record: f", best {100 * trainer.best_record['val_accuracy']:.1f} %",
    )
    return trainer


def _answer_suits(trainer: AnswerTrainer, clean: nn.Module, fabric: Fabric) -> bool:
    """Whether `auto` stays in answer mode, by the rule of `sfumato.training.advice`; says why."""
    reference = evaluate(fabric.to_device(clean).eval(), trainer.validation).accuracy_by_head
    phone = trainer.best_record["val_accuracy_by_head"]
    advice = recommend(Figures(classes=trainer.network.classes, phone=phone, cloud=reference))
    if fabric.is_global_zero:
        note(f"{advice.train_mode} mode (--mode chooses otherwise). {' '.join(advice.reasons)}")
    return advice.train_mode == "answer"


def _clean_stage(
    fabric: Fabric, config: TrainConfig, dataset: Dataset, out: Path, log_file: TrainingLog | None
) -> nn.Module:
    """Train the clean cloud network, take the one that is given, or read that of an interrupted run."""
    path = out / "clean.safetensors"
    fabric.barrier()
    if path.exists():
        clean = make_cloud(config, dataset, out)
        checkpoint.load_module(clean, path)
        return clean.eval()
    if log_file is not None:
        log_file.drop_after("clean", 0)
    if config.given_cloud is None:
        clean = train_clean(config, dataset, fabric, log_file)
    else:
        clean = make_cloud(config, dataset, out).eval()
    fabric.barrier()
    if fabric.is_global_zero:
        checkpoint.save_module(clean, path)
    fabric.barrier()
    return clean


def _pretraining_stage(
    fabric: Fabric,
    config: TrainConfig,
    dataset: Dataset,
    clean: nn.Module,
    out: Path,
    log_file: TrainingLog | None,
) -> LocalCloudModel | None:
    """Both networks after pretraining the local one; None where there is nothing to pretrain or co-training has begun."""
    if checkpoint.exists(out / "checkpoint"):
        return None
    learned = out / CHECKPOINT
    if checkpoint.exists(learned):  # `auto` has trained the same encoder already, for longer
        model = first_model(config, dataset, clean, out)
        with checkpoint.restored(learned) as state:
            adopt(model.local, state["best"])
        return model
    if log_file is not None:
        log_file.drop_after("pretrain", 0)
    model = first_model(config, dataset, clean, out)
    classifier = model.classifier()
    if classifier is None:
        return None
    batches = training_batches(config, dataset, fabric, hidden=True)
    pretrain(classifier, fabric.to_device(clean).eval(), batches, config, fabric, log_file)
    return model


def _gate_stage(
    fabric: Fabric,
    config: TrainConfig,
    dataset: Dataset,
    clean: nn.Module,
    out: Path,
    first: LocalCloudModel | None,
    log_file: TrainingLog | None,
) -> LocalCloudModel:
    """Both networks once the gates have learned; they start from `first`, where there was something to pretrain."""
    if log_file is not None:
        log_file.drop_after("gates", 0)
    model = first_model(config, dataset, clean, out) if first is None else first
    batches = training_batches(config, dataset, fabric, hidden=False)
    model.to(fabric.device)
    learn = learn_windows if config.gating.window else learn_gates
    learn(model, fabric.to_device(clean).eval(), batches, config, fabric, log_file)
    return model


def adopt(local: LocalNetwork, answer_network: Mapping[str, Tensor]) -> None:
    """Give a local network the encoder and the scores that answer mode has trained; the rest stays as it is."""
    mine = local.state_dict()
    local.load_state_dict({**mine, **{name: value for name, value in answer_network.items() if name in mine}})


def _announce(fabric: Fabric, dataset: Dataset, **networks: nn.Module) -> None:
    if fabric.is_global_zero:
        for name, module in networks.items():
            figures = cost(module, (dataset.planes, *dataset.size))
            note(
                f"{name} network: {figures.parameters:,} parameters, {figures.macs / 1e6:.2f} million MACs an image"
            )


def _card(config: TrainConfig, dataset: Dataset, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """What the card of every run says: data, configuration, cost, and who made it."""
    seen = {
        "local": dataset.planes,
        "cloud": 3 if config.mode == "answer" else dataset.planes,
    }  # a word is drawn in colour
    costs = {name: cost(network, (seen[name], *dataset.size)) for name, network in networks.items()}
    facts = truths(dataset, config.keep, dataset.splits[Split.TEST])
    return {
        "schema": SCHEMA,
        "mode": config.mode,
        "dataset": data_facts(dataset, (*config.keep, *config.hide)),
        "config": config.model_dump(mode="json"),
        "guess_error": guess_errors(facts),
        **({"guess_iou": guess_ious(facts)} if config.masks else {}),
        **{name: {"parameters": one.parameters, "macs": one.macs} for name, one in costs.items()},
        "provenance": provenance(),
    }


def _finish(trainer: CoTrainer) -> None:
    """Write the weights of the best epoch and the card that marks the run as finished."""
    config, dataset, out = trainer.config, trainer.dataset, trainer.folder
    best = trainer.best.to(trainer.fabric.device)
    test = Batches(dataset, Split.TEST, config.keep, config.batch_size, device=trainer.fabric.device)
    listing: dict[str, Any] = {}
    if isinstance(best.cloud, ShortlistReader):
        trust = best_trust(best.cloud, trainer.validation, best.local, seed=derive_seed(config.seed, "trust"))
        best.cloud.trust.copy_(trust)
        listing = {"trust": dict(zip(best.cloud.heads, trust.tolist(), strict=True))}
    seed = derive_seed(config.seed, "test")
    result = evaluate(best.cloud, test, best.local, seed=seed, prior=trainer.best_prior)
    reference = evaluate(trainer.clean, test)
    card = _card(config, dataset, {"local": best.local, "cloud": best.cloud})
    checkpoint.save_module(best.local, out / "local.safetensors")
    checkpoint.save_module(best.cloud, out / "cloud.safetensors")
    card |= {
        "clean_accuracy": reference.accuracy_by_head,
        "desired_accuracy": result.accuracy_by_head,
        "rate_bits": result.rate_bits,
        "autoregressive_bits": result.autoregressive_bits,
        **mask_figures(reference, result),
        "best_epoch": trainer.best_record,
        "goal_met": trainer.best_record["goal_met"],
        **listing,
    }
    if config.leaks and not card["goal_met"]:
        stages = (one for one in read_records(out / "metrics.jsonl") if one.get("stage") == "cotrain")
        shown = ("epoch", "val_accuracy", "val_rate_bits", "val_leak")
        card["nearest"] = [
            {name: one[name] for name in shown}
            for one in nearest(list(stages), trainer.targets, config.selection)[:NEAREST]
        ]
    if config.given_onnx is not None:
        card["given_cloud"] = {"file": ONNX_COPY, "sha256": sha256(out / ONNX_COPY)}
    write_json(out / CARD, card)


def mask_figures(clean: Evaluation, uploads: Evaluation) -> dict[str, Any]:
    """What a card says of masks beside their IoU: the share of cells that is right; nothing where none is kept."""
    if not uploads.cells_right:
        return {}
    return {
        "cells_right": {
            name: {"clean": clean.cells_right[name], "uploads": share}
            for name, share in uploads.cells_right.items()
        }
    }


def _finish_answer(trainer: AnswerTrainer, dataset: Dataset) -> None:
    """Fit the answer table to the best epoch's scores; write everything and the card."""
    config, out, network = trainer.config, trainer.folder, trainer.best
    scale = score_range(network, dataset)
    read = float_reader(network, *scale)
    answer = build_answer(config, dataset, read)
    test = Batches(dataset, Split.TEST, config.keep, config.batch_size, device=trainer.fabric.device)
    reference = evaluate(trainer.clean, test)
    figures = judge_answer(answer, dataset, config, read)
    checkpoint.save_module(network, out / "local.safetensors")
    checkpoint.save_module(answer.cloud, out / "cloud.safetensors")
    write_answer(out, answer.table, scale)
    card = _card(config, dataset, {"local": network, "cloud": answer.cloud}) | {
        "clean_accuracy": reference.accuracy_by_head,
        **figures,
        "words": answer.table.words,
        "rate_bits": figures["told"]["most_bits"],
        "autoregressive_bits": None,
        "beyond_bits": 0.0,
        "best_epoch": trainer.best_record,
        "goal_met": True,
    }
    write_json(out / CARD, card)
