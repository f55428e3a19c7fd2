"""Which connections a command means: the filters of `conntrack -L` and `-D`, as a pure function.

    select(entries, Filter(orig_dst=(ip4("10.96.0.10"), 32), proto=17))

Every field that is set must hold. Addresses come with a prefix length, because -s and -d take one. NAT filters compare
the two tuples: a connection is source-translated if its answers go somewhere else than its packets came from.

Sources: conntrack-tools src/conntrack.c nfct_filter(), filter_nat(); libnetfilter_conntrack getobjopt (IS_SNAT,
IS_DNAT).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubenet.kernel.netfilter.conntrack.entry import IPS_SEEN_REPLY, NfConn
from kubenet.kernel.netfilter.conntrack.text import state_name
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET
from kubenet.wire.addr import in_prefix

Net = tuple[int, int]  # address and prefix length


@dataclass(slots=True)
class Filter:
    """None means "any". snat, dnat: () any translation of that kind, (addr,) to that address."""

    family: int | None = None
    proto: int | None = None
    orig_src: Net | None = None
    orig_dst: Net | None = None
    reply_src: Net | None = None
    reply_dst: Net | None = None
    sport: int | None = None
    dport: int | None = None
    reply_sport: int | None = None
    reply_dport: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None
    state: str | None = None
    mark: tuple[int, int] | None = None  # value and mask
    zone: int | None = None
    status: int = 0  # IPS_* bits that must be set
    unreplied: bool = False  # and IPS_SEEN_REPLY must not
    snat: tuple[int, ...] | None = None
    dnat: tuple[int, ...] | None = None
    any_nat: tuple[int, ...] | None = None


def is_snat(ct: NfConn) -> bool:
    """Answers go to another address than the packets came from. Tool: NFCT_GOPT_IS_SNAT."""
    return ct.reply[2] != ct.orig[0]


def is_dnat(ct: NfConn) -> bool:
    """Answers come from another address than the packets go to. Tool: NFCT_GOPT_IS_DNAT."""
    return ct.reply[0] != ct.orig[2]


def _in(addr: int, net: Net | None, bits: int) -> bool:
    return net is None or in_prefix(addr, net[0], net[1], bits)


def _nat(ct: NfConn, want: Filter) -> bool:
    snat = is_snat(ct) and (not want.snat or ct.reply[2] in want.snat)
    dnat = is_dnat(ct) and (not want.dnat or ct.reply[0] in want.dnat)
    if want.any_nat is not None:
        source = is_snat(ct) and (not want.any_nat or ct.reply[2] in want.any_nat)
        target = is_dnat(ct) and (not want.any_nat or ct.reply[0] in want.any_nat)
        return source or target
    return (want.snat is None or snat) and (want.dnat is None or dnat)


def _same(pairs: Iterable[tuple[int | None, int]]) -> bool:
    return all(want is None or want == have for want, have in pairs)


def matches(ct: NfConn, want: Filter) -> bool:
    """Does the filter mean this connection? Tool: filter_nat(), nfct_filter(), nfct_cmp()."""
    orig, reply = ct.orig, ct.reply
    bits = 32 if ct.family == AF_INET else 128
    return (
        _same(((want.family, ct.family), (want.proto, ct.protonum), (want.sport, orig[1]), (want.dport, orig[3]),
               (want.reply_sport, reply[1]), (want.reply_dport, reply[3]), (want.icmp_type, orig[3] >> 8),
               (want.icmp_code, orig[3] & 0xFF), (want.icmp_id, orig[1]), (want.zone, ct.zone.id)))
        and _in(orig[0], want.orig_src, bits) and _in(orig[2], want.orig_dst, bits)
        and _in(reply[0], want.reply_src, bits) and _in(reply[2], want.reply_dst, bits)
        and not (want.unreplied and ct.status & IPS_SEEN_REPLY)
        and (want.state is None or state_name(ct) == want.state)
        and (want.mark is None or ct.mark & want.mark[1] == want.mark[0])
        and ct.status & want.status == want.status
        and _nat(ct, want)
    )


def select(entries: Iterable[NfConn], want: Filter) -> list[NfConn]:
    """The connections the filter means, in their order."""
    return [ct for ct in entries if matches(ct, want)]
