"""What an audit keeps of every image: exact, small, and gone with the process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.audit import rows as kept_rows
from sfumato.audit.attack_data import AttackData, build_attack_data
from sfumato.audit.bounds import mean_moments
from sfumato.audit.rows import Gathered, Rows, floats, keep, pack, sample_bits, unpack
from sfumato.channels import create
from sfumato.core.errors import SfumatoError

GENERATOR = torch.Generator().manual_seed(0)


def parts(values: Tensor, size: int = 3) -> Any:
    """As they come from a network."""
    return ({"p": part} for part in values.split(size))


def random_levels(divisor: int, count: int = 8) -> Tensor:
    """Numbers k / divisor, (count, 3, 5, 7); 255 is the largest k."""
    return torch.randint(min(divisor, 255) + 1, (count, 3, 5, 7), generator=GENERATOR).float() / divisor


@pytest.mark.parametrize("divisor", [1, 3, 15, 256])
def test_whole_numbers_take_their_bits_and_come_back_as_float16_has_them(divisor: int) -> None:
    values = random_levels(divisor)
    found = keep(8, parts(values), divisor={"p": divisor})["p"]
    assert torch.equal(found.float(), values.half().float())
    assert found.packed.shape == (8, -(-105 * sample_bits(divisor) // 8))
    rows = torch.tensor([7, 0, 0, 3])
    assert torch.equal(found[rows].float(), values[rows].half().float())
    assert torch.equal(found[2:6][rows % 4].float(), values[2:6][rows % 4].half().float())
    assert found[2:6].shape == (4, 3, 5, 7)


@pytest.mark.parametrize("odd", [0.3, -1 / 256, 1.0, 7.0, float("inf"), float("nan")])
def test_one_number_that_does_not_fit_makes_all_of_them_float16(odd: float) -> None:
    values = random_levels(256)
    values[7, 1, 2, 3] = odd
    found = keep(8, parts(values), divisor={"p": 256})["p"]
    assert found.divisor == 0
    assert torch.equal(found.float().nan_to_num(0.5), values.half().float().nan_to_num(0.5))


@pytest.mark.parametrize("shape", [(8, 3, 5, 7), (8, 11)])
def test_any_shape_and_memory_format_is_kept(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, generator=GENERATOR)
    for given in (values, values.to(memory_format=torch.channels_last) if len(shape) == 4 else values):
        found = keep(8, parts(given), divisor={})["p"]
        assert found.packed.nbytes == 2 * values.numel()
        assert torch.equal(found.float(), values.half().float())
        assert found.float().stride() == given.stride(), (
            "sums run in the order of memory: no rounding may change"
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_packing_is_undone(bits: int) -> None:
    samples = np.random.default_rng(bits).integers(0, 2**bits, (4, 13), dtype=np.uint8)
    packed = pack(samples, bits)
    assert packed.shape == (4, -(-13 * bits // 8))
    first = sum(int(one) << (8 - bits * (i + 1)) for i, one in enumerate(samples[0, : 8 // bits]))
    assert packed[0, 0] == first
    assert np.array_equal(unpack(torch.from_numpy(packed), bits, 13).numpy(), samples)


def test_many_rows_lie_in_a_file_that_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_rows, "IN_MEMORY", 100)
    values = torch.rand(8, 3, 5, 7, generator=GENERATOR)
    found = keep(8, parts(values), divisor={"p": 256})["p"]
    gathered = Gathered(8)
    for part in values.split(3):
        gathered.append(part)
    assert list((tmp_path / "cache").iterdir()) == [], "nothing to remove, however the process ends"
    if sys.platform == "linux":
        assert "(deleted)" in Path("/proc/self/maps").read_text().split(str(tmp_path))[1].splitlines()[0]
    assert torch.equal(found[torch.tensor([5, 1])].float(), values[[5, 1]].half().float())
    assert torch.equal(gathered.tensor(), values)


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A file that may not grow beyond 4 kB, which is how a full disk looks to whoever writes."""
    program = (
        "import resource, signal, torch; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from sfumato.audit import rows; rows.IN_MEMORY = 0;"
        "rows.keep(9, ({'p': torch.rand(3, 64, 64)} for _ in range(3)), divisor={})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SFUMATO_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sfumato.core.errors.SfumatoError: cannot keep the audit's numbers in")
    assert "SFUMATO_CACHE" in last
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(kept_rows, "IN_MEMORY", 0)
    with pytest.raises(SfumatoError, match="set SFUMATO_CACHE"):
        keep(1, parts(torch.rand(1, 3, 4, 4)), divisor={})


def test_attack_data_are_what_whole_splits_of_floats_were(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow way, as version 0.2 went it: everything as floats at once, then halved; and drawn from that."""
    for kind in ("clean", "planted", "identity"):
        artifact = make(kind)
        one = build_attack_data(artifact, ("tone",), copies=3, seed=4)
        for split in (one.train, one.validation, one.test):
            exact = artifact.parameters(split.pixels[:])
            assert floats(split.parameters).keys() == exact.keys()
            for name, value in floats(split.parameters).items():
                assert torch.equal(value, exact[name].half().float())
        given = {
            name: value.half().float() for name, value in artifact.parameters(one.test.pixels[:]).items()
        }
        generator = one.generator("test noise")
        drawn = [
            one.channel.sample(part, one.channel.noise(part, generator))
            for start in range(0, 500, 256)
            for part in [{name: value[start : start + 256] for name, value in given.items()}]
        ]
        assert torch.equal(one.test_uploads.float(), torch.cat(drawn).half().float())
        assert torch.allclose(one.rate, artifact.channel.rate(artifact.parameters(one.test.pixels[:])))
        size = 16 * 16 * 3
        assert one.test_uploads.packed.nbytes == 500 * (2 * size if kind == "identity" else size // 8)


def test_a_shipped_byte_takes_one_byte_and_a_photo_none(make: Any) -> None:
    artifact = make("clean")

    class Shipped:
        """The same in steps of 1 / 256, as int8 models compute it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(artifact, name)

        def parameters(self, images: Any) -> dict[str, Tensor]:
            return {"p": (artifact.parameters(images)["p"] * 256).round().clamp(1, 255) / 256}

    one = build_attack_data(Shipped(), ("tone",), copies=3, seed=0)
    found = one.train.parameters["p"]
    assert isinstance(found, Rows)
    assert found.packed.nbytes == 3 * 400 * 16 * 16 * 3
    assert one.train.pixels.images is artifact.dataset.images  # type: ignore[union-attr]


def test_draws_are_made_where_the_generator_is(attack_data: Any) -> None:
    one: AttackData = attack_data("clean")
    assert (
        one.device
        == one.generator("x").device
        == one.test.uploads(torch.arange(2), one.channel, one.generator("x")).device
    )
    other = replace(one, channel=SimpleNamespace(name="fixed"), device=torch.device("meta"))
    assert other.generator("x").device.type == "cpu", "another method's draw may need what lies there"
    shapes = one.test.parameters["p"][:2].float(torch.device("meta"))  # type: ignore[call-arg]
    assert (shapes.device.type, shapes.shape, shapes.dtype) == ("meta", (2, 3, 16, 16), torch.float32)
    packed = one.test_uploads[:2].float(torch.device("meta"))
    assert (packed.device.type, packed.shape, packed.dtype) == ("meta", (2, 3, 16, 16), torch.float32)


def test_mean_moments_in_parts_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = create("gaussian")
    known = {"mean": torch.rand(50, 3, 4, 4, generator=GENERATOR), "scale": torch.rand(50, 3, 4, 4) + 0.1}
    rows = torch.arange(5, 48)
    whole = mean_moments(channel, known, rows)
    for name, value in channel.to_moments(floats(known, rows)).items():
        assert torch.equal(whole[name], value.mean(0)), "few are one part, without any other rounding"
    monkeypatch.setattr(kept_rows.at_once, "__defaults__", (48 * 7,))
    parted = mean_moments(channel, known, rows)
    assert all(torch.allclose(parted[name], whole[name], atol=1e-6) for name in whole)
