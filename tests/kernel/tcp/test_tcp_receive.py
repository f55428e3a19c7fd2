"""What arrives: acknowledgments at once or delayed, holes, windows, PAWS. RFC 9293 3.10.7, RFC 5681 4.2, RFC 2018, RFC 7323."""

from __future__ import annotations

from wire import PEER_ISN, Wire

from kubenet.kernel.socket.sock import MSG_PEEK, MSG_WAITALL


def test_first_segments_are_acknowledged_at_once(wire: Wire) -> None:
    """Quick-ack mode at the start of a connection (Linux)."""
    wire.established()
    wire.run("".join(f"+0 < . {k * 1000 + 1}:{k * 1000 + 1001}(1000) ack 1 win 257\n+0 > . 1:1(0) ack {k * 1000 + 1001}\n"
                     for k in range(8)))


def test_an_interactive_connection_delays_40_ms(wire: Wire) -> None:
    """RFC 1122 4.2.3.2; ping-pong mode after an answer: 40 ms, unless data carries the ACK."""
    wire.established()
    wire.run("""
        +0   < P. 1:101(100) ack 1 win 257
        +0   > . 1:1(0) ack 101
        +0   read(1000) = 100
        +0   write(100) = 100
        +0   > P. 1:101(100) ack 101
        +.01 < P. 101:201(100) ack 101 win 257
        +.04 > . 101:101(0) ack 201
    """)
    assert wire.snmp["TcpExtDelayedACKs"] == 1


def test_the_answer_carries_the_ack(wire: Wire) -> None:
    wire.established()
    wire.run("""
        +0   < P. 1:101(100) ack 1 win 257
        +0   > . 1:1(0) ack 101
        +0   read(1000) = 100
        +0   write(100) = 100
        +0   > P. 1:101(100) ack 101
        +.01 < P. 101:201(100) ack 101 win 257
        +.01 read(1000) = 100
        +0   write(100) = 100
        +0   > P. 101:201(100) ack 201
        +.1  state() = 1
    """)


def test_every_second_full_segment(wire: Wire) -> None:
    """RFC 5681 4.2: "an ACK SHOULD be generated for at least every second full-sized segment"."""
    wire.established()
    wire.run("+0 < . 1:1001(1000) ack 1 win 257\n+0 > . 1:1(0) ack 1001")
    wire.sk.quick, wire.sk.window_clamp = 0, wire.sk.rcv_ssthresh  # later: no quick ACKs left, the window fully open
    wire.run("""
        +0   < . 1001:2001(1000) ack 1 win 257
        +.01 < . 2001:3001(1000) ack 1 win 257
        +0   > . 1:1(0) ack 3001
    """)


def test_quickack_option(wire: Wire) -> None:
    """tcp(7) TCP_QUICKACK: 0 delays, 1 acknowledges at once."""
    wire.established()
    wire.run("""
        +0   < P. 1:101(100) ack 1 win 257
        +0   > . 1:1(0) ack 101
        +0   setsockopt(6, 12, 0)
        +0   getsockopt(6, 12) = 0
        +0   < P. 101:201(100) ack 1 win 257
        +.01 setsockopt(6, 12, 1)
        +0   getsockopt(6, 12) = 1
        +0   < P. 201:301(100) ack 1 win 257
        +0   > . 1:1(0) ack 301
    """)


def test_reading_acknowledges_what_is_owed(wire: Wire) -> None:
    """The buffer was emptied and the sender had no more for now. Linux: tcp_cleanup_rbuf()."""
    wire.established()
    wire.run("+0 < P. 1:101(100) ack 1 win 257\n+0 > . 1:1(0) ack 101\n+0 read(100) = 100")
    wire.sk.quick = 0
    wire.run("""
        +0 < P. 101:201(100) ack 1 win 257
        +0 read(100) = 100
        +0 > . 1:1(0) ack 201
    """)


# ---- holes

def test_a_hole_is_reported_and_filled(wire: Wire) -> None:
    """RFC 5681 4.2, RFC 2018 4: duplicate ACKs at once, with what was received; filling the hole is acknowledged at once."""
    wire.established(sack=True)
    wire.run("""
        +0 < . 1001:2001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
        +0 < . 3001:4001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
        +0 read(10) = -1 EAGAIN
        +0 < . 1:1001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 2001 <nop,nop,sack 3001:4001>
        +0 < . 2001:3001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 4001
        +0 read(10000) = 4000
    """)
    assert wire.snmp["TcpExtTCPOFOQueue"] == 2


def test_without_sack_only_duplicate_acks(wire: Wire) -> None:
    wire.established()
    wire.run("""
        +0 < . 1001:2001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1
    """)


def test_four_sack_blocks_at_most(wire: Wire) -> None:
    """RFC 2018 3: 40 bytes of options hold four blocks, three beside timestamps."""
    wire.established(sack=True)
    for start in (1001, 3001, 5001, 7001):
        wire.step(f"+0 < . {start}:{start + 1000}(1000) ack 1 win 257")
    wire.ops.sent.clear()
    wire.run("""
        +0 < . 9001:10001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1 <nop,nop,sack 9001:10001 7001:8001 5001:6001 3001:4001>
    """)


def test_a_duplicate_is_reported(wire: Wire) -> None:
    """RFC 2883: D-SACK for data below the window."""
    wire.established(sack=True)
    wire.run("""
        +0 < . 1:1001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1001
        +0 < . 1:1001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1001 <nop,nop,sack 1:1001>
    """)
    assert wire.snmp["TcpExtTCPDSACKOldSent"] == 1


def test_overlapping_data_is_taken_once(wire: Wire) -> None:
    """RFC 9293 3.10.7.4, seventh: the old part is cut off."""
    wire.established()
    wire.run("""
        +0 < . 1:1001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1001
        +0 < . 501:1501(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1501
        +0 read(10000) = 1500
    """)


def test_a_fin_beyond_a_hole_waits(wire: Wire) -> None:
    wire.established()
    wire.run("""
        +0 < F. 1001:1501(500) ack 1 win 257
        +0 > . 1:1(0) ack 1
        +0 < . 1:1001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1502
        +0 read(10000) = 1500
        +0 read(10000) = 0
    """)


# ---- windows

def test_data_beyond_the_window_is_refused(wire: Wire) -> None:
    """RFC 9293 3.10.7.4, first: unacceptable segments are answered with an ACK."""
    wire.established()
    wire.run("""
        +0 < . 100001:101001(1000) ack 1 win 257
        +0 > . 1:1(0) ack 1
    """)


def last_window(wire: Wire) -> tuple[int, int]:
    """(acknowledged, window) of the last segment that left."""
    th = wire.ops.sent[-1][1].l4
    wire.ops.sent.clear()
    return (th.ack_seq - PEER_ISN) & 0xFFFFFFFF, th.window << wire.sk.rcv_wscale


def test_a_full_buffer_closes_the_window_and_reading_opens_it(wire: Wire) -> None:
    """RFC 9293 3.8.6.2.2: the window opens by at least a segment; reading announces that."""
    wire.run("+0 socket()\n+0 setsockopt(1, 8, 4096)")
    wire.established(our_wscale=0)
    acked, window = 1, wire.sk.rcv_wnd
    for _ in range(20):
        size = min(1000, window)
        wire.step(f"+0 < P. {acked}:{acked + size}(1000) ack 1 win 257".replace("(1000)", f"({size})"))
        wire.loop.run(until=wire.loop.now + 50_000_000)
        acked, window = last_window(wire)
        if not window:
            break
    assert window == 0
    assert wire.snmp["TcpExtTCPToZeroWindowAdv"] == 1
    wire.last = wire.loop.now
    wire.step("+0 read(100000)")
    assert wire.was_read == acked - 1
    assert last_window(wire)[1] >= 1000
    assert wire.snmp["TcpExtTCPFromZeroWindowAdv"] == 1


def test_the_window_is_never_taken_back(wire: Wire) -> None:
    """RFC 9293 3.8.6: "a receiver SHOULD NOT shrink the window": the right edge stays or moves right."""
    wire.run("+0 socket()\n+0 setsockopt(1, 8, 10000)")
    wire.established(our_wscale=0)
    edge, start = 0, 1
    while start < 30000:
        wire.step(f"+0 < . {start}:{start + 500}(500) ack 1 win 257")
        for _, skb in wire.ops.sent:
            right = ((skb.l4.ack_seq - PEER_ISN) & 0xFFFFFFFF) + (skb.l4.window << wire.sk.rcv_wscale)
            assert right >= edge
            edge = right
        wire.ops.sent.clear()
        start += 500


# ---- PAWS

def test_paws(wire: Wire) -> None:
    """RFC 7323 5.3 R1: an older timestamp is answered with an ACK and dropped."""
    wire.established(timestamps=True)
    wire.run("""
        +0 < P. 1:101(100) ack 1 win 257 <nop,nop,TS val 50 ecr 500>
        +0 > . 1:1(0) ack 1 <nop,nop,TS val 500 ecr 100>
        +0 read(100) = -1 EAGAIN
        +0 < P. 1:101(100) ack 1 win 257 <nop,nop,TS val 100 ecr 500>
        +0 > . 1:1(0) ack 101 <nop,nop,TS val 500 ecr 100>
    """)
    assert wire.snmp["TcpExtPAWSEstab"] == 1


def test_timestamp_to_echo_is_the_last_in_sequence_ones(wire: Wire) -> None:
    """RFC 7323 4.3: a segment beyond the last ACK sent does not change TS.Recent."""
    wire.established(timestamps=True)
    wire.run("""
        +0 < . 1001:2001(1000) ack 1 win 257 <nop,nop,TS val 300 ecr 500>
        +0 > . 1:1(0) ack 1 <nop,nop,TS val 500 ecr 100>
        +0 < . 1:1001(1000) ack 1 win 257 <nop,nop,TS val 200 ecr 500>
        +0 > . 1:1(0) ack 2001 <nop,nop,TS val 500 ecr 200>
    """)


def test_an_ack_of_what_was_never_sent(wire: Wire) -> None:
    """RFC 9293 3.10.7.4, fifth: "send an ACK, drop the segment"; since 6.18.44 a challenge ACK."""
    wire.established()
    wire.run("""
        +0 < P. 1:101(100) ack 5000 win 257
        +0 > . 1:1(0) ack 1
        +0 read(10) = -1 EAGAIN
    """)


# ---- recv(2)

def test_peek(wire: Wire) -> None:
    """recv(2) MSG_PEEK."""
    wire.established()
    wire.run(f"""
        +0 < P. 1:101(100) ack 1 win 257
        +0 > . 1:1(0) ack 101
        +0 read(30, {MSG_PEEK}) = 30
        +0 read(60, {MSG_PEEK}) = 60
        +0 read(10) = 10
        +0 read(1000, {MSG_PEEK}) = 90
        +0 read(1000) = 90
        +0 read(1000, {MSG_PEEK}) = -1 EAGAIN
    """)


def test_waitall(wire: Wire) -> None:
    """recv(2) MSG_WAITALL: all of it, unless the stream ends."""
    wire.established()
    wire.run(f"""
        +0...0.2 read(200, {MSG_WAITALL}) = 200
        +.1 < P. 1:101(100) ack 1 win 257
        +0  > . 1:1(0) ack 101
        +.1 < P. 101:201(100) ack 1 win 257
        +0  > . 1:1(0) ack 201
        +0  wait()
        +0...0.2 read(200, {MSG_WAITALL}) = 100
        +.1 < P. 201:301(100) ack 1 win 257
        +0  > . 1:1(0) ack 301
        +.1 < F. 301:301(0) ack 1 win 257
        +.04 > . 1:1(0) ack 302
    """)


def test_rcvlowat(wire: Wire) -> None:
    """socket(7) SO_RCVLOWAT: recv() waits and poll() is silent until so many bytes are there."""
    wire.established()
    wire.run("""
        +0  setsockopt(1, 18, 150)
        +0...0.1 read(1000) = 200
        +0  < P. 1:101(100) ack 1 win 257
        +0  > . 1:1(0) ack 101
        +0  poll() = 4
        +.1 < P. 101:201(100) ack 1 win 257
        +0  > . 1:1(0) ack 201
    """)


def test_reading_is_refused_where_there_is_no_stream(wire: Wire) -> None:
    """recv(2): ENOTCONN; EAGAIN while connecting."""
    wire.run("""
        +0 socket()
        +0 read(1) = -1 ENOTCONN
        +0 listen(1)
        +0 read(1) = -1 ENOTCONN
        +0 socket()
        +0 connect() = -1 EINPROGRESS
        +0 > S 0:0(0) <...>
        +0 read(1) = -1 EAGAIN
    """)


def test_siocinq_does_not_count_the_fin(wire: Wire) -> None:
    """tcp(7) SIOCINQ, SIOCOUTQ, SIOCOUTQNSD."""
    wire.established()
    wire.run("""
        +0 < FP. 1:101(100) ack 1 win 257
        +.04 > . 1:1(0) ack 102
        +0 ioctl(0x541B) = 100
        +0 read(1000) = 100
        +0 ioctl(0x541B) = 0
        +0 write(50) = 50
        +0 > P. 1:51(50) ack 102
        +0 ioctl(0x5411) = 50
        +0 ioctl(0x894B) = 0
        +0 < . 102:102(0) ack 51 win 257
        +0 ioctl(0x5411) = 0
    """)
