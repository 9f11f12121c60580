"""Fake quantization against the shipped arithmetic, and fine-tuning on a network that eight bits hurt."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.data import Split
from sfumato.export.freeze import PhoneNetwork, fold, freeze
from sfumato.export.measure import Figures, Int8VsFloat
from sfumato.export.parity import reference, run_int8
from sfumato.export.pipeline import movement
from sfumato.export.quant_finetune import (
    Quantized,
    Tuning,
    divergence,
    fake_quantize,
    fake_quantize_weight,
    fine_tune,
)
from sfumato.runtime.interpreter import open_model
from sfumato.training.run import Run


@given(st.floats(-50, 0), st.floats(0.01, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_fake_quantization_equals_int8_arithmetic(low: float, high: float, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(2 * low - 1, 2 * high, 100).astype(np.float32)
    scale = (high - low) / 255
    zero = round(-128 - low / scale)
    expected = [(max(-128, min(127, round(float(v) / scale) + zero)) - zero) * scale for v in values]
    found = fake_quantize(torch.from_numpy(values), low, high).numpy()
    # A value on the border between two steps may round either way in single precision.
    assert np.abs(found - expected).max() <= scale * 1.001
    assert (np.abs(found - expected) < scale * 0.01).mean() > 0.97
    assert fake_quantize(torch.zeros(1), low, high).item() == 0.0


def test_weights_are_rounded_per_channel() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.004], [100.0, 1.0, 0.1]]).view(2, 3, 1, 1)
    found = fake_quantize_weight(weight).flatten(1)
    steps = torch.tensor([[127.0, -64.0, 1.0], [127.0, 1.0, 0.0]])  # 63.5 rounds to even
    assert torch.allclose(found, steps * torch.tensor([[1 / 127], [100 / 127]]))


def test_gradients_pass_rounding_but_not_the_ends() -> None:
    x = torch.tensor([-1.0, 0.33, 2.0], requires_grad=True)
    fake_quantize(x, 0.0, 1.0).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_divergence_is_the_kullback_leibler_distance() -> None:
    p, q = torch.tensor([[0.3, 0.9]]), torch.tensor([[0.5, 0.8]])
    expected = sum(
        a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)) for a, b in ((0.3, 0.5), (0.9, 0.8))
    )
    assert abs(divergence((p,), (q,)).item() - expected) < 1e-6
    assert divergence((p, q), (p, q)).item() == 0.0


def prepared(run: Run) -> tuple[PhoneNetwork, np.ndarray]:  # type: ignore[type-arg]
    images = np.array(run.dataset.images[run.dataset.splits[Split.DEFENDER]][:64])
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return PhoneNetwork(fold(freeze(run.local))), images


def test_the_simulation_is_close_to_the_shipped_model(sealed: Path, dither_run: Run) -> None:
    network, images = prepared(dither_run)
    runner = Quantized(network)
    runner.measure(torch.from_numpy(images).float() / 255)
    shipped = run_int8(open_model((sealed / "local_int8.tflite").read_bytes()), images[:8])["p"]
    with torch.no_grad():
        simulated = 256 * runner.run(torch.from_numpy(images[:8]).float() / 255)[0].numpy()
    plain = 256 * reference(network, images[:8])["p"]
    assert np.abs(simulated - np.round(simulated)).max() < 1e-3  # every output is a byte
    assert np.abs(simulated - shipped).mean() < np.abs(plain - shipped).mean()
    assert (np.abs(simulated - shipped) < 0.5).mean() > 0.5


def test_planes_that_change_places_keep_their_range(dither_run: Run) -> None:
    network, images = prepared(dither_run)
    runner = Quantized(network)
    runner.measure(torch.from_numpy(images[:2]).float() / 255)
    shuffles = [node for node, kind in runner.kinds.items() if kind == "pixel_shuffle"]
    assert len(shuffles) == len(network.local.heads)
    assert not set(shuffles) & set(runner.ranges)
    assert all(node.args[0] in runner.ranges for node in shuffles)


def test_fine_tuning_brings_the_outputs_back(make_run: Callable[[str], Run]) -> None:
    """Maps that range eight times as far leave the others fewer bits: learning must repair that.

    Of a network of photos. One of centred pictures loses half as much to rounding, which leaves little to repair.
    """
    run = make_run("symmetric")
    with torch.no_grad():
        run.local.heads["gate"].bias.fill_(1.0)  # type: ignore[operator]
        run.local.heads["offset"].weight.mul_(8)  # type: ignore[operator]
    network, images = prepared(run)
    pixels = torch.from_numpy(images).float() / 255

    def loss(student: PhoneNetwork) -> float:
        runner = Quantized(student)
        runner.measure(pixels)
        with torch.no_grad():
            return divergence(network(pixels), runner.run(pixels)).item()

    untouched = {name: value.clone() for name, value in network.state_dict().items()}
    tuned = fine_tune(network, images, images, Tuning(steps=60, refresh=20))
    assert loss(tuned) < 0.8 * loss(network)
    assert all(torch.equal(value, untouched[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in tuned.parameters())


def test_fine_tuning_gives_the_same_bits_on_any_number_of_cores(make_run: Callable[[str], Run]) -> None:
    network, images = prepared(make_run("dither"))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(fine_tune(network, images, images[:16], Tuning(steps=6)).state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_movement_counts_rate_both_ways_and_accuracy_downwards() -> None:
    def figures(rate: float, accuracy: float) -> Figures:
        return Figures(
            images=1,
            draws=1,
            accuracy={"a": Int8VsFloat(0.9, accuracy), "b": Int8VsFloat(0.5, 0.5)},
            rate_bits={"mean": Int8VsFloat(10.0, rate)},
            upload_bytes={},
        )

    assert movement(figures(10.4, 0.9)) < 1 < movement(figures(10.6, 0.9))
    assert movement(figures(9.4, 0.9)) > 1
    assert movement(figures(10.0, 0.95)) < 1 < movement(figures(10.0, 0.896))
