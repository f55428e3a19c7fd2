"""Loss and repair with SACK: RFC 2018, 2883, 3708, 6675, 8985 (RACK and tail loss probe), as Linux 6.18 does it. RTT 100 ms throughout."""

from __future__ import annotations

import pytest
from wire import Wire

from kubenet.kernel.tcp.sock import CA_CWR, CA_DISORDER, CA_LOSS, CA_OPEN, CA_RECOVERY


def opened(wire: Wire, size: int = 10000) -> None:
    """SACK, an RTT of 100 ms (so RTO 300 ms), and `size` bytes in segments of 1000 under way."""
    wire.run(f"""
        +0   listen(8)
        +0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK,nop,wscale 7>
        +0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK,nop,wscale 10>
        +.1  < . 1:1(0) ack 1 win 257
        +0   accept()
        +0   write({size}) = {size}
        +0   > {'P.' if size == 10000 else '.'} 1:10001(10000) ack 1
    """) if size >= 10000 else wire.run(f"""
        +0   listen(8)
        +0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK,nop,wscale 7>
        +0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK,nop,wscale 10>
        +.1  < . 1:1(0) ack 1 win 257
        +0   accept()
        +0   write({size}) = {size}
        +0   > P. 1:{size + 1}({size}) ack 1
    """)


def sack(ack: int, *blocks: str) -> str:
    return f"< . 1:1(0) ack {ack} win 257 <nop,nop,sack {' '.join(blocks)}>\n"


# ---- RFC 8985 6, RFC 6675


def test_three_sacked_segments_prove_the_loss(wire: Wire) -> None:
    """tcp_rack_reo_wnd(): 0 once sacked_out reaches tcp_reordering, while no reordering was seen."""
    opened(wire)
    wire.run("+.1 " + sack(1, "1001:2001") + "+0 " + sack(1, "1001:3001"))
    assert (wire.sk.ca_state, wire.sk.sacked_out) == (CA_DISORDER, 2)
    wire.run("+0 " + sack(1, "1001:4001") + "+0 > . 1:1001(1000) ack 1")
    assert (wire.sk.ca_state, wire.sk.snd_ssthresh, wire.sk.lost_out) == (CA_RECOVERY, 5, 1)
    assert wire.snmp["TcpExtTCPSackRecovery"] == wire.snmp["TcpExtTCPFastRetrans"] == 1


def test_fewer_wait_for_the_reordering_window(wire: Wire) -> None:
    """min(min_rtt / 4, srtt) = 25 ms, and 2 ms more: 27 ms after the SACK. tcp_rack_mark_lost(), tcp_rack_reo_timeout()."""
    opened(wire)
    wire.run("+.1 " + sack(1, "1001:2001") + "+.027 > . 1:1001(1000) ack 1")
    assert wire.sk.ca_state == CA_RECOVERY


def test_all_holes_of_a_window_in_one_round_trip(wire: Wire) -> None:
    """RFC 6675 5: 1, 3 and 5 are lost. PRR (RFC 6937) lets one go at the first proof, for cwnd is 5 and 4 are in flight, then the others."""
    opened(wire)
    wire.run("+.1 " + sack(1, "1001:2001") + "+0 " + sack(1, "3001:4001", "1001:2001")
             + "+0 " + sack(1, "5001:6001", "3001:4001", "1001:2001") + "+0 > . 1:1001(1000) ack 1")
    assert wire.sk.lost_out == 3
    wire.run("+.001 " + sack(1, "5001:8001", "3001:4001", "1001:2001") + "+0 > . 2001:3001(1000) ack 1\n+0 > . 4001:5001(1000) ack 1\n"
             "+.001 " + sack(1, "5001:10001", "3001:4001", "1001:2001") + "+.1 < . 1:1(0) ack 10001 win 257")
    assert (wire.sk.ca_state, wire.sk.snd_cwnd, wire.sk.sacked_out, wire.sk.lost_out, wire.sk.retrans_out) == (CA_OPEN, 5, 0, 0, 0)


def test_a_lost_retransmission_is_found_without_the_timer(wire: Wire) -> None:
    """RFC 8985 3: what was sent after it was delivered, a round trip ago. tcp_mark_skb_lost() counts TCPLostRetransmit."""
    opened(wire, 20000)
    wire.run("+.1 " + sack(1, "1001:4001") + "+0 > . 1:1001(1000) ack 1\n+0 > . 10001:11001(1000) ack 1\n"
             "+.01 " + sack(1, "1001:10001") + "+0 > . 11001:14001(3000) ack 1\n+.09 " + sack(1, "1001:11001")
             + "+0 > . 1:1001(1000) ack 1\n+0 > . 14001:15001(1000) ack 1")
    assert wire.snmp["TcpExtTCPLostRetransmit"] == 1
    assert wire.snmp["TcpExtTCPTimeouts"] == 0


def test_reordering_is_remembered(wire: Wire) -> None:
    """A hole that fills without a retransmission: TCPSACKReorder, and RACK waits from now on. tcp_check_sack_reordering()."""
    opened(wire)
    wire.run("+.1 " + sack(1, "1001:2001") + "+.005 < . 1:1(0) ack 2001 win 257")
    assert (wire.snmp["TcpExtTCPSACKReorder"], wire.sk.reord_seen, wire.snmp["TcpRetransSegs"]) == (1, 1, 0)
    wire.run("+0 " + sack(2001, "3001:6001"))
    assert wire.sk.ca_state == CA_DISORDER  # three are sacked, and it waits
    wire.run("+.027 > . 2001:3001(1000) ack 1")


@pytest.mark.parametrize(("block", "mib"), [("20001:21001", "TcpExtTCPSACKDiscard"), ("5001:4001", "TcpExtTCPSACKDiscard")])
def test_blocks_that_cannot_be(wire: Wire, block: str, mib: str) -> None:
    """tcp_is_sackblock_valid()."""
    opened(wire)
    wire.run("+.1 " + sack(1, block))
    assert wire.snmp[mib] == 1
    assert wire.sk.sacked_out == 0


def test_a_block_cuts_a_super_segment_at_a_segments_border(wire: Wire) -> None:
    """tcp_match_skb_to_sack(): of the segments that begin at 501, 1501, ... 2001 to 4201 covers only the one at 2501 wholly."""
    opened(wire, 500)
    wire.run("+.1 < . 1:1(0) ack 501 win 257")
    wire.sk.gso_max_segs = 65535
    wire.run("+0 write(10000) = 10000\n+0 > P. 501:10501(10000) ack 1\n+.1 " + sack(501, "2001:4201"))
    assert wire.sk.sacked_out == 1
    base = wire.sk.snd_una - 1
    assert [(s.seq - base, s.pcount) for s in wire.sk.rtx_queue if s.sacked & 1] == [(2001, 1)]


def test_reneging_waits_then_times_out(wire: Wire) -> None:
    """RFC 2018 8: the head was sacked, and snd_una stops before it. max(srtt / 2, 10 ms), then Loss. tcp_check_sack_reneging()."""
    opened(wire)
    wire.run("+.1 " + sack(1, "1001:3001") + "+.001 < . 1:1(0) ack 1001 win 257\n+.051 > . 1001:2001(1000) ack 1")
    assert (wire.sk.ca_state, wire.snmp["TcpExtTCPSACKReneging"], wire.sk.sacked_out) == (CA_LOSS, 1, 0)


# ---- D-SACK: RFC 2883, RFC 3708


def test_a_duplicate_takes_the_reduction_back(wire: Wire) -> None:
    """The retransmission was reported twice: cwnd is what it was. tcp_try_undo_dsack(): TCPDSACKUndo."""
    opened(wire)
    wire.run("+.1 " + sack(1, "1001:4001") + "+0 > . 1:1001(1000) ack 1\n+.01 " + sack(4001, "1:1001"))
    assert (wire.snmp["TcpExtTCPDSACKRecv"], wire.snmp["TcpExtTCPDSACKRecvSegs"], wire.snmp["TcpExtTCPDSACKUndo"]) == (1, 1, 1)
    assert (wire.sk.ca_state, wire.sk.snd_ssthresh, wire.sk.dsack_dups) == (CA_OPEN, 0x7FFFFFFF, 1)
    assert wire.sk.snd_cwnd >= 10


def test_a_duplicate_of_what_was_never_repeated_is_ignored(wire: Wire) -> None:
    """tcp_dsack_seen(): more duplicates than retransmissions."""
    opened(wire)
    wire.run("+.1 < . 1:1(0) ack 2001 win 257\n+0 " + sack(2001, "1:1001"))
    assert wire.snmp["TcpExtTCPDSACKIgnoredDubious"] == 1


# ---- the tail: RFC 8985 7


def test_the_tail_is_probed_after_two_round_trips(wire: Wire) -> None:
    """PTO = 2 srtt + 2 ms with more than one packet out; the last segment goes again; then the RTO runs from the probe."""
    opened(wire)
    wire.run("+.202 > P. 9001:10001(1000) ack 1")
    assert (wire.snmp["TcpExtTCPLossProbes"], wire.snmp["TcpExtTCPTimeouts"], wire.sk.ca_state) == (1, 0, CA_OPEN)
    wire.run("+.3 > . 1:1001(1000) ack 1")
    assert (wire.snmp["TcpExtTCPTimeouts"], wire.sk.ca_state) == (1, CA_LOSS)


def test_one_packet_may_be_waiting_for_a_delayed_ack(wire: Wire) -> None:
    """2 srtt + rto_min = 400 ms is later than the RTO, so the probe takes its place at 300 ms."""
    opened(wire, 500)
    wire.run("+.3 > P. 1:501(500) ack 1")
    assert (wire.snmp["TcpExtTCPLossProbes"], wire.snmp["TcpExtTCPTimeouts"]) == (1, 0)


def test_a_probe_with_new_data(wire: Wire) -> None:
    """Data beyond cwnd waits: one segment of it is the probe. RFC 8985 7.3."""
    opened(wire, 12000)
    wire.run("+.202 > . 10001:11001(1000) ack 1")
    assert (wire.snmp["TcpExtTCPLossProbes"], wire.snmp["TcpRetransSegs"]) == (1, 0)


def test_the_probe_repaired_a_loss_and_cwnd_pays(wire: Wire) -> None:
    """tcp_process_tlp_ack(): an ACK beyond the probe without D-SACK: TCPLossProbeRecovery, one reduction."""
    opened(wire)
    wire.run("+.1 < . 1:1(0) ack 9001 win 257")
    cwnd = wire.sk.snd_cwnd
    wire.run("+.3 > P. 9001:10001(1000) ack 1\n+.1 < . 1:1(0) ack 10001 win 257\n+0 write(1000) = 1000\n+0 > P. 10001:11001(1000) ack 1\n"
             "+.1 < . 1:1(0) ack 11001 win 257")
    assert (wire.snmp["TcpExtTCPLossProbeRecovery"], wire.sk.snd_cwnd) == (1, (cwnd + 1) // 2)
    assert wire.sk.ca_state in (CA_OPEN, CA_CWR)


def test_both_arrived_and_nothing_is_paid(wire: Wire) -> None:
    """The D-SACK of the probe. FLAG_DSACK_TLP."""
    opened(wire)
    wire.run("+.1 < . 1:1(0) ack 9001 win 257")
    cwnd = wire.sk.snd_cwnd
    wire.run("+.3 > P. 9001:10001(1000) ack 1\n+.001 < . 1:1(0) ack 10001 win 257\n+.1 " + sack(10001, "9001:10001"))
    assert (wire.sk.tlp_high_seq, wire.snmp["TcpExtTCPLossProbeRecovery"], wire.sk.snd_cwnd >= cwnd) == (0, 0, True)


def test_the_probes_sack_starts_recovery(wire: Wire) -> None:
    """The tail of five is lost; the probe's ACK sacks the last, and RACK finds the four before it. RFC 8985 7.4.2."""
    opened(wire)
    wire.run("+.1 < . 1:1(0) ack 5001 win 257\n+.202 > P. 9001:10001(1000) ack 1\n+.1 " + sack(5001, "9001:10001") + "+0 > . 5001:6001(1000) ack 1")
    assert wire.snmp["TcpExtTCPTimeouts"] == 0


def test_no_probe_without_sack_or_when_switched_off(wire: Wire) -> None:
    """tcp_schedule_loss_probe(): only SACK peers, tcp_early_retrans 3 or 4."""
    wire.sysctl("tcp_early_retrans", 0)
    opened(wire)
    wire.run("+.3 > . 1:1001(1000) ack 1")
    assert (wire.snmp["TcpExtTCPLossProbes"], wire.snmp["TcpExtTCPTimeouts"]) == (0, 1)


# ---- the timeout: RFC 5682, RFC 8985 6.3


def test_a_timeout_spares_what_is_sacked(wire: Wire) -> None:
    opened(wire)
    wire.sysctl("tcp_early_retrans", 0)
    wire.run("+.1 < . 1:1(0) ack 1001 win 257\n+.001 " + sack(1001, "8001:9001"))
    wire.run("+.027 > . 1001:2001(1000) ack 1")
    wire.loop.run(until=wire.loop.now + 400_000_000)
    assert wire.sk.ca_state == CA_LOSS
    assert wire.sk.sacked_out == 1
    assert not any(seg.sacked & 1 and seg.sacked & 4 for seg in wire.sk.rtx_queue)
