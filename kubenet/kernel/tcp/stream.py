"""The byte stream between a program and the two queues: send(2) and recv(2) on a TCP socket.

Sending copies the data once (bytes are not copied at all: the segments are views of them), in pieces of the size goal, and
pushes what the windows allow as it goes. It waits while the send buffer is full. Receiving joins what is wanted from the
receive queue, and afterwards decides whether the freed space is worth an ACK of its own.

simplified: no Fast Open, no urgent data, no MSG_ZEROCOPY.
Sources: Linux net/ipv4/tcp.c tcp_sendmsg_locked(), tcp_recvmsg_locked(), tcp_cleanup_rbuf(); net/core/stream.c; send(2), recv(2).
"""

from __future__ import annotations

from errno import EAGAIN, EINVAL, ENOTCONN, EOPNOTSUPP, EPIPE
from typing import Any

from kubenet.kernel.socket.sock import (
    MSG_EOR,
    MSG_FASTOPEN,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SOCK_DONE,
    SOCK_NOSPACE,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    oserror,
    sock_error,
)
from kubenet.kernel.tcp.output import (
    tcp_current_mss,
    tcp_in_pingpong_mode,
    tcp_mark_push,
    tcp_push_pending_frames,
    tcp_queue_skb,
    tcp_send_ack,
    tcp_write_xmit,
    tcp_xmit_size_goal,
)
from kubenet.kernel.tcp.sock import (
    ACK_PUSHED,
    ACK_PUSHED2,
    ACK_SCHED,
    NAGLE_CORK,
    NAGLE_PUSH,
    TcpSock,
    TxSeg,
    tcp_receive_window,
)
from kubenet.kernel.tcp.window import tcp_next_window
from kubenet.wire.tcp import ACK, PSH

FOREVER = 1 << 62


# ---- the send buffer


def tcp_notsent_lowat(tp: TcpSock) -> int:
    """So many unsent bytes are enough. Linux: the same."""
    return tp.notsent_lowat or tp.net.sysctl.ipv4.tcp_notsent_lowat


def sk_stream_memory_free(tp: TcpSock, wake: int) -> bool:
    """There is room for more; `wake` 1 halves TCP_NOTSENT_LOWAT's limit. Linux: __sk_stream_memory_free()."""
    return tp.wmem_queued < tp.sndbuf and (tp.write_seq - tp.snd_nxt) << wake < tcp_notsent_lowat(tp)


def sk_stream_is_writeable(tp: TcpSock) -> bool:
    """poll(2) says POLLOUT: a third of the buffer is free. Linux: __sk_stream_is_writeable()."""
    return tp.sndbuf - tp.wmem_queued >= tp.wmem_queued >> 1 and sk_stream_memory_free(tp, 1)


class _CanSend:
    """The handshake is over, one way or the other."""

    __slots__ = ("tp",)

    def __init__(self, tp: TcpSock) -> None:
        self.tp = tp

    def __call__(self) -> bool:
        return self.tp.err != 0 or self.tp.state not in (TCP_SYN_SENT, TCP_SYN_RECV)


class _HasSpace:
    """The send buffer has room, or nothing can be sent any more."""

    __slots__ = ("tp",)

    def __init__(self, tp: TcpSock) -> None:
        self.tp = tp

    def __call__(self) -> bool:
        tp = self.tp
        if tp.err or tp.shutdown & SEND_SHUTDOWN or sk_stream_memory_free(tp, 0):
            return True
        tp.flags |= SOCK_NOSPACE
        return False


def _left(tp: TcpSock, deadline: int) -> int | None:
    """What is left of a call's time (ns), None for ever."""
    return None if deadline == FOREVER else max(deadline - tp.net.loop.now, 0)


def _deadline(tp: TcpSock, timeout: int | None) -> int:
    return FOREVER if timeout is None else tp.net.loop.now + timeout


def sk_stream_wait_connect(tp: TcpSock, timeout: int | None) -> None:
    """The connection is up. EPIPE if there is none in the making, EAGAIN. Linux: the same."""
    tp.wait.until(_CanSend(tp), timeout)
    if tp.err:
        raise oserror(sock_error(tp))
    if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        raise oserror(EAGAIN)
    if tp.state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
        raise oserror(EPIPE)


# ---- send(2)


def tcp_sendmsg(tp: TcpSock, data: Any, flags: int, timeout: int | None) -> int:
    """How many bytes the send buffer took: all of them when blocking. EPIPE, EAGAIN, the pending error. Linux: the same."""
    if flags & (MSG_OOB | MSG_FASTOPEN):
        raise oserror(EOPNOTSUPP)
    deadline = _deadline(tp, timeout)
    if tp.state != TCP_ESTABLISHED and tp.state != TCP_CLOSE_WAIT:
        sk_stream_wait_connect(tp, timeout)
    if tp.err or tp.shutdown & SEND_SHUTDOWN:
        raise oserror(sock_error(tp) or EPIPE)
    view: Any = data if type(data) is bytes else bytes(data)
    size = len(view)
    mss = tcp_current_mss(tp)
    goal = tcp_xmit_size_goal(tp, mss)
    copied = 0
    while copied < size:
        queue = tp.write_queue
        room = goal - len(queue[-1].data) if queue and not queue[-1].eor else 0
        if room > 0:
            taken = _append(tp, queue[-1], view, copied, room)
        elif sk_stream_memory_free(tp, 0):
            taken = _new_segment(tp, view, copied, goal)
        else:
            if not _wait_for_memory(tp, flags, mss, copied, deadline):
                break
            mss = tcp_current_mss(tp)
            goal = tcp_xmit_size_goal(tp, mss)
            continue
        if not copied:
            tp.write_queue[-1].flags &= ~PSH
        copied += taken
        if copied < size and len(tp.write_queue[-1].data) >= goal:
            _push_full(tp, mss)
    if copied and copied == size and flags & MSG_EOR and tp.write_queue:
        tp.write_queue[-1].eor = True
    if copied:
        tcp_push(tp, flags, mss, tp.nonagle)
    return copied


def _append(tp: TcpSock, seg: TxSeg, view: Any, at: int, room: int) -> int:
    """The unsent tail takes `room` more bytes of view[at:]. Returns how many there were."""
    piece = view[at : at + room]
    if type(seg.data) is not bytearray:
        seg.data = bytearray(seg.data)
    seg.data += piece
    taken = len(piece)
    seg.end_seq += taken
    seg.truesize += taken
    seg.pcount = 0
    tp.wmem_queued += taken
    tp.write_seq += taken
    return taken


def _new_segment(tp: TcpSock, view: Any, at: int, goal: int) -> int:
    """A new tail of the write queue with up to `goal` bytes of view[at:]. Returns how many there were."""
    left = len(view) - at
    if at == 0 and left <= goal:
        piece = view
    else:
        piece = memoryview(view)[at : at + goal]
    tcp_queue_skb(tp, TxSeg(tp.write_seq, piece, ACK))
    return len(piece)


def _push_full(tp: TcpSock, mss: int) -> None:
    """A TxSeg is full and more comes: send what there is, if it is the first or enough has gathered."""
    seg = tp.write_queue[-1]
    if forced_push(tp):
        tcp_mark_push(tp, seg)
        tcp_push_pending_frames(tp, mss, NAGLE_PUSH)
    elif len(tp.write_queue) == 1:
        tcp_write_xmit(tp, mss, NAGLE_PUSH, 1)


def _wait_for_memory(tp: TcpSock, flags: int, mss: int, copied: int, deadline: int) -> bool:
    """The send buffer has room; False: the call ends with what it has. Linux: sk_stream_wait_memory()."""
    tp.flags |= SOCK_NOSPACE
    if copied:
        tcp_push(tp, flags & ~MSG_MORE, mss, NAGLE_PUSH)
    has_space = tp.wait.until(_HasSpace(tp), _left(tp, deadline))
    if tp.err or tp.shutdown & SEND_SHUTDOWN:
        if copied:
            return False
        raise oserror(sock_error(tp) or EPIPE)
    if not has_space:
        if copied:
            return False
        raise oserror(EAGAIN)
    return True


def forced_push(tp: TcpSock) -> bool:
    """More than half of the peer's largest window was written since the last PSH. Linux: the same."""
    return tp.write_seq > tp.pushed_seq + (tp.max_window >> 1)


def tcp_push(tp: TcpSock, flags: int, mss: int, nonagle: int) -> None:
    """The end of a write: PSH on its last segment (not with MSG_MORE), and off with it. Linux: the same."""
    if not tp.write_queue:
        return
    if not flags & MSG_MORE or forced_push(tp):
        tcp_mark_push(tp, tp.write_queue[-1])
    tcp_push_pending_frames(tp, mss, NAGLE_CORK if flags & MSG_MORE else nonagle)


# ---- recv(2)


def tcp_inq(tp: TcpSock) -> int:
    """Bytes that recv(2) would return; the FIN is not one. Linux: the same."""
    if tp.state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return 0
    size = tp.rcv_nxt - tp.copied_seq
    return size - 1 if size and tp.flags & SOCK_DONE else size


class _Readable:
    """More than `seen` bytes were received, or no more will be."""

    __slots__ = ("tp", "seen")

    def __init__(self, tp: TcpSock) -> None:
        self.tp = tp
        self.seen: int = 0

    def __call__(self) -> bool:
        tp = self.tp
        return (
            tp.rcv_nxt > self.seen or tp.err != 0 or tp.shutdown & RCV_SHUTDOWN != 0 or tp.state == TCP_CLOSE
        )


def tcp_recvmsg(tp: TcpSock, size: int, flags: int, timeout: int | None) -> bytes:
    """Up to `size` bytes, at least SO_RCVLOWAT of them; b"" at the end. ENOTCONN, EAGAIN, the pending error. Linux: the same.

    With MSG_WAITALL all of them, unless the stream ends. MSG_PEEK leaves them there.
    """
    if tp.state == TCP_LISTEN:
        raise oserror(ENOTCONN)
    if flags & MSG_OOB:
        raise oserror(EINVAL)  # simplified: there never is urgent data
    target = max(size if flags & MSG_WAITALL else min(tp.rcvlowat, size), 1)
    deadline = _deadline(tp, timeout)
    chunks: list[Any] = []
    copied = 0
    peek = tp.copied_seq if flags & MSG_PEEK else -1
    while True:
        taken = _peek(tp, chunks, size - copied, peek) if flags & MSG_PEEK else _take(tp, chunks, size - copied)
        copied += taken
        if flags & MSG_PEEK:
            peek += taken
        if copied >= size > 0 or (copied and copied >= target):
            break
        if tp.flags & SOCK_DONE and (peek if flags & MSG_PEEK else tp.copied_seq) >= tp.rcv_nxt - 1:
            if not flags & MSG_PEEK:
                tp.copied_seq = tp.rcv_nxt  # the FIN was read
            break
        if not _may_wait(tp, copied, timeout):
            break
        tcp_cleanup_rbuf(tp, copied)
        ready = _Readable(tp)
        ready.seen = tp.rcv_nxt
        if not tp.wait.until(ready, _left(tp, deadline)):
            timeout = 0
    if not flags & MSG_PEEK:
        tcp_cleanup_rbuf(tp, copied)
    if len(chunks) == 1 and type(chunks[0]) is bytes:
        only: bytes = chunks[0]
        return only
    return b"".join(chunks)


def _may_wait(tp: TcpSock, copied: int, timeout: int | None) -> bool:
    """Nothing more to take: wait for it? False: the call ends with what it has. Raises what the call fails with."""
    if copied:
        return not (timeout == 0 or tp.err or tp.state == TCP_CLOSE or tp.shutdown & RCV_SHUTDOWN)
    if tp.flags & SOCK_DONE:
        return False
    if tp.err:
        raise oserror(sock_error(tp))
    if tp.shutdown & RCV_SHUTDOWN:
        return False
    if tp.state == TCP_CLOSE:
        raise oserror(ENOTCONN)
    if timeout == 0:
        raise oserror(EAGAIN)
    return True


def _take(tp: TcpSock, chunks: list[Any], wanted: int) -> int:
    """Moves up to `wanted` bytes from the receive queue to `chunks`; returns how many. Linux: the found_ok_skb loop."""
    queue = tp.receive_queue
    seq = tp.copied_seq
    taken = 0
    while queue and taken < wanted:
        seg = queue[0]
        offset = seq - seg.seq
        used = len(seg.data) - offset
        if used > wanted - taken:
            used = wanted - taken
            chunks.append(memoryview(seg.data)[offset : offset + used])
        else:
            chunks.append(memoryview(seg.data)[offset:] if offset else seg.data)
            queue.popleft()
            tp.rmem_alloc -= seg.truesize
        seq += used
        taken += used
    tp.copied_seq = seq
    return taken


def _peek(tp: TcpSock, chunks: list[Any], wanted: int, seq: int) -> int:
    """Copies up to `wanted` bytes from `seq` on to `chunks`; the queue stays as it is."""
    taken = 0
    for seg in tp.receive_queue:
        if taken >= wanted:
            break
        offset = seq + taken - seg.seq
        if offset >= len(seg.data):
            continue
        piece = memoryview(seg.data)[offset : offset + wanted - taken]
        chunks.append(piece)
        taken += len(piece)
    return taken


def tcp_cleanup_rbuf(tp: TcpSock, copied: int) -> None:
    """After a read: an ACK leaves if one is due, or if the window has opened by half. RFC 9293 3.8.6.2.2. Linux: the same."""
    time_to_ack = False
    pending = tp.ack_pending
    if pending & ACK_SCHED:
        if tp.rcv_nxt - tp.rcv_wup > tp.rcv_mss:
            time_to_ack = True
        elif copied > 0 and not tp.rmem_alloc:  # the reader is done, and the sender had no more for now
            time_to_ack = pending & ACK_PUSHED2 != 0 or (pending & ACK_PUSHED != 0 and not tcp_in_pingpong_mode(tp))
    if copied > 0 and not time_to_ack and not tp.shutdown & RCV_SHUTDOWN:
        now = tcp_receive_window(tp)
        if 2 * now <= tp.window_clamp:
            new = tcp_next_window(tp)
            time_to_ack = new != 0 and new >= 2 * now
    if time_to_ack:
        tcp_send_ack(tp)
