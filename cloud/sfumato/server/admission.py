"""Who may hold how much: one rule for connections, requests in work, waiting uploads and bytes, in all and for each client.

Nobody may hold more than is left free. A client that is alone gets half of a budget, two that want everything get a third each,
and whoever comes new finds room (the dynamic thresholds of Choudhury and Hahne, 1998, with a factor of one). No share has to be
configured, and none lies idle for clients that are not there.

    work = Shares(144)
    work.take("192.0.2.7")                      # False: this client holds too much, or nothing is left
    with Shares(2**26).hold("app", 2**20):      # OverloadedError instead of False
        ...

A client is the name behind its token, else its address (`client_name`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from sfumato.server.addresses import network_of
from sfumato.server.problems import OverloadedError


class Shares:
    """A budget that clients share."""

    def __init__(self, total: float, unit: str = "bytes") -> None:
        self.total, self.unit = total, unit
        self.held = 0.0
        """By all clients."""
        self._by: dict[str, float] = {}

    def by(self, client: str) -> float:
        """What this client holds."""
        return self._by.get(client, 0.0)

    def fits(self, client: str, amount: float = 1) -> bool:
        """Whether the client may take so much more."""
        return self.by(client) + amount <= self.total - self.held

    def take(self, client: str, amount: float = 1) -> bool:
        """Take so much, if it may be; `give` gives it back."""
        fits = self.fits(client, amount)
        if fits:
            self._by[client] = self.by(client) + amount
            self.held += amount
        return fits

    def give(self, client: str, amount: float = 1) -> None:
        """Give back what was taken."""
        left = self._by[client] - amount
        self.held -= amount
        if left > 0:
            self._by[client] = left
        else:
            del self._by[client]

    @contextmanager
    def hold(self, client: str, amount: float) -> Iterator[None]:
        """Take so much for the length of a block.

        Raises:
            OverloadedError: it may not be.
        """
        if not self.take(client, amount):
            raise OverloadedError(f"{self.held:,.0f} of {self.total:,.0f} {self.unit} are taken")
        try:
            yield
        finally:
            self.give(client, amount)


def client_name(request: Request) -> str:
    """The name behind the request's token, which a check left in its state; without tokens, the address it came from."""
    name: str | None = getattr(request.state, "client", None)
    return name or network_of(request.client.host if request.client else "")
