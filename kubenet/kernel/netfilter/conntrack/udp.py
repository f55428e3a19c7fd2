"""Tracking UDP: 30 s; once there were packets both ways and two seconds have passed, it is a stream: ASSURED, 120 s.

A single question and answer (DNS) therefore stays 30 s and can be evicted from a full table.
Source: Linux nf_conntrack_proto_udp.c.
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.entry import (
    IPCT_ASSURED,
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_NAT_CLASH,
    IPS_SEEN_REPLY,
    NfConn,
)
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_refresh_acct
from kubenet.kernel.netfilter.conntrack.log import log_invalid
from kubenet.kernel.netfilter.core import PREROUTING
from kubenet.kernel.skbuff import CSUM_BAD, SkBuff
from kubenet.units import SEC

STREAM_AFTER = 2 * SEC


def nf_conntrack_udp_packet(ct: NfConn, skb: SkBuff, direction: int, hook: int) -> int:
    """The flow has seen this datagram; 1, or -1 for INVALID. Linux: nf_conntrack_udp_packet()."""
    sysctl = ct.net.sysctl.netfilter
    if skb.csum == CSUM_BAD and hook == PREROUTING and sysctl.nf_conntrack_checksum:
        log_invalid(skb, hook, 17, "bad checksum")
        return -1
    now = ct.net.loop.now
    if not ct.status & IPS_CONFIRMED:
        ct.stream_ts = now + STREAM_AFTER
    timeout = sysctl.nf_conntrack_udp_timeout
    stream = ct.status & IPS_SEEN_REPLY and now > ct.stream_ts
    if stream:
        timeout = sysctl.nf_conntrack_udp_timeout_stream
    nf_ct_refresh_acct(ct, direction, skb, timeout * SEC)
    if stream and not ct.status & (IPS_ASSURED | IPS_NAT_CLASH):
        ct.status |= IPS_ASSURED
        ct.events |= IPCT_ASSURED
    return 1
