"""The forwarding database of a VXLAN device: which VTEP (tunnel end) a MAC address is behind.

    fdb.update(mac, remote, NUD_PERMANENT, NLM_F_CREATE | NLM_F_EXCL)     bridge fdb add
    fdb.snoop(mac, source)                                                learning: a frame came through the tunnel

An entry has one destination, or, for groups and for the all-zero MAC (where unknown destinations go), a list of them: head-end
replication. The newest entry stands first, as `bridge fdb` prints them since 6.16. Entries that were learned age.

simplified: an aged entry is gone at once, on Linux up to 10 s later (vxlan_cleanup()); no nexthop groups (nhid).
Sources: Linux drivers/net/vxlan/vxlan_core.c vxlan_fdb_update(), vxlan_fdb_append(), vxlan_fdb_replace(), vxlan_snoop(),
__vxlan_fdb_delete(), vxlan_flush(); recordings of 6.18.
"""

from __future__ import annotations

import errno

from kubenet.kernel.dev.device import oserror
from kubenet.kernel.ipv4.neigh import NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE
from kubenet.kernel.skbuff import DropReason
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC

NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NTF_SELF, NTF_EXT_LEARNED, NTF_ROUTER = 0x02, 0x10, 0x80

ALL_ZEROS = 0


class VxlanRdst:
    """One destination: the VTEP's address; port, vni and ifindex 0: the device's own. Linux: struct vxlan_rdst."""

    __slots__ = ("remote_ip", "port", "vni", "ifindex")

    def __init__(self, remote_ip: int, port: int = 0, vni: int = -1, ifindex: int = 0) -> None:
        self.remote_ip = remote_ip
        self.port = port
        self.vni = vni
        self.ifindex = ifindex

    def same(self, other: VxlanRdst) -> bool:
        """Linux: vxlan_fdb_find_rdst()."""
        return (self.remote_ip, self.port, self.vni, self.ifindex) == (other.remote_ip, other.port, other.vni, other.ifindex)


class VxlanFdbEntry:
    """What is known of one MAC. `state`: NUD_*, `flags`: NTF_*; `used`, `updated`: ns. Linux: struct vxlan_fdb."""

    __slots__ = ("mac", "state", "flags", "remotes", "updated", "used")

    def __init__(self, mac: int, state: int, flags: int, now: int) -> None:
        self.mac = mac
        self.state = state
        self.flags = flags
        self.remotes: list[VxlanRdst] = []
        self.updated = now
        self.used = now


def is_group(mac: int) -> bool:
    """May this address have several destinations? Groups, and the all-zero MAC."""
    return mac == ALL_ZEROS or bool(mac >> 40 & 1)


class VxlanFdb:
    """All entries of a device. ageing: ns, 0: never; limit: most entries, 0: no limit."""

    __slots__ = ("loop", "entries", "ageing", "limit")

    def __init__(self, loop: EventLoop, ageing: int = 300 * SEC, limit: int = 0) -> None:
        self.loop = loop
        self.entries: dict[int, VxlanFdbEntry] = {}
        self.ageing = ageing
        self.limit = limit

    def find(self, mac: int) -> VxlanFdbEntry | None:
        """The entry for `mac`, unless it has aged out. Linux: vxlan_find_mac()."""
        entry = self.entries.get(mac)
        if entry is None or not self._aged(entry):
            return entry
        del self.entries[mac]
        return None

    def _aged(self, entry: VxlanFdbEntry) -> bool:
        if not self.ageing or entry.state & (NUD_PERMANENT | NUD_NOARP) or entry.flags & NTF_EXT_LEARNED:
            return False
        return self.loop.now >= entry.updated + self.ageing

    def dump(self) -> list[VxlanFdbEntry]:
        """Every entry, the newest first. Linux: vxlan_fdb_dump()."""
        return [e for e in reversed(self.entries.values()) if not self._aged(e)]

    def update(self, mac: int, remote: VxlanRdst, state: int, how: int, flags: int = NTF_SELF) -> None:
        """The database says so, as far as `how` (NLM_F_*) lets it. OSError EEXIST, ENOENT, ENOSPC, EOPNOTSUPP.

        Linux: vxlan_fdb_update().
        """
        entry = self.find(mac)
        if entry is None:
            return self._create(mac, remote, state, how, flags)
        if how & NLM_F_EXCL:
            raise oserror(errno.EEXIST)
        if entry.state != state or entry.flags != flags:
            entry.state, entry.flags, entry.updated = state, flags, self.loop.now
        known = any(other.same(remote) for other in entry.remotes)
        if how & NLM_F_REPLACE:
            if is_group(mac):
                raise oserror(errno.EOPNOTSUPP, "Cannot replace non-unicast fdb entries.")
            if not known:
                entry.remotes[0] = remote
        if how & NLM_F_APPEND and is_group(mac) and not known:
            entry.remotes.append(remote)
        return None

    def _create(self, mac: int, remote: VxlanRdst, state: int, how: int, flags: int) -> None:
        """Linux: vxlan_fdb_update_create(), vxlan_fdb_create()."""
        if not how & NLM_F_CREATE:
            raise oserror(errno.ENOENT)
        if how & NLM_F_REPLACE and is_group(mac):
            raise oserror(errno.EOPNOTSUPP)
        if self.limit and len(self.entries) >= self.limit:
            raise oserror(errno.ENOSPC)
        entry = self.entries[mac] = VxlanFdbEntry(mac, state, flags, self.loop.now)
        entry.remotes.append(remote)

    def delete(self, mac: int, remote: VxlanRdst) -> None:
        """The destination, or with the last one the entry, is gone; another destination is no error. OSError ENOENT.

        Linux: __vxlan_fdb_delete().
        """
        entry = self.find(mac)
        if entry is None:
            raise oserror(errno.ENOENT)
        if remote.remote_ip:
            kept = [other for other in entry.remotes if not other.same(remote)]
            if len(kept) == len(entry.remotes):
                return
            if kept:
                entry.remotes = kept
                return
        del self.entries[mac]

    def snoop(self, mac: int, source: int, running: bool) -> int:
        """A frame from `mac` came from the VTEP `source`, and that is known now: 0, or why the frame must be dropped.

        Linux: vxlan_snoop().
        """
        if not mac or mac >> 40 & 1:
            return DropReason.MAC_INVALID_SOURCE
        entry = self.find(mac)
        if entry is None:
            if running and not (self.limit and len(self.entries) >= self.limit):
                self._create(mac, VxlanRdst(source), NUD_REACHABLE, NLM_F_CREATE, NTF_SELF)
            return 0
        entry.updated = self.loop.now
        first = entry.remotes[0]
        if first.remote_ip == source and not first.ifindex:
            return 0
        if entry.state & (NUD_PERMANENT | NUD_NOARP):
            return DropReason.VXLAN_ENTRY_EXISTS
        first.remote_ip = source
        return 0

    def flush(self, everything: bool = False) -> None:
        """What was learned is forgotten, or everything. Linux: vxlan_flush()."""
        kept = {} if everything else {m: e for m, e in self.entries.items() if e.state & (NUD_PERMANENT | NUD_NOARP)}
        self.entries = kept
