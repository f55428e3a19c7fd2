r"""br_netfilter: bridged IPv4 packets pass iptables too, which is what makes Services work between pods of one node.

Loading the module (br_netfilter_init) registers three functions at the bridge family's hooks:

    PREROUTING   br_nf_pre_routing   runs IP PREROUTING with `in` = the bridge. If DNAT changed the destination:
                                     - to another host on this bridge: the frame gets that host's MAC and is bridged on, TTL
                                       untouched. While the MAC is unknown the bridge asks for it, and the waiting frame
                                       makes a detour through the bridge device;
                                     - elsewhere: the frame is addressed to the bridge, so the node's stack routes it
    FORWARD      br_nf_forward_ip    runs IP FORWARD with in = out = the bridge (`-m physdev` sees the ports)
    POSTROUTING  br_nf_post_routing  runs IP POSTROUTING with `out` = the bridge

Only frames that came in from a port have skb.nf_bridge; the node's own are not seen twice. ip_rcv() does not run
PREROUTING again for a frame that passes up. net.bridge.bridge-nf-call-iptables turns all of this on and off. Sources:
Linux net/bridge/br_netfilter_hooks.c; behaviour of the first frame observed on 6.18.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from kubenet.kernel.dev.bridge import Bridge, NfBridge, br_dev_queue_push_xmit, br_handle_frame_finish
from kubenet.kernel.dev.device import dev_queue_xmit
from kubenet.kernel.ipv4.fragment import (
    IP_DEFRAG_CONNTRACK_BRIDGE_IN,
    frag_max_size,
    ip_do_fragment,
    nf_defrag_ipv4,
)
from kubenet.kernel.ipv4.neigh import NUD_CONNECTED, neigh_event_send
from kubenet.kernel.ipv4.route import (
    AF_INET,
    DST_FAKE_RTABLE,
    RTN_UNICAST,
    Dst,
    ip_route_input_noref,
    ip_route_output_key,
)
from kubenet.kernel.netfilter.core import (
    ACCEPT,
    FORWARD,
    NFPROTO_BRIDGE,
    NFPROTO_IPV4,
    POSTROUTING,
    PREROUTING,
    STOLEN,
    nf_hook,
    nf_register_net_hook,
)
from kubenet.kernel.skbuff import ETH_P_IP, PACKET_HOST, PACKET_OTHERHOST, DropReason, SkBuff, drop, station
from kubenet.kernel.sysctl import BridgeSysctl
from kubenet.wire.ipv4 import IP_MF, IP_OFFSET

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace


def br_netfilter_init(net: NetNamespace) -> None:
    """`modprobe br_netfilter`: net.bridge.* exists, bridge-nf-call-iptables=1. Twice is once.

    Linux: br_netfilter_init().
    """
    if net.sysctl.bridge is not None:
        return
    net.sysctl.bridge = BridgeSysctl()
    nf_register_net_hook(net, NFPROTO_BRIDGE, PREROUTING, 0, br_nf_pre_routing, "br_netfilter")
    nf_register_net_hook(net, NFPROTO_BRIDGE, FORWARD, -1, br_nf_forward_ip, "br_netfilter")
    nf_register_net_hook(net, NFPROTO_BRIDGE, POSTROUTING, 1 << 30, br_nf_post_routing, "br_netfilter")


def _fake_dst(net: NetNamespace, br: Bridge) -> Dst:
    """A route for packets that are bridged: out through the bridge. Linux: bridge_parent_rtable()."""
    dst = br.fake_dst
    if not isinstance(dst, Dst) or dst.net is not net:
        dst = br.fake_dst = Dst(net, br, 0, 0, RTN_UNICAST, 0, None)
        dst.flags = DST_FAKE_RTABLE
    return dst


def br_nf_pre_routing(skb: SkBuff, hook: int) -> int:
    """IP's PREROUTING has seen the bridged packet. ACCEPT: the bridge goes on with it. Linux: br_nf_pre_routing()."""
    net = skb.net
    sysctl = net.sysctl.bridge
    if sysctl is None or not sysctl.bridge_nf_call_iptables or skb.protocol != ETH_P_IP:
        return ACCEPT
    port = skb.dev
    br: Bridge = port.master
    if skb.ip.frag & (IP_MF | IP_OFFSET) and not nf_defrag_ipv4(skb, IP_DEFRAG_CONNTRACK_BRIDGE_IN):
        return STOLEN
    skb.nf_bridge = note = NfBridge(port, skb.ip.daddr)
    skb.dev = skb.indev = br
    skb.outdev = None
    if skb.tr is not None:
        station(skb, "br_nf_pre_routing", f"bridged, {br.name} lets iptables look")
    verdict = nf_hook(NFPROTO_IPV4, PREROUTING, skb)
    if verdict != ACCEPT:
        return verdict
    skb.dev = port
    if skb.ip.daddr == note.daddr:
        skb.dst = _fake_dst(net, br)
        return ACCEPT
    return _pre_routing_finish_dnat(skb, br, note)


def _pre_routing_finish_dnat(skb: SkBuff, br: Bridge, note: NfBridge) -> int:
    """DNAT changed the destination: where does the packet go now? Linux: br_nf_pre_routing_finish()."""
    net, ip = skb.net, skb.ip
    reason = ip_route_input_noref(skb, br)
    dst = skb.dst
    if reason or (dst.error == errno.EHOSTUNREACH and not br.conf.forwarding):
        try:  # "Bridged-and-DNAT'ed traffic doesn't require ip_forwarding."
            out = ip_route_output_key(net, ip.daddr, 0, 0, 0, ip.tos)
        except OSError:
            out = None
        if br.conf.forwarding or out is None or out.dev is not br:
            drop(skb, reason or DropReason.IP_INADDRERRORS)
            return STOLEN
        skb.dst = dst = out
    if not dst.error and dst.dev is br:
        return br_nf_pre_routing_finish_bridge(skb, br, note)
    skb.eth.dst = br.addr  # type: ignore[union-attr]
    skb.pkt_type = PACKET_HOST
    return ACCEPT


def br_nf_pre_routing_finish_bridge(skb: SkBuff, br: Bridge, note: NfBridge) -> int:
    """The new destination is on this bridge: find its MAC and bridge on. Linux: br_nf_pre_routing_finish_bridge()."""
    neigh = skb.net.neigh[AF_INET].create(br, skb.dst.nexthop)
    if neigh is None:
        drop(skb, DropReason.NEIGH_FAILED)
        return STOLEN
    eth = skb.eth
    assert eth is not None
    if neigh.state & NUD_CONNECTED:
        if skb.tr is not None:
            station(skb, "br_nf_pre_routing_finish_bridge", "DNAT to a host on this bridge: bridged on")
        eth.dst = neigh.ha
        br_handle_frame_finish(skb)
        return STOLEN
    note.bridged_dnat = True
    note.src_mac = eth.src
    if skb.tr is not None:
        station(skb, "br_nf_pre_routing_finish_bridge", f"DNAT to a host on this bridge: {br.name} asks for its MAC")
    skb.dst.neigh = neigh
    neigh.used = skb.net.loop.now
    if not neigh_event_send(neigh, skb):
        skb.dev = br
        eth.dst, eth.src = neigh.ha, br.addr
        dev_queue_xmit(skb)
    return STOLEN


def br_nf_forward_ip(skb: SkBuff, hook: int) -> int:
    """IP's FORWARD has seen the bridged packet. Linux: br_nf_forward_ip()."""
    note = skb.nf_bridge
    if note is None:
        return ACCEPT
    note.physoutdev = port = skb.dev
    if skb.pkt_type == PACKET_OTHERHOST:
        skb.pkt_type = PACKET_HOST
    br = port.master
    skb.indev = skb.outdev = br
    return nf_hook(NFPROTO_IPV4, FORWARD, skb)


def br_nf_post_routing(skb: SkBuff, hook: int) -> int:
    """IP's POSTROUTING has seen the bridged packet. Linux: br_nf_post_routing()."""
    note = skb.nf_bridge
    if note is None or note.physoutdev is None:
        return ACCEPT
    skb.indev = None
    skb.outdev = skb.dev.master
    if skb.dst is None:
        skb.dst = _fake_dst(skb.net, skb.dev.master)
    verdict = nf_hook(NFPROTO_IPV4, POSTROUTING, skb)
    if verdict != ACCEPT or not skb.ignore_df:
        return verdict
    return br_nf_dev_queue_xmit(skb)


def br_nf_dev_queue_xmit(skb: SkBuff) -> int:
    """A packet that was put together for the rules is cut again for its port; whole ones go on. Linux: br_nf_dev_queue_xmit()."""
    mtu = min(skb.dev.mtu, frag_max_size(skb) or skb.dev.mtu)
    if skb.len <= mtu or skb.gso_size:
        return ACCEPT
    for piece in ip_do_fragment(skb, mtu):
        br_dev_queue_push_xmit(piece)
    return STOLEN
