"""Shares of a budget, and what counts as one client."""

import random
from collections import Counter

import pytest

from sfumato.server.addresses import authority, is_loopback, name_of, network_of
from sfumato.server.admission import Shares
from sfumato.server.problems import OverloadedError


@pytest.mark.parametrize("greedy", [1, 2, 3, 9])
def test_who_wants_everything_leaves_room_for_one_more(greedy: int) -> None:
    shares, total = Shares(1000), 1000
    for _ in range(total):
        for client in range(greedy):
            shares.take(f"{client}")
    each = [shares.by(f"{client}") for client in range(greedy)]
    assert all(total / (greedy + 1) - greedy <= held <= total / (greedy + 1) + 1 for held in each)
    assert shares.take("newcomer")


def test_takings_and_givings_add_up() -> None:
    """Against a plain count, over random orders."""
    rng, shares = random.Random(1), Shares(100)
    held: Counter[str] = Counter()
    taken: list[tuple[str, int]] = []
    for _ in range(3000):
        if taken and rng.random() < 0.5:
            client, amount = taken.pop(rng.randrange(len(taken)))
            shares.give(client, amount)
            held[client] -= amount
        else:
            client, amount = rng.choice("abcde"), rng.choice((1, 2, 30, 101))
            expected = held[client] + amount <= 100 - held.total()
            assert shares.fits(client, amount) == expected
            assert shares.take(client, amount) == expected
            if expected:
                held[client] += amount
                taken.append((client, amount))
        assert shares.held == held.total()
        assert all(shares.by(client) == held[client] for client in "abcde")
    for client, amount in taken:
        shares.give(client, amount)
    assert shares.held == 0
    assert not shares._by  # nothing is remembered of who is gone


def test_a_block_gives_back_what_it_held() -> None:
    shares = Shares(10)
    block = shares.hold("a", 6)
    block.__enter__()
    with pytest.raises(OverloadedError, match="6 of 10 bytes"), shares.hold("b", 5):
        pytest.fail("there is no room")
    block.__exit__(KeyError, KeyError(), None)
    assert shares.held == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::", "2001:db8::/64"), ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("", "unknown"), ("testclient", "testclient"),
    ],
)  # fmt: skip
def test_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("given", "name", "loopback"),
    [
        ("localhost", "localhost", True), ("LocalHost.:80", "localhost", True), ("127.9.9.9:1", "127.9.9.9", True),
        ("[::1]:8080", "[::1]", True), ("::1", "::1", True), ("127.0.0.1.evil.example", "127.0.0.1.evil.example", False),
        ("evil.example:80", "evil.example", False), ("0.0.0.0", "0.0.0.0", False), ("", "", False),
        ("localhost:80@evil.example", "localhost:80@evil.example", False), ("[::1", "[::1", True),
    ],
)  # fmt: skip
def test_hosts(given: str, name: str, loopback: bool) -> None:
    assert name_of(given) == name
    assert is_loopback(name_of(given)) == loopback


def test_addresses_of_ipv6_stand_in_brackets() -> None:
    assert authority("::1", 80) == "[::1]:80"
    assert authority("fe80::1%eth0", 80) == "[fe80::1%25eth0]:80"
    assert authority("127.0.0.1", 80) == "127.0.0.1:80"
