"""A joint distribution of factors that is known exactly: marginals, and couplings that leave the marginals
alone.

A coupling of strength c mixes independence with the most dependent table the two marginals allow (Fréchet
bounds): `P(a, b) = (1 - |c|) P(a) P(b) + |c| D(a, b)`, D comonotone for c > 0 and countermonotone for c < 0.
Couplings form a forest, so the whole table is `prod_i P(x_i) * prod_edges P(a, b) / (P(a) P(b))` and every
entropy is a finite sum.

>>> coin = {"a": (0.5, 0.5), "b": (0.5, 0.5)}
>>> JointDistribution(marginals=coin, couplings=(("a", "b", 1.0),)).conditional_entropy("a", ["b"])
0.0
>>> JointDistribution(marginals=coin, couplings=(("a", "b", 0.5),)).label_only_floor("a", ["b"])
0.75
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError, unknown
from sfumato.data.dataset import Ints

Table: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class JointDistribution:
    """How often every combination of factor values is drawn."""

    marginals: Mapping[str, tuple[float, ...]]
    """Probabilities per factor, each summing to 1."""
    couplings: tuple[tuple[str, str, float], ...] = ()
    """(factor, other factor, strength in -1..1); together they must form no cycle."""

    def __post_init__(self) -> None:
        for name, values in self.marginals.items():
            if min(values) < 0 or abs(sum(values) - 1) > 1e-9:
                raise DataError(
                    f"the probabilities of {name!r} must be at least 0 and sum to 1, not {sum(values):g}"
                )
        tree = {name: name for name in self.marginals}
        for one, other, strength in self.couplings:
            for name in (one, other):
                if name not in self.marginals:
                    raise DataError(unknown("factor", name, self.marginals))
            if not -1 <= strength <= 1:
                raise DataError(f"the coupling of {one}:{other} must lie in -1..1, not {strength:g}")
            old, new = tree[one], tree[other]
            if old == new:
                raise DataError(f"coupling {one}:{other} closes a cycle: couplings must form a forest")
            tree = {name: new if root == old else root for name, root in tree.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The factors, in the order of the table's axes."""
        return tuple(self.marginals)

    def pair(self, one: str, other: str, strength: float) -> Table:
        """(classes of one, classes of other) joint table of a coupled pair."""
        first, second = np.array(self.marginals[one]), np.array(self.marginals[other])
        extreme = _comonotone(first, second) if strength >= 0 else _comonotone(first, second[::-1])[:, ::-1]
        return np.asarray((1 - abs(strength)) * np.outer(first, second) + abs(strength) * extreme)

    def table(self) -> Table:
        """Probability of every combination, one axis per factor."""
        shape = tuple(len(values) for values in self.marginals.values())
        whole: Table = np.ones(shape)
        for name, values in self.marginals.items():
            whole = whole * self._along(np.array(values), [name])
        for one, other, strength in self.couplings:
            outer = np.outer(self.marginals[one], self.marginals[other])
            joint = self.pair(one, other, strength)
            ratio = np.divide(joint, outer, out=np.zeros_like(joint), where=outer > 0)
            whole = whole * self._along(ratio, [one, other])
        return whole

    def marginal(self, names: Sequence[str]) -> Table:
        """Exact joint table of some factors, axes in the order given."""
        for name in names:
            if name not in self.marginals:
                raise DataError(unknown("factor", name, self.marginals))
        order = list(self.names)
        left = [name for name in order if name in names]
        summed = self.table().sum(axis=tuple(i for i, name in enumerate(order) if name not in names))
        return np.asarray(np.transpose(summed, [left.index(name) for name in names]))

    def entropy(self, names: Sequence[str]) -> float:
        """Exact joint entropy of some factors, in bits."""
        p = self.marginal(names).reshape(-1)
        p = p[p > 0]
        return max(0.0, float(-(p * np.log2(p)).sum()))

    def conditional_entropy(self, sensitive: str, given: Sequence[str]) -> float:
        """Exact H(sensitive | given), in bits."""
        return max(0.0, self.entropy([sensitive, *given]) - (self.entropy(given) if given else 0.0))

    def label_only_floor(self, sensitive: str, given: Sequence[str]) -> float:
        """Exact accuracy of the best guess of `sensitive` from `given` alone, a fraction of 1."""
        joint = self.marginal([sensitive, *given])
        return float(joint.reshape(joint.shape[0], -1).max(axis=0).sum())

    def sample(self, chances: Table) -> dict[str, Ints]:
        """Factor values (N,) for N numbers drawn evenly from [0, 1), by look-up in the cumulated table."""
        table = self.table()
        cumulated = np.cumsum(table.reshape(-1))
        # Rounding may leave the sum a little off 1, and a flat step has probability 0: scale and look right
        # of it.
        flat = np.searchsorted(cumulated, chances * cumulated[-1], side="right")
        values = np.unravel_index(np.minimum(flat, table.size - 1), table.shape)
        return {name: value.astype(np.int64) for name, value in zip(self.names, values, strict=True)}

    def _along(self, values: Table, names: Sequence[str]) -> Table:
        """Spread a table over some factors (in any order) along the axes of the whole table."""
        axes = [self.names.index(name) for name in names]
        shape = [len(self.marginals[name]) if name in names else 1 for name in self.names]
        return np.asarray(np.transpose(values, np.argsort(axes)).reshape(shape))


def _comonotone(first: Table, second: Table) -> Table:
    """The joint table of two variables that rise together as far as their marginals allow."""
    upper, lower = np.cumsum(first)[:, None], np.concatenate([[0.0], np.cumsum(first)[:-1]])[:, None]
    right, left = np.cumsum(second)[None, :], np.concatenate([[0.0], np.cumsum(second)[:-1]])[None, :]
    return np.asarray(np.maximum(np.minimum(upper, right) - np.maximum(lower, left), 0.0))
