"""The dither channel whose uploads are entries of a public book (docs/contract.md, "Index"), as the audit draws it.

What an attack is given is what a service reads: bytes of noise choose an index as the phone's do, and the index is looked up
in the book. Phone, service and audit share `sfumato.runtime.index_code`.

The law of an index is known. It is a product over bits that is cut down to the entries of the book,

    log P(i | x) = power * sum_d log P(bit d of z_i | x) - log Z(x),        Z(x): the same summed over all entries

so the posterior attack needs one sum Z a photo more than that of ordinary draws, and is as exact. No book of an export can be
listed, since an upload has 256 pixels at least and its book 2^256 entries.

    channel = IndexChannel(**settings, code=IndexCode.of(contract))
    upload = channel.sample(parameters, channel.noise(parameters))      # (B, 3, H, W), as a cloud network gets it
"""

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.channels import Parameters
from sfumato.channels.dither import Dither, interpolated
from sfumato.runtime.index_code import IndexCode
from sfumato.runtime.sampler import CERTAIN


@dataclass(frozen=True)
class WithoutBook(Dither):
    """What a book of all pictures would draw: independent bits, each to the power.

    Components of a mixture are fitted with it: any components bound, and the law of the book itself takes much longer.
    """

    power: int = 1

    def to_moments(self, parameters: Parameters) -> Parameters:
        """The mean of every bit."""
        p = parameters["p"]
        if self.power == 1:
            return {"p": p}
        one, zero = p**self.power, (1 - p) ** self.power
        return {"p": one / (one + zero)}

    def rate(self, parameters: Parameters) -> Tensor:
        """As of ordinary draws."""
        return super().rate(self.to_moments(parameters))

    def gain(self, parameters: Parameters, references: Parameters) -> Tensor:
        """As of ordinary draws; references are moments."""
        return super().gain(self.to_moments(parameters), references)


@dataclass(frozen=True, kw_only=True)
class IndexChannel(Dither):
    """The dither channel of a contract with an `index`.

    Attributes:
        code: its book.
    """

    code: IndexCode
    _sums: dict[bytes, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    """log Z of photos, by a digest of their parameters: the posterior asks for those of its candidates many times."""

    @property
    def without_book(self) -> WithoutBook:
        """The same bits, drawn independently."""
        return WithoutBook(
            levels=self.levels, gray=self.gray, subsample=self.subsample, power=self.code.power
        )

    def bytes_q(self, parameters: Parameters) -> NDArray[np.uint8]:
        """The phone's bytes q, (B, H, W, planes), from probabilities of an int8 model, (B, planes, H, W)."""
        numbers = (parameters["p"].detach().cpu().float() * 256).round().clamp(0, CERTAIN)
        return np.ascontiguousarray(numbers.permute(0, 2, 3, 1).byte().numpy())

    def noise(self, parameters: Parameters, generator: torch.Generator | None = None) -> Tensor:
        """Fresh noise bytes of a draw, (B, bytes)."""
        p = parameters["p"]
        shape = (len(p), self.code.noise_bytes)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator, device=p.device)

    def sample(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """Draw the indices and read them as a service does, values 0..1; without a slope."""
        indices = self.code.draw_many(self.bytes_q(parameters), noise.cpu().numpy())
        levels = torch.from_numpy(self.code.levels_of_many(indices)).permute(0, 3, 1, 2)
        values = levels.to(parameters["p"].device).float() / (self.levels - 1)
        return interpolated(values, self.subsample)

    def rate(self, parameters: Parameters) -> Tensor:
        """`B - H` of each picture, exactly as in the contract, in nats, (B,)."""
        return torch.from_numpy(self.code.exact_law(self.bytes_q(parameters))[0]) * math.log(2)

    def to_moments(self, parameters: Parameters) -> Parameters:
        """Means of the bits if the book had all pictures: close, and any reference will do for a bound."""
        return self.without_book.to_moments(parameters)

    def divergences(self, parameters: Parameters, references: Parameters) -> Tensor:
        """KL of the indices of B pictures from those of K references, in nats, (B, K) float64; exact.

        Args:
            parameters: of an int8 model.
            references: probabilities of bits, above 0 and below 1, (K, planes, H, W); cut down to the book's entries.
        """
        bits, means = self.code.exact_law(self.bytes_q(parameters))
        p = references["p"].double().permute(0, 2, 3, 1).contiguous()
        ones = torch.from_numpy(means).flatten(1)
        expected = ones @ p.logit().flatten(1).T + torch.log1p(-p).flatten(1).sum(1)
        gain = self.code.bits * math.log(2) + expected - torch.from_numpy(self.code.log_sums(p.numpy(), 1))
        return torch.from_numpy(bits)[:, None] * math.log(2) - gain

    def likelihood_weights(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """As `sfumato.audit.attacks.posterior.dither_weights`: `log P(i | candidate)` from the centred bits of its entry."""
        where = parameters["p"].device
        chances = torch.from_numpy(self.code.chances(self.bytes_q(parameters))).permute(0, 3, 1, 2).to(where)
        p = chances.flatten(1)
        constant = (torch.log(p) + torch.log1p(-p)).sum(1) / 2
        sums = torch.from_numpy(self.log_sums(parameters)).to(where)
        return (self.code.power * p.logit()).float(), self.code.power * constant - sums

    def log_sums(self, parameters: Parameters) -> NDArray[np.float64]:
        """log Z of pictures, (B,)."""
        q = self.bytes_q(parameters)
        keys = [hashlib.sha256(one).digest() for one in q]
        if new := [place for place, key in enumerate(keys) if key not in self._sums]:
            found = self.code.log_sums(self.code.chances(q[new]))
            self._sums.update((keys[place], float(value)) for place, value in zip(new, found, strict=True))
        return np.array([self._sums[key] for key in keys])
