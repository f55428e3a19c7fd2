"""Tracking every other protocol: one entry per pair of addresses, 600 s. Source: Linux nf_conntrack_proto_generic.c.

GRE lives 30 s, 180 s and ASSURED once answered, as nf_conntrack_proto_gre.c has it. simplified: GRE keys are not part
of the tuple.
"""

from __future__ import annotations

from kubenet.kernel.netfilter.conntrack.entry import IPCT_ASSURED, IPS_ASSURED, IPS_SEEN_REPLY, NfConn
from kubenet.kernel.netfilter.conntrack.expire import nf_ct_refresh_acct
from kubenet.kernel.skbuff import SkBuff
from kubenet.units import SEC
from kubenet.wire.ipv4 import IPPROTO_GRE

GRE_TIMEOUT, GRE_TIMEOUT_STREAM = 30, 180


def nf_conntrack_generic_packet(ct: NfConn, skb: SkBuff, direction: int, hook: int) -> int:
    """The flow has seen this packet. Linux: generic_packet()."""
    if ct.protonum == IPPROTO_GRE:
        return _gre_packet(ct, skb, direction)
    nf_ct_refresh_acct(ct, direction, skb, ct.net.sysctl.netfilter.nf_conntrack_generic_timeout * SEC)
    return 1


def _gre_packet(ct: NfConn, skb: SkBuff, direction: int) -> int:
    """Linux: nf_conntrack_gre_packet()."""
    answered = ct.status & IPS_SEEN_REPLY
    nf_ct_refresh_acct(ct, direction, skb, (GRE_TIMEOUT_STREAM if answered else GRE_TIMEOUT) * SEC)
    if answered and not ct.status & IPS_ASSURED:
        ct.status |= IPS_ASSURED
        ct.events |= IPCT_ASSURED
    return 1
