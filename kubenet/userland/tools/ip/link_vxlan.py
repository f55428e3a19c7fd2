"""ip link ... type vxlan: its options, and what `ip -d link show` prints of them.

Leaves out: external, gbp, gpe, rsc, vnifilter, flowlabel, remcsum, IPv6 ends (they are refused).
Source: iproute2 ip/iplink_vxlan.c; a recording of iproute2 6.1 on Linux 6.18 (tests/userland/golden/vxlan.txt).
"""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.dev.device import oserror
from kubenet.kernel.ipv4.route import is_multicast
from kubenet.kernel.vxlan.device import DF_INHERIT, DF_SET, DF_UNSET, TOS_INHERIT, Vxlan, VxlanConfig
from kubenet.userland.tools.ip.common import IpError, address_of, dsfield_of, invarg, number_of, take
from kubenet.wire.addr import ip4_text
from kubenet.wire.vxlan import VXLAN_PORT

DF_NAMES = {"unset": DF_UNSET, "set": DF_SET, "inherit": DF_INHERIT}
DF_WORDS = {number: name for name, number in DF_NAMES.items()}
BOOLEANS = {"learning": "learning", "proxy": "proxy", "l2miss": "l2miss", "l3miss": "l3miss", "udpcsum": "udp_csum",
            "udp6zerocsumtx": "udp6_zero_csum_tx", "udp6zerocsumrx": "udp6_zero_csum_rx"}
REFUSED = ("external", "gbp", "gpe", "rsc", "vnifilter", "flowlabel", "remcsumtx", "remcsumrx")


def vxlan_options(net: Any, args: list[str]) -> dict[str, Any]:
    """The words behind `type vxlan` as fields of VxlanConfig, those that were given. Tool: vxlan_parse_opt()."""
    found: dict[str, Any] = {}
    given: list[str] = []
    while args:
        word = take(args)
        known = {"vni": "id", "address": "local"}.get(word, word)
        if known in given and known not in BOOLEANS:
            raise IpError(f'Error: either "{word}" is duplicate, or "{take(args)}" is a garbage.')
        given.append(known)
        negative = word.startswith("no") and word[2:] in (*BOOLEANS, *REFUSED)
        if word in BOOLEANS or negative and word[2:] in BOOLEANS:
            found[BOOLEANS[word[2:] if negative else word]] = not negative
        elif negative or word in REFUSED:
            raise oserror(errno.EOPNOTSUPP)
        elif known in _VALUES:
            _VALUES[known](net, found, take(args), args)
        else:
            raise IpError(f'vxlan: unknown command "{word}"?\n{USAGE.rstrip()}', 1)
    if "group" in given and "remote" in given:
        raise IpError("vxlan: both group and remote cannot be specified", 1)
    if "group" in given and "link" not in found:
        raise IpError("vxlan: 'group' requires 'dev' to be specified", 1)
    return found


def _id(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["vni"] = number_of(word, "invalid id", most=0xFFFFFF)


def _group(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["remote"] = address_of(word)
    if not is_multicast(found["remote"]):
        raise invarg("invalid group address", word)


def _remote(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["remote"] = 0 if word == "any" else address_of(word)
    if is_multicast(found["remote"]):
        raise invarg("invalid remote address", word)


def _local(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["local"] = 0 if word == "any" else address_of(word)
    if is_multicast(found["local"]):
        raise invarg("invalid local address", word)


def _dev(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    if word not in net.devs:
        raise IpError(f'Cannot find device "{word}"')
    found["link"] = net.devs[word]


def _ttl(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["ttl_inherit"], found["ttl"] = word == "inherit", 0
    if word not in ("inherit", "auto"):
        number = number_of(word, "invalid TTL")
        if number > 255:
            raise invarg("TTL must be <= 255", word)
        found["ttl"] = number


def _tos(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["tos"] = TOS_INHERIT if word == "inherit" else dsfield_of(word)


def _df(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    if word not in DF_NAMES:
        raise invarg("DF must be 'unset', 'set' or 'inherit'", word)
    found["df"] = DF_NAMES[word]


def _port(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["port"] = number_of(word, "dst port", most=0xFFFF) or VXLAN_PORT


def _srcport(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["port_min"] = number_of(word, "min port", most=0xFFFF)
    found["port_max"] = number_of(take(args), "max port", most=0xFFFF)


def _ageing(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["ageing"] = 0 if word == "none" else number_of(word, "ageing timer")


def _limit(net: Any, found: dict[str, Any], word: str, args: list[str]) -> None:
    found["addrmax"] = 0 if word == "unlimited" else number_of(word, "max addresses")


_VALUES = {"id": _id, "group": _group, "remote": _remote, "local": _local, "dev": _dev, "ttl": _ttl, "hoplimit": _ttl, "tos": _tos,
           "dsfield": _tos, "df": _df, "dstport": _port, "port": _srcport, "srcport": _srcport, "ageing": _ageing, "maxaddress": _limit}


def vxlan_add(net: Any, name: str, mtu: int, args: list[str]) -> str:
    """`ip link add NAME type vxlan ...`: the warning it prints. Linux: vxlan_newlink()."""
    quiet = "dstport" in args
    found = vxlan_options(net, args)
    if "vni" not in found:
        raise IpError("vxlan: missing virtual network identifier", 1)
    if found.get("ageing") == 0:
        found.pop("ageing")  # netlink's 0 and no word are the same: FDB_AGE_DEFAULT
    Vxlan(net, name, VxlanConfig(**found), mtu)
    return "" if quiet else NO_PORT


def vxlan_set(net: Any, dev: Any, args: list[str]) -> None:
    """`ip link set DEV type vxlan ...`. Linux: vxlan_changelink(), vxlan_nl2conf()."""
    found = vxlan_options(net, args)
    if found.get("vni", dev.cfg.vni) != dev.cfg.vni:
        raise oserror(errno.EOPNOTSUPP, "Cannot change VNI.")
    if found.get("port", dev.cfg.port) != dev.cfg.port:
        raise oserror(errno.EOPNOTSUPP, "Cannot change port.")
    remote = found.pop("remote", dev.cfg.remote)
    for key, value in found.items():
        setattr(dev.cfg, key, value)
    dev.fdb.ageing = dev.cfg.ageing * 1_000_000_000
    dev.fdb.limit = dev.cfg.addrmax
    dev.set_remote(remote)


def _link_name(dev: Vxlan) -> str:
    """The device below; its index if it is in the namespace that this one has left."""
    link = dev.cfg.link
    assert link is not None
    return link.name if dev.net is dev.underlay else f"if{link.ifindex}"


def vxlan_text(dev: Vxlan) -> str:
    """What follows on the line of -d. Tool: vxlan_print_opt()."""
    cfg = dev.cfg
    words = [f"vxlan id {cfg.vni}"]
    if cfg.remote:
        words.append(f"{'group' if is_multicast(cfg.remote) else 'remote'} {ip4_text(cfg.remote)}")
    if cfg.local:
        words.append(f"local {ip4_text(cfg.local)}")
    if cfg.link is not None:
        words.append(f"dev {_link_name(dev)}")
    words += [f"srcport {cfg.port_min} {cfg.port_max}", f"dstport {cfg.port}"]
    words += ["nolearning"] * (not cfg.learning) + ["proxy"] * cfg.proxy + ["l2miss"] * cfg.l2miss + ["l3miss"] * cfg.l3miss
    if cfg.tos:
        words.append("tos inherit" if cfg.tos == TOS_INHERIT else f"tos 0x{cfg.tos:x}")
    words.append("ttl inherit" if cfg.ttl_inherit else f"ttl {cfg.ttl or 'auto'}")
    if cfg.df:
        words.append(f"df {DF_WORDS[cfg.df]}")
    words.append(f"ageing {cfg.ageing or 'none'}")
    if cfg.addrmax:
        words.append(f"maxaddr {cfg.addrmax}")
    words += [("" if getattr(cfg, field) else "no") + word for word, field in list(BOOLEANS.items())[4:]]
    return " ".join(words) + " "


def vxlan_json(dev: Vxlan) -> dict[str, Any]:
    """linkinfo's info_data."""
    cfg = dev.cfg
    out: dict[str, Any] = {"id": cfg.vni}
    if cfg.remote:
        out["group" if is_multicast(cfg.remote) else "remote"] = ip4_text(cfg.remote)
    if cfg.local:
        out["local"] = ip4_text(cfg.local)
    if cfg.link is not None:
        out["link"] = _link_name(dev)
    out |= {"port_range": {"low": cfg.port_min, "high": cfg.port_max}, "port": cfg.port, "learning": cfg.learning}
    out |= {name: True for name in ("proxy", "l2miss", "l3miss") if getattr(cfg, name)}
    if cfg.tos:
        out["tos"] = f"0x{cfg.tos:x}"
    if not cfg.ttl_inherit:
        out["ttl"] = cfg.ttl
    out |= {"df": DF_WORDS[cfg.df], "ageing": cfg.ageing, **({"limit": cfg.addrmax} if cfg.addrmax else {}), "udp_csum": cfg.udp_csum,
            "udp_zero_csum6_tx": cfg.udp6_zero_csum_tx, "udp_zero_csum6_rx": cfg.udp6_zero_csum_rx}
    return out


NO_PORT = """vxlan: destination port not specified
Will use Linux kernel default (non-standard value)
Use 'dstport 4789' to get the IANA assigned value
Use 'dstport 0' to get default and quiet this message
"""
USAGE = """Usage: ... vxlan id VNI
		[ { group | remote } IP_ADDRESS ]
		[ local ADDR ]
		[ ttl TTL ]
		[ tos TOS ]
		[ df DF ]
		[ flowlabel LABEL ]
		[ dev PHYS_DEV ]
		[ dstport PORT ]
		[ srcport MIN MAX ]
		[ [no]learning ]
		[ [no]proxy ]
		[ [no]rsc ]
		[ [no]l2miss ]
		[ [no]l3miss ]
		[ ageing SECONDS ]
		[ maxaddress NUMBER ]
		[ [no]udpcsum ]
		[ [no]udp6zerocsumtx ]
		[ [no]udp6zerocsumrx ]
		[ [no]remcsumtx ] [ [no]remcsumrx ]
		[ [no]external ] [ gbp ] [ gpe ]
		[ [no]vnifilter ]

Where:	VNI	:= 0-16777215
	ADDR	:= { IP_ADDRESS | any }
	TOS	:= { NUMBER | inherit }
	TTL	:= { 1..255 | auto | inherit }
	DF	:= { unset | set | inherit }
	LABEL := 0-1048575
"""
