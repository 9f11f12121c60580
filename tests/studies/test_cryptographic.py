"""`python -m studies.cryptographic`: network, bytes, tables; the protocols themselves where their packages are."""

import importlib.util
import multiprocessing
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from studies.cryptographic import ckks, study, two_party
from studies.cryptographic.answers import Answers
from studies.cryptographic.network import SIDE, Activation, SmallNetwork, prepare, train
from studies.cryptographic.sockets import traffic
from studies.cryptographic.study import answer_plainly, choose, describe, facts, make_cryptographic_config

from sfumato.bench.results import Results, write_results
from sfumato.bench.tables import tables
from sfumato.cli.compare import cryptographic_grids
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.seeding import seed_everything
from sfumato.data import Split, open_dataset
from sfumato.models.cost import cost

ROOT = Path(__file__).resolve().parents[2]
DATA = "synthetic,size=32,count=600"
VALUES: dict[str, Any] = {"data": DATA, "keep": "smiling"}
Bytes = NDArray[np.uint8]

needs_tenseal = pytest.mark.skipif(
    importlib.util.find_spec("tenseal") is None,
    reason="TenSEAL is not here: studies/cryptographic/requirements.txt",
)
needs_crypten = pytest.mark.skipif(
    importlib.util.find_spec("crypten") is None,
    reason="CrypTen is not here: studies/cryptographic/requirements.txt",
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="bytes are counted by Linux")


def network(activation: Activation) -> SmallNetwork:
    seed_everything("test", activation)
    return SmallNetwork(activation, classes=3).eval().requires_grad_(False)


def pictures(count: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def plain_logits(small: SmallNetwork, image: Bytes) -> NDArray[np.float64]:
    """The network by loops over windows and sums of products, in float64."""
    w = {name: value.double().numpy() for name, value in small.state_dict().items()}
    act = np.square if small.activation == "square" else lambda x: np.maximum(x, 0)
    x = image.transpose(2, 0, 1) / 127.5 - 1
    grid = range(0, SIDE - 7, 4)
    planes = zip(w["convolution.weight"], w["convolution.bias"], strict=True)
    convolved = [
        [[(x[:, i : i + 8, j : j + 8] * k).sum() + b for j in grid] for i in grid] for k, b in planes
    ]
    hidden = act(w["first.weight"] @ act(np.array(convolved)).ravel() + w["first.bias"])
    logits: NDArray[np.float64] = w["second.weight"] @ hidden + w["second.bias"]
    return logits


@pytest.mark.parametrize("activation", ["square", "relu"])
def test_the_network_is_what_it_says(activation: Activation) -> None:
    small, images = network(activation), pictures(2)
    found = small(prepare(images)).numpy()
    np.testing.assert_allclose(found, [plain_logits(small, image) for image in images], atol=1e-5)


def test_training_learns_and_repeats() -> None:
    dataset = open_dataset(DATA, keep=("skin",))
    classes = len(dataset.attributes["skin"].classes)
    images, labels = dataset.subset(Split.TEST, ["skin"])
    first, second = (train(SmallNetwork("square", classes), dataset, "skin", epochs=15) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    right = first(prepare(images)).argmax(1).numpy() == labels["skin"]
    majority = np.bincount(labels["skin"]).max() / len(right)
    assert right.mean() > majority + 0.2


@linux
def test_traffic_is_what_went_through_the_sockets() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()) as there, server.accept()[0] as here:
        before = traffic()
        there.sendall(b"x" * 1000)
        here.recv(1000, socket.MSG_WAITALL)
        here.sendall(b"y" * 77)
        there.recv(77, socket.MSG_WAITALL)
        after = traffic()
    # Both ends are in this process: what one sends, the other receives.
    assert [b - a for a, b in zip(before, after, strict=True)] == [1077, 1077]


def test_a_file_or_a_pipe_is_no_traffic(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        before = traffic()
        file.write(b"x" * 1000)
        file.flush()
        here, there = multiprocessing.Pipe()
        here.send_bytes(b"x" * 1000)
        there.recv_bytes()
        assert traffic() == before


def row_of(small: SmallNetwork, images: Bytes, labels: list[int], **changes: Any) -> Any:
    plain = answer_plainly(small, images)
    what = facts(small.activation, cost(small, (3, SIDE, SIDE)), (SIDE, SIDE))
    other = Answers(**{**vars(plain), **changes})
    return describe("ckks", what, other, np.array(labels), plain)


def test_a_row_counts() -> None:
    small, images = network("square"), pictures(4)
    plain = answer_plainly(small, images)
    labels = plain.predictions.tolist()
    logits = plain.logits.copy()
    logits[0] = -logits[0]
    changes: dict[str, Any] = {"logits": logits, "sent": [1, 2, 3, 6], "total_ms": [5.0, 1.0, 3.0, 3.0]}
    found = row_of(small, images, labels, **changes)
    assert found.accuracy == found.same_answers == 0.75
    assert found.largest_difference == pytest.approx(2 * np.abs(plain.logits[0]).max())
    assert (found.sent_bytes, found.p50_ms, found.images) == (3, 3, 4)
    # 4 planes of 7 x 7 windows of 192 pixels; 196 inputs to 32; 32 to 3.
    assert found.macs == 4 * 49 * 192 + 196 * 32 + 32 * 3
    assert found.params == 4 * 193 + 197 * 32 + 33 * 3
    assert found.ci95[0] < 0.75 < found.ci95[1]


def test_images_are_chosen_from_the_whole_test_split() -> None:
    dataset = open_dataset(DATA, keep=("smiling",))
    test = dataset.splits[Split.TEST]
    rows = choose(dataset, 5)
    assert (rows[0], rows[-1], len(rows)) == (test[0], test[-1], 5)
    assert choose(dataset, 10**6).tolist() == test.tolist()


@pytest.fixture
def results() -> Results:
    small, images = network("square"), pictures(3)
    return Results(
        target="cryptographic",
        environment={},
        inferences=(row_of(small, images, [0, 1, 2], parts_ms={"encrypt": [1.0, 2.0, 3.0]}),),
    )


def test_tables_say_in_words_what_is_promised(results: Results) -> None:
    costs, parts, words = tables(results)
    assert costs.rows[0][0] == "ckks, square"
    assert parts.rows == (("ckks, square", "encrypt", "2.000", "2.800"),)
    assert "nothing of the photo" in words.rows[0][1]
    assert "ring-LWE" in words.rows[0][2]


def test_report_and_comparison_take_the_file(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the report draws; the environment of the protocols does not")
    from sfumato.bench.report import find_results, write_report

    path = tmp_path / "cryptographic.json"
    write_results(results, path)
    (page, *_) = write_report(find_results([path]), tmp_path / "report")
    assert "ckks, square" in page.read_text(encoding="utf-8")
    assert [grid.rows for grid in cryptographic_grids(path)] == [grid.rows for grid in tables(results)]
    write_results(Results(target="host", environment={}), path)
    with pytest.raises(UsageError, match="sfumato bench host"):
        cryptographic_grids(path)
    with pytest.raises(SfumatoError, match="is missing"):
        cryptographic_grids(tmp_path / "none.json")


def test_the_results_beside_the_study_stand_below_a_comparison() -> None:
    """What was measured once, and is in the repository, goes through the reader of today."""
    costs, parts, promises = cryptographic_grids(ROOT / "studies" / "cryptographic" / "results.json")
    names = {line[0].split(", ")[0] for line in costs.rows}
    assert names == {"plain", "ckks", "two-party", "sfumato"}
    assert len(promises.rows) == len(costs.rows)
    assert {line[1] for line in parts.rows} >= {"encrypt", "evaluate", "decrypt"}


def test_wrong_use_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="images"):
        make_cryptographic_config({**VALUES, "images": 0})
    with pytest.raises(UsageError, match="unknown method 'gazelle'"):
        make_cryptographic_config({**VALUES, "methods": ("gazelle",)})
    config = make_cryptographic_config({**VALUES, "data": "synthetic,size=48,count=600"})
    with pytest.raises(UsageError, match="size=32"):
        study.run_study(config)
    with pytest.raises(UsageError, match="not with ReLU"):
        ckks.weights_of(network("relu"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    with pytest.raises(SfumatoError, match=r"ckks needs tenseal.*studies/cryptographic/requirements.txt"):
        make_cryptographic_config(VALUES)


def test_the_command_prints_one_line_for_what_a_user_can_mend() -> None:
    command = [sys.executable, "-m", "studies.cryptographic", "--data", DATA, "--keep", "smiling"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--out", f"{folder}/x.json", "--methods", "gazelle"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sfumato: unknown method 'gazelle': known are ckks, two-party\n"


@needs_tenseal
@pytest.mark.slow
def test_ciphertexts_give_the_answers_of_the_plain_network() -> None:
    small, images = network("square"), pictures(1)
    found = ckks.answer(small, prepare(images))
    np.testing.assert_allclose(found.logits, [plain_logits(small, image) for image in images], atol=0.02)
    assert set(found.parts_ms) == {"encrypt", "evaluate", "decrypt"}
    assert found.sent[0] > 100 * images[0].size
    assert found.once_bytes > 10**7


@needs_tenseal
def test_the_provider_refuses_the_secret_key() -> None:
    import tenseal

    private = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=list(ckks.MODULUS_BITS))
    keys = private.serialize(save_secret_key=True)
    refused = pytest.raises(SfumatoError, match="refused the keys")
    with ckks.provider(ckks.weights_of(network("square"))) as link, refused:
        ckks.ask(link, keys)


@needs_crypten
@pytest.mark.parametrize("activation", ["square", "relu"])
def test_shares_give_the_answers_of_the_plain_network(activation: Activation) -> None:
    small, images = network(activation), pictures(2)
    found = two_party.answer(small, prepare(images))
    np.testing.assert_allclose(found.logits, [plain_logits(small, image) for image in images], atol=0.01)
    # The phone sends at least its pixels masked, in 8 bytes each.
    assert min(found.sent) > 8 * images[0].size


@needs_crypten
def test_a_failing_party_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="two-party computation failed in process"):
        two_party.answer(network("square"), torch.zeros(1, 3, 5, 5))
