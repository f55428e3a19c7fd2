"""Round-trip time and the retransmission timeout (RFC 6298), with Linux's estimator.

All in microseconds; srtt_us is 8 times the smoothed RTT. Linux differs from the RFC in three ways: rttvar follows the largest
deviation of the last window (mdev_max) and decays by a quarter per RTT, it never falls below tcp_rto_min (200 ms), so RTO >=
srtt + 200 ms; and a falling RTT moves the deviation only by an eighth of the normal step. RTO is rounded up to whole ms.

Source: Linux net/ipv4/tcp_input.c tcp_rtt_estimator(), tcp_set_rto(), tcp_update_rtt_min().
"""

from __future__ import annotations

from kubenet.kernel.tcp.sock import TCP_RTO_MAX, TcpSock
from kubenet.units import MSEC, USEC


def tcp_rto_max(tp: TcpSock) -> int:
    """The longest timeout (ns). Linux: the same."""
    return min(tp.net.sysctl.ipv4.tcp_rto_max_ms * MSEC, TCP_RTO_MAX)


def tcp_rto_min_us(tp: TcpSock) -> int:
    """The least rttvar (us). Linux: tcp_rto_min_us()."""
    return tp.net.sysctl.ipv4.tcp_rto_min_us


def tcp_rtt_estimator(tp: TcpSock, mrtt_us: int) -> None:
    """srtt_us, mdev_us and rttvar_us have taken in one sample (us). RFC 6298 2.2, 2.3. Linux: the same."""
    m = mrtt_us
    srtt = tp.srtt_us
    if srtt == 0:
        tp.srtt_us = m << 3 or 1
        tp.mdev_us = m << 1
        tp.rttvar_us = max(tp.mdev_us, tp.net.sysctl.ipv4.tcp_rto_min_us)
        tp.mdev_max_us = tp.rttvar_us
        tp.rtt_seq = tp.snd_nxt
        return
    m -= srtt >> 3
    srtt += m
    if m < 0:
        m = -m - (tp.mdev_us >> 2)
        if m > 0:
            m >>= 3  # a sudden fall of the RTT must not blow up the deviation
    else:
        m -= tp.mdev_us >> 2
    tp.mdev_us += m
    if tp.mdev_us > tp.mdev_max_us:
        tp.mdev_max_us = tp.mdev_us
        if tp.mdev_max_us > tp.rttvar_us:
            tp.rttvar_us = tp.mdev_max_us
    if tp.snd_una > tp.rtt_seq:
        if tp.mdev_max_us < tp.rttvar_us:
            tp.rttvar_us -= (tp.rttvar_us - tp.mdev_max_us) >> 2
        tp.rtt_seq = tp.snd_nxt
        tp.mdev_max_us = tp.net.sysctl.ipv4.tcp_rto_min_us
    tp.srtt_us = srtt or 1


def tcp_set_rto(tp: TcpSock) -> None:
    """rto = srtt + rttvar, in whole ms, at most rto_max. RFC 6298 2.3, 2.4. Linux: tcp_set_rto(), tcp_bound_rto()."""
    rto_us = (tp.srtt_us >> 3) + tp.rttvar_us
    rto = -(-rto_us * USEC // MSEC) * MSEC
    limit = tp.net.sysctl.ipv4.tcp_rto_max_ms * MSEC
    tp.rto = rto if rto < limit else limit


def tcp_valid_rtt_meas(tp: TcpSock, rtt_us: int) -> None:
    """The estimator and the RTO have taken in a sample. Linux: the same."""
    tcp_rtt_estimator(tp, rtt_us)
    tcp_set_rto(tp)
