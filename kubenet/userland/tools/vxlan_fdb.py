"""bridge fdb on VXLAN devices: dst, port, vni, via.

Source: iproute2 bridge/fdb.c, Linux vxlan_fdb_add(), vxlan_fdb_delete(), vxlan_fdb_dump(); a recording of
iproute2 6.1 on Linux 6.18 (tests/userland/golden/vxlan.txt).
"""

from __future__ import annotations

import errno
from typing import Any

from kubenet.kernel.dev.device import oserror
from kubenet.kernel.ipv4.neigh import NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE
from kubenet.kernel.vxlan.device import Vxlan
from kubenet.kernel.vxlan.fdb import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NTF_EXT_LEARNED,
    NTF_ROUTER,
    NTF_SELF,
    VxlanRdst,
)
from kubenet.userland.tools.ip.common import IpError, address_of, number_of, take
from kubenet.wire.addr import ip4_text, mac_text

VXLAN_WORDS = ("dst", "port", "vni", "via", "router", "extern_learn")
HOW = {"add": NLM_F_CREATE | NLM_F_EXCL, "append": NLM_F_CREATE | NLM_F_APPEND, "replace": NLM_F_CREATE | NLM_F_REPLACE}
STATES = {"permanent": NUD_PERMANENT, "static": NUD_NOARP | NUD_REACHABLE, "dynamic": NUD_REACHABLE, "temp": NUD_REACHABLE}


class VxlanWords:
    """What a command says of the destination."""

    def __init__(self) -> None:
        self.dst: int | None = None
        self.port, self.vni, self.ifindex, self.flags = 0, -1, 0, NTF_SELF

    def take(self, net: Any, word: str, args: list[str]) -> None:
        """One of VXLAN_WORDS, and what follows it. Tool: fdb_modify()."""
        if word == "dst":
            self.dst = address_of(take(args))
        elif word == "port":
            self.port = number_of(take(args), "invalid port\n", most=0xFFFF)
        elif word == "vni":
            self.vni = number_of(take(args), "invalid VNI\n", most=0xFFFFFF)
        elif word == "via":
            name = take(args)
            if name not in net.devs:
                raise IpError(f'Cannot find device "{name}"')
            self.ifindex = net.devs[name].ifindex
        else:
            self.flags |= NTF_ROUTER if word == "router" else NTF_EXT_LEARNED


def vxlan_fdb_modify(dev: Vxlan, mac: int, kind: str, words: VxlanWords, command: str) -> None:
    """Linux: vxlan_fdb_add(), vxlan_fdb_delete(), vxlan_fdb_parse()."""
    port = words.port if words.port != dev.cfg.port else 0
    vni = words.vni if words.vni != dev.cfg.vni else -1
    remote = VxlanRdst(words.dst or 0, port, vni, words.ifindex)
    if command == "delete":
        return dev.fdb.delete(mac, remote)
    if words.dst is None:
        raise oserror(errno.EINVAL)
    return dev.fdb.update(mac, remote, STATES[kind], HOW[command], words.flags)


def vxlan_fdb_rows(dev: Vxlan) -> list[dict[str, Any]]:
    """A row for each destination. Linux: vxlan_fdb_info()."""
    rows = []
    for entry in dev.fdb.dump():
        flags = ["self"] + ["extern_learn"] * bool(entry.flags & NTF_EXT_LEARNED) + ["router"] * bool(entry.flags & NTF_ROUTER)
        state = "permanent" if entry.state & NUD_PERMANENT else "static" if entry.state & NUD_NOARP else ""
        for rdst in entry.remotes:
            dst: dict[str, Any] = {"dst": ip4_text(rdst.remote_ip)}
            if rdst.port:
                dst["port"] = rdst.port
            if rdst.vni >= 0:
                dst["vni"] = rdst.vni
            if rdst.ifindex:
                via = dev.net.dev_by_index.get(rdst.ifindex) if dev.net is dev.underlay else None
                dst |= {"viaIf": via.name} if via is not None else {"viaIfIndex": rdst.ifindex}
            if dev.net is not dev.underlay:
                dst["linkNetNsId"] = 0
            rows.append({"mac": mac_text(entry.mac), "dev": dev, "flags": flags, "br": None, "state": state, "dst": dst})
    return rows


def vxlan_dst_text(row: dict[str, Any]) -> str:
    """Tool: print_fdb()."""
    words = {"viaIf": "via", "viaIfIndex": "via ifindex", "linkNetNsId": "link-netnsid"}
    return "".join(f"{words.get(name, name)} {value} " for name, value in row.get("dst", {}).items())
