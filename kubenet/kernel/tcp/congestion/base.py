"""What an algorithm is asked: how the window grows, what a loss leaves of it, and how to take that back.

One instance per connection; its state lives in the instance, the window in `tp.snd_cwnd` (segments) and `tp.snd_ssthresh`.
    @congestion_control("reno")
    class Reno(CongestionControl): ...
Source: Linux struct tcp_congestion_ops (include/net/tcp.h), net/ipv4/tcp_cong.c.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOENT
from typing import TYPE_CHECKING

from kubenet.kernel.socket.sock import oserror

if TYPE_CHECKING:
    from kubenet.kernel.tcp.sock import TcpSock

CA_EVENT_TX_START, CA_EVENT_CWND_RESTART, CA_EVENT_COMPLETE_CWR, CA_EVENT_LOSS = 0, 1, 2, 3


class CongestionControl:
    """The questions, answered as by an algorithm that does nothing special."""

    name = ""
    __slots__ = ()

    def ssthresh(self, tp: TcpSock) -> int:
        """The slow start threshold after a loss (segments)."""
        raise NotImplementedError

    def cong_avoid(self, tp: TcpSock, acked: int) -> None:
        """`acked` segments were newly acknowledged while the window was in use: grow it."""
        raise NotImplementedError

    def undo_cwnd(self, tp: TcpSock) -> int:
        """The window to go back to: the loss was none."""
        return max(tp.snd_cwnd, tp.prior_cwnd)

    def cwnd_event(self, tp: TcpSock, event: int) -> None:
        """CA_EVENT_*: sending starts again, the window restarts after idle, ..."""

    def set_state(self, tp: TcpSock, state: int) -> None:
        """tp.ca_state is about to become `state`."""

    def pkts_acked(self, tp: TcpSock, acked: int, rtt_us: int) -> None:
        """Segments were acknowledged; rtt_us < 0: without a sample."""

    def info(self, tp: TcpSock) -> str:
        """What `ss -i` prints beside the name."""
        return ""


ALGORITHMS: dict[str, type[CongestionControl]] = {}


def congestion_control(name: str) -> Callable[[type[CongestionControl]], type[CongestionControl]]:
    """Registers a class under the name users type."""

    def register(cls: type[CongestionControl]) -> type[CongestionControl]:
        cls.name = name
        ALGORITHMS[name] = cls
        return cls

    return register


def find_congestion_control(name: str) -> type[CongestionControl]:
    """The class of this name. ENOENT, as setsockopt(TCP_CONGESTION) says it."""
    found = ALGORITHMS.get(name)
    if found is None:
        raise oserror(ENOENT)
    return found


def tcp_slow_start(tp: TcpSock, acked: int) -> int:
    """cwnd has grown by `acked`, at most to ssthresh; what is left of `acked` beyond. RFC 5681 3.1. Linux: the same."""
    cwnd = tp.snd_cwnd + acked
    if cwnd > tp.snd_ssthresh:
        cwnd = tp.snd_ssthresh
    acked -= cwnd - tp.snd_cwnd
    tp.snd_cwnd = min(cwnd, tp.snd_cwnd_clamp)
    return acked


def tcp_cong_avoid_ai(tp: TcpSock, w: int, acked: int) -> None:
    """cwnd has grown by one segment per `w` acknowledged. RFC 5681 3.1. Linux: the same."""
    if tp.snd_cwnd_cnt >= w:
        tp.snd_cwnd_cnt = 0
        tp.snd_cwnd += 1
    tp.snd_cwnd_cnt += acked
    if tp.snd_cwnd_cnt >= w:
        delta = tp.snd_cwnd_cnt // w
        tp.snd_cwnd_cnt -= delta * w
        tp.snd_cwnd += delta
    tp.snd_cwnd = min(tp.snd_cwnd, tp.snd_cwnd_clamp)


def tcp_is_cwnd_limited(tp: TcpSock) -> bool:
    """Was it the window that held the sender back? Only then may it grow. RFC 7661. Linux: the same."""
    if tp.is_cwnd_limited:
        return True
    if tp.snd_cwnd < tp.snd_ssthresh:
        return tp.snd_cwnd < 2 * tp.max_packets_out
    return False
