"""Loss and repair without SACK: RFC 5681 3, RFC 6582 (NewReno), RFC 6937 (PRR), RFC 3522, RFC 5682."""

from __future__ import annotations

from wire import Wire

from kubenet.kernel.tcp.sock import CA_DISORDER, CA_LOSS, CA_OPEN, CA_RECOVERY


def ten_in_flight(wire: Wire, size: int = 10000) -> None:
    wire.established()
    wire.run(f"+0 write({size}) = {size}\n+0 > {'P.' if size == 10000 else '.'} 1:10001(10000) ack 1")


DUPACK = "+.01 < . 1:1(0) ack 1 win 257\n"


def test_third_duplicate_ack_retransmits(wire: Wire) -> None:
    """RFC 5681 3.2, steps 2 and 3. ssthresh is half the window."""
    ten_in_flight(wire)
    wire.run(DUPACK + DUPACK)
    assert wire.sk.ca_state == CA_DISORDER
    wire.run(DUPACK + "+0 > . 1:1001(1000) ack 1")
    assert wire.sk.ca_state == CA_RECOVERY
    assert wire.sk.snd_ssthresh == 5
    assert wire.snmp["TcpExtTCPRenoRecovery"] == wire.snmp["TcpExtTCPFastRetrans"] == 1


def test_limited_transmit(wire: Wire) -> None:
    """RFC 3042: the first two duplicate ACKs each let a new segment go."""
    ten_in_flight(wire, 20000)
    wire.run(DUPACK + "+0 > . 10001:11001(1000) ack 1\n" + DUPACK + "+0 > . 11001:12001(1000) ack 1")


def test_recovery_ends_at_ssthresh(wire: Wire) -> None:
    """RFC 6582 3.2 step 3, RFC 6937: a full ACK ends it, cwnd is ssthresh."""
    ten_in_flight(wire)
    wire.run(DUPACK * 3 + "+0 > . 1:1001(1000) ack 1\n" + DUPACK * 6 + """
        +.01 < . 1:1(0) ack 10001 win 257
        +0   write(1000) = 1000
        +0   > P. 10001:11001(1000) ack 1
        +.01 < . 1:1(0) ack 11001 win 257
    """)
    assert wire.sk.ca_state == CA_OPEN
    assert wire.sk.snd_cwnd == 5


def test_a_partial_ack_retransmits_the_next_hole(wire: Wire) -> None:
    """RFC 6582 3.2 step 3: "retransmit the first unacknowledged segment"."""
    ten_in_flight(wire)
    wire.run(DUPACK * 3 + "+0 > . 1:1001(1000) ack 1\n" + DUPACK * 5 + """
        +.01 < . 1:1(0) ack 4001 win 257
        +0   > . 4001:5001(1000) ack 1
        +.01 < . 1:1(0) ack 10001 win 257
    """)


def test_two_duplicate_acks_are_reordering(wire: Wire) -> None:
    """RFC 5681 3.2: fewer than three do nothing."""
    ten_in_flight(wire)
    wire.run(DUPACK * 2 + "+.01 < . 1:1(0) ack 10001 win 257")
    assert wire.sk.ca_state == CA_OPEN
    assert wire.snmp["TcpRetransSegs"] == 0


def test_data_and_window_updates_are_no_duplicate_acks(wire: Wire) -> None:
    """RFC 5681 2: a duplicate ACK carries no data and does not change the window."""
    ten_in_flight(wire)
    wire.run("".join(f"+0 < P. {k * 10 + 1}:{k * 10 + 11}(10) ack 1 win 257\n+0 > . 10001:10001(0) ack {k * 10 + 11}\n"
                     for k in range(4)))
    wire.run("".join(f"+0 < . 41:41(0) ack 1 win {300 + k}\n" for k in range(4)))
    assert wire.sk.ca_state == CA_OPEN


def test_timeout_starts_again_with_one_segment(wire: Wire) -> None:
    """RFC 5681 3.1 equation 4: ssthresh = half, cwnd = 1 (the loss window), then slow start."""
    ten_in_flight(wire)
    wire.sysctl("tcp_frto", 0)
    wire.run("""
        +.2 > . 1:1001(1000) ack 1
    """)
    assert (wire.sk.ca_state, wire.sk.snd_cwnd, wire.sk.snd_ssthresh) == (CA_LOSS, 1, 5)
    wire.run("""
        +.1 < . 1:1(0) ack 1001 win 257
        +0  > . 1001:3001(2000) ack 1
        +.1 < . 1:1(0) ack 3001 win 257
        +0  > . 3001:7001(4000) ack 1
        +.1 < . 1:1(0) ack 10001 win 257
    """)
    assert wire.snmp["TcpExtTCPTimeouts"] == 1


def test_a_spurious_timeout_is_undone_by_timestamps(wire: Wire) -> None:
    """RFC 3522 (Eifel): the ACK echoes the original transmission: cwnd and ssthresh are what they were."""
    wire.established(timestamps=True)
    wire.run("""
        +0   write(4940) = 4940
        +0   > P. 1:4941(4940) ack 1 <nop,nop,TS val 500 ecr 100>
        +.2  > . 1:989(988) ack 1 <nop,nop,TS val 700 ecr 100>
        +.05 < . 1:1(0) ack 4941 win 257 <nop,nop,TS val 300 ecr 500>
    """)
    assert wire.snmp["TcpExtTCPLossUndo"] == 1
    assert wire.sk.snd_cwnd >= 10
    assert wire.sk.snd_ssthresh == 0x7FFFFFFF


def test_frto(wire: Wire) -> None:
    """RFC 5682 2.1: after the first new ACK two new segments instead of retransmissions; if they are acknowledged, undo."""
    ten_in_flight(wire, 12000)
    wire.run("""
        +.2  > . 1:1001(1000) ack 1
        +.01 < . 1:1(0) ack 1001 win 257
        +0   > P. 10001:12001(2000) ack 1
    """)
    wire.run("+.01 < . 1:1(0) ack 2001 win 257")
    assert wire.snmp["TcpExtTCPSpuriousRTOs"] == 1


def test_a_lost_retransmission_takes_the_timer(wire: Wire) -> None:
    ten_in_flight(wire)
    wire.run(DUPACK * 3 + "+0 > . 1:1001(1000) ack 1\n+.2 > . 1:1001(1000) ack 1")
    assert wire.sk.ca_state == CA_LOSS
    assert wire.snmp["TcpExtTCPLostRetransmit"] == 1


def test_congestion_avoidance_adds_one_per_round_trip(wire: Wire) -> None:
    """RFC 5681 3.1 equation 2, counted in segments (Reno)."""
    wire.established(win=60000, wscale=0)
    wire.sk.snd_ssthresh = 10
    acked = 1
    for cwnd in (10, 11, 12):
        assert wire.sk.snd_cwnd == cwnd
        if acked == 1:
            wire.step("+0 write(20000) = 20000")
        wire.loop.run(until=wire.loop.now + 100_000_000)
        sent = sum(skb.plen for _, skb in wire.ops.sent)
        assert sent == cwnd * 1000 or acked + sent == 20001
        wire.ops.sent.clear()
        wire.last = wire.loop.now
        acked += cwnd * 1000
        wire.step(f"+0 < . 1:1(0) ack {min(acked, 20001)} win 60000")
        if acked >= 20001:
            break


def test_slow_start_stops_at_ssthresh(wire: Wire) -> None:
    wire.established(win=60000, wscale=0)
    wire.sk.snd_ssthresh = 14
    wire.step("+0 write(20000) = 20000")
    wire.ops.sent.clear()
    wire.step("+.1 < . 1:1(0) ack 10001 win 60000")
    assert wire.sk.snd_cwnd == 14
    wire.ops.sent.clear()


def test_small_segments_are_joined_when_they_are_sent_again(wire: Wire) -> None:
    """RFC 1122 4.2.3.2, tcp_retrans_collapse."""
    wire.established()
    wire.run("+0 setsockopt(6, 1, 1)\n" + "".join(
        f"+0 write(100) = 100\n+0 > P. {k * 100 + 1}:{k * 100 + 101}(100) ack 1\n" for k in range(4)))
    wire.run("+.2 > P. 1:401(400) ack 1\n+.1 < . 1:1(0) ack 401 win 257")
