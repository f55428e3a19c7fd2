"""What the retransmit timer waits for: RTO, tail loss probe, reordering, window probe. One timer, `tp.pending` says which.

Sources: RFC 6298 5, RFC 8985 7.2; Linux net/ipv4/tcp_input.c tcp_rearm_rto(), tcp_output.c tcp_schedule_loss_probe().
"""

from __future__ import annotations

from kubenet.kernel.tcp.sock import (
    CA_CWR,
    CA_OPEN,
    TCP_TIMEOUT_INIT,
    TIME_LOSS_PROBE,
    TIME_NONE,
    TIME_REO_TIMEOUT,
    TIME_RETRANS,
    TcpSock,
)
from kubenet.units import MSEC

TCP_TIMEOUT_MIN_US = 2000


def tcp_reset_xmit_timer(tp: TcpSock, what: int, when: int) -> None:
    """The retransmit timer fires `when` ns from now, for `what`. Linux: the same."""
    limit = tp.net.sysctl.ipv4.tcp_rto_max_ms * MSEC
    tp.pending = what
    tp.retransmit_timer.mod(tp.net.loop.now + (when if when < limit else limit))


def tcp_rto_delta(tp: TcpSock) -> int:
    """How far the RTO of the oldest segment in flight is in the future (ns). Linux: tcp_rto_delta_us()."""
    if not tp.rtx_queue:
        return tp.rto
    return tp.rtx_queue[0].tstamp + tp.rto - tp.net.loop.now


def tcp_rearm_rto(tp: TcpSock) -> None:
    """Restart the retransmission timer after an ACK moved snd_una. RFC 6298 5.2, 5.3. Linux: the same."""
    if tp.packets_out == 0:
        tp.pending = TIME_NONE
        tp.retransmit_timer.expires = 0
        return
    rto = tp.rto
    if tp.pending in (TIME_REO_TIMEOUT, TIME_LOSS_PROBE):  # from the head's own send time
        rto = max(-(-tcp_rto_delta(tp) // MSEC) * MSEC, MSEC)
    tp.pending = TIME_RETRANS
    tp.retransmit_timer.mod(tp.net.loop.now + rto)


def tcp_schedule_loss_probe(tp: TcpSock, advancing_rto: bool) -> bool:
    """If nothing is heard for two round trips, the tail is probed. False: not now. RFC 8985 7.2. Linux: the same.

    With one packet in flight its ACK may be a delayed one, so rto_min is added. advancing_rto: snd_una has just moved.
    """
    if tp.ca_state != CA_OPEN and tp.ca_state != CA_CWR:
        return False
    if not tp.packets_out or not tp.sack_ok or tp.net.sysctl.ipv4.tcp_early_retrans not in (3, 4):
        return False
    if tp.srtt_us:
        more = tp.net.sysctl.ipv4.tcp_rto_min_us if tp.packets_out == 1 else TCP_TIMEOUT_MIN_US
        timeout = -(-((tp.srtt_us >> 2) + more) // 1000) * MSEC
    else:
        timeout = TCP_TIMEOUT_INIT
    delta = tp.rto if advancing_rto else tcp_rto_delta(tp)
    if delta > 0:
        timeout = min(timeout, -(-delta // MSEC) * MSEC)
    tp.pending = TIME_LOSS_PROBE
    tp.retransmit_timer.mod(tp.net.loop.now + timeout)
    return True
