"""The packet: SkBuff, and the two ends every packet comes to: delivery, or drop() with a reason.

Headers are mutable objects held by reference; bytes are made only where something needs bytes (captures, raw sockets, wire
checks). `payload` is copied once, when a program sends it. NAT edits eth, ip and l4 in place, so whoever keeps a packet
(a tap, a bridge that floods) keeps clone(); clone() copies eth and ip, and l4 is copied before the first write to it
(skb_ensure_writable()).

`len` is the length of the network-layer packet: IP header + transport header + data (ARP: 28); a frame is 14 more.
`plen` is the data behind the transport header. A super-segment has gso_size > 0 and counts as gso_segs segments; its len is
one header plus all data, as skb->len is in Linux. `id` follows a packet through clones, NAT and tunnels over the whole
cluster. `tr` is None, or the PacketTrace of an armed packet (sim/trace.py).

Sources: Linux include/linux/skbuff.h, include/net/dropreason-core.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.sim.trace import PacketTrace, Station
from kubenet.wire.ethernet import EthHdr

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
ETH_HLEN = 14

# skb.csum: CHECKSUM_* plus BAD, which stands for bytes that were flipped on the wire.
CSUM_NONE, CSUM_UNNECESSARY, CSUM_PARTIAL, CSUM_BAD = 0, 1, 3, 4

# skb.pkt_type (if_packet.h)
PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING = 0, 1, 2, 3, 4

# skb.ctinfo (nf_conntrack_common.h). A packet without ct and with ctinfo 0 is INVALID or not tracked at all.
IP_CT_ESTABLISHED, IP_CT_RELATED, IP_CT_NEW, IP_CT_ESTABLISHED_REPLY, IP_CT_RELATED_REPLY, IP_CT_UNTRACKED = 0, 1, 2, 3, 4, 7


class SkBuff:
    """One packet on its way. Whoever holds it may edit it; handing it on gives it away."""

    __slots__ = (
        "net", "dev", "indev", "outdev", "iif", "protocol", "pkt_type", "mark", "priority", "eth", "ip", "l4", "inner",
        "payload", "len", "plen", "gso_size", "gso_segs", "csum", "ct", "ctdir", "ctinfo", "dst", "sk", "id", "tr", "tstamp",
        "nf_bridge", "cloned", "cb", "nf_trace", "ignore_df",
    )

    def __init__(self, net: NetNamespace, protocol: int, ip: Any, l4: Any, payload: Any, plen: int, length: int) -> None:
        self.net = net
        self.dev: Any = None  # NetDevice: where it came in, later where it goes out
        self.indev: Any = None  # the hooks' `in` and `out`: what -i and -o look at
        self.outdev: Any = None
        self.iif: int = 0
        self.protocol = protocol
        self.pkt_type: int = PACKET_HOST
        self.mark: int = 0
        self.priority: int = 0
        self.eth: EthHdr | None = None
        self.ip = ip  # IpHdr or Ipv6Hdr as `protocol` says; ArpHdr for ARP
        self.l4 = l4  # TcpHdr, UdpHdr, IcmpHdr, or None (fragments, unknown protocols: then payload has everything)
        self.inner: Any = None  # Quote in an ICMP error; the encapsulated SkBuff in a tunnel
        self.payload = payload
        self.len = length
        self.plen = plen
        self.gso_size: int = 0
        self.gso_segs: int = 1
        self.csum: int = CSUM_UNNECESSARY
        self.ct: Any = None
        self.ctdir: int = 0
        self.ctinfo: int = 0
        self.dst: Any = None
        self.sk: Any = None
        loop = net.loop
        loop.ids += 1
        self.id: int = loop.ids
        self.tr: PacketTrace | None = None
        self.tstamp: int = 0
        self.nf_bridge: Any = None
        self.cloned: bool = False
        self.cb: Any = None
        self.nf_trace: bool = False
        self.ignore_df: bool = False

    def clone(self) -> SkBuff:
        """A second packet with the same id, payload and transport header. Linux: skb_clone()."""
        other = SkBuff.__new__(SkBuff)
        for slot in SkBuff.__slots__:
            setattr(other, slot, getattr(self, slot))
        if self.eth is not None:
            other.eth = self.eth.copy()
        if self.ip is not None:
            other.ip = self.ip.copy()
        self.cloned = other.cloned = True
        return other


def skb_ensure_writable(skb: SkBuff) -> None:
    """skb.l4 (and an ICMP error's quote) may be edited: nobody else holds it. Linux: skb_ensure_writable()."""
    if skb.cloned:
        if skb.l4 is not None:
            skb.l4 = skb.l4.copy()
        if hasattr(skb.inner, "copy"):  # a Quote; the packet inside a tunnel is not this one's to edit
            skb.inner = skb.inner.copy()
        skb.cloned = False


def arm(skb: SkBuff, first: bool) -> None:
    """Give a new packet its trace if it is to have one; `first`: it opens a connection. Called once, where it is made."""
    loop = skb.net.loop
    if loop.tracer.wants(loop.now, skb.id, first):
        skb.tr = loop.tracer.open(skb.id, describe(skb))


def describe(skb: SkBuff) -> dict[str, Any]:
    """What the packet is, for the head of its trace and for looking it up later."""
    l4, ip = skb.l4, skb.ip
    return {
        "t": skb.net.loop.now,
        "host": skb.net.host.name,
        "netns": skb.net.name,
        "protocol": skb.protocol,
        "proto": getattr(ip, "proto", 0),
        "saddr": getattr(ip, "saddr", 0),
        "daddr": getattr(ip, "daddr", 0),
        "sport": getattr(l4, "sport", 0),
        "dport": getattr(l4, "dport", 0),
        "flags": getattr(l4, "flags", 0),
        "seq": getattr(l4, "seq", 0),
        "ack": getattr(l4, "ack_seq", 0),
        "window": getattr(l4, "window", 0),
        "mss": getattr(getattr(l4, "options", None), "mss", 0),
        "icmp": (l4.type, l4.code) if hasattr(l4, "type") else None,
        "len": skb.len,
        "plen": skb.plen,
    }


def station(skb: SkBuff, func: str, what: str = "") -> Station:
    """Record that an armed packet passed kernel function `func`; the caller may fill in more. Only when skb.tr is set."""
    net = skb.net
    dev = skb.dev
    s = Station(net.loop.now, net.host.name, net.name, dev.name if dev is not None else "", func, what)
    ip, l4 = skb.ip, skb.l4
    if ip is not None and (skb.protocol == ETH_P_IP or skb.protocol == ETH_P_IPV6):
        s.proto = ip.proto if skb.protocol == ETH_P_IP else ip.nexthdr
        s.saddr, s.daddr = ip.saddr, ip.daddr
        if s.proto == 6 or s.proto == 17:
            if l4 is not None:
                s.sport, s.dport = l4.sport, l4.dport
    s.length = skb.len
    s.mark = skb.mark
    trace = skb.tr
    assert trace is not None
    net.loop.tracer.add(trace, s)
    return s


class DropReason:
    """Why a packet ended, as skb_drop_reason names it. Plain ints; REASONS has the words and the counter."""

    NOT_SPECIFIED = 0
    NO_SOCKET = 1
    PKT_TOO_SMALL = 2
    TCP_CSUM = 3
    SOCKET_FILTER = 4
    UDP_CSUM = 5
    NETFILTER_DROP = 6
    OTHERHOST = 7
    IP_CSUM = 8
    IP_INHDR = 9
    IP_RPFILTER = 10
    SOCKET_RCVBUFF = 11
    PROTO_MEM = 12
    TCP_ZEROWINDOW = 13
    TCP_OLD_DATA = 14
    TCP_OVERWINDOW = 15
    TCP_OFOMERGE = 16
    TCP_RFC7323_PAWS = 17
    TCP_OLD_SEQUENCE = 18
    TCP_INVALID_SEQUENCE = 19
    TCP_INVALID_ACK_SEQUENCE = 20
    TCP_RESET = 21
    TCP_INVALID_SYN = 22
    TCP_CLOSE = 23
    TCP_OLD_ACK = 24
    TCP_TOO_OLD_ACK = 25
    TCP_ACK_UNSENT_DATA = 26
    TCP_LISTEN_OVERFLOW = 27
    TCP_REQQ_FULL = 28
    TCP_FLAGS = 29
    TCP_ABORT_ON_DATA = 30
    IP_OUTNOROUTES = 31
    IP_INNOROUTES = 32
    IP_INADDRERRORS = 33
    IP_LOCAL_SOURCE = 34
    IP_INVALID_SOURCE = 35
    IP_LOCALNET = 36
    IP_FORWARDING_OFF = 37
    IP_TTL = 38
    PKT_TOO_BIG = 39
    FRAG_REASM_TIMEOUT = 40
    FRAG_TOO_FAR = 41
    FRAG_MEM = 42
    NEIGH_FAILED = 43
    NEIGH_QUEUEFULL = 44
    NEIGH_DEAD = 45
    DEV_READY = 46
    QDISC_DROP = 47
    FULL_RING = 48
    UNHANDLED_PROTO = 49
    BRIDGE_NO_PORT = 50
    BRIDGE_DEAD_END = 51
    LINK_LOSS = 52
    LINK_DOWN = 53
    DEV_MTU = 54
    CONNTRACK_FULL = 55
    CONNTRACK_CLASH = 56
    NAT_NO_PORT = 57
    ICMP_BAD = 58
    IP_UNKNOWN_PROTO = 59
    IP_BLACKHOLE = 60
    MULTICAST = 61
    RECURSION_LIMIT = 62
    ARP_IGNORED = 63
    HOST_DEAD = 64
    FCS_ERROR = 65
    VXLAN_INVALID_HDR = 66
    VXLAN_VNI_NOT_FOUND = 67
    NO_TX_TARGET = 68
    VXLAN_ENTRY_EXISTS = 69
    MAC_INVALID_SOURCE = 70
    LOCAL_MAC = 71
    IP_TUNNEL_ECN = 72


# reason -> (name, SNMP counter it moves or "", words)
REASONS: dict[int, tuple[str, str, str]] = {
    0: ("NOT_SPECIFIED", "", "dropped"),
    1: ("NO_SOCKET", "", "no socket for this address and port"),
    2: ("PKT_TOO_SMALL", "IpInHdrErrors", "shorter than its header says"),
    3: ("TCP_CSUM", "TcpInCsumErrors", "TCP checksum is wrong"),
    4: ("SOCKET_FILTER", "", "the socket's filter refused it"),
    5: ("UDP_CSUM", "UdpInCsumErrors", "UDP checksum is wrong"),
    6: ("NETFILTER_DROP", "", "a netfilter rule dropped it"),
    7: ("OTHERHOST", "", "its MAC address is another machine's"),
    8: ("IP_CSUM", "IpExtInCsumErrors", "IP header checksum is wrong"),
    9: ("IP_INHDR", "IpInHdrErrors", "the IP header is broken"),
    10: ("IP_RPFILTER", "TcpExtIPReversePathFilter", "reverse path filter: the way back uses another device"),
    11: ("SOCKET_RCVBUFF", "", "the socket's receive buffer is full"),
    12: ("PROTO_MEM", "", "protocol memory is used up"),
    13: ("TCP_ZEROWINDOW", "TcpExtTCPZeroWindowDrop", "data for a closed receive window"),
    14: ("TCP_OLD_DATA", "", "data that was received before"),
    15: ("TCP_OVERWINDOW", "TcpExtBeyondWindow", "data beyond the receive window"),
    16: ("TCP_OFOMERGE", "TcpExtTCPOFOMerge", "already in the out-of-order queue"),
    17: ("TCP_RFC7323_PAWS", "TcpExtPAWSEstab", "timestamp older than the last one (PAWS)"),
    18: ("TCP_OLD_SEQUENCE", "", "sequence number before the window"),
    19: ("TCP_INVALID_SEQUENCE", "", "sequence number outside the window"),
    20: ("TCP_INVALID_ACK_SEQUENCE", "", "acknowledgment outside the window"),
    21: ("TCP_RESET", "", "the connection was reset"),
    22: ("TCP_INVALID_SYN", "", "SYN inside a connection"),
    23: ("TCP_CLOSE", "", "the socket is closed"),
    24: ("TCP_OLD_ACK", "", "old acknowledgment"),
    25: ("TCP_TOO_OLD_ACK", "", "acknowledgment too old to be true"),
    26: ("TCP_ACK_UNSENT_DATA", "", "acknowledges data that was never sent"),
    27: ("TCP_LISTEN_OVERFLOW", "", "the listener's accept queue is full"),
    28: ("TCP_REQQ_FULL", "", "the listener's SYN queue is full"),
    29: ("TCP_FLAGS", "", "flags that make no sense in this state"),
    30: ("TCP_ABORT_ON_DATA", "TcpExtTCPAbortOnData", "data for a socket that nobody will read again"),
    31: ("IP_OUTNOROUTES", "IpOutNoRoutes", "no route to the destination"),
    32: ("IP_INNOROUTES", "IpExtInNoRoutes", "no route to the destination"),
    33: ("IP_INADDRERRORS", "IpInAddrErrors", "not for this machine, and it does not forward"),
    34: ("IP_LOCAL_SOURCE", "", "martian source: the source address is this machine's own"),
    35: ("IP_INVALID_SOURCE", "", "martian source: the source address can never be valid"),
    36: ("IP_LOCALNET", "", "martian destination: 127/8 from outside (route_localnet=0)"),
    37: ("IP_FORWARDING_OFF", "IpInAddrErrors", "not for this machine, and ip_forward is 0"),
    38: ("IP_TTL", "IpInHdrErrors", "time to live ran out"),
    39: ("PKT_TOO_BIG", "IpFragFails", "larger than the next link's MTU, and DF is set"),
    40: ("FRAG_REASM_TIMEOUT", "IpReasmFails", "a fragment was missing for too long"),
    41: ("FRAG_TOO_FAR", "IpReasmFails", "fragments too far apart"),
    42: ("FRAG_MEM", "IpReasmFails", "no memory left for fragments"),
    43: ("NEIGH_FAILED", "", "nobody answered ARP for the next hop"),
    44: ("NEIGH_QUEUEFULL", "", "too many packets wait for ARP"),
    45: ("NEIGH_DEAD", "", "the neighbour entry is gone"),
    46: ("DEV_READY", "", "the device is down"),
    47: ("QDISC_DROP", "", "the device's queue is full"),
    48: ("FULL_RING", "", "the link's queue is full"),
    49: ("UNHANDLED_PROTO", "", "no handler for this EtherType"),
    50: ("BRIDGE_NO_PORT", "", "the bridge has no port to send it to"),
    51: ("BRIDGE_DEAD_END", "", "the bridge would send it back where it came from (hairpin is off)"),
    52: ("LINK_LOSS", "", "lost on the link"),
    53: ("LINK_DOWN", "", "the link is cut"),
    54: ("DEV_MTU", "", "larger than the receiving device's MTU (silent)"),
    55: ("CONNTRACK_FULL", "", "nf_conntrack: table full, dropping packet"),
    56: ("CONNTRACK_CLASH", "", "another packet created the same conntrack entry first"),
    57: ("NAT_NO_PORT", "", "NAT found no free port"),
    58: ("ICMP_BAD", "IcmpInErrors", "ICMP message is broken or for nobody"),
    59: ("IP_UNKNOWN_PROTO", "IpInUnknownProtos", "no handler for this IP protocol"),
    60: ("IP_BLACKHOLE", "", "a blackhole route swallowed it"),
    61: ("MULTICAST", "", "multicast that nobody here joined"),
    62: ("RECURSION_LIMIT", "", "devices sent to each other without end"),
    63: ("ARP_IGNORED", "", "ARP for an address that is not answered here"),
    64: ("HOST_DEAD", "", "the machine is frozen or dead"),
    65: ("FCS_ERROR", "", "corrupted on the wire: the frame check failed"),
    66: ("VXLAN_INVALID_HDR", "", "no VXLAN header, or no frame behind it"),
    67: ("VXLAN_VNI_NOT_FOUND", "", "no VXLAN device has this VNI"),
    68: ("NO_TX_TARGET", "", "the VXLAN device knows no VTEP for this MAC address"),
    69: ("VXLAN_ENTRY_EXISTS", "", "a permanent FDB entry has its source MAC behind another VTEP"),
    70: ("MAC_INVALID_SOURCE", "", "its source MAC address cannot be one"),
    71: ("LOCAL_MAC", "", "its source MAC address is the receiving device's own"),
    72: ("IP_TUNNEL_ECN", "", "congestion mark outside, and inside a packet that knows none (RFC 6040)"),
}


def drop(skb: SkBuff, reason: int) -> None:
    """The packet ends here: its counter moves, the ledger has a line, and its trace says why. Linux: kfree_skb_reason()."""
    net = skb.net
    counter = REASONS[reason][1]
    if counter:
        net.snmp[counter] += 1
    loop = net.loop
    loop.ledger.add((loop.now, "drop", net.name, skb.id, reason))
    if skb.tr is None:
        skb.tr = loop.tracer.open(skb.id, describe(skb))
    s = station(skb, "kfree_skb_reason", REASONS[reason][2])
    s.verdict = "DROP"
    s.data = {"reason": REASONS[reason][0]}
