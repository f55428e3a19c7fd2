"""How connections end: RFC 9293 3.6, 3.10.4, 3.10.7.4, RFC 1337, RFC 2525 2.17, and what a 6.18 kernel does."""

from __future__ import annotations

import struct

import pytest
from wire import PEER_ISN, Wire

from kubenet.kernel.socket import inet
from kubenet.kernel.socket.sock import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_TIME_WAIT,
)
from kubenet.kernel.tcp.sock import TimewaitSock
from kubenet.units import SEC

FIN = "F. 1:1(0) ack 1"


def tw(wire: Wire) -> TimewaitSock:
    """The one entry of the table, a mini socket."""
    (entry,) = wire.net.socks.ehash.values()
    assert isinstance(entry, TimewaitSock)
    return entry


def time_wait(wire: Wire, timestamps: bool = False) -> None:
    """This side closed first; the peer's FIN is at 1, so rcv_nxt is 2 and snd_nxt is 2."""
    wire.established(timestamps=timestamps)
    ts, answer = ("<nop,nop,TS val 100 ecr 500>", "<...>") if timestamps else ("", "")
    wire.run(f"""
        +0 close()
        +0 > F. 1:1(0) ack 1 {answer}
        +0 < . 1:1(0) ack 2 win 257 {ts}
        +0 < F. 1:1(0) ack 2 win 257 {ts}
        +0 > . 2:2(0) ack 2 {answer}
    """)


# ---- the states

def test_active_close(wire: Wire) -> None:
    """RFC 9293 3.6 figure 12, side A: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT for 60 s."""
    wire.established()
    wire.run(f"""
        +0  shutdown(1)
        +0  > {FIN}
        +0  state() = {TCP_FIN_WAIT1}
        +.1 < . 1:1(0) ack 2 win 257
        +0  state() = {TCP_FIN_WAIT2}
        +.1 < F. 1:1(0) ack 2 win 257
        +0  > . 2:2(0) ack 2
        +0  state() = {TCP_CLOSE}
        +0  read(10) = 0
        +0  close()
    """)
    assert tw(wire).substate == TCP_TIME_WAIT
    assert wire.snmp["TcpExtTW"] == 1
    wire.loop.run(until=wire.last + 60 * SEC - 1)
    assert wire.net.socks.ehash
    wire.loop.run(until=wire.last + 60 * SEC)
    assert not wire.net.socks.ehash
    assert wire.host.tcp_tw_count == 0


def test_passive_close(wire: Wire) -> None:
    """RFC 9293 3.6 figure 12, side B: CLOSE-WAIT, LAST-ACK, gone."""
    wire.established()
    wire.run(f"""
        +0 < F. 1:1(0) ack 1 win 257
        +0 > . 1:1(0) ack 2
        +0 state() = {TCP_CLOSE_WAIT}
        +0 read(10) = 0
        +0 close()
        +0 > F. 1:1(0) ack 2
        +0 state() = {TCP_LAST_ACK}
        +0 < . 2:2(0) ack 2 win 257
    """)
    assert not wire.net.socks.ehash
    assert wire.host.tcp_orphans == 0
    assert wire.snmp["TcpExtTW"] == 0


def test_simultaneous_close(wire: Wire) -> None:
    """RFC 9293 3.6 figure 13: CLOSING on both sides, then TIME-WAIT on both."""
    wire.established()
    wire.run(f"""
        +0 shutdown(1)
        +0 > {FIN}
        +0 < F. 1:1(0) ack 1 win 257
        +0 > . 2:2(0) ack 2
        +0 state() = {TCP_CLOSING}
        +0 < . 2:2(0) ack 2 win 257
    """)
    assert tw(wire).substate == TCP_TIME_WAIT


def test_fin_and_ack_of_fin_in_one_segment(wire: Wire) -> None:
    """FIN-WAIT-1 to TIME-WAIT at once."""
    wire.established()
    wire.run(f"""
        +0 shutdown(1)
        +0 > {FIN}
        +0 < F. 1:1(0) ack 2 win 257
        +0 > . 2:2(0) ack 2
    """)
    assert tw(wire).substate == TCP_TIME_WAIT


def test_fin_rides_on_the_last_unsent_segment(wire: Wire) -> None:
    wire.established(win=1000, wscale=0)
    wire.run("""
        +0 write(1500) = 1500
        +0 > P. 1:1001(1000) ack 1
        +0 close()
        +0 < . 1:1(0) ack 1001 win 1000
        +0 > FP. 1001:1501(500) ack 1
    """)


def test_half_closed_receives_without_limit(wire: Wire) -> None:
    """RFC 9293 3.6: "a user who CLOSEs may continue to RECEIVE"; with the descriptor open FIN-WAIT-2 has no end."""
    wire.established()
    wire.run(f"""
        +0   shutdown(1)
        +0   > {FIN}
        +0   < . 1:1(0) ack 2 win 257
        +600 < P. 1:101(100) ack 2 win 257
        +0   > . 2:2(0) ack 101
        +0   read(1000) = 100
        +0   write(1) = -1 EPIPE
        +0   state() = {TCP_FIN_WAIT2}
    """)


def test_half_closed_sends_on(wire: Wire) -> None:
    """CLOSE-WAIT still sends. RFC 9293 3.6."""
    wire.established()
    wire.run("""
        +0 < F. 1:1(0) ack 1 win 257
        +0 > . 1:1(0) ack 2
        +0 write(500) = 500
        +0 > P. 1:501(500) ack 2
        +0 < . 2:2(0) ack 501 win 257
    """)


# ---- resets

def test_closing_with_unread_data_resets(wire: Wire) -> None:
    """RFC 2525 2.17. Measured: RST|ACK, TCPAbortOnClose."""
    wire.established()
    wire.run("""
        +0 < P. 1:101(100) ack 1 win 257
        +0 > . 1:1(0) ack 101
        +0 close()
        +0 > R. 1:1(0) ack 101
    """)
    assert wire.snmp["TcpExtTCPAbortOnClose"] == 1
    assert not wire.net.socks.ehash and wire.host.tcp_orphans == 0


def test_linger_zero_resets(wire: Wire) -> None:
    """socket(7) SO_LINGER {1, 0}. Measured: RST|ACK, TCPAbortOnData; unsent data is thrown away."""
    wire.established()
    inet.sock_setsockopt(wire.sk, 1, 13, struct.pack("ii", 1, 0))
    wire.run("""
        +0 write(500) = 500
        +0 > P. 1:501(500) ack 1
        +0 close()
        +0 > R. 501:501(0) ack 1
    """)
    assert wire.snmp["TcpExtTCPAbortOnData"] == 1
    assert not wire.net.socks.ehash


def test_linger_waits_for_the_last_ack(wire: Wire) -> None:
    """socket(7) SO_LINGER: close() returns when everything is acknowledged, or the time is over."""
    wire.established()
    inet.sock_setsockopt(wire.sk, 1, 13, struct.pack("ii", 1, 5))
    wire.run(f"""
        +0...0.1 close() = 0
        +0  > {FIN}
        +.1 < . 1:1(0) ack 2 win 257
    """)


def test_linger_ends_with_its_time(wire: Wire) -> None:
    wire.established()
    inet.sock_setsockopt(wire.sk, 1, 13, struct.pack("ii", 1, 1))
    wire.run(f"""
        +0...1 close() = 0
        +0  > {FIN}
        +.2 > {FIN}
        +.4 > {FIN}
    """)


@pytest.mark.parametrize("before, error", [
    ("", "ECONNRESET"),
    ("+0 < F. 1:1(0) ack 1 win 257\n+0 > . 1:1(0) ack 2", "EPIPE"),
])
def test_a_reset_is_told_once(wire: Wire, before: str, error: str) -> None:
    """RFC 9293 3.10.7.4, second check. ECONNRESET; in CLOSE-WAIT EPIPE. Then EOF, and EPIPE for writes."""
    wire.established()
    seq = 2 if before else 1
    wire.run(before)
    wire.run(f"+0 < R. {seq}:{seq}(0) ack 1 win 0\n+0 write(1) = -1 {error}\n+0 read(1) = 0\n+0 write(1) = -1 EPIPE")
    assert wire.sk.state == TCP_CLOSE
    assert wire.snmp["TcpEstabResets"] == 1


def test_data_received_before_a_reset_is_lost_to_the_error_only(wire: Wire) -> None:
    """Linux keeps what was queued: recv(2) gives the data first, then the error."""
    wire.established()
    wire.run("""
        +0 < P. 1:101(100) ack 1 win 257
        +0 > . 1:1(0) ack 101
        +0 < R. 101:101(0) ack 1 win 0
        +0 read(1000) = 100
        +0 read(1000) = -1 ECONNRESET
        +0 read(1000) = 0
    """)


def test_a_reset_in_the_window_is_challenged(wire: Wire) -> None:
    """RFC 5961 3.2: only the exact next sequence number resets."""
    wire.established()
    wire.run(f"""
        +0 < R. 51:51(0) ack 1 win 0
        +0 > . 1:1(0) ack 1
        +0 state() = {TCP_ESTABLISHED}
        +0 < R 1:1(0) win 0
        +0 state() = {TCP_CLOSE}
    """)
    assert wire.snmp["TcpExtTCPChallengeACK"] == 1


def test_a_reset_outside_the_window_is_ignored(wire: Wire) -> None:
    wire.established()
    wire.run(f"+0 < R. 9000001:9000001(0) ack 1 win 0\n+0 state() = {TCP_ESTABLISHED}")


def test_a_syn_in_a_connection_is_challenged(wire: Wire) -> None:
    """RFC 5961 4.2: an ACK whatever the sequence number; at most one in 500 ms."""
    wire.established()
    wire.run("""
        +0  < S 500:500(0) win 1000
        +0  > . 1:1(0) ack 1
        +.1 < S 500:500(0) win 1000
        +.5 < S 500:500(0) win 1000
        +0  > . 1:1(0) ack 1
    """)
    assert wire.snmp["TcpExtTCPSYNChallenge"] == 3
    assert wire.snmp["TcpExtTCPACKSkippedChallenge"] == 1


def test_data_after_a_full_close_is_reset(wire: Wire) -> None:
    """RFC 1122 4.2.2.13: "it SHOULD send a RST to show that data was lost". Orphan in FIN-WAIT-2: RST without ACK."""
    wire.established()
    wire.run(f"""
        +0 close()
        +0 > {FIN}
        +0 < . 1:1(0) ack 2 win 257
        +0 < P. 1:101(100) ack 2 win 257
        +0 > R 2:2(0)
    """)
    assert not wire.net.socks.ehash


def test_writing_to_a_peer_that_closed_and_reset(wire: Wire) -> None:
    """Measured: the first send succeeds, the second gives EPIPE, and recv EOF since the FIN had been received."""
    wire.established()
    wire.run("""
        +0 < F. 1:1(0) ack 1 win 257
        +0 > . 1:1(0) ack 2
        +0 write(10) = 10
        +0 > P. 1:11(10) ack 2
        +0 < R 2:2(0) win 0
        +0 write(10) = -1 EPIPE
        +0 read(10) = 0
    """)


# ---- FIN-WAIT-2 without owner

def test_orphan_in_fin_wait2_ends_after_tcp_fin_timeout(wire: Wire) -> None:
    """tcp_fin_timeout 60 s as a mini socket; then the peer's FIN is answered with RST. TcpExtTW counts at the beginning."""
    wire.established()
    wire.run(f"""
        +0 close()
        +0 > {FIN}
        +0 < . 1:1(0) ack 2 win 257
    """)
    assert tw(wire).substate == TCP_FIN_WAIT2
    assert wire.snmp["TcpExtTW"] == 1
    assert wire.host.tcp_orphans == 0
    wire.run("""
        +60.001 < F. 1:1(0) ack 2 win 257
        +0      > R 2:2(0)
    """)


def test_orphan_in_fin_wait2_takes_the_fin(wire: Wire) -> None:
    wire.established()
    wire.run(f"""
        +0  close()
        +0  > {FIN}
        +0  < . 1:1(0) ack 2 win 257
        +30 < F. 1:1(0) ack 2 win 257
        +0  > . 2:2(0) ack 2
    """)
    assert tw(wire).substate == TCP_TIME_WAIT
    wire.loop.run(until=wire.last + 60 * SEC - 1)
    assert wire.net.socks.ehash
    wire.loop.run(until=wire.last + 60 * SEC)
    assert not wire.net.socks.ehash


def test_close_in_fin_wait2_starts_the_timeout(wire: Wire) -> None:
    wire.established()
    wire.run(f"""
        +0   shutdown(1)
        +0   > {FIN}
        +0   < . 1:1(0) ack 2 win 257
        +500 close()
    """)
    assert tw(wire).substate == TCP_FIN_WAIT2
    wire.loop.run(until=wire.last + 60 * SEC)
    assert not wire.net.socks.ehash


@pytest.mark.parametrize("linger2, seconds", [(10, 10), (120, 120), (500, 120), (0, 60)])
def test_linger2(wire: Wire, linger2: int, seconds: int) -> None:
    """tcp(7) TCP_LINGER2: how long an orphan stays in FIN-WAIT-2."""
    wire.established()
    wire.run(f"""
        +0   setsockopt(6, 8, {linger2})
        +0   shutdown(1)
        +0   > {FIN}
        +0   < . 1:1(0) ack 2 win 257
        +0   close()
    """)
    wire.loop.run(until=wire.last + seconds * SEC - 1)
    assert wire.net.socks.ehash
    wire.loop.run(until=wire.last + seconds * SEC)
    assert not wire.net.socks.ehash


def test_negative_linger2_does_not_wait(wire: Wire) -> None:
    """TCPAbortOnLinger: reset instead of FIN-WAIT-2."""
    wire.established()
    wire.run(f"""
        +0   setsockopt(6, 8, -1)
        +0   shutdown(1)
        +0   > {FIN}
        +0   < . 1:1(0) ack 2 win 257
        +0   close()
        +0   > R. 2:2(0) ack 1
    """)
    assert wire.snmp["TcpExtTCPAbortOnLinger"] == 1


# ---- TIME-WAIT

def test_time_wait_acknowledges_a_repeated_fin_and_starts_again(wire: Wire) -> None:
    """RFC 9293 3.10.7.4: "The only thing that can arrive in this state is a retransmission of the remote FIN"."""
    time_wait(wire)
    wire.run("+30 < F. 1:1(0) ack 2 win 257\n+0 > . 2:2(0) ack 2")
    wire.loop.run(until=wire.last + 60 * SEC - 1)
    assert wire.net.socks.ehash


def test_time_wait_answers_at_most_twice_a_second(wire: Wire) -> None:
    """tcp_invalid_ratelimit, for segments without data; a FIN has a sequence number."""
    time_wait(wire)
    wire.run("""
        +1  < . 100:100(0) ack 2 win 257
        +0  > . 2:2(0) ack 2
        +.1 < . 100:100(0) ack 2 win 257
        +.5 < . 100:100(0) ack 2 win 257
        +0  > . 2:2(0) ack 2
    """)
    assert wire.snmp["TcpExtTCPACKSkippedTimeWait"] == 1


def test_a_new_syn_reopens_by_its_sequence_number(wire: Wire) -> None:
    """RFC 1122 4.2.2.13; our new initial sequence number is beyond the old connection's by 65537."""
    time_wait(wire)
    old = wire.flows[wire.port].isn
    assert old is not None
    wire.flows[wire.port].isn = None
    wire.step("+1 < S 1000:1000(0) win 1000 <mss 1000>")
    (_, skb), = wire.ops.sent
    assert skb.l4.flags == 0x12
    assert skb.l4.seq == (old + 2 + 65535 + 2) & 0xFFFFFFFF
    assert skb.l4.ack_seq == (PEER_ISN + 1001) & 0xFFFFFFFF


def test_an_old_syn_is_acknowledged_and_time_wait_goes_on(wire: Wire) -> None:
    """An ACKless SYN does not start the 60 s again."""
    time_wait(wire)
    end = tw(wire).timer
    assert end is not None
    before = end.expires
    wire.run("+1 < S 0:0(0) win 1000 <mss 1000>\n+0 > . 2:2(0) ack 2")
    assert end.expires == before


def test_a_newer_timestamp_reopens_in_spite_of_its_sequence_number(wire: Wire) -> None:
    """RFC 6191, RFC 7323: with timestamps a smaller sequence number does not matter."""
    time_wait(wire, timestamps=True)
    wire.flows[wire.port].isn = None
    wire.step("+1 < S 0:0(0) win 1000 <mss 1000,nop,nop,TS val 1100 ecr 0>")
    assert wire.ops.sent.pop()[1].l4.flags == 0x12


def test_an_older_timestamp_does_not_reopen(wire: Wire) -> None:
    """PAWSTimewait."""
    time_wait(wire, timestamps=True)
    wire.run("+1 < S 5000:5000(0) win 1000 <mss 1000,nop,nop,TS val 50 ecr 0>\n+0 > . 2:2(0) ack 2 <...>")
    assert wire.snmp["TcpExtPAWSTimewait"] == 1


def test_a_reset_ends_time_wait(wire: Wire) -> None:
    """RFC 1337: assassination, unless tcp_rfc1337 is 1; the sequence number must be exact."""
    time_wait(wire)
    wire.run("+0 < R 5000:5000(0) win 0")
    assert wire.net.socks.ehash
    wire.run("+0 < R 2:2(0) win 0")
    assert not wire.net.socks.ehash


def test_rfc1337_protects_time_wait(wire: Wire) -> None:
    wire.sysctl("tcp_rfc1337", 1)
    time_wait(wire)
    wire.run("+0 < R 2:2(0) win 0")
    assert wire.net.socks.ehash


def test_without_room_for_time_wait_the_connection_ends(wire: Wire) -> None:
    """ip-sysctl tcp_max_tw_buckets: TCPTimeWaitOverflow."""
    wire.sysctl("tcp_max_tw_buckets", 0)
    wire.established()
    wire.run(f"""
        +0 close()
        +0 > {FIN}
        +0 < . 1:1(0) ack 2 win 257
        +0 < F. 1:1(0) ack 2 win 257
        +0 > R 2:2(0)
    """)
    assert not wire.net.socks.ehash
    assert wire.snmp["TcpExtTCPTimeWaitOverflow"] == 1


def test_a_port_in_time_wait_can_be_connected_from_again(wire: Wire) -> None:
    """Measured: bind() with SO_REUSEADDR, then connect() to the same peer succeeds at once, if timestamps are on."""
    wire.run("""
        +0 socket()
        +0 setsockopt(1, 2, 1)
        +0 bind(5000)
        +0 connect() = -1 EINPROGRESS
        +0 > S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 10>
        +0 < S. 0:0(0) ack 1 win 1000 <mss 1460,nop,nop,TS val 700 ecr 100>
        +0 > . 1:1(0) ack 1 <...>
        +0 close()
        +0 > F. 1:1(0) ack 1 <...>
        +0 < F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 700 ecr 100>
        +0 > . 2:2(0) ack 2 <...>
    """)
    end = tw(wire).snd_nxt
    wire.step("+0 socket()")
    for line in ("+0 setsockopt(1, 2, 1)", "+0 bind(5000)", "+0 connect() = -1 EINPROGRESS"):
        wire.step(line)
    (_, skb), = wire.ops.sent
    assert skb.l4.sport == 5000 and skb.l4.flags == 2
    assert skb.l4.seq == (end + 65535 + 2) & 0xFFFFFFFF
    assert wire.snmp["TcpExtTWRecycled"] == 1


# ---- what poll(2) says

def test_poll_through_the_life_of_a_connection(wire: Wire) -> None:
    """poll(2), epoll_ctl(2)."""
    wire.run(f"+0 socket()\n+0 poll() = {POLLOUT | POLLHUP}")
    wire.run("+0 connect() = -1 EINPROGRESS\n+0 > S 0:0(0) <...>\n+0 poll() = 0")
    wire.run(f"""
        +0 < S. 0:0(0) ack 1 win 1000 <mss 1460>
        +0 > . 1:1(0) ack 1
        +0 poll() = {POLLOUT}
        +0 < P. 1:11(10) ack 1 win 1000
        +0 > . 1:1(0) ack 11
        +0 poll() = {POLLIN | POLLOUT}
        +0 read(10) = 10
        +0 poll() = {POLLOUT}
        +0 < F. 11:11(0) ack 1 win 1000
        +.04 > . 1:1(0) ack 12
        +0 poll() = {POLLIN | POLLOUT | POLLRDHUP}
        +0 shutdown(1)
        +0 > F. 1:1(0) ack 12
        +0 poll() = {POLLIN | POLLOUT | POLLRDHUP | POLLHUP}
        +0 < R 12:12(0) win 0
        +0 poll() = {POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR}
    """)


def test_shutdown_for_reading_tells_nobody(wire: Wire) -> None:
    """Measured: recv() returns EOF at once; later data is acknowledged and can still be read."""
    wire.established()
    wire.run("""
        +0 shutdown(0)
        +0 read(10) = 0
        +0 < P. 1:11(10) ack 1 win 257
        +0 > . 1:1(0) ack 11
        +0 read(10) = 10
        +0 read(10) = 0
    """)


def test_shutdown_of_an_unconnected_socket(wire: Wire) -> None:
    """shutdown(2): ENOTCONN."""
    wire.run("+0 socket()\n+0 shutdown(1) = -1 ENOTCONN")


def test_close_in_syn_sent_is_silent(wire: Wire) -> None:
    wire.run("+0 connect() = -1 EINPROGRESS\n+0 > S 0:0(0) <...>\n+0 close()\n+5 wait()")
    assert not wire.net.socks.ehash and not wire.net.socks.bhash


def test_disconnect_frees_the_port_it_did_not_bind(wire: Wire) -> None:
    """connect(2) with AF_UNSPEC: the peer is reset."""
    wire.established()
    inet.inet_disconnect(wire.sk)
    wire.run("+0 > R. 1:1(0) ack 1")
    assert (wire.sk.state, wire.sk.sport, wire.sk.dport) == (TCP_CLOSE, 0, 0)
