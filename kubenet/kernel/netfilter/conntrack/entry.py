"""The records: NfConn, one tracked connection, and what TCP tracking remembers of its two peers.

`orig` is the tuple of the first packet as it came in; `reply` is the tuple an answer has, so NAT is nothing but a
`reply` that is not the inverse of `orig`. `status` has the IPS_* bits that `conntrack -L` shows as [UNREPLIED],
[ASSURED] ...

`timeout` is the time (ns) at which the entry ends; until the entry is confirmed it is the time it will then have left.
Nobody deletes an entry at that time (a timer for each would cost more than the packets): whoever meets it later treats
it as gone.

Sources: Linux include/net/netfilter/nf_conntrack.h, nf_conntrack_tcp.h, uapi/linux/netfilter/nf_conntrack_common.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.kernel.netfilter.conntrack.tuple import ORIGINAL, Tuple

if TYPE_CHECKING:
    from kubenet.kernel.netns import NetNamespace

IPS_EXPECTED = 1
IPS_SEEN_REPLY = 2
IPS_ASSURED = 4
IPS_CONFIRMED = 8
IPS_SRC_NAT = 0x10
IPS_DST_NAT = 0x20
IPS_NAT_MASK = IPS_SRC_NAT | IPS_DST_NAT
IPS_SEQ_ADJUST = 0x40
IPS_SRC_NAT_DONE = 0x80
IPS_DST_NAT_DONE = 0x100
IPS_NAT_DONE_MASK = IPS_SRC_NAT_DONE | IPS_DST_NAT_DONE
IPS_DYING = 0x200
IPS_FIXED_TIMEOUT = 0x400
IPS_TEMPLATE = 0x800
IPS_NAT_CLASH = 0x1000
IPS_HELPER = 0x2000

# What happened to an entry since its watchers were told (1 << IPCT_*). Linux: enum ip_conntrack_events
IPCT_NEW, IPCT_RELATED, IPCT_DESTROY, IPCT_REPLY, IPCT_ASSURED, IPCT_PROTOINFO, IPCT_MARK = 1, 2, 4, 8, 16, 32, 128

# Which directions a zone is for. Linux: NF_CT_ZONE_DIR_*
ZONE_DIR_ORIG, ZONE_DIR_REPL, ZONE_DIR_BOTH = 1, 2, 3

NEVER = 1 << 62


class Zone:
    """A zone number, and the directions in which it counts. Linux: struct nf_conntrack_zone."""

    __slots__ = ("id", "dir")

    def __init__(self, id: int = 0, dir: int = ZONE_DIR_BOTH) -> None:
        self.id = id
        self.dir = dir

    def of(self, direction: int) -> int:
        """The number that tuples of this direction have. Linux: nf_ct_zone_id()."""
        return self.id if self.dir & 1 << direction else 0


DEFAULT_ZONE = Zone()


class TcpPeer:
    """What one side has sent, as seen in between. Linux: struct ip_ct_tcp_state.

    td_end: its highest sequence number + length; td_maxend: the most the other side lets it send; td_maxwin: the
    largest window it offered; td_maxack: its highest ACK; td_scale: its window scale.
    """

    __slots__ = ("td_end", "td_maxend", "td_maxwin", "td_maxack", "td_scale", "flags")

    def __init__(self) -> None:
        self.td_end: int = 0
        self.td_maxend: int = 0
        self.td_maxwin: int = 0
        self.td_maxack: int = 0
        self.td_scale: int = 0
        self.flags: int = 0


class TcpTrack:
    """The state of a TCP connection in between. `seen[0]` is the side that sent the first packet. Linux: struct
    ip_ct_tcp."""

    __slots__ = ("state", "seen", "last_dir", "last_index", "last_seq", "last_ack", "last_end", "last_win",
                 "last_wscale", "last_flags", "retrans")

    def __init__(self) -> None:
        self.state: int = 0
        self.seen: tuple[TcpPeer, TcpPeer] = (TcpPeer(), TcpPeer())
        self.last_dir: int = 0
        self.last_index: int = 0
        self.last_seq: int = 0
        self.last_ack: int = 0
        self.last_end: int = 0
        self.last_win: int = 0
        self.last_wscale: int = 0
        self.last_flags: int = 0
        self.retrans: int = 0


class NfConn:
    """One connection. `proto` is the TcpTrack of a TCP connection, else None. packets and bytes are None without
    accounting."""

    __slots__ = ("net", "orig", "reply", "status", "timeout", "gc_at", "proto", "mark", "zone", "id", "packets",
                 "bytes", "master", "helper", "labels", "masq_index", "stream_ts", "events", "start", "confirmed_at", "no_port")

    def __init__(self, net: NetNamespace, orig: Tuple, reply: Tuple, zone: Zone = DEFAULT_ZONE) -> None:
        self.net = net
        self.orig = orig
        self.reply = reply
        self.status: int = 0
        self.timeout: int = 0
        self.gc_at: int = NEVER  # the time at which the collector will look at it
        self.proto: Any = None
        self.mark: int = 0
        self.zone = zone
        self.id: int = 0
        self.packets: list[int] | None = None
        self.bytes: list[int] | None = None
        self.master: NfConn | None = None
        self.helper: Any = None
        self.labels: int = 0
        self.masq_index: int = 0  # MASQUERADE: the device whose address it has
        self.stream_ts: int = 0  # UDP: from when on it counts as a stream
        self.events: int = 0
        self.start: int = 0  # ns, with nf_conntrack_timestamp
        self.confirmed_at: int = 0
        self.no_port: bool = False  # NAT found no free port: it will fail when it is confirmed

    @property
    def tuples(self) -> tuple[Tuple, Tuple]:
        """(orig, reply), to be indexed by a direction."""
        return (self.orig, self.reply)

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self.orig[4] >> 8

    @property
    def protonum(self) -> int:
        """The IP protocol number."""
        return self.orig[4] & 0xFF

    def tuple_of(self, direction: int) -> Tuple:
        """The tuple of one direction."""
        return self.orig if direction == ORIGINAL else self.reply

    def __repr__(self) -> str:
        return f"<NfConn {self.orig} / {self.reply} status={self.status:#x}>"


def is_template(ct: NfConn) -> bool:
    """True for what `-j CT` puts on a packet before it is tracked. Linux: nf_ct_is_template()."""
    return ct.status & IPS_TEMPLATE != 0


def nf_ct_tmpl_alloc(net: NetNamespace, zone: Zone = DEFAULT_ZONE, helper: Any = None) -> NfConn:
    """A template: raw table's CT target sets it as skb.ct, tracking takes zone and helper from it. Linux:
    nf_ct_tmpl_alloc()."""
    nothing: Tuple = (0, 0, 0, 0, 0)
    ct = NfConn(net, nothing, nothing, zone)
    ct.status = IPS_TEMPLATE
    ct.helper = helper
    return ct

