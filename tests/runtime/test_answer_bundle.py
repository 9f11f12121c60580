"""The phone's side of an answer bundle: what travels is the code word of its scores, in every form the same."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.runtime.test_answer import slow_decision

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import sha256
from sfumato.runtime.answer import read_table, word_image
from sfumato.runtime.contract import FILE
from sfumato.runtime.keyed_noise import keyed_noise
from sfumato.runtime.perturb_files import perturb_files
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.signing import write_digests
from sfumato.runtime.upload_codec import decode_png
from sfumato.runtime.verification import verify

KEY = bytes(range(32))
Images = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def images() -> Images:
    """Noise of many brightnesses: the network decides all sorts of things about it."""
    random = np.random.default_rng(0)
    made = (random.random((32, 32, 3)) ** random.uniform(0.2, 4, (1, 1, 1)) for _ in range(60))
    return [(255 * one).astype(np.uint8) for one in made]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "randomised"])
def phone(request: pytest.FixtureRequest, answer_export: Callable[[bool], Path]) -> PhoneModel:
    return PhoneModel.load(answer_export(request.param))


def scores_of(phone: PhoneModel, image: NDArray[np.uint8]) -> list[int]:
    return [int(q) - 128 for q in phone.parameters(image)["scores"].reshape(-1)]


def test_the_upload_is_the_word_of_the_scores(phone: PhoneModel, images: Images) -> None:
    contract, answer = phone.contract, phone.contract.answer
    assert answer is not None
    words = Counter[int]()
    for image in images:
        upload = phone.perturb(image, key=KEY)
        q = phone.parameters(image)["scores"].tobytes()
        found = slow_decision(scores_of(phone, image), contract.classes)
        if answer.table is None:
            expected = found[0][0] * contract.classes[1] + found[1][0]
        else:
            row = 0
            for (first, second, margin), count in zip(found, contract.classes, strict=True):
                others = [other for other in range(count) if other != first]
                reached = sum(step <= margin for step in answer.margins)
                bins = len(answer.margins) + 1
                row = (
                    row * count * (count - 1) * bins
                    + (first * (count - 1) + others.index(second)) * bins
                    + reached
                )
            table = read_table((phone.folder / answer.table).read_bytes(), contract.classes, answer.margins)
            assert phone.digest is not None
            low, high = keyed_noise(KEY, phone.digest, q, image, 2).tolist()
            expected = next(word for word, count in enumerate(table[row]) if count > low + 256 * high)
        assert upload.word == expected
        assert upload.content == expected.to_bytes(2 if answer.words > 256 else 1, "big")
        assert (upload.encoding, upload.keyed) == ("word", True)
        assert np.array_equal(upload.levels, word_image(expected, answer.words, 32, 32))
        assert upload.rate_bits == math.log2(answer.words)
        words[expected] += 1
    assert len(words) > 4


def test_the_image_form_is_the_same_word(phone: PhoneModel, images: Images) -> None:
    word, image = (phone.perturb(images[0], key=KEY, encoding=form) for form in ("word", "image"))
    assert image.encoding == "image"
    assert image.word == word.word
    assert np.array_equal(decode_png(image.content, height=32, width=32, bits=1), word.levels)


def test_equal_photo_and_key_give_the_equal_word(phone: PhoneModel, images: Images) -> None:
    answer = phone.contract.answer
    assert answer is not None
    words = {key: phone.perturb(images[0], key=bytes([key] * 32)).word for key in range(80)}
    assert all(phone.perturb(images[0], key=bytes([key] * 32)).word == word for key, word in words.items())
    fresh = {phone.perturb(images[0]).word for _ in range(80)}
    assert {len(set(words.values())) > 1, len(fresh) > 1} == {answer.table is not None}


def test_what_no_bundle_has_is_refused(phone: PhoneModel, sealed: Path, images: Images) -> None:
    picture = PhoneModel.load(sealed)
    with pytest.raises(UsageError, match="no code words"):
        picture.perturb(images[0], key=KEY, encoding="word")
    with pytest.raises(SfumatoError, match="no code words"):
        picture.word({}, np.zeros(2, np.uint8))
    with pytest.raises(UsageError, match="letter"):
        phone.perturb(images[0], key=KEY, encoding="letter")
    assert picture.perturb(images[0], key=KEY, encoding="image").word is None


def test_a_damaged_table_is_not_drawn_from(answer_export: Callable[[bool], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(answer_export(True), tmp_path / "export"))
    table = folder / "answer_table.bin"
    table.write_bytes(bytes(4) + table.read_bytes()[4:])
    with pytest.raises(SfumatoError, match="sha256 differs"):
        PhoneModel.load(folder)
    content = bytearray(table.read_bytes())
    content[20:24] = (65535).to_bytes(4, "little")  # the end of the first row
    table.write_bytes(content)
    values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    for entry in values["files"]:
        if entry["name"] == table.name:
            entry["sha256"] = sha256(table)
    (folder / FILE).write_text(json.dumps(values))
    write_digests(folder)
    with pytest.raises(SfumatoError, match="do not rise"):
        PhoneModel.load(folder)


def test_the_test_vectors_hold(phone: PhoneModel) -> None:
    checks = {check.name: check for check in verify(phone.folder).checks}
    assert checks["noise, sampler and model against vectors.json"].state == "ok"
    assert checks["cloud.onnx answers"].state == "ok"


@pytest.mark.parametrize(("encoding", "ending"), [(None, "word"), ("word", "word"), ("image", "png")])
def test_files(phone: PhoneModel, images: Images, tmp_path: Path, encoding: str | None, ending: str) -> None:
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "garden.png")
    (done,) = perturb_files(phone, [tmp_path / "garden.png"], tmp_path / "out", key=KEY, encoding=encoding)
    assert done.upload.name == f"garden.upload.{ending}"
    assert done.upload.read_bytes() == phone.perturb(images[0], key=KEY, encoding=encoding).content
    beside = json.loads((tmp_path / "out" / "garden.upload.json").read_text(encoding="utf-8"))
    assert (beside["encoding"], beside["bytes"]) == (ending, done.bytes)
    assert (beside["channel"], beside["bits"]) == ("answer", 1)
