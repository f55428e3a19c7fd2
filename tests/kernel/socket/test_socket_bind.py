"""Who may have a port: bind(2), the matrix of SO_REUSEADDR and SO_REUSEPORT, and how ports are chosen.

The matrix and the choice are as measured on Linux 6.18; ip(7), socket(7), ip-sysctl for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from netlab import Lab

from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.socket import inet
from kubenet.kernel.socket.sock import AF_INET, SOCK_STREAM, Sock
from kubenet.wire.addr import ip4

SO_REUSEADDR, SO_REUSEPORT = 2, 15
ADDR, OTHER = ip4("10.1.0.2"), ip4("127.0.0.1")
SERVER = ip4("10.2.0.2")


class Net:
    """A client namespace 10.1.0.2 and a server 10.2.0.2 that listens on 9000 and 9001."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.client, _, self.server = self.lab.routed()
        self.listeners = [self.listening(self.server, port) for port in (9000, 9001)]

    def socket(self, net: NetNamespace | None = None, reuse: bool = False, reuseport: bool = False, uid: int = 0) -> Sock:
        sk = inet.sock_create(net or self.client, AF_INET, SOCK_STREAM, uid=uid)
        inet.sock_setsockopt(sk, 1, SO_REUSEADDR, int(reuse))
        inet.sock_setsockopt(sk, 1, SO_REUSEPORT, int(reuseport))
        return sk

    def listening(self, net: NetNamespace, port: int) -> Sock:
        sk = self.socket(net)
        inet.inet_bind(sk, (0, port))
        inet.inet_listen(sk, 4096)
        return sk

    def connect(self, sk: Sock, port: int = 9000) -> Sock:
        """Connected to the server; returns the server's end."""
        with pytest.raises(BlockingIOError):
            inet.inet_connect(sk, (SERVER, port), 0)
        self.lab.run(0.01)
        inet.inet_connect(sk, (SERVER, port), 0)
        return inet.inet_accept(self.listeners[port - 9000], 0)


@pytest.fixture(scope="module")
def world() -> Net:
    return Net()


@pytest.fixture
def net(world: Net) -> Net:
    """The namespaces, without sockets of earlier tests on the client's side."""
    world.client.socks = None
    inet.inet_net_init(world.client)
    return world


def bound(net: Net, sk: Sock) -> None:
    inet.inet_bind(sk, (ADDR, 5000))


def listening(net: Net, sk: Sock) -> None:
    inet.inet_bind(sk, (ADDR, 5000))
    inet.inet_listen(sk, 1)


def connected(net: Net, sk: Sock) -> None:
    inet.inet_bind(sk, (ADDR, 5000))
    net.connect(sk)


def in_time_wait(net: Net, sk: Sock) -> None:
    inet.inet_bind(sk, (ADDR, 5000))
    peer = net.connect(sk)
    inet.inet_release(sk)
    net.lab.run(0.01)
    inet.inet_release(peer)
    net.lab.run(0.1)


N, A, P, AP = (False, False), (True, False), (False, True), (True, True)
MATRIX = [
    # first socket, its options, the second one's: may the second bind?
    *[(bound, first, second, ok) for first, second, ok in (
        (N, N, False), (A, N, False), (N, A, False), (A, A, True), (P, P, True), (P, N, False), (A, P, False), (AP, A, True))],
    *[(listening, first, second, ok) for first, second, ok in (
        (N, N, False), (A, A, False), (P, P, True), (AP, AP, True), (AP, A, False), (N, AP, False))],
    *[(connected, first, second, ok) for first, second, ok in (
        (N, N, False), (N, A, False), (A, N, False), (A, A, True), (P, P, True), (N, AP, False))],
    *[(in_time_wait, first, second, ok) for first, second, ok in (
        (N, N, False), (N, A, False), (A, A, True), (P, P, True), (A, N, False))],
]


@pytest.mark.parametrize("prepare, first, second, ok", MATRIX,
                         ids=[f"{m[0].__name__}-{m[1]}-{m[2]}-{m[3]}" for m in MATRIX])
@pytest.mark.parametrize("wildcard", [False, True])
def test_bind_matrix(net: Net, prepare: Callable[[Net, Sock], None], first: tuple[bool, bool], second: tuple[bool, bool],
                     ok: bool, wildcard: bool) -> None:
    prepare(net, net.socket(reuse=first[0], reuseport=first[1]))
    sk = net.socket(reuse=second[0], reuseport=second[1])
    address = (0 if wildcard else ADDR, 5000)
    if ok:
        inet.inet_bind(sk, address)
        assert inet.inet_getname(sk, False) == address
    else:
        with pytest.raises(OSError, match="Address already in use"):
            inet.inet_bind(sk, address)
        assert sk.saddr == sk.sport == 0


def test_different_addresses_never_conflict(net: Net) -> None:
    inet.inet_bind(net.socket(), (ADDR, 5000))
    inet.inet_bind(net.socket(), (OTHER, 5000))


def test_reuseport_is_for_one_user(net: Net) -> None:
    """socket(7): all sockets must have the same effective UID."""
    inet.inet_bind(net.socket(reuseport=True, uid=0), (ADDR, 5000))
    with pytest.raises(OSError, match="in use"):
        inet.inet_bind(net.socket(reuseport=True, uid=1000), (ADDR, 5000))


def test_both_may_bind_but_only_one_listen(net: Net) -> None:
    """Measured: with SO_REUSEADDR both bind; the second listen() gets EADDRINUSE. With SO_REUSEPORT both may listen."""
    one, two = net.socket(reuse=True), net.socket(reuse=True)
    inet.inet_bind(one, (0, 5000))
    inet.inet_bind(two, (0, 5000))
    inet.inet_listen(one, 1)
    with pytest.raises(OSError, match="in use"):
        inet.inet_listen(two, 1)


def test_a_listener_closed_frees_its_port(net: Net) -> None:
    sk = net.listening(net.client, 5000)
    inet.inet_release(sk)
    net.listening(net.client, 5000)


def errors(fn: Callable[..., Any], *args: Any) -> int | None:
    try:
        fn(*args)
    except OSError as error:
        return error.errno
    return None


def test_bind_errors(net: Net) -> None:
    """bind(2): EADDRNOTAVAIL for an address that is not here, EACCES below 1024, EINVAL if bound."""
    from errno import EACCES, EADDRNOTAVAIL, EINVAL

    assert errors(inet.inet_bind, net.socket(), (ip4("10.9.9.9"), 80)) == EADDRNOTAVAIL
    assert errors(inet.inet_bind, net.socket(uid=1000), (0, 80)) == EACCES
    assert errors(inet.inet_bind, net.socket(uid=0), (0, 80)) is None
    sk = net.socket()
    inet.inet_bind(sk, (0, 5000))
    assert errors(inet.inet_bind, sk, (0, 5001)) == EINVAL


def test_ip_nonlocal_bind_and_freebind(net: Net) -> None:
    """ip(7) IP_FREEBIND: an address that is not (yet) here."""
    sk = net.socket()
    inet.sock_setsockopt(sk, 0, 15, 1)
    inet.inet_bind(sk, (ip4("10.9.9.9"), 80))
    net.client.sysctl.ipv4.ip_nonlocal_bind = 1
    inet.inet_bind(net.socket(), (ip4("10.9.9.8"), 80))
    net.client.sysctl.ipv4.ip_nonlocal_bind = 0


# ---- which port

def ports_of_connects(net: Net, count: int, port: int = 9000) -> list[int]:
    out = []
    for _ in range(count):
        sk = net.socket()
        net.connect(sk, port)
        out.append(sk.sport)
    return out


def test_connect_takes_even_ports_in_small_steps(net: Net) -> None:
    """Measured: even ports, a start that depends on the destination, then random even steps of 2 to 16, growing."""
    ports = ports_of_connects(net, 30)
    assert all(32768 <= port <= 60999 and port % 2 == 0 for port in ports)
    steps = [b - a for a, b in zip(ports, ports[1:], strict=False) if b > a]
    assert len(steps) >= 28
    assert all(2 <= step <= 16 for step in steps)
    assert len(set(steps)) > 2


def test_another_destination_has_another_start(net: Net) -> None:
    first, second = ports_of_connects(net, 1, 9000)[0], ports_of_connects(net, 1, 9001)[0]
    assert abs(first - second) > 16


def test_bind_zero_takes_odd_ports(net: Net) -> None:
    """Measured: bind() to port 0 takes random odd ports."""
    ports = []
    for _ in range(30):
        sk = net.socket()
        inet.inet_bind(sk, (0, 0))
        ports.append(sk.sport)
    assert all(32768 <= port <= 60999 and port % 2 == 1 for port in ports)
    assert len(set(ports)) == 30
    assert ports != sorted(ports)


def test_listen_without_bind_takes_a_port(net: Net) -> None:
    """listen(2): an unbound socket is bound to a random free port."""
    sk = net.socket()
    inet.inet_listen(sk, 1)
    assert sk.sport % 2 == 1


def test_the_range_used_up(net: Net) -> None:
    """Measured: EADDRNOTAVAIL from connect(), EADDRINUSE from bind(); another destination still works with the same ports."""
    from errno import EADDRINUSE, EADDRNOTAVAIL

    net.client.sysctl.ipv4.ip_local_port_range = (40000, 40007)
    try:
        ports = ports_of_connects(net, 8)
        assert sorted(ports) == list(range(40000, 40008))
        assert [port % 2 for port in ports] == [0] * 4 + [1] * 4
        assert errors(inet.inet_connect, net.socket(), (SERVER, 9000), 0) == EADDRNOTAVAIL
        assert errors(inet.inet_bind, net.socket(), (ADDR, 0)) == EADDRINUSE
        net.connect(net.socket(), 9001)
        sk = net.socket()
        inet.sock_setsockopt(sk, 0, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        inet.inet_bind(sk, (ADDR, 0))
        net.connect(sk, 9001)
    finally:
        net.client.sysctl.ipv4.ip_local_port_range = (32768, 60999)


def test_own_time_wait_blocks_a_chosen_port(net: Net) -> None:
    """Measured: tcp_tw_reuse=2 is for loopback only: EADDRNOTAVAIL; with 1 the tuple is free after one second."""
    from errno import EADDRNOTAVAIL

    net.client.sysctl.ipv4.ip_local_port_range = (40000, 40001)
    try:
        for _ in range(2):
            sk = net.socket()
            peer = net.connect(sk)
            inet.inet_release(sk)
            net.lab.run(0.01)
            inet.inet_release(peer)
            net.lab.run(0.01)
        assert errors(inet.inet_connect, net.socket(), (SERVER, 9000), 0) == EADDRNOTAVAIL
        net.client.sysctl.ipv4.tcp_tw_reuse = 1
        assert errors(inet.inet_connect, net.socket(), (SERVER, 9000), 0) == EADDRNOTAVAIL
        net.lab.run(1.1)
        sk = net.socket()
        net.connect(sk)
    finally:
        net.client.sysctl.ipv4.ip_local_port_range = (32768, 60999)
        net.client.sysctl.ipv4.tcp_tw_reuse = 2


def test_an_explicit_port_twice_to_one_destination(net: Net) -> None:
    """connect(2): EADDRNOTAVAIL, the four values exist."""
    from errno import EADDRNOTAVAIL

    one, two = net.socket(reuse=True), net.socket(reuse=True)
    inet.inet_bind(one, (ADDR, 5000))
    inet.inet_bind(two, (ADDR, 5000))
    net.connect(one)
    assert errors(inet.inet_connect, two, (SERVER, 9000), 0) == EADDRNOTAVAIL
    assert errors(inet.inet_connect, two, (SERVER, 9001), 0) == 115


# ---- who gets a connection

def test_a_specific_address_beats_the_wildcard(net: Net) -> None:
    """Linux: compute_score()."""
    wild, special = net.socket(reuseport=True), net.socket(reuseport=True)
    inet.inet_bind(wild, (0, 5000))
    inet.inet_bind(special, (ADDR, 5000))
    inet.inet_listen(wild, 1)
    inet.inet_listen(special, 1)
    found = net.client.socks.lookup_listener(SERVER, 1, ADDR, 5000, 2)
    assert found is special
    assert net.client.socks.lookup_listener(SERVER, 1, OTHER, 5000, 2) is wild


def test_reuseport_spreads_and_is_stable(net: Net) -> None:
    """Measured: the same four values always reach the same listener; 4 listeners get 227 to 284 of 1000."""
    socks = [net.socket(reuseport=True) for _ in range(4)]
    for sk in socks:
        inet.inet_bind(sk, (0, 5000))
        inet.inet_listen(sk, 1)
    lookup = net.client.socks.lookup_listener
    chosen = [lookup(SERVER, port, ADDR, 5000, 2) for port in range(1000)]
    assert chosen == [lookup(SERVER, port, ADDR, 5000, 2) for port in range(1000)]
    counts = [chosen.count(sk) for sk in socks]
    assert all(200 < count < 300 for count in counts)
    inet.inet_release(socks[0])
    again = [lookup(SERVER, port, ADDR, 5000, 2) for port in range(1000)]
    kept = sum(a is b for a, b in zip(chosen, again, strict=True))
    assert 250 < kept < 500  # closing one re-maps many (measured: 70 of 200 stayed)


def test_names(net: Net) -> None:
    """getsockname(2), getpeername(2)."""
    from errno import ENOTCONN

    sk = net.socket()
    assert inet.inet_getname(sk, False) == (0, 0)
    assert errors(inet.inet_getname, sk, True) == ENOTCONN
    peer = net.connect(sk)
    assert inet.inet_getname(sk, True) == (SERVER, 9000)
    assert inet.inet_getname(peer, True) == inet.inet_getname(sk, False) == (ADDR, sk.sport)


@pytest.mark.parametrize("family, type_, protocol, error", [
    (99, 1, 0, "EAFNOSUPPORT"), (2, 1, 17, "EPROTONOSUPPORT"), (2, 9, 0, "ESOCKTNOSUPPORT"), (2, 1, 6, None), (2, 2, 17, None),
])
def test_socket_errors(net: Net, family: int, type_: int, protocol: int, error: str | None) -> None:
    """socket(2)."""
    import errno

    got = errors(inet.sock_create, net.client, family, type_, protocol)
    assert got == (getattr(errno, error) if error else None)
