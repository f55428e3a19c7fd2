"""What leaves and when: Nagle, PSH, segment sizes, windows, the send buffer. RFC 9293 3.7.4, 3.8.6, RFC 5681; Linux's rules."""

from __future__ import annotations

import struct

from wire import Wire

from kubenet.kernel.socket import inet
from kubenet.kernel.socket.sock import MSG_EOR, MSG_MORE, POLLOUT

NODELAY, CORK = "setsockopt(6, 1, 1)", "setsockopt(6, 3, 1)"


def test_segments_have_the_peers_mss_and_the_last_one_psh(wire: Wire) -> None:
    wire.established()
    wire.step("+0 write(2500) = 2500")
    shapes = [(skb.plen, skb.l4.flags) for _, skb in wire.ops.sent]
    assert shapes == [(1000, 16), (1000, 16), (500, 24)]
    wire.run("+0 > P. 1:2501(2500) ack 1")


def test_super_segments(wire: Wire) -> None:
    """A device that cuts segments itself gets them in one piece, half of cwnd at a time, with gso_size = MSS."""
    wire.ops.features = 1
    wire.established()
    wire.step("+0 write(10000) = 10000")
    shapes = [(skb.plen, skb.gso_size, skb.gso_segs) for _, skb in wire.ops.sent]
    assert shapes == [(5000, 1000, 5), (5000, 1000, 5)]
    wire.run("+0 > P. 1:10001(10000) ack 1")


def test_nagle_holds_a_second_small_segment(wire: Wire) -> None:
    """RFC 896, in Minshall's form: a small segment waits while another small one is unacknowledged."""
    wire.established()
    wire.run("""
        +0  write(100) = 100
        +0  > P. 1:101(100) ack 1
        +0  write(100) = 100
        +0  write(100) = 100
        +.1 < . 1:1(0) ack 101 win 257
        +0  > P. 101:301(200) ack 1
    """)


def test_minshall_lets_a_tail_go_behind_full_segments(wire: Wire) -> None:
    """Full segments in flight do not hold the tail of a write."""
    wire.established()
    wire.run("""
        +0 write(1500) = 1500
        +0 > P. 1:1501(1500) ack 1
        +0 write(1500) = 1500
        +0 > . 1501:2501(1000) ack 1
        +.1 < . 1:1(0) ack 1501 win 257
        +0 > P. 2501:3001(500) ack 1
    """)


def test_nodelay(wire: Wire) -> None:
    """tcp(7) TCP_NODELAY: "segments are always sent as soon as possible"; setting it flushes."""
    wire.established()
    wire.run(f"""
        +0 write(100) = 100
        +0 > P. 1:101(100) ack 1
        +0 write(100) = 100
        +0 {NODELAY}
        +0 > P. 101:201(100) ack 1
        +0 write(100) = 100
        +0 > P. 201:301(100) ack 1
    """)


def test_cork(wire: Wire) -> None:
    """tcp(7) TCP_CORK: no partial frames; at most 200 ms (the probe timer's), then what there is."""
    wire.established()
    wire.run(f"""
        +0  {CORK}
        +0  write(1500) = 1500
        +0  > . 1:1001(1000) ack 1
        +0  < . 1:1(0) ack 1001 win 257
        +.1 setsockopt(6, 3, 0)
        +0  > P. 1001:1501(500) ack 1
        +0  < . 1:1(0) ack 1501 win 257
        +0  {CORK}
        +0  write(100) = 100
        +.2 > P. 1501:1601(100) ack 1
    """)


def test_msg_more(wire: Wire) -> None:
    """send(2) MSG_MORE: as TCP_CORK for one call, and no PSH."""
    wire.established()
    wire.run(f"""
        +0 write(500, {MSG_MORE}) = 500
        +0 write(100) = 100
        +0 > P. 1:601(600) ack 1
    """)


def test_msg_eor_keeps_segments_apart(wire: Wire) -> None:
    """send(2) MSG_EOR: later data does not join the segment, which then is no tail any more that a cork holds."""
    wire.established()
    wire.run(f"""
        +0 {CORK}
        +0 write(100, {MSG_EOR}) = 100
        +0 write(100) = 100
        +0 > P. 1:101(100) ack 1
    """)


def test_initial_window_is_10_segments(wire: Wire) -> None:
    """RFC 6928. Then slow start: each segment acknowledged lets two go."""
    wire.established()
    wire.run("""
        +0  write(20000) = 20000
        +0  > . 1:10001(10000) ack 1
        +.1 < . 1:1(0) ack 2001 win 257
        +0  > . 10001:14001(4000) ack 1
    """)
    assert wire.sk.snd_cwnd == 12


def test_the_peers_window_limits(wire: Wire) -> None:
    """RFC 9293 3.8.6: nothing beyond SND.UNA + SND.WND; the peer's window is scaled."""
    wire.established(win=20, wscale=7)
    wire.run("""
        +0  write(5000) = 5000
        +0  > P. 1:2001(2000) ack 1
        +.1 < . 1:1(0) ack 2001 win 20
        +0  > P. 2001:4001(2000) ack 1
        +.1 < . 1:1(0) ack 4001 win 20
        +0  > P. 4001:5001(1000) ack 1
    """)


def test_mss_is_at_most_half_of_the_largest_window(wire: Wire) -> None:
    """Linux: tcp_bound_to_half_wnd(): with a window of 1000 segments have 500."""
    wire.established(win=1000, wscale=0)
    wire.step("+0 write(900) = 900")
    assert [skb.plen for _, skb in wire.ops.sent] == [500, 400]
    wire.ops.sent.clear()


def test_icmp_fragmentation_needed(wire: Wire) -> None:
    """RFC 1191: the segments that were too large go again in the new size at once, without a timeout."""
    wire.established(mss=1460)
    wire.step("+0 write(2920) = 2920")
    assert [skb.plen for _, skb in wire.ops.sent] == [1460, 1460]
    wire.ops.sent.clear()
    wire.icmp(3, 4, mtu=1300)
    assert wire.sk.mss_cache == 1260
    assert wire.ops.sent[0][1].plen == 1260
    assert wire.ops.sent[0][1].l4.seq == (wire.flows[40000].isn or 0) + 1 & 0xFFFFFFFF
    wire.ops.sent.clear()
    assert wire.snmp["TcpExtTCPTimeouts"] == 0


# ---- the send buffer

def test_a_full_send_buffer(wire: Wire) -> None:
    """send(2): what fits, then EAGAIN. A segment of 1000 bytes takes 1832: six are begun below 10000; POLLOUT comes back."""
    wire.run("+0 socket()\n+0 setsockopt(1, 7, 5000)\n+0 getsockopt(1, 7) = 10000")
    wire.established(win=65535, wscale=0)
    wire.run(f"""
        +0  write(100000) = 6000
        +0  > . 1:6001(6000) ack 1
        +0  write(1) = -1 EAGAIN
        +0  poll() = 0
        +.1 < . 1:1(0) ack 6001 win 65535
        +0  poll() = {POLLOUT}
        +0  write(1) = 1
        +0  > P. 6001:6002(1) ack 1
    """)


def test_a_blocking_write_ends_when_everything_is_taken(wire: Wire) -> None:
    wire.run("+0 socket()\n+0 setsockopt(1, 7, 5000)")
    wire.established(win=65535, wscale=0)
    wire.run("""
        +0...0.1 write(8000) = 8000
        +0  > . 1:6001(6000) ack 1
        +.1 < . 1:1(0) ack 6001 win 65535
        +0  > P. 6001:8001(2000) ack 1
    """)


def test_send_timeout(wire: Wire) -> None:
    """socket(7) SO_SNDTIMEO: what was taken until then, or EAGAIN."""
    wire.run("+0 socket()\n+0 setsockopt(1, 7, 5000)")
    wire.established(win=0, wscale=0)
    inet.sock_setsockopt(wire.sk, 1, 21, struct.pack("qq", 0, 50_000))
    wire.run("""
        +0...0.05 write(100000) = 6000
        +.05 wait()
        +0...0.05 write(10) = -1 EAGAIN
        +.05 wait()
    """)


def test_notsent_lowat(wire: Wire) -> None:
    """tcp(7) TCP_NOTSENT_LOWAT limits what is written ahead of the window."""
    wire.established(win=1000, wscale=0)
    wire.run("+0 setsockopt(6, 25, 2000)")
    wire.step("+0 write(100000)")
    assert wire.sk.write_seq - wire.sk.snd_nxt <= 3000
    wire.ops.sent.clear()
    wire.run("+0 poll() = 0\n+0 write(1) = -1 EAGAIN")


def test_sndbuf_right_after_connect(wire: Wire) -> None:
    """Measured: SO_SNDBUF 16384 before connect(), 46080 after it."""
    wire.run("""
        +0 socket()
        +0 getsockopt(1, 7) = 16384
        +0 getsockopt(1, 8) = 131072
        +0 connect() = -1 EINPROGRESS
        +0 > S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 10>
        +0 < S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 700 ecr 100,nop,wscale 10>
        +0 > . 1:1(0) ack 1 <...>
        +0 getsockopt(1, 7) = 46080
    """)


def test_writing_before_the_connection_is_up(wire: Wire) -> None:
    """send(2): EAGAIN without waiting; EPIPE on a socket that never connected."""
    wire.run("""
        +0 socket()
        +0 write(1) = -1 EPIPE
        +0 connect() = -1 EINPROGRESS
        +0 > S 0:0(0) <...>
        +0 write(1) = -1 EAGAIN
    """)


def test_a_write_that_waits_for_the_handshake(wire: Wire) -> None:
    wire.run("""
        +0 socket()
        +0 connect() = -1 EINPROGRESS
        +0 > S 0:0(0) <...>
        +0...0.1 write(10) = 10
        +.1 < S. 0:0(0) ack 1 win 1000 <mss 1460>
        +0 > . 1:1(0) ack 1
        +0 > P. 1:11(10) ack 1
    """)


def test_slow_start_after_idle(wire: Wire) -> None:
    """RFC 2861: after an RTO of silence cwnd halves for each RTO, down to the initial window."""
    wire.established(win=60000, wscale=0)
    for k in range(3):
        wire.step("+0 write(10000) = 10000")
        wire.ops.sent.clear()
        wire.step(f"+.1 < . 1:1(0) ack {(k + 1) * 10000 + 1} win 60000")
        wire.ops.sent.clear()
    assert wire.sk.snd_cwnd == 20
    wire.step("+10 write(1000) = 1000")
    wire.ops.sent.clear()
    assert wire.sk.snd_cwnd == 10


def test_cwnd_does_not_grow_unused(wire: Wire) -> None:
    """RFC 7661: a window that was not the limit does not grow."""
    wire.established()
    for k in range(5):
        wire.run(f"""
            +0  write(500) = 500
            +0  > P. {k * 500 + 1}:{k * 500 + 501}(500) ack 1
            +.1 < . 1:1(0) ack {k * 500 + 501} win 257
        """)
    assert wire.sk.snd_cwnd == 10
