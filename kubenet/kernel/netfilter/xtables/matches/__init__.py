"""The matches: importing this package registers them under the names that follow -m."""

from kubenet.kernel.netfilter.xtables.matches import (
    addrtype,
    comment,
    connlimit,
    connmark,
    conntrack,
    dscp,
    hl,
    icmp,
    icmp6,
    iprange,
    length,
    limit,
    mac,
    mark,
    multiport,
    nfacct,
    owner,
    physdev,
    pkttype,
    quota,
    recent,
    sctp,
    state,
    statistic,
    string,
    tcp,
    ttl,
    udp,
)

__all__ = [
    "addrtype", "comment", "connlimit", "connmark", "conntrack", "dscp", "hl", "icmp", "icmp6", "iprange", "length", "limit",
    "mac", "mark", "multiport", "nfacct", "owner", "physdev", "pkttype", "quota", "recent", "sctp", "state", "statistic", "string", "tcp",
    "ttl", "udp",
]
