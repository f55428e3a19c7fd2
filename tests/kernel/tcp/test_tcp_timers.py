"""TCP's clocks: RFC 6298, RFC 9293 3.8.3, 3.8.4, 3.8.6.1, RFC 5482, and the nominal schedules of Linux 6.18."""

from __future__ import annotations

import pytest
from wire import Wire

from kubenet.kernel.socket.sock import TCP_CLOSE, TCP_ESTABLISHED
from kubenet.units import SEC

DATA = "P. 1:1001(1000) ack 1"


def retransmissions(limit: float) -> tuple[list[float], float]:
    """(gaps between transmissions, when it ends): RTO 0.2 doubled up to 120, until a timer is `limit` after the first of them."""
    gaps, now, gap = [0.2], 0.2, 0.2
    while True:
        gap = min(gap * 2, 120)
        now += gap
        if now - 0.2 >= limit - 1e-9:
            return gaps, now
        gaps.append(gap)


def resent(segment: str, gaps: list[float]) -> str:
    return "".join(f"+{gap} > {segment}\n" for gap in gaps)


def test_rto_after_a_handshake_without_delay_is_200_ms(wire: Wire) -> None:
    """srtt near 0 + rttvar of at least 200 ms (tcp_rto_min), in whole milliseconds."""
    wire.established()
    assert wire.sk.rto == 200_000_000
    wire.run(f"+0 write(1000) = 1000\n+0 > {DATA}\n+.2 > {DATA}\n+.4 > {DATA}\n+.8 > {DATA}")
    assert wire.snmp["TcpExtTCPTimeouts"] == 3
    assert wire.snmp["TcpRetransSegs"] == 3


def test_rto_follows_the_rtt(wire: Wire) -> None:
    """RFC 6298 2.2: the first sample of 100 ms: srtt 100, rttvar 200 by the floor: RTO 300 ms."""
    wire.run(f"""
        +0  listen(8)
        +0  < S 0:0(0) win 65535 <mss 1000>
        +0  > S. 0:0(0) ack 1 <mss 1460>
        +.1 < . 1:1(0) ack 1 win 65535
        +0  accept()
        +0  write(1000) = 1000
        +0  > {DATA}
        +.3 > {DATA}
    """)


def test_second_sample(wire: Wire) -> None:
    """RFC 6298 2.3, RTTs 100 and 200 ms: SRTT 112.5, RTTVAR 3/4 x 50 + 1/4 x 100 = 62.5, RTO 112.5 + 4 x 62.5 = 362.5 ms."""
    wire.run("""
        +0  listen(8)
        +0  < S 0:0(0) win 65535 <mss 1000>
        +0  > S. 0:0(0) ack 1 <mss 1460>
        +.1 < . 1:1(0) ack 1 win 65535
        +0  accept()
        +0  write(1000) = 1000
        +0  > P. 1:1001(1000) ack 1
        +.2 < . 1:1(0) ack 1001 win 65535
    """)
    assert wire.sk.srtt_us >> 3 == 112_500
    assert wire.sk.rto == 363_000_000


def test_timer_restarts_from_the_ack_that_moved_snd_una(wire: Wire) -> None:
    """RFC 6298 5.3: "restart the retransmission timer so that it will expire after RTO seconds"."""
    wire.established()
    wire.run("""
        +0   write(2000) = 2000
        +0   > P. 1:2001(2000) ack 1
        +.1  < . 1:1(0) ack 1001 win 257
    """)
    assert wire.sk.retransmit_timer.expires == wire.loop.now + wire.sk.rto
    wire.run("+0 < . 1:1(0) ack 2001 win 257")
    assert not wire.sk.retransmit_timer.pending


@pytest.mark.parametrize("retries2, limit", [(3, 3.0), (8, 102.2), (15, 924.6)])
def test_retransmissions_end_with_etimedout(wire: Wire, retries2: int, limit: float) -> None:
    """ip-sysctl tcp_retries2: 15 is 924.6 s of doubling from 200 ms, 120 s at most between two; counted from the first one."""
    wire.sysctl("tcp_retries2", retries2)
    wire.established()
    gaps, end = retransmissions(limit)
    wire.run(f"+0...{end} read(100) = -1 ETIMEDOUT\n+0 write(1000) = 1000\n+0 > {DATA}\n" + resent(DATA, gaps))
    assert wire.sk.state == TCP_CLOSE
    assert wire.snmp["TcpExtTCPAbortOnTimeout"] == 1
    wire.last = wire.loop.now
    wire.run("+0 read(10) = 0\n+0 write(10) = -1 EPIPE")


def test_user_timeout_with_data_in_flight(wire: Wire) -> None:
    """RFC 5482; Linux clamps the timer to what is left of it and so fires exactly."""
    wire.established()
    wire.run(f"""
        +0      setsockopt(6, 18, 1000)
        +0...1.2 read(100) = -1 ETIMEDOUT
        +0      write(1000) = 1000
        +0      > {DATA}
        +.2     > {DATA}
        +.4     > {DATA}
    """)


def test_icmp_during_retransmission_is_told_at_the_end(wire: Wire) -> None:
    """RFC 1122 4.2.3.9: host unreachable is a soft error; the reason when the connection fails at last."""
    wire.sysctl("tcp_retries2", 3)
    wire.established()
    wire.run(f"+0 write(1000) = 1000\n+0 > {DATA}\n+.2 > {DATA}")
    wire.icmp(3, 1)
    assert wire.sk.state == TCP_ESTABLISHED
    gaps, end = retransmissions(3.0)
    wire.run(resent(DATA, gaps[1:]) + f"+{end - sum(gaps) + 0.001} read(10) = -1 EHOSTUNREACH")


def test_backoff_ends_with_a_valid_sample(wire: Wire) -> None:
    """RFC 6298 5.7 note: the backed off RTO is kept until there is a sample of new data."""
    wire.established()
    wire.run(f"""
        +0  write(1000) = 1000
        +0  > {DATA}
        +.2 > {DATA}
        +0  < . 1:1(0) ack 1001 win 257
        +0  write(1000) = 1000
        +0  > P. 1001:2001(1000) ack 1
        +.4 > P. 1001:2001(1000) ack 1
    """)


def test_karn(wire: Wire) -> None:
    """RFC 6298 3: no sample from a retransmitted segment without timestamps."""
    wire.established()
    before = wire.sk.srtt_us
    wire.run(f"+0 write(1000) = 1000\n+0 > {DATA}\n+.2 > {DATA}\n+.1 < . 1:1(0) ack 1001 win 257")
    assert wire.sk.srtt_us == before


def test_timestamps_give_a_sample_of_a_retransmission(wire: Wire) -> None:
    """RFC 7323 4: the echoed timestamp says which transmission was acknowledged."""
    wire.established(timestamps=True)
    wire.run("""
        +0  write(500) = 500
        +0  > P. 1:501(500) ack 1 <nop,nop,TS val 500 ecr 100>
        +.2 > P. 1:501(500) ack 1 <nop,nop,TS val 700 ecr 100>
        +.1 < . 1:1(0) ack 501 win 257 <nop,nop,TS val 400 ecr 700>
    """)
    assert wire.sk.srtt_us >> 3 == 12_500


def test_local_congestion_is_no_backoff(wire: Wire) -> None:
    """A packet refused by this machine's own queue is tried again after 500 ms, without doubling."""
    wire.established()
    wire.run(f"+0 write(1000) = 1000\n+0 > {DATA}")
    wire.ops.refuse = -105
    wire.loop.run(until=wire.loop.now + 300_000_000)
    rto = wire.sk.rto
    assert wire.sk.retransmit_timer.expires == wire.last + 700_000_000
    wire.ops.refuse = 0
    wire.run(f"+.7 > {DATA}")
    assert wire.sk.rto == 2 * rto


# ---- zero window

def test_zero_window_probes(wire: Wire) -> None:
    """RFC 9293 3.8.6.1: an old sequence number without data, after RTO and then in doubling gaps."""
    wire.established()
    wire.run("""
        +0   write(1000) = 1000
        +0   > P. 1:1001(1000) ack 1
        +0   < . 1:1(0) ack 1001 win 0
        +0   write(500) = 500
        +.2  > . 1000:1000(0) ack 1
        +0   < . 1:1(0) ack 1001 win 0
        +.4  > . 1000:1000(0) ack 1
        +0   < . 1:1(0) ack 1001 win 0
        +.8  > . 1000:1000(0) ack 1
        +.1  < . 1:1(0) ack 1001 win 257
        +0   > P. 1001:1501(500) ack 1
    """)
    assert wire.snmp["TcpExtTCPWinProbe"] == 3
    assert wire.sk.backoff == 0


def test_unanswered_probes_go_on_doubling(wire: Wire) -> None:
    """The answer to a probe may be held back by the peer's rate limit; the schedule is the same."""
    wire.established()
    wire.run("""
        +0   write(1000) = 1000
        +0   > P. 1:1001(1000) ack 1
        +0   < . 1:1(0) ack 1001 win 0
        +0   write(500) = 500
        +.2  > . 1000:1000(0) ack 1
        +.4  > . 1000:1000(0) ack 1
        +.8  > . 1000:1000(0) ack 1
        +1.6 > . 1000:1000(0) ack 1
    """)


def test_a_small_window_gets_a_piece(wire: Wire) -> None:
    """RFC 1122 4.2.3.4: what fits is sent when the override timer fires, not before."""
    wire.established(wscale=0, win=1000)
    wire.run("""
        +0  write(1000) = 1000
        +0  > P. 1:1001(1000) ack 1
        +0  < . 1:1(0) ack 1001 win 100
        +0  write(500) = 500
        +.2 > P. 1001:1101(100) ack 1
    """)


def test_probes_end_with_user_timeout(wire: Wire) -> None:
    """RFC 5482 3; Linux: icsk_probes_tstamp."""
    wire.established()
    wire.run("""
        +0   setsockopt(6, 18, 1000)
        +0   write(1000) = 1000
        +0   > P. 1:1001(1000) ack 1
        +0   < . 1:1(0) ack 1001 win 0
        +0   write(500) = 500
        +.2  > . 1000:1000(0) ack 1
        +.4  > . 1000:1000(0) ack 1
        +.6  read(1) = -1 ETIMEDOUT
    """)


def test_a_window_that_closes_over_sent_data(wire: Wire) -> None:
    """RFC 9293 3.8.6: a shrunk window; the retransmission is the probe, and the connection lives as long as it is answered."""
    wire.established()
    wire.run("""
        +0  write(2000) = 2000
        +0  > P. 1:2001(2000) ack 1
        +0  < . 1:1(0) ack 1001 win 0
        +.2 > P. 1001:2001(1000) ack 1
        +0  < . 1:1(0) ack 1001 win 0
        +.4 > P. 1001:2001(1000) ack 1
        +0  < . 1:1(0) ack 2001 win 257
    """)
    assert wire.sk.state == TCP_ESTABLISHED


# ---- delayed acknowledgment: see test_tcp_receive.py

# ---- keepalive

KEEPALIVE = """
    +0 setsockopt(6, 4, 2)
    +0 setsockopt(6, 5, 1)
    +0 setsockopt(6, 6, 3)
    +0 setsockopt(1, 9, 1)
"""


def test_keepalive_probes_restart_from_the_last_answer(wire: Wire) -> None:
    """Measured: 2.0 s idle gives 2.0, 4.0, 6.0. RFC 9293 3.8.4: SEG.SEQ = SND.NXT-1, no data."""
    wire.established()
    wire.run(KEEPALIVE + """
        +2 > . 0:0(0) ack 1
        +0 < . 1:1(0) ack 1 win 257
        +2 > . 0:0(0) ack 1
        +0 < . 1:1(0) ack 1 win 257
        +2 > . 0:0(0) ack 1
    """)
    assert wire.snmp["TcpExtTCPKeepAlive"] == 3


def test_a_peer_that_is_gone(wire: Wire) -> None:
    """Measured: three unanswered probes 1 s apart, then RST|ACK and ETIMEDOUT."""
    wire.established()
    wire.run(KEEPALIVE + """
        +0...5 read(10) = -1 ETIMEDOUT
        +2 > . 0:0(0) ack 1
        +1 > . 0:0(0) ack 1
        +1 > . 0:0(0) ack 1
        +1 > R. 1:1(0) ack 1
    """)


def test_keepalive_can_be_switched_off(wire: Wire) -> None:
    wire.established()
    wire.run(KEEPALIVE + "+1 setsockopt(1, 9, 0)\n+10 state() = 1")


def test_keepalive_defaults(wire: Wire) -> None:
    """RFC 9293 3.8.4: the default interval is no less than two hours; then 75 s x 9."""
    wire.established()
    wire.run("+0 getsockopt(6, 4) = 7200\n+0 getsockopt(6, 5) = 75\n+0 getsockopt(6, 6) = 9\n"
             "+0 setsockopt(1, 9, 1)\n+7200 > . 0:0(0) ack 1\n" + "+75 > . 0:0(0) ack 1\n" * 8 + "+75 > R. 1:1(0) ack 1")


def test_user_timeout_replaces_the_count_of_probes(wire: Wire) -> None:
    """tcp(7) TCP_USER_TIMEOUT overrides keepalive in deciding when to close."""
    wire.established()
    wire.run(KEEPALIVE + """
        +0 setsockopt(6, 18, 3500)
        +2 > . 0:0(0) ack 1
        +1 > . 0:0(0) ack 1
        +1 > R. 1:1(0) ack 1
    """)


# ---- orphans

def test_an_orphan_has_8_retries(wire: Wire) -> None:
    """ip-sysctl tcp_orphan_retries: 0 means 8, that is (2^9 - 1) x 200 ms = 102.2 s."""
    wire.established()
    gaps, end = retransmissions(102.2)
    wire.run("+0 close()\n+0 > F. 1:1(0) ack 1\n" + resent("F. 1:1(0) ack 1", gaps))
    assert wire.host.tcp_orphans == 1
    wire.loop.run(until=wire.loop.now + round((end - sum(gaps)) * SEC))
    assert wire.host.tcp_orphans == 0
    assert not wire.net.socks.ehash


def test_too_many_orphans(wire: Wire) -> None:
    """ip-sysctl tcp_max_orphans: connections are reset."""
    wire.sysctl("tcp_max_orphans", 0)
    wire.established()
    wire.run("+0 close()\n+0 > F. 1:1(0) ack 1\n+0 > R. 2:2(0) ack 1")
    assert wire.snmp["TcpExtTCPAbortOnMemory"] == 1
    assert not wire.net.socks.ehash
