"""Two-party computation with CrypTen: phone and provider hold shares, a dealer hands out multiplication triples.

Three processes on the loopback, each with what it may have: the phone the images, the provider the weights, the dealer
nothing. The weights are shared once; per image the phone shares the pixels, both compute, and the logits are revealed to the
phone alone. CrypTen's default, where the first party makes the triples by itself, would give that party the other's secrets;
hence its trusted third party (Knott et al., NeurIPS 2021).

    answers = answer(network, prepare(images))
"""

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from studies.cryptographic.answers import Answers
from studies.cryptographic.network import SIDE, STRIDE, SmallNetwork
from studies.cryptographic.sockets import traffic
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException, spawn

from sfumato.core.errors import SfumatoError

PHONE, PROVIDER, DEALER = range(3)
OLD_NAME = "torch.onnx._internal.registration"
NEW_NAME = "torch.onnx._internal.torchscript_exporter.registration"


def load_crypten() -> Any:
    """Import CrypTen. Its ONNX reader, which is not used here, asks for a module that PyTorch has moved since."""
    sys.modules.setdefault(OLD_NAME, importlib.import_module(NEW_NAME))
    return importlib.import_module("crypten")


def answer(network: SmallNetwork, images: Tensor) -> Answers:
    """Answer prepared images (N, 3, SIDE, SIDE).

    Raises:
        SfumatoError: one of the processes failed.
    """
    with tempfile.TemporaryDirectory(prefix="sfumato-two-party-") as name:
        folder = Path(name)
        state = network.state_dict()
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        torch.save({"images": images, "shapes": shapes}, folder / f"{PHONE}.pt")
        torch.save({"weights": state, "count": len(images)}, folder / f"{PROVIDER}.pt")
        try:
            spawn(party, args=(folder, network.activation), nprocs=3)
        except ProcessException as error:
            reason = str(error).strip().splitlines()[-1]
            raise SfumatoError(
                f"two-party computation failed in process {error.error_index}: {reason}"
            ) from None
        found, provider, dealer = (torch.load(folder / f"{rank}-found.pt") for rank in range(3))
    cpu_ms = [sum(parts) + dealer / len(images) for parts in zip(found["cpu_ms"], provider, strict=True)]
    return Answers(**{**found, "cpu_ms": cpu_ms, "logits": found["logits"].double().numpy()})


def party(rank: int, folder: Path, activation: str) -> None:
    """One of the three processes."""
    os.environ |= {
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "RENDEZVOUS": f"file://{folder}/rendezvous",
        "DISTRIBUTED_BACKEND": "gloo",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    torch.set_num_threads(1)
    crypten = load_crypten()
    crypten.cfg.mpc.provider = "TTP"
    if rank == DEALER:
        before = time.process_time()
        crypten.mpc.provider.TTPServer()
        torch.save(1000 * (time.process_time() - before), folder / f"{rank}-found.pt")
        return
    crypten.init()
    own = torch.load(folder / f"{rank}.pt", weights_only=True)
    if rank == PHONE:
        found: Any = be_phone(crypten, own["images"], own["shapes"], activation)
    else:
        found = be_provider(crypten, own["weights"], own["count"], activation)
    torch.save(found, folder / f"{rank}-found.pt")
    crypten.uninit()


def be_phone(
    crypten: Any, images: Tensor, shapes: dict[str, tuple[int, ...]], activation: str
) -> dict[str, Any]:
    """The fields of `Answers`; of the weights only the shapes are known here."""
    before, started = traffic(), time.perf_counter()
    weights = {name: crypten.cryptensor(torch.zeros(shape), src=PROVIDER) for name, shape in shapes.items()}
    crypten.comm.get().barrier()
    once_ms, after = 1000 * (time.perf_counter() - started), traffic()
    found: dict[str, Any] = {
        "logits": [],
        "total_ms": [],
        "cpu_ms": [],
        "sent": [],
        "received": [],
        "once_ms": once_ms,
        "once_bytes": sum(after) - sum(before),
    }
    for image in images:
        before, started, spent = traffic(), time.perf_counter(), time.process_time()
        logits = run(crypten, image[None], weights, activation)
        found["total_ms"].append(1000 * (time.perf_counter() - started))
        found["cpu_ms"].append(1000 * (time.process_time() - spent))
        after = traffic()
        found["logits"].append(logits)
        found["sent"].append(after[0] - before[0])
        found["received"].append(after[1] - before[1])
        crypten.comm.get().barrier()
    return {**found, "logits": torch.cat(found["logits"])}


def be_provider(crypten: Any, weights: dict[str, Tensor], count: int, activation: str) -> list[float]:
    """The same steps; of the images only shape and number are known here. Milliseconds of the processor by image."""
    shared = {name: crypten.cryptensor(value, src=PROVIDER) for name, value in weights.items()}
    crypten.comm.get().barrier()
    blank, cpu_ms = torch.zeros(1, 3, SIDE, SIDE), []
    for _ in range(count):
        before = time.process_time()
        run(crypten, blank, shared, activation)
        cpu_ms.append(1000 * (time.process_time() - before))
        crypten.comm.get().barrier()
    return cpu_ms


def run(crypten: Any, image: Tensor, weights: dict[str, Any], activation: str) -> Tensor:
    """One image (1, 3, SIDE, SIDE) through the shared network; the phone gets the logits (1, classes), the provider nothing."""
    x = crypten.cryptensor(image, src=PHONE)
    x = x.conv2d(weights["convolution.weight"], stride=STRIDE)
    x = getattr(x + weights["convolution.bias"].view(1, -1, 1, 1), activation)().flatten(start_dim=1)
    x = getattr(x.matmul(weights["first.weight"].t()) + weights["first.bias"], activation)()
    x = x.matmul(weights["second.weight"].t()) + weights["second.bias"]
    plain: Tensor = x.get_plain_text(dst=PHONE)
    return plain
