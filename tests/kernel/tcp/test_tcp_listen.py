"""The SYN queue and the accept queue: RFC 9293 3.10.7.2 and 3.10.7.4 for SYN-RECEIVED, and the limits measured on 6.18."""

from __future__ import annotations

import pytest
from wire import Wire

from kubenet.kernel.socket.sock import POLLIN, TCP_ESTABLISHED

SYN = "S 0:0(0) win 64240 <mss 1460>"
SYNACK = "S. 0:0(0) ack 1 <mss 1460>"
FULL_SYN = "S 0:0(0) win 64240 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 10>"
FULL_SYNACK = "S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 500 ecr 100,nop,wscale 10>"


def handshakes(wire: Wire, *ports: int) -> None:
    for port in ports:
        wire.run(f"""
            +0 < @{port} {SYN}
            +0 > @{port} {SYNACK}
            +0 < @{port} . 1:1(0) ack 1 win 64240
        """)


def queues(wire: Wire) -> tuple[int, int]:
    """(requests, connections that wait)."""
    assert wire.listener is not None
    listen = wire.listener.listen
    assert listen is not None
    return listen.qlen, len(listen.accept_queue)


def test_backlog_n_holds_n_plus_1_connections(wire: Wire) -> None:
    """Measured: listen(2) has Recv-Q 3; the next SYN is dropped without a word."""
    wire.run("+0 listen(2)")
    handshakes(wire, 1, 2, 3)
    assert queues(wire) == (0, 3)
    wire.run(f"+0 < @4 {SYN}")
    assert queues(wire) == (0, 3)
    assert wire.snmp["TcpExtListenOverflows"] == wire.snmp["TcpExtListenDrops"] == 1
    wire.run("+0 accept()")
    handshakes(wire, 4)
    assert queues(wire) == (0, 3)


def test_connections_are_accepted_oldest_first(wire: Wire) -> None:
    wire.run("+0 listen(5)")
    handshakes(wire, 7, 5, 6)
    ports = []
    for _ in range(3):
        wire.run("+0 accept()")
        ports.append(wire.sk.dport)
    assert ports == [7, 5, 6]


def test_backlog_n_holds_n_plus_1_requests() -> None:
    """Measured without cookies: a flood at listen(16) leaves 17 in SYN-RECV; the rest is dropped."""
    wire = Wire(tcp_syncookies=0)
    wire.run("+0 listen(16)")
    for port in range(1, 41):
        wire.step(f"+0 < @{port} {SYN}")
    assert queues(wire) == (17, 0)
    assert len(wire.ops.sent) == 17
    assert wire.snmp["TcpExtTCPReqQFullDrop"] == wire.snmp["TcpExtListenDrops"] == 23


def test_the_last_quarter_of_max_syn_backlog_is_for_known_peers() -> None:
    """ip-sysctl tcp_max_syn_backlog, without cookies; nobody is known here."""
    wire = Wire(tcp_syncookies=0, tcp_max_syn_backlog=8)
    wire.run("+0 listen(100)")
    for port in range(1, 21):
        wire.step(f"+0 < @{port} {SYN}")
    assert queues(wire) == (7, 0)


def test_a_second_listen_changes_the_backlog(wire: Wire) -> None:
    wire.run("+0 listen(0)\n+0 listen(1)")
    handshakes(wire, 1, 2)
    assert queues(wire) == (0, 2)


def test_backlog_is_at_most_somaxconn(wire: Wire) -> None:
    """listen(2)."""
    wire.net.sysctl.core.somaxconn = 1
    wire.run("+0 listen(100)")
    handshakes(wire, 1, 2)
    wire.run(f"+0 < @3 {SYN}")
    assert queues(wire) == (0, 2)


def overflow(wire: Wire) -> None:
    """Two requests race for the one place that is left; peer 2 loses."""
    wire.run(f"""
        +0 listen(0)
        +0 < @1 {SYN}
        +0 > @1 {SYNACK}
    """)
    assert wire.listener is not None and wire.listener.listen is not None
    wire.listener.listen.backlog = 1
    wire.run(f"""
        +0 < @2 {SYN}
        +0 > @2 {SYNACK}
    """)
    wire.listener.listen.backlog = 0
    wire.run("+0 < @1 . 1:1(0) ack 1 win 64240")


def test_overflow_at_the_final_ack_is_silent(wire: Wire) -> None:
    """Measured: the ACK is dropped, the SYN-ACK goes again at 1, 3 ... s; data is dropped too, never reset."""
    overflow(wire)
    wire.run("""
        +0 < @2 . 1:1(0) ack 1 win 64240
        +0 < @2 P. 1:101(100) ack 1 win 64240
    """)
    assert wire.snmp["TcpExtListenOverflows"] == 2
    wire.run(f"""
        +1 > @2 {SYNACK}
        +0 accept()
        +0 < @2 P. 1:101(100) ack 1 win 64240
        +0 > @2 . 1:1(0) ack 101
        +0 accept()
        +0 read(1000) = 100
    """)


def test_abort_on_overflow_resets(wire: Wire) -> None:
    """Measured: RST at once, the client sees ECONNRESET. ip-sysctl tcp_abort_on_overflow."""
    wire.sysctl("tcp_abort_on_overflow", 1)
    overflow(wire)
    wire.run("""
        +0 < @2 . 1:1(0) ack 1 win 64240
        +0 > @2 R 1:1(0)
    """)
    assert queues(wire) == (0, 1)
    assert wire.snmp["TcpExtEmbryonicRsts"] == 1


def test_syn_ack_schedule(wire: Wire) -> None:
    """0 1 3 7 15 31 s, the request is gone at 63: tcp_synack_retries=5."""
    wire.run(f"+0 listen(8)\n+0 < {SYN}\n+0 > {SYNACK}")
    wire.run("".join(f"+{gap} > {SYNACK}\n" for gap in (1, 2, 4, 8, 16)))
    wire._advance(wire.last + 31_999_000_000)
    assert queues(wire) == (1, 0)
    wire._advance(wire.last + 32_000_000_000)
    assert queues(wire) == (0, 0)
    assert not wire.net.socks.ehash
    assert wire.snmp["TcpExtTCPSynRetrans"] == 5
    assert wire.snmp["TcpExtTCPTimeouts"] == 6


def test_young_requests_come_first(wire: Wire) -> None:
    """With more than half of the queue old, requests end after fewer tries. Linux: reqsk_timer_handler()."""
    wire.run("+0 listen(8)")
    for port in range(1, 8):
        wire.run(f"+0 < @{port} {SYN}\n+0 > @{port} {SYNACK}")
    for gap in (1, 2):
        wire.loop.run(until=wire.loop.now + gap * 1_000_000_000)
        assert len(wire.ops.sent) == 7
        wire.ops.sent.clear()
    wire.loop.run(until=wire.loop.now + 4_000_000_000)
    assert queues(wire)[0] < 7
    wire.ops.sent.clear()


def test_a_repeated_syn_is_answered_again_but_not_always(wire: Wire) -> None:
    """At most one answer in tcp_invalid_ratelimit (500 ms); the timer starts again."""
    wire.run(f"""
        +0  listen(8)
        +0  < {SYN}
        +0  > {SYNACK}
        +.5 < {SYN}
        +0  > {SYNACK}
        +.4 < {SYN}
        +.6 > {SYNACK}
    """)
    assert wire.snmp["TcpExtTCPACKSkippedSynRecv"] == 1


def test_a_wrong_final_ack_is_reset(wire: Wire) -> None:
    """RFC 9293 3.10.7.4: "<SEQ=SEG.ACK><CTL=RST>"; the request stays."""
    wire.run(f"""
        +0 listen(8)
        +0 < {SYN}
        +0 > {SYNACK}
        +0 < . 1:1(0) ack 777 win 64240
        +0 > R 777:777(0)
        +0 < . 1:1(0) ack 1 win 64240
        +0 accept()
    """)


def test_a_reset_ends_the_request(wire: Wire) -> None:
    """RFC 9293 3.10.7.4, second check; RFC 5961: in the window."""
    wire.run(f"+0 listen(8)\n+0 < {SYN}\n+0 > {SYNACK}\n+0 < R 1:1(0) win 0")
    assert queues(wire) == (0, 0)
    assert wire.snmp["TcpAttemptFails"] == wire.snmp["TcpExtEmbryonicRsts"] == 1


def test_a_reset_outside_the_window_does_not(wire: Wire) -> None:
    wire.run(f"+0 listen(8)\n+0 < {SYN}\n+0 > {SYNACK}\n+0 < R 100001:100001(0) win 0")
    assert queues(wire) == (1, 0)


def test_a_segment_outside_the_window_is_answered_with_an_ack(wire: Wire) -> None:
    """RFC 9293 3.10.7.4, first check: "If an incoming segment is not acceptable, an acknowledgment should be sent"."""
    wire.run(f"""
        +0 listen(8)
        +0 < {SYN}
        +0 > {SYNACK}
        +0 < . 100001:100101(100) ack 1 win 64240
        +0 > . 1:1(0) ack 1
    """)


def test_a_timestamp_that_was_never_sent_is_rejected(wire: Wire) -> None:
    """The echoed timestamp must be one of the SYN-ACKs'. Linux: TSEcrRejected."""
    wire.run(f"""
        +0 listen(8)
        +0 < {FULL_SYN}
        +0 > {FULL_SYNACK}
        +.1 < . 1:1(0) ack 1 win 63 <nop,nop,TS val 200 ecr 400>
        +0 > . 1:1(0) ack 1 <nop,nop,TS val 600 ecr 100>
    """)
    assert wire.snmp["TcpExtTSEcrRejected"] == 1
    assert queues(wire) == (1, 0)


def test_an_older_timestamp_is_rejected(wire: Wire) -> None:
    """RFC 7323 5: PAWS holds for the request too."""
    wire.run(f"""
        +0 listen(8)
        +0 < {FULL_SYN}
        +0 > {FULL_SYNACK}
        +0 < . 1:1(0) ack 1 win 63 <nop,nop,TS val 50 ecr 500>
        +0 > . 1:1(0) ack 1 <nop,nop,TS val 500 ecr 100>
    """)
    assert wire.snmp["TcpExtPAWSEstab"] == 1


def test_data_with_the_final_ack(wire: Wire) -> None:
    wire.run(f"""
        +0 listen(8)
        +0 < {SYN}
        +0 > {SYNACK}
        +0 < P. 1:101(100) ack 1 win 64240
        +0 > . 1:1(0) ack 101
        +0 accept()
        +0 read(1000) = 100
    """)


def test_a_fin_with_the_final_ack(wire: Wire) -> None:
    """ato is still 0 without data, so the delayed ACK of a FIN is due at once."""
    wire.run(f"""
        +0 listen(8)
        +0 < {SYN}
        +0 > {SYNACK}
        +0 < F. 1:1(0) ack 1 win 64240
        +0 > . 1:1(0) ack 2
        +0 accept()
        +0 read(1000) = 0
    """)


@pytest.mark.parametrize("segment, answer", [
    ("S. 0:0(0) ack 5 win 100", "R 5:5(0)"),
    (". 0:0(0) ack 5 win 100", "R 5:5(0)"),
    ("SF 0:0(0) win 100", ""),
    ("R 0:0(0) win 0", ""),
    ("F 0:0(0) win 0", ""),
    ("- 0:0(0) win 0", ""),
])
def test_what_a_listener_does_with_other_segments(wire: Wire, segment: str, answer: str) -> None:
    """RFC 9293 3.10.7.2; SYN+FIN and FIN are dropped as Linux does."""
    wire.run(f"+0 listen(8)\n+0 < {segment}" + (f"\n+0 > {answer}" if answer else ""))
    assert queues(wire) == (0, 0)


def test_without_a_listener_a_syn_is_reset(wire: Wire) -> None:
    """RFC 9293 3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>; window 0, no options."""
    wire.step(f"+0 < {SYN}")
    (_, skb), = wire.ops.sent
    th = skb.l4
    assert (th.flags, th.seq, th.window, th.doff) == (0x14, 0, 0, 20)
    assert th.ack_seq == 0xFFFF_F001
    assert wire.snmp["TcpOutRsts"] == 1


def test_closing_a_listener_resets_what_nobody_accepted(wire: Wire) -> None:
    """Measured: RST|ACK to the connections in the accept queue. Their requests are forgotten."""
    wire.run("+0 listen(8)")
    handshakes(wire, 1, 2)
    wire.run(f"""
        +0 < @3 {SYN}
        +0 > @3 {SYNACK}
        +0 close_listener()
        +0 > @1 R. 1:1(0) ack 1
        +0 > @2 R. 1:1(0) ack 1
        +0 < @3 . 1:1(0) ack 1 win 64240
        +0 > @3 R 1:1(0)
        +0 < @4 {SYN}
    """ + "+0 > @4 R. 0:0(0) ack 1")
    assert not wire.net.socks.ehash and not wire.net.socks.bhash and not wire.net.socks.listeners


def test_shutdown_of_a_listener_ends_it_and_its_waiting_accept(wire: Wire) -> None:
    """shutdown(2) with SHUT_RD on a listener is a disconnect; accept(2) then fails with EINVAL."""
    wire.run("""
        +0      listen(8)
        +0...1  accept() = -1 EINVAL
        +1      shutdown(0)
    """)


def test_accept_without_listen(wire: Wire) -> None:
    """accept(2): EINVAL, socket is not listening for connections."""
    wire.run("+0 socket()")
    wire.listener = wire.sk
    wire.run("+0 accept() = -1 EINVAL")


def test_poll_of_a_listener(wire: Wire) -> None:
    wire.run("+0 listen(8)\n+0 poll() = 0")
    listener = wire.sk
    handshakes(wire, 1)
    assert listener.prot.poll(listener) == POLLIN
    wire.run("+0 accept()")
    assert listener.prot.poll(listener) == 0


def test_blocking_accept(wire: Wire) -> None:
    wire.run(f"""
        +0      listen(8)
        +0...1  accept() = 0
        +1      < {SYN}
        +0      > {SYNACK}
        +0      < . 1:1(0) ack 1 win 64240
    """)
    assert wire.sk.state == TCP_ESTABLISHED


def test_what_an_accepted_socket_inherits(wire: Wire) -> None:
    """tcp(7), socket(7): options of the listener; not its name in the descriptor table."""
    wire.run("""
        +0 socket()
        +0 setsockopt(1, 2, 1)
        +0 setsockopt(1, 9, 1)
        +0 setsockopt(6, 1, 1)
        +0 setsockopt(6, 4, 60)
        +0 listen(8)
    """)
    handshakes(wire, 1)
    wire.run("""
        +0 accept()
        +0 getsockopt(1, 2) = 1
        +0 getsockopt(1, 9) = 1
        +0 getsockopt(6, 1) = 1
        +0 getsockopt(6, 4) = 60
        +0 getsockopt(1, 30) = 0
    """)
    assert wire.sk.keepalive_timer.pending


def test_defer_accept_waits_for_data(wire: Wire) -> None:
    """tcp(7) TCP_DEFER_ACCEPT: the listener is awakened only when data arrives."""
    wire.run(f"""
        +0  socket()
        +0  setsockopt(6, 9, 3)
        +0  getsockopt(6, 9) = 3
        +0  listen(8)
        +0  < {SYN}
        +0  > {SYNACK}
        +.1 < . 1:1(0) ack 1 win 64240
        +0  accept() = -1 EAGAIN
        +.1 < P. 1:101(100) ack 1 win 64240
        +0  > . 1:1(0) ack 101
        +0  accept()
        +0  read(1000) = 100
    """)
    assert wire.snmp["TcpExtTCPDeferAcceptDrop"] == 1


def test_two_peers_with_the_same_port_are_two_connections(wire: Wire) -> None:
    """Demultiplexing is by all four values."""
    wire.run("+0 listen(8)")
    handshakes(wire, 1, 2)
    wire.run("""
        +0 accept()
        +0 < @2 P. 1:51(50) ack 1 win 100
        +0 > @2 . 1:1(0) ack 51
        +0 read(100) = -1 EAGAIN
        +0 accept()
        +0 read(100) = 50
    """)


def test_a_syn_ack_that_icmp_says_is_undeliverable(wire: Wire) -> None:
    """RFC 1122 4.2.3.9; a request ends with a network or host unreachable. Linux: tcp_req_err()."""
    wire.run(f"+0 listen(8)\n+0 < {SYN}\n+0 > {SYNACK}")
    wire.icmp(3, 1, seq=0)
    assert queues(wire) == (0, 0)
