"""The real emulator, set up in the tests' cache: exact counts, other kernels for other cores, this computer's bytes."""

import inspect
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sfumato.bench.arm import debian, yardstick
from sfumato.bench.arm import toolbox as boxes
from sfumato.bench.arm.counting import (
    CONTRACT,
    KEY,
    Drawing,
    bench_arm,
    count_model,
    count_upload,
    drawing_at,
    drawing_of,
    read_outputs,
    run_upload,
)
from sfumato.bench.arm.emulator import CLASSES, CORES, run_guest, steps
from sfumato.bench.arm.toolbox import APP_RUNTIME, RUNTIMES, Toolbox, open_toolbox
from sfumato.bench.arm.yardstick import ENCODERS, count_encoder
from sfumato.bench.host_runtime import WHEELS
from sfumato.bench.peak import product_model
from sfumato.bench.subjects import Subject
from sfumato.cli.bench import arm
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.contract import ChannelPart
from sfumato.runtime.keyed_noise import keyed_noise, parameter_bytes
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.sampler import Bytes, gaussian
from sfumato.runtime.upload_codec import pack

SIDE, PLANES = 16, 64
MACS = SIDE * SIDE * PLANES * PLANES


@pytest.fixture(scope="module")
def toolbox() -> Toolbox:
    try:
        return open_toolbox()
    except SfumatoError as error:
        pytest.skip(f"no emulator: {error}")


@pytest.fixture
def load() -> Iterator[None]:
    """Two processes that take what they can get of the processors."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for process in busy:
        process.kill()
        process.wait()


def product(kind: str) -> Subject:
    return Subject("product", kind, product_model(SIDE, PLANES, kind))


@pytest.mark.usefixtures("toolbox", "load")
def test_counts_are_equal_under_load_and_fit_the_arithmetic() -> None:
    subjects = [product("int8"), product("float32")]
    first, second = (bench_arm(subjects, list(CORES), runs=3) for _ in range(2))
    assert [row.instructions for row in first.rows] == [row.instructions for row in second.rows]
    assert [row.notes for row in first.rows] == [()] * 6
    counts = {(row.cpu, row.variant): row.classes or {} for row in first.rows}
    for (core, kind), classes in counts.items():
        assert tuple(classes) == CLASSES
        lanes = {name: classes[name] for name in ("float_fma", "widening_mac", "dot_product")}
        # A vector instruction does 4 (float), 4 to 16 (widening, half of them products) or 16 (dot product) of them.
        if kind == "float32":
            assert lanes == {
                "float_fma": pytest.approx(MACS / 4, rel=0.02),
                "widening_mac": 0,
                "dot_product": 0,
            }
        elif core == "cortex-a76":
            assert lanes == {
                "float_fma": 0,
                "widening_mac": 0,
                "dot_product": pytest.approx(MACS / 16, rel=0.02),
            }
        else:
            assert lanes["dot_product"] == lanes["float_fma"] == 0
            assert MACS / 16 <= lanes["widening_mac"] < 1.02 * MACS / 4
        assert classes["load_store"] + classes["simd"] <= classes["all"]
        assert sum(lanes.values()) <= classes["simd"]
    assert all(row.same_as_host for row in first.rows if row.variant == "int8")


CHANNELS = [
    {"name": "dither", "levels": 2},
    {"name": "dither", "levels": 2, "gray": True},
    {"name": "dither", "levels": 4},
    {"name": "dither", "levels": 4, "gray": True},
    {"name": "dither", "levels": 16},
    {"name": "dither", "levels": 16, "gray": True},
    {"name": "dither", "levels": 4, "subsample": 2},
    {"name": "gaussian", "additive": False, "largest_scale": 0.5, "reference_scale": 0.3},
    {"name": "gaussian", "additive": True, "largest_scale": 2.0, "reference_scale": 0.3},
]


@pytest.mark.parametrize("values", CHANNELS, ids=lambda values: "-".join(map(str, values.values())))
def test_noise_and_draw_in_c_are_those_of_the_contract(toolbox: Toolbox, values: dict[str, object]) -> None:
    """Against one sample after the other, in the sentences of docs/contract.md."""
    channel = ChannelPart.model_validate(values)
    rng, height, width = np.random.default_rng(5), 17, 19  # sizes that fill no byte and no vector
    image = rng.integers(0, 256, (channel.side * height, channel.side * width, 3), dtype=np.uint8)
    parameters = {
        name: rng.integers(0, 256, (height, width, planes), dtype=np.uint8)
        for name, planes in channel.outputs.items()
    }
    for part in parameters.values():  # enough of 255 for noise that is not below it
        part[rng.random(part.shape) < 0.6] = 255
    drawing = Drawing(channel, image, parameters)
    if channel.name == "dither":
        noise = keyed_noise(KEY, CONTRACT, drawing.content, image, len(drawing.content))
        assert (noise[parameters["p"].reshape(-1) == 255] == 255).any()
        wanted = slowly_packed(parameters["p"], noise, channel)
    else:
        noise = keyed_noise(KEY, CONTRACT, drawing.content, image, 2 * image.size)
        mean = image if channel.additive else parameters["mean"]
        largest, additive = float(channel.largest_scale or 0), bool(channel.additive)
        levels = gaussian(mean, parameters["scale"], noise, largest_scale=largest, additive=additive)
        wanted = pack(levels, bits=8)
    upload, stages = run_upload(toolbox, "cortex-a53", drawing, 2)
    assert upload == wanted
    assert [stage.name for stage in stages] == ["noise", "draw and pack"]
    assert all(stage.instructions is not None and stage.instructions > len(wanted) for stage in stages)


def slowly_packed(q: Bytes, noise: Bytes, channel: ChannelPart) -> bytes:
    """Every bit of every level, by name."""
    text, at = "", 0
    for pixel in q.reshape(-1, 3 * channel.bits).tolist():
        u = noise[at : at + len(pixel)].tolist()
        at += len(pixel)
        for colour in range(3):
            bit = 0
            for plane in range(colour, len(pixel), 3):
                drawn = int(u[plane] < pixel[plane] or (bool(channel.gray) and pixel[plane] == 255))
                bit = drawn ^ bit if channel.gray else drawn
                text += str(bit)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_a_draw_of_any_levels_costs_less_than_its_noise(toolbox: Toolbox, levels: int) -> None:
    """Less than an instruction for a byte that is compared; one bit after the other it took twenty."""
    channel = ChannelPart.model_validate({"name": "dither", "levels": levels, "gray": True})
    noise, draw = count_upload(toolbox, "cortex-a76", drawing_at(channel, (64, 64)), 1)
    assert noise.instructions is not None
    assert draw.instructions is not None
    assert draw.instructions < noise.instructions / 8
    assert draw.instructions < 64 * 64 * 3 * channel.bits


def test_only_what_is_drawn_sample_by_sample_has_a_draw_to_count(
    sealed: Path, index_export: Path, answer_export: Callable[[bool], Path]
) -> None:
    said: list[str] = []
    for export in (index_export, answer_export(True)):
        assert drawing_of(PhoneModel.load(export), said.append) is None
    assert [line.partition(":")[0] for line in said] == [
        "uploads of this export are indices",
        "an answer bundle",
    ]
    model = PhoneModel.load(sealed)
    drawing = drawing_of(model, said.append)
    assert drawing is not None
    assert drawing.content == parameter_bytes(model.contract, model.parameters(drawing.image))
    assert len(said) == 2


def test_app_toolchain_and_bench_have_one_runtime() -> None:
    """Decision 40. The series of the app's flavour nnapi is counted where it is asked for."""
    root = Path(__file__).parents[2]
    app = tomllib.loads((root / "android_demo/gradle/libs.versions.toml").read_text(encoding="utf-8"))
    assert app["versions"]["litert"] == APP_RUNTIME == next(iter(RUNTIMES)) == next(iter(WHEELS))
    assert list(WHEELS) == list(RUNTIMES)
    assert app["versions"]["nnapi"].split(".")[:2] == list(RUNTIMES)[-1].split(".")[:2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = [one for one in project["dependencies"] if one.startswith("ai-edge-litert==")]
    assert [one.removeprefix("ai-edge-litert==").split(";")[0].strip() for one in pinned] == [APP_RUNTIME]
    option = inspect.signature(arm).parameters["runtime"]
    assert option.default == APP_RUNTIME
    with pytest.raises(UsageError, match=r"unknown runtime '9.9'"):
        bench_arm([], ["cortex-a53"], runtime="9.9")


def test_every_runtime_counts_and_is_named(toolbox: Toolbox) -> None:
    rows = {name: count_model(toolbox, "cortex-a76", product("int8"), 1, name) for name in RUNTIMES}
    assert [row.runtime for row in rows.values()] == [f"ai-edge-litert {name} (aarch64)" for name in RUNTIMES]
    assert all(row.same_as_host for row in rows.values()), "int8 is exact"
    assert len({row.instructions for row in rows.values()}) == len(RUNTIMES)


def test_a_guest_that_fails_is_quoted(toolbox: Toolbox, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"no model")
    arguments: list[str | Path] = ["model", toolbox.litert(), model, model, tmp_path / "out", "1"]
    with pytest.raises(SfumatoError, match=r"emulated cortex-a53 failed: .*model"):
        run_guest(toolbox, "cortex-a53", arguments)
    with pytest.raises(UsageError, match="unknown core 'max': known are cortex-a53"):
        bench_arm([], ["max"])


def test_what_a_mark_costs_is_taken_off() -> None:
    text = "0 0 0 0 0 0\n5 1 0 0 0 0\n9 1 0 0 0 0\n24 4 2 0 0 1\n30 4 2 0 0 1\n35 5 2 0 0 1\n"
    first, second = steps(text)
    assert (first["all"], first["load_store"], first["dot_product"]) == (10, 2, 1)
    assert set(second.values()) == {0}


def test_outputs_are_read_back_whatever_their_bytes_hold() -> None:
    assert read_outputs(b"p 3\n\n 1q 12 0\n") == {"p": b"\n 1", "q 12": b""}


def test_what_is_missing_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(boxes, "KEYRING", tmp_path / "none")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    packages = "apt dpkg gcc libc6-dev debian-archive-keyring"
    with pytest.raises(SfumatoError, match=f"sudo apt-get install -y --no-install-recommends {packages}$"):
        open_toolbox()
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").rglob("libcount.so"))


def test_a_set_up_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "mirror", lambda: f"file://{tmp_path}/no-archive")
    monkeypatch.setattr(boxes, "fetch_runtime", lambda runtime, made, scratch: None)
    with pytest.raises(SfumatoError, match="setting up the emulator failed: E: "):
        open_toolbox()
    assert os.listdir(tmp_path / "cache" / "arm") == []


def test_without_an_archive_of_debian_the_variable_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho noble file:///ubuntu/\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv(debian.ARCHIVE, raising=False)
    with pytest.raises(SfumatoError, match=r"apt knows no archive of Debian 12.*SFUMATO_DEBIAN"):
        debian.mirror()
    monkeypatch.setenv(debian.ARCHIVE, "file:///archive")
    assert debian.mirror() == "file:///archive"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoded_picture_is_counted_and_shows_it(toolbox: Toolbox, encoder: str) -> None:
    """Work grows with the pixels, and the loops over them take most of it."""
    small, large = (
        count_encoder(toolbox, "cortex-a76", encoder, size, runs=2) for size in ((64, 64), (128, 192))
    )
    title = ENCODERS[encoder].title
    assert small.name == f"{title}, quality 90, 64x64"
    assert small.instructions is not None
    assert large.instructions is not None
    assert small.instructions > 64 * 64
    assert 3 < large.instructions / small.instructions < 6.5
    results = bench_arm([], ["cortex-a53"], encoders=[encoder], size=(32, 48), runs=1)
    assert [stage.name for stage in results.stages] == [f"{title}, quality 90, 32x48"]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_file_that_shows_something_else_is_refused(
    toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    """One of both is turned over."""
    wanted = yardstick.decoded
    turned = iter([1, -1])
    monkeypatch.setattr(yardstick, "decoded", lambda content: wanted(content)[:: next(turned)])
    title = ENCODERS[encoder].title
    with pytest.raises(SfumatoError, match=f"the {title} made on .* does not show what this computer's"):
        count_encoder(toolbox, "cortex-a76", encoder, (32, 32), runs=1)


def test_an_encoder_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown encoder 'gif': known are jpeg, webp"):
        bench_arm([], ["cortex-a53"], encoders=["gif"])
