"""CKKS with TenSEAL: the phone encrypts, the provider computes on ciphertexts, only the phone can decrypt.

The provider is a process of its own. It gets the public keys (encryption, relinearisation, rotations) and never the secret
one, refuses a context that holds it, and answers ciphertexts with a ciphertext. Parameters: N = 8192, a coefficient modulus
of 218 bits, which is the most that SEAL allows there for 128-bit security, and six levels: the convolution, gathering its
planes, and two each for a square and a linear layer (Cheon, Kim, Kim and Song, ASIACRYPT 2017; layers as TenSEAL has them).

    answers = answer(network, prepare(images))
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from studies.cryptographic.answers import Answers
from studies.cryptographic.network import GRID, KERNEL, STRIDE, SmallNetwork
from torch import Tensor

from sfumato.core.errors import SfumatoError, UsageError

DEGREE = 8192
MODULUS_BITS = (31, 26, 26, 26, 26, 26, 26, 31)
SCALE = 2.0**26

Weights = dict[str, list[Any]]


def weights_of(network: SmallNetwork) -> Weights:
    """Plain numbers by name; linear layers as (inputs, outputs), which is how TenSEAL multiplies.

    Raises:
        UsageError: the network is not made of additions and multiplications alone.
    """
    if network.activation != "square":
        raise UsageError("CKKS adds and multiplies: it runs the network with squares, not with ReLU")
    state = network.state_dict()
    turned = {name: value.T if value.dim() == 2 else value for name, value in state.items()}
    return {name: value.tolist() for name, value in turned.items()}


def answer(network: SmallNetwork, images: Tensor) -> Answers:
    """Answer prepared images (N, 3, SIDE, SIDE) with a network of squares.

    Raises:
        SfumatoError: the provider's process ended.
        UsageError: not a network of squares.
    """
    import tenseal

    with provider(weights_of(network)) as link:
        started = time.perf_counter()
        secret = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(MODULUS_BITS), n_threads=1
        )
        secret.global_scale = SCALE
        secret.generate_galois_keys()
        keys = secret.serialize(save_secret_key=False, save_galois_keys=True, save_relin_keys=True)
        ready, _ = ask(link, keys)
        once_ms = 1000 * (time.perf_counter() - started)
        rows = [one_image(secret, link, image) for image in images]
    logits, times, cpu_ms, sent, received = zip(*rows, strict=True)
    return Answers(
        logits=np.array(logits),
        total_ms=[sum(parts.values()) for parts in times],
        cpu_ms=list(cpu_ms),
        parts_ms={name: [parts[name] for parts in times] for name in times[0]},
        sent=list(sent),
        received=list(received),
        once_bytes=len(keys) + len(ready),
        once_ms=once_ms,
    )


def one_image(
    secret: Any, link: Connection, image: Tensor
) -> tuple[list[float], dict[str, float], float, int, int]:
    """Logits, milliseconds by part and of processors, bytes up and down of one prepared image (3, SIDE, SIDE)."""
    import tenseal

    marks, before = [time.perf_counter()], time.process_time()
    planes = [tenseal.im2col_encoding(secret, plane, KERNEL, KERNEL, STRIDE)[0] for plane in image.tolist()]
    ciphertexts = [plane.serialize() for plane in planes]
    marks.append(time.perf_counter())
    for ciphertext in ciphertexts[:-1]:
        link.send_bytes(ciphertext)
    reply, spent = ask(link, ciphertexts[-1])
    marks.append(time.perf_counter())
    logits = tenseal.ckks_vector_from(secret, reply).decrypt()
    marks.append(time.perf_counter())
    cpu_ms = 1000 * (time.process_time() - before + spent)
    names = ("encrypt", "evaluate", "decrypt")
    times = {name: 1000 * (b - a) for name, a, b in zip(names, marks, marks[1:], strict=False)}
    return logits, times, cpu_ms, sum(map(len, ciphertexts)), len(reply)


def ask(link: Connection, message: bytes) -> tuple[bytes, float]:
    """Send, and wait for the reply; with it comes the processor time that it took there, in seconds.

    Raises:
        SfumatoError: nobody is there to reply.
    """
    try:
        link.send_bytes(message)
        return link.recv_bytes(), link.recv()
    except (EOFError, OSError):
        raise SfumatoError(
            "the provider's process ended: too little memory, or it refused the keys"
        ) from None


@contextmanager
def provider(weights: Weights) -> Iterator[Connection]:
    """A process that holds the weights; yields the phone's end of the line."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(there, weights), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(timeout=10)
        process.kill()


def serve(link: Connection, weights: Weights) -> None:
    """The provider: public keys first, then three ciphertexts an image, until the phone hangs up."""
    import tenseal

    torch.set_num_threads(1)
    try:
        public = tenseal.context_from(link.recv_bytes(), n_threads=1)
        if public.is_private():
            return
        link.send_bytes(b"ready")
        link.send(0.0)
        while True:
            before = time.process_time()
            planes = [tenseal.ckks_vector_from(public, link.recv_bytes()) for _ in range(3)]
            link.send_bytes(evaluate(planes, weights).serialize())
            link.send(time.process_time() - before)
    except EOFError:
        return


def evaluate(planes: list[Any], weights: Weights) -> Any:
    """The network on three encrypted colour planes; the ciphertext of the logits."""
    import tenseal

    convolved = []
    for kernels, bias in zip(weights["convolution.weight"], weights["convolution.bias"], strict=True):
        pairs = zip(planes, kernels, strict=True)
        parts = [plane.conv2d_im2col(kernel, GRID**2) for plane, kernel in pairs]
        convolved.append(parts[0] + parts[1] + parts[2] + bias)
    x = tenseal.CKKSVector.pack_vectors(convolved).square()
    x = (x.mm(weights["first.weight"]) + weights["first.bias"]).square()
    return x.mm(weights["second.weight"]) + weights["second.bias"]
