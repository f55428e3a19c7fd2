"""Reno: slow start, then one segment per round trip; half the window after a loss (RFC 5681 3.1, 3.2).

Source: Linux net/ipv4/tcp_cong.c tcp_reno_cong_avoid(), tcp_reno_ssthresh().
"""

from __future__ import annotations

from kubenet.kernel.tcp.congestion.base import (
    CongestionControl,
    congestion_control,
    tcp_cong_avoid_ai,
    tcp_is_cwnd_limited,
    tcp_slow_start,
)
from kubenet.kernel.tcp.sock import TcpSock


@congestion_control("reno")
class Reno(CongestionControl):
    """The algorithm every other falls back to."""

    __slots__ = ()

    def ssthresh(self, tp: TcpSock) -> int:
        """Half of cwnd, at least 2. RFC 5681 eq. 4; Linux halves cwnd, not the flight size."""
        return max(tp.snd_cwnd >> 1, 2)

    def cong_avoid(self, tp: TcpSock, acked: int) -> None:
        """Linux: tcp_reno_cong_avoid()."""
        if not tcp_is_cwnd_limited(tp):
            return
        if tp.snd_cwnd < tp.snd_ssthresh:
            acked = tcp_slow_start(tp, acked)
            if not acked:
                return
        tcp_cong_avoid_ai(tp, tp.snd_cwnd, acked)
