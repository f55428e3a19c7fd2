"""tcp(7), socket(7): options, their limits, and what TCP_INFO and ss show."""

from __future__ import annotations

import struct

import pytest
from wire import Wire

from kubenet.kernel.socket import inet
from kubenet.kernel.tcp.info import tcp_diag, tcp_get_info
from kubenet.kernel.tcp.sockopt import retrans_to_secs, secs_to_retrans

IPPROTO_TCP = 6


@pytest.mark.parametrize("name, value, result", [
    (1, 1, 1), (1, 7, 1), (1, 0, 0),                                  # TCP_NODELAY
    (2, 88, 88), (2, 32767, 32767), (2, 0, 536),                      # TCP_MAXSEG
    (3, 1, 1),                                                        # TCP_CORK
    (4, 1, 1), (4, 32767, 32767), (5, 32767, 32767), (6, 127, 127),   # keepalive
    (7, 1, 1), (7, 127, 127),                                         # TCP_SYNCNT
    (8, 30, 30), (8, 0, 60), (8, -5, -1), (8, 1000, 120),             # TCP_LINGER2
    (9, 1, 1), (9, 2, 3), (9, 5, 7), (9, 0, 0),                       # TCP_DEFER_ACCEPT: rounded up to retransmissions
    (12, 0, 0), (12, 1, 1),                                           # TCP_QUICKACK
    (18, 30000, 30000), (25, 16384, 16384), (36, 1, 1),
])
def test_set_and_get(wire: Wire, name: int, value: int, result: int) -> None:
    wire.run(f"+0 socket()\n+0 setsockopt(6, {name}, {value}) = 0\n+0 getsockopt(6, {name}) = {result}")


@pytest.mark.parametrize("name, value", [
    (2, 87), (2, 32768), (4, 0), (4, 32768), (5, 0), (6, 0), (6, 128), (7, 0), (7, 128), (18, -1), (36, 2),
])
def test_values_out_of_range(wire: Wire, name: int, value: int) -> None:
    wire.run(f"+0 socket()\n+0 setsockopt(6, {name}, {value}) = -1 EINVAL")


def test_unknown_options(wire: Wire) -> None:
    """ENOPROTOOPT."""
    wire.run("""
        +0 socket()
        +0 setsockopt(6, 99, 1) = -1 ENOPROTOOPT
        +0 getsockopt(6, 99) = -1 ENOPROTOOPT
        +0 setsockopt(17, 1, 1) = -1 ENOPROTOOPT
    """)


def test_short_values(wire: Wire) -> None:
    wire.run("+0 socket()")
    with pytest.raises(OSError, match="Invalid argument"):
        inet.sock_setsockopt(wire.sk, IPPROTO_TCP, 1, b"\1")


def test_congestion_control(wire: Wire) -> None:
    """tcp(7) TCP_CONGESTION: ENOENT for one that does not exist; the default has its name."""
    wire.run("+0 socket()")
    assert inet.sock_getsockopt(wire.sk, 6, 13) == b"cubic".ljust(16, b"\0")
    inet.sock_setsockopt(wire.sk, 6, 13, b"reno\0")
    assert wire.sk.ca is not None and wire.sk.ca.name == "reno"
    with pytest.raises(FileNotFoundError):
        inet.sock_setsockopt(wire.sk, 6, 13, b"nosuch")


@pytest.mark.parametrize("seconds, count, back", [(0, 0, 0), (1, 1, 1), (2, 2, 3), (3, 2, 3), (4, 3, 7), (127, 7, 127), (130, 8, 247)])
def test_defer_accept_in_retransmissions(seconds: int, count: int, back: int) -> None:
    """1, 3, 7, 15, 31, 63, 127 s, then 120 s more each. Linux: secs_to_retrans(), retrans_to_secs()."""
    assert secs_to_retrans(seconds) == count
    assert retrans_to_secs(count) == back


def test_tcp_info_as_a_program_reads_it(wire: Wire) -> None:
    """struct tcp_info: the first eight bytes, then 32-bit fields (linux/tcp.h)."""
    wire.established(timestamps=True, sack=True)
    wire.step("+0 write(3000) = 3000")
    wire.ops.sent.clear()
    raw = inet.sock_getsockopt(wire.sk, IPPROTO_TCP, 11)
    assert isinstance(raw, bytes) and len(raw) >= 232
    state, ca_state, retransmits, probes, backoff, options, wscale, _ = struct.unpack_from("8B", raw)
    assert (state, ca_state, retransmits, probes, backoff, options, wscale) == (1, 0, 0, 0, 0, 7, 7 | 10 << 4)
    rto, ato, snd_mss, rcv_mss, unacked = struct.unpack_from("5I", raw, 8)
    assert (rto, snd_mss, unacked) == (200_000, 988, 4)
    snd_cwnd, advmss = struct.unpack_from("2I", raw, 80)
    assert (snd_cwnd, advmss) == (10, 1448)
    assert struct.unpack_from("Q", raw, 120)[0] == 0  # bytes_acked
    assert struct.unpack_from("Q", raw, 200)[0] == 3000  # bytes_sent


def test_tcp_info_of_a_listener(wire: Wire) -> None:
    """unacked is the accept queue, sacked the backlog: what ss shows of listeners."""
    wire.run("+0 listen(7)")
    info = tcp_get_info(wire.sk)
    assert (info["unacked"], info["sacked"]) == (0, 7)


def test_diag_of_every_kind_of_entry(wire: Wire) -> None:
    """ss: queues and timers of listeners, requests, connections and TIME-WAIT."""
    wire.run("+0 listen(7)\n+0 < @1 S 0:0(0) win 1000 <mss 1000>\n+0 > @1 S. 0:0(0) ack 1 <...>")
    listener = wire.sk
    (request,) = wire.net.socks.ehash.values()
    assert tcp_diag(request)["timer"] == ("on", 1_000_000_000, 0)
    wire.run("+0 < @1 . 1:1(0) ack 1 win 1000")
    assert (tcp_diag(listener)["recv_q"], tcp_diag(listener)["send_q"]) == (1, 7)
    wire.run("""
        +0 accept()
        +0 < @1 P. 1:101(100) ack 1 win 1000
        +0 > @1 . 1:1(0) ack 101
        +0 write(50) = 50
        +0 > @1 P. 1:51(50) ack 101
    """)
    shown = tcp_diag(wire.sk)
    assert (shown["recv_q"], shown["send_q"], shown["timer"]) == (100, 50, ("on", 200_000_000, 0))
    wire.run("""
        +0 read(100) = 100
        +0 < @1 . 101:101(0) ack 51 win 1000
        +0 close()
        +0 > @1 F. 51:51(0) ack 101
        +0 < @1 F. 101:101(0) ack 52 win 1000
        +0 > @1 . 52:52(0) ack 102
    """)
    (tw,) = (sk for sk in wire.net.socks.ehash.values())
    assert tcp_diag(tw)["timer"] == ("timewait", 60_000_000_000, 0)


def test_unread_fin_shows_as_one_byte(wire: Wire) -> None:
    """The Recv-Q of 1 that CLOSE-WAIT shows until the program reads the end."""
    wire.established()
    wire.run("+0 < F. 1:1(0) ack 1 win 257\n+0 > . 1:1(0) ack 2")
    assert tcp_diag(wire.sk)["recv_q"] == 1
    wire.run("+0 read(10) = 0")
    assert tcp_diag(wire.sk)["recv_q"] == 0


def test_inode_comes_with_accept(wire: Wire) -> None:
    """ss shows ino:0 for connections that nobody accepted yet."""
    wire.run("+0 listen(7)\n+0 < S 0:0(0) win 1000\n+0 > S. 0:0(0) ack 1 <...>\n+0 < . 1:1(0) ack 1 win 1000")
    (child,) = wire.net.socks.ehash.values()
    assert child.ino == 0
    wire.run("+0 accept()")
    assert child.ino > 0


def test_abort(wire: Wire) -> None:
    """ss -K: RST to the peer, ECONNABORTED to the program."""
    from kubenet.kernel.tcp.tcp import tcp_abort

    wire.established()
    tcp_abort(wire.sk)
    wire.run("+0 > R. 1:1(0) ack 1\n+0 read(1) = -1 ECONNABORTED")
