"""ifconfig, route and arp (net-tools 2.10): older views of the tables that `ip` shows. Observed output."""

from __future__ import annotations

from kubenet.userland.netview import addresses, main_routes, neighbours
from kubenet.userland.process import Process
from kubenet.userland.tools import tool
from kubenet.userland.tools.ip.common import IFF_NAMES
from kubenet.wire.addr import ip4_text, mac_text, prefix_mask


def route_n(proc: Process) -> str:
    """route -n, netstat -rn."""
    out = "Kernel IP routing table\nDestination     Gateway         Genmask         Flags Metric Ref    Use Iface\n"
    for row in main_routes(proc.net):
        if not row.dev:
            continue
        flags = "U" + ("G" if row.gateway else "") + ("H" if row.plen == 32 else "")
        out += (f"{ip4_text(row.prefix):<15} {ip4_text(row.gateway):<15} {ip4_text(prefix_mask(row.plen)):<15} {flags:<5} {row.metric:<6} "
                f"{0:<6} {0:>3} {row.dev}\n")
    return out


@tool("route")
def route(proc: Process, argv: list[str]) -> int:
    """route [-n]"""
    proc.out(route_n(proc))
    return 0


@tool("arp")
def arp(proc: Process, argv: list[str]) -> int:
    """arp [-n]"""
    rows = neighbours(proc.net)
    if not rows:
        return 0
    proc.out("Address                  HWtype  HWaddress           Flags Mask            Iface\n")
    for n in rows:
        if n.lladdr is None:
            proc.out(f"{ip4_text(n.addr):<24}         (incomplete)                              {n.dev}\n")
        else:
            flags = "CM" if n.state == "PERMANENT" else "C"
            proc.out(f"{ip4_text(n.addr):<24} ether   {mac_text(n.lladdr):<19} {flags:<21} {n.dev}\n")
    return 0


@tool("ifconfig")
def ifconfig(proc: Process, argv: list[str]) -> int:
    """ifconfig [DEV]"""
    names = [a for a in argv[1:] if not a.startswith("-")]
    if names and names[0] not in proc.net.devs:
        proc.err(f"{names[0]}: error fetching interface information: Device not found\n")
        return 1
    for dev in proc.net.devs.values():
        if (names and dev.name != names[0]) or (not dev.flags & 1 and not names and "-a" not in argv):
            continue
        flags = ([] if not dev.flags & 1 else ["UP"]) + [n for b, n in IFF_NAMES[:2] if dev.flags & b] + ["RUNNING"] * (dev.flags & 1)
        flags = [f for f in ("UP", "LOOPBACK", "BROADCAST", "RUNNING") if f in flags] + ["MULTICAST"] * bool(dev.flags & 0x1000)
        value = (dev.flags & 0x1FFF) | 0x40 * (dev.flags & 1)
        proc.out(f"{dev.name}: flags={value}<{','.join(flags)}>  mtu {dev.mtu}\n")
        for a in addresses(dev):
            brd = f"  broadcast {ip4_text(a.brd)}" if a.brd else ""
            proc.out(f"        inet {ip4_text(a.addr)}  netmask {ip4_text(prefix_mask(a.plen))}{brd}\n")
        if dev.kind == "loopback":
            proc.out(f"        loop  txqueuelen {dev.txqlen}  (Local Loopback)\n")
        else:
            proc.out(f"        ether {mac_text(dev.addr)}  txqueuelen {dev.txqlen}  (Ethernet)\n")
        for label in ("rx", "tx"):
            packets, size = getattr(dev, f"{label}_packets"), getattr(dev, f"{label}_bytes")
            proc.out(f"        {label.upper()} packets {packets}  bytes {size} ({size / 1000:.1f} KB)\n")
            tail = "overruns 0  frame 0" if label == "rx" else "overruns 0  carrier 0  collisions 0"
            errors, dropped = getattr(dev, label + "_errors"), getattr(dev, label + "_dropped")
            proc.out(f"        {label.upper()} errors {errors}  dropped {dropped}  {tail}\n")
        proc.out("\n")
    return 0
