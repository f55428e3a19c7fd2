"""Refreshing: each packet of a connection moves its end, and is counted if accounting is on.

Until it is confirmed an entry's `timeout` is a duration; from then on it is a time. A shorter timeout than before
(ESTABLISHED to TIME_WAIT) tells the collector to come earlier; a longer one costs nothing.

Sources: Linux __nf_ct_refresh_acct(), nf_ct_kill_acct(), nf_ct_acct_update().
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.entry import IPS_CONFIRMED, IPS_FIXED_TIMEOUT, NfConn
from kubenet.kernel.skbuff import SkBuff


def nf_ct_set_timeout(ct: NfConn, ns: int) -> None:
    """The entry ends `ns` from now, or `ns` after it is confirmed."""
    if not ct.status & IPS_CONFIRMED:
        ct.timeout = ns
        return
    when = ct.timeout = ct.net.loop.now + ns
    if when < ct.gc_at:
        ct.net.ct.gc_add(ct)


def nf_ct_refresh_acct(ct: NfConn, direction: int, skb: SkBuff, ns: int) -> None:
    """The entry lives `ns` longer and has counted the packet. Linux: nf_ct_refresh_acct()."""
    if not ct.status & IPS_FIXED_TIMEOUT:
        nf_ct_set_timeout(ct, ns)
    nf_ct_acct_update(ct, direction, skb)


def nf_ct_acct_update(ct: NfConn, direction: int, skb: SkBuff) -> None:
    """The packet is counted; a super-segment is one packet, as in Linux. Linux: nf_ct_acct_update()."""
    if ct.packets is not None and ct.bytes is not None:
        ct.packets[direction] += 1
        ct.bytes[direction] += skb.len


def nf_ct_expires(ct: NfConn) -> int:
    """ns left. Linux: nf_ct_expires()."""
    left = ct.timeout - ct.net.loop.now if ct.status & IPS_CONFIRMED else ct.timeout
    return max(left, 0)


def nf_ct_kill(ct: NfConn) -> bool:
    """The entry is gone; False if it already was. Linux: nf_ct_kill()."""
    return bool(ct.net.ct.delete(ct))
