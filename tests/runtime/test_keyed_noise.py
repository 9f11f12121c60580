"""Keyed noise v2 against its definition, written out slowly; the key file; independence of streams."""

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from sfumato.core.errors import SfumatoError
from sfumato.runtime import keyed_noise
from sfumato.runtime.contract import read_contract

KEY = bytes(range(32))
CONTRACT = bytes(range(100, 132))
Q = bytes(range(256)) * 3
IMAGE = (np.arange(16 * 16 * 3) % 251).astype(np.uint8).reshape(16, 16, 3)


def draw(key: bytes = KEY, *, image: NDArray[np.uint8] = IMAGE, count: int = 100) -> NDArray[np.uint8]:
    return keyed_noise.keyed_noise(key, CONTRACT, Q, image, count)


def slow_hkdf(key: bytes, info: bytes) -> bytes:
    """RFC 5869, one block."""
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def slow_stream(key: bytes, pixels: bytes, blocks: int, start: int | None = None) -> bytes:
    """AES in counter mode, block by block, the counter a 128-bit big-endian number that wraps."""
    hashes = [CONTRACT, hashlib.sha256(Q).digest(), hashlib.sha256(pixels).digest()]
    message = b"sfumato-noise-v2" + b"".join(hashes)
    counter = int.from_bytes(hmac.new(key, message, hashlib.sha256).digest()[:16], "big")
    counter = counter if start is None else start
    cipher = Cipher(algorithms.AES(slow_hkdf(key, b"noise")), modes.ECB())
    out = b""
    for block in range(blocks):
        encryptor = cipher.encryptor()
        out += encryptor.update(((counter + block) % 2**128).to_bytes(16, "big"))
    return out


def test_the_stream_is_the_one_defined() -> None:
    found = draw(count=1000).tobytes()
    assert found == slow_stream(KEY, IMAGE.tobytes(), 63)[:1000]


def test_threads_and_keys_do_not_disturb_one_another() -> None:
    """The cipher is set up once a thread and key: many photos at once, keys in turn, each as if it were alone."""
    keys = [KEY, bytes(reversed(KEY))]
    photos = [(keys[i // 2 % 2], np.roll(IMAGE, i)) for i in range(64)]
    wanted = [slow_stream(key, photo.tobytes(), 20) for key, photo in photos]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda given: draw(given[0], image=given[1], count=320).tobytes(), photos))
    assert found == wanted


def test_the_counter_carries_over_all_sixteen_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_noise, "stream_iv", lambda *given: b"\xff" * 15 + b"\xfe")
    found = draw(count=64).tobytes()
    assert found == slow_stream(KEY, b"", 4, start=2**128 - 2)


def test_layout_in_memory_does_not_matter() -> None:
    turned = np.asfortranarray(IMAGE)
    assert np.array_equal(draw(image=turned, count=99), draw(count=99))


def test_same_image_and_key_give_the_same_noise_and_a_prefix_stays_a_prefix() -> None:
    long = draw(count=500)
    assert np.array_equal(long[:77], draw(image=IMAGE.copy(), count=77))


@pytest.mark.parametrize("change", ["key", "contract", "parameters", "image"])
def test_one_changed_bit_gives_an_independent_stream(change: str) -> None:
    given = {"key": KEY, "contract": CONTRACT, "parameters": Q, "image": IMAGE.tobytes()}
    changed = bytearray(given[change])
    changed[31] ^= 1
    count = 100_000

    def stream(key: bytes, contract: bytes, parameters: bytes, image: bytes) -> NDArray[np.uint8]:
        pixels = np.frombuffer(image, np.uint8).reshape(IMAGE.shape)
        return keyed_noise.keyed_noise(key, contract, parameters, pixels, count)

    a, b = stream(**given), stream(**given | {change: bytes(changed)})
    bits = np.unpackbits(a ^ b)
    # Fair coins: 5 standard deviations of the share of differing bits.
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert abs((a == b).mean() - 1 / 256) < 5 * np.sqrt(1 / 256 / count)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(count)


def test_noise_bytes_are_uniform() -> None:
    counts = np.bincount(draw(count=256_000), minlength=256)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert 255 - 5 * np.sqrt(510) < chi_square < 255 + 5 * np.sqrt(510)


def test_fresh_noise_differs_every_time() -> None:
    assert not np.array_equal(keyed_noise.fresh_noise(64), keyed_noise.fresh_noise(64))


def test_a_key_is_made_once_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "config" / "device.key"
    first = keyed_noise.device_key(path)
    assert len(first) == 32
    assert keyed_noise.device_key(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["device.key"]


def test_the_default_key_lies_in_the_configuration_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keyed_noise.device_key()
    assert (tmp_path / "sfumato" / "device.key").exists()


def key_file(folder: Path, content: bytes) -> Path:
    """A file that its owner alone may read."""
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n"])
def test_a_key_is_read_raw_or_in_hexadecimal(tmp_path: Path, content: bytes) -> None:
    assert keyed_noise.read_key(key_file(tmp_path, content)) == KEY


@pytest.mark.parametrize(
    "content", [b"", b"short", KEY + b"x", b"zz" * 32, KEY.hex()[:-2].encode(), b"\xff" * 64]
)
def test_anything_else_is_no_key(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SfumatoError, match="no device key"):
        keyed_noise.read_key(key_file(tmp_path, content))


@pytest.mark.parametrize("content", [bytes(32), b"0" * 64])
def test_a_key_of_zeros_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SfumatoError, match="holds zeros"):
        keyed_noise.read_key(key_file(tmp_path, content))


def test_a_missing_key_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="cannot be read"):
        keyed_noise.read_key(tmp_path / "absent")


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(SfumatoError, match="32 bytes, not 16"):
        draw(bytes(16))


def test_a_digest_of_another_length_is_refused() -> None:
    """Else bytes could move from one hash into the next, and two uploads share their noise."""
    with pytest.raises(SfumatoError, match="digest has 32 bytes, not 31"):
        keyed_noise.keyed_noise(KEY, CONTRACT[:31], Q, IMAGE, 1)
    with pytest.raises(SfumatoError, match="digest has 32 bytes, not 64"):
        keyed_noise.stream_iv(KEY, CONTRACT, bytes(64), bytes(32))


def test_parameters_are_taken_in_the_order_of_the_contract_whatever_their_layout(sealed: Path) -> None:
    contract = read_contract(sealed)
    first = contract.outputs[0]
    two = contract.model_copy(
        update={"outputs": tuple(first.model_copy(update={"name": n}) for n in ("b", "a"))}
    )
    a, b = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.full((2, 3, 4), 9, np.uint8)
    wanted = b"\x09" * 24 + bytes(range(24))
    assert keyed_noise.parameter_bytes(two, {"a": a, "b": b}) == wanted
    assert keyed_noise.parameter_bytes(two, {"b": b, "a": np.asfortranarray(a)}) == wanted
