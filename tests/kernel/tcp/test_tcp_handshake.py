"""How connections begin: RFC 9293 3.5, RFC 7323, and what a 6.18 kernel puts on the wire."""

from __future__ import annotations

import pytest
from wire import LOCAL, Wire

from kubenet.kernel.socket.sock import TCP_CLOSE, TCP_ESTABLISHED, TCP_SYN_RECV, TCP_SYN_SENT

SYN = "S 0:0(0) win 64240 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 10>"


def test_syn_of_a_6_18_kernel(wire: Wire) -> None:
    """Measured: win 64240, mss 1460, sackOK, TS, nop, wscale 10: 60 bytes of IP, 74 of Ethernet."""
    wire.step("+0 connect() = -1 EINPROGRESS")
    _, skb = wire.ops.sent[0]
    assert skb.len == 60
    wire.run(f"+0 > {SYN}")


def test_active_open(wire: Wire) -> None:
    """RFC 9293 3.5 figure 6. Measured: the first ACK's window field is 63."""
    wire.run(f"""
        +0  connect() = -1 EINPROGRESS
        +0  > {SYN}
        +0  connect() = -1 EALREADY
        +.1 < S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 700 ecr 100,nop,wscale 10>
        +0  > . 1:1(0) ack 1 win 63 <nop,nop,TS val 200 ecr 700>
        +0  connect() = 0
        +0  connect() = -1 EISCONN
    """)
    assert wire.sk.state == TCP_ESTABLISHED
    assert wire.snmp["TcpActiveOpens"] == 1
    assert (wire.sk.mss_cache, wire.sk.advmss) == (1448, 1448)


def test_blocking_connect_returns_when_the_syn_ack_arrives(wire: Wire) -> None:
    wire.run(f"""
        +0...0.1 connect() = 0
        +0  > {SYN}
        +.1 < S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 700 ecr 100,nop,wscale 10>
        +0  > . 1:1(0) ack 1 <...>
    """)


def test_passive_open(wire: Wire) -> None:
    """Measured: SYN-ACK with window 65160 = 45 x 1448, the server's first ACK of data has the field 64."""
    wire.run("""
        +0  listen(8)
        +0  < S 0:0(0) win 64240 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 10>
        +0  > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 500 ecr 100,nop,wscale 10>
        +0  accept() = -1 EAGAIN
        +.1 < . 1:1(0) ack 1 win 63 <nop,nop,TS val 200 ecr 500>
        +0  accept()
        +0  < P. 1:101(100) ack 1 win 63 <nop,nop,TS val 200 ecr 500>
        +0  > . 1:1(0) ack 101 win 64 <nop,nop,TS val 600 ecr 200>
        +0  read(1000) = 100
    """)
    assert wire.sk.state == TCP_ESTABLISHED
    assert wire.snmp["TcpPassiveOpens"] == 1
    assert wire.sk.srtt_us >> 3 == 100_000


@pytest.mark.parametrize("offer, answer", [
    ("mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7", "mss 1460,sackOK,TS val 9 ecr 1,nop,wscale 10"),
    ("mss 1460,nop,nop,sackOK,nop,wscale 7", "mss 1460,nop,nop,sackOK,nop,wscale 10"),
    ("mss 1460,nop,nop,TS val 1 ecr 0", "mss 1460,nop,nop,TS val 9 ecr 1"),
    ("mss 1460", "mss 1460"),
    ("", "mss 1460"),
])
def test_syn_ack_offers_only_what_the_syn_offered(wire: Wire, offer: str, answer: str) -> None:
    """RFC 7323 2.2, 3.2; RFC 2018 2."""
    wire.run(f"""
        +0 listen(8)
        +0 < S 0:0(0) win 64240 <{offer}>
        +0 > S. 0:0(0) ack 1 <{answer}>
    """)


@pytest.mark.parametrize("setting, answer", [
    ("tcp_timestamps", "mss 1460,nop,nop,sackOK,nop,wscale 10"),
    ("tcp_sack", "mss 1460,nop,nop,TS val 9 ecr 1,nop,wscale 10"),
    ("tcp_window_scaling", "mss 1460,sackOK,TS val 9 ecr 1"),
])
def test_settings_take_options_away(setting: str, answer: str) -> None:
    """ip-sysctl: tcp_timestamps, tcp_sack, tcp_window_scaling."""
    wire = Wire(**{setting: 0})
    wire.run(f"""
        +0 listen(8)
        +0 < S 0:0(0) win 64240 <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>
        +0 > S. 0:0(0) ack 1 <{answer}>
    """)


def test_a_small_receive_buffer_makes_a_small_window(wire: Wire) -> None:
    """SO_RCVBUF 20000 is doubled, half of that is window: 13 x 1460 = 18980, and needs no scale."""
    wire.run("""
        +0 socket()
        +0 setsockopt(1, 8, 20000)
        +0 getsockopt(1, 8) = 40000
        +0 listen(8)
        +0 < S 0:0(0) win 64240 <mss 1460,nop,nop,sackOK,nop,wscale 7>
        +0 > S. 0:0(0) ack 1 win 18980 <mss 1460,nop,nop,sackOK,nop,wscale 0>
    """)


def test_without_an_mss_option_segments_have_536_bytes(wire: Wire) -> None:
    """RFC 9293 3.7.1: "If an MSS option is not received at connection setup, TCP implementations MUST assume 536"."""
    wire.run("""
        +0 listen(8)
        +0 < S 0:0(0) win 64240
        +0 > S. 0:0(0) ack 1 <mss 1460>
        +0 < . 1:1(0) ack 1 win 64240
        +0 accept()
        +0 write(1000) = 1000
        +0 > . 1:537(536) ack 1
        +0 > P. 537:1001(464) ack 1
    """)


def test_maxseg_before_connect(wire: Wire) -> None:
    """tcp(7) TCP_MAXSEG: also the value announced to the other end."""
    wire.run("""
        +0 socket()
        +0 setsockopt(6, 2, 1000)
        +0 getsockopt(6, 2) = 1000
        +0 connect() = -1 EINPROGRESS
        +0 > S 0:0(0) <mss 1000,sackOK,TS val 100 ecr 0,nop,wscale 10>
        +0 < S. 0:0(0) ack 1 win 65160 <mss 1460>
        +0 > . 1:1(0) ack 1
        +0 write(1500) = 1500
        +0 > . 1:1001(1000) ack 1
        +0 > P. 1001:1501(500) ack 1
    """)


def test_closed_port_refuses(wire: Wire) -> None:
    """RFC 9293 3.10.7.3: a reset with an acceptable ACK. The same socket may try again."""
    wire.run(f"""
        +0  connect() = -1 EINPROGRESS
        +0  > {SYN}
        +.1 < R. 0:0(0) ack 1 win 0
        +0  connect() = -1 ECONNREFUSED
        +0  connect() = -1 EINPROGRESS
        +0  > S 0:0(0) win 64240 <...>
    """)
    assert wire.snmp["TcpAttemptFails"] == 1
    assert wire.sk.state == TCP_SYN_SENT


def test_reset_with_a_wrong_ack_is_ignored(wire: Wire) -> None:
    """RFC 9293 3.10.7.3, first check: "If the RST bit is set, drop the segment and return"."""
    wire.run(f"""
        +0 connect() = -1 EINPROGRESS
        +0 > {SYN}
        +0 < R 0:0(0) win 0
    """)
    assert wire.sk.state == TCP_SYN_SENT


def test_an_unacceptable_ack_in_syn_sent_is_reset(wire: Wire) -> None:
    """RFC 9293 3.10.7.3: <SEQ=SEG.ACK><CTL=RST>. Linux then sends its SYN again within 2 ms."""
    wire.run(f"""
        +0    connect() = -1 EINPROGRESS
        +0    > {SYN}
        +.1   < . 500:500(0) ack 9000 win 100
        +0    > R 9000:9000(0)
        +.002 > S 0:0(0) <mss 1460,sackOK,TS val 202 ecr 0,nop,wscale 10>
    """)
    assert wire.sk.state == TCP_SYN_SENT


def test_no_route_is_told_before_any_packet(wire: Wire) -> None:
    """connect(2): ENETUNREACH."""
    wire.ops.unreachable = 101
    wire.run("+0 connect() = -1 ENETUNREACH")
    assert wire.sk.state == TCP_CLOSE
    assert wire.snmp["IpOutNoRoutes"] == 1
    assert wire.sk.saddr == wire.sk.dport == 0


def test_connect_to_any_is_connect_to_this_host(wire: Wire) -> None:
    """ip(7): 0.0.0.0 as a destination means the local host."""
    from kubenet.kernel.socket import inet

    wire.run("+0 socket()")
    with pytest.raises(BlockingIOError):
        inet.inet_connect(wire.sk, (0, 80), 0)
    assert wire.sk.daddr == 0x7F000001
    assert wire.sk.saddr == LOCAL
    wire.ops.sent.clear()


def test_simultaneous_open(wire: Wire) -> None:
    """RFC 9293 3.5 figure 7."""
    wire.run(f"""
        +0 connect() = -1 EINPROGRESS
        +0 > {SYN}
        +0 < S 0:0(0) win 5840 <mss 1460,sackOK,TS val 700 ecr 0,nop,wscale 7>
        +0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 700,nop,wscale 10>
        +0 state() = {TCP_SYN_RECV}
        +0 < S. 0:0(0) ack 1 win 5840 <mss 1460,sackOK,TS val 700 ecr 100,nop,wscale 7>
        +0 state() = {TCP_ESTABLISHED}
        +0 connect() = 0
    """)


# ---- nobody answers

SYN_TIMES = "1 1 1 1 1 2 4 8 16 32".split()


def test_syn_schedule(wire: Wire) -> None:
    """SYNs at 0 1 2 3 4 5 7 11 19 35 67 s, ETIMEDOUT at 131: tcp_syn_linear_timeouts=4, tcp_syn_retries=6."""
    script = f"+0...131 connect() = -1 ETIMEDOUT\n+0 > {SYN}\n"
    script += "".join(f"+{gap} > S 0:0(0) <...>\n" for gap in SYN_TIMES)
    wire.run(script)
    assert wire.snmp["TcpExtTCPSynRetrans"] == 10
    assert wire.snmp["TcpExtTCPTimeouts"] == 11
    assert wire.snmp["TcpExtTCPAbortOnTimeout"] == 1


def test_syn_schedule_without_linear_timeouts() -> None:
    """0 1 3 7 15 31 63, ETIMEDOUT at 127."""
    wire = Wire(tcp_syn_linear_timeouts=0)
    script = f"+0...127 connect() = -1 ETIMEDOUT\n+0 > {SYN}\n"
    wire.run(script + "".join(f"+{gap} > S 0:0(0) <...>\n" for gap in (1, 2, 4, 8, 16, 32)))


def test_syncnt_of_one_socket(wire: Wire) -> None:
    """tcp(7) TCP_SYNCNT 1: as long as one doubling takes, 3 s, although linear tries fill them."""
    wire.run(f"""
        +0 socket()
        +0 setsockopt(6, 7, 1)
        +0...3 connect() = -1 ETIMEDOUT
        +0 > {SYN}
        +1 > S 0:0(0) <...>
        +1 > S 0:0(0) <...>
    """)


def test_user_timeout_holds_for_connect(wire: Wire) -> None:
    """Measured: TCP_USER_TIMEOUT 3000 ends connect() after 3.0 s."""
    wire.run(f"""
        +0 socket()
        +0 setsockopt(6, 18, 3000)
        +0...3 connect() = -1 ETIMEDOUT
        +0 > {SYN}
        +1 > S 0:0(0) <...>
        +1 > S 0:0(0) <...>
    """)


def test_a_repeated_syn_has_a_new_timestamp_and_the_same_number(wire: Wire) -> None:
    wire.run(f"""
        +0 connect() = -1 EINPROGRESS
        +0 > {SYN}
        +1 > S 0:0(0) win 64240 <mss 1460,sackOK,TS val 1100 ecr 0,nop,wscale 10>
    """)


def test_a_lost_syn_costs_no_window_and_gives_no_rtt(wire: Wire) -> None:
    """RFC 5681 3.1, RFC 6298 3 (Karn), 5.7: IW stays 10 after one retransmission; the timestamp tells the RTT all the same."""
    wire.run(f"""
        +0  connect() = -1 EINPROGRESS
        +0  > {SYN}
        +1  > S 0:0(0) <mss 1460,sackOK,TS val 1100 ecr 0,nop,wscale 10>
        +.1 < S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 700 ecr 1100,nop,wscale 7>
        +0  > . 1:1(0) ack 1 <nop,nop,TS val 1200 ecr 700>
    """)
    assert wire.sk.snd_cwnd == 10
    assert wire.sk.snd_ssthresh == 0x7FFFFFFF
    assert wire.sk.srtt_us >> 3 == 100_000
    assert wire.sk.ca_state == 0


def test_without_timestamps_a_lost_syn_leaves_rto_at_3_s(wire: Wire) -> None:
    """RFC 6298 5.7: the RTO is re-initialized to 3 seconds when data transmission begins."""
    wire.run(f"""
        +0  connect() = -1 EINPROGRESS
        +0  > {SYN}
        +1  > S 0:0(0) <...>
        +.1 < S. 0:0(0) ack 1 win 65160 <mss 1460>
        +0  > . 1:1(0) ack 1
        +0  write(100) = 100
        +0  > P. 1:101(100) ack 1
        +3  > P. 1:101(100) ack 1
    """)


def test_two_lost_syns_cost_the_initial_window(wire: Wire) -> None:
    """RFC 5681 3.1: "If the SYN or SYN/ACK is lost, the initial window ... MUST be one segment"; Linux: from the second loss."""
    wire.run(f"""
        +0  connect() = -1 EINPROGRESS
        +0  > {SYN}
        +1  > S 0:0(0) <...>
        +1  > S 0:0(0) <mss 1460,sackOK,TS val 2100 ecr 0,nop,wscale 10>
        +.1 < S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 700 ecr 2100,nop,wscale 7>
        +0  > . 1:1(0) ack 1 <...>
    """)
    assert wire.sk.snd_cwnd == 1


# ---- what ICMP says

@pytest.mark.parametrize("type_, code, error", [
    (3, 0, "ENETUNREACH"), (3, 1, "EHOSTUNREACH"), (3, 3, "ECONNREFUSED"), (3, 13, "EHOSTUNREACH"), (11, 0, "EHOSTUNREACH"),
])
def test_icmp_error_ends_connect(wire: Wire, type_: int, code: int, error: str) -> None:
    """RFC 5461 4.1: a soft error too, while the connection is being made. icmp(7)."""
    wire.run(f"+0 connect() = -1 EINPROGRESS\n+0 > {SYN}")
    wire.icmp(type_, code, seq=0)
    wire.run(f"+0 connect() = -1 {error}")
    assert wire.sk.state == TCP_CLOSE


def test_icmp_error_about_another_sequence_number_is_ignored(wire: Wire) -> None:
    """RFC 5927 4.1."""
    wire.run(f"+0 connect() = -1 EINPROGRESS\n+0 > {SYN}")
    wire.icmp(3, 1, seq=5000)
    assert wire.sk.state == TCP_SYN_SENT
    assert wire.snmp["TcpExtOutOfWindowIcmps"] == 1


# ---- numbers

def test_initial_sequence_numbers_grow_with_time_and_differ_by_port() -> None:
    """RFC 6528 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey)."""
    from kubenet.kernel.tcp.connect import secure_tcp_seq

    wire = Wire()
    first = secure_tcp_seq(wire.net, 1, 2, 3, 4)
    assert first != secure_tcp_seq(wire.net, 1, 2, 3, 5)
    wire.loop.run(until=wire.loop.now + 64_000)
    assert (secure_tcp_seq(wire.net, 1, 2, 3, 4) - first) & 0xFFFFFFFF == 1000
    assert secure_tcp_seq(Wire(seed=8).net, 1, 2, 3, 4) != first


def test_timestamps_of_one_pair_of_addresses_share_their_offset() -> None:
    """RFC 7323 5.4, and measured: a random offset per pair."""
    from kubenet.kernel.tcp.connect import secure_tcp_ts_off

    net = Wire().net
    assert secure_tcp_ts_off(net, 1, 2) == secure_tcp_ts_off(net, 1, 2)
    assert secure_tcp_ts_off(net, 1, 2) != secure_tcp_ts_off(net, 1, 3)
