"""Narrow views of a namespace for the tools: sockets, routes, neighbours, addresses, as rows.

Everything is read at the moment of asking and nothing is changed. Sources: sock_diag(7), rtnetlink(7) for what a row holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.socket.file import SocketFile

if TYPE_CHECKING:
    from kubenet.userland.process import Process

STATES = {1: "ESTAB", 2: "SYN-SENT", 3: "SYN-RECV", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT", 7: "UNCONN",
          8: "CLOSE-WAIT", 9: "LAST-ACK", 10: "LISTEN", 11: "CLOSING", 12: "SYN-RECV"}
STATE_NUMBERS = {name: number for number, name in STATES.items() if number != 12}


@dataclass
class SocketRow:
    """One socket as `ss` sees it. timer: (name, ns left, retransmits)."""

    netid: str
    state: str
    recv_q: int
    send_q: int
    saddr: int
    sport: int
    daddr: int
    dport: int
    ino: int = 0
    uid: int = 0
    sk: Any = None
    family: int = 2
    users: list[tuple[str, int, int]] = field(default_factory=list)
    timer: tuple[str, int, int] | None = None
    path: str = ""
    peer_ino: int = 0
    dev: str = ""
    info: dict[str, Any] | None = None


def sockets(net: NetNamespace, kinds: Sequence[str] = ("tcp", "udp", "raw", "unix")) -> list[SocketRow]:
    """The sockets of a namespace, in a stable order: udp, then tcp listeners, then connections."""
    rows: list[SocketRow] = []
    if "unix" in kinds and net.unix:
        for path, sk in net.unix.items():
            rows.append(SocketRow("u_str" if sk.type == 1 else "u_dgr", STATES[sk.state], 0, 0, 0, 0, 0, 0, sk.ino, path=path, sk=sk))
    if "raw" in kinds and net.raw is not None and hasattr(net.raw, "dump"):
        rows += [_datagram(net, "raw", sk) for sk in net.raw.dump()]
    if "udp" in kinds and net.udp is not None:
        rows += [_datagram(net, "udp", sk) for sk in net.udp.dump()]
    if "tcp" in kinds and net.socks is not None:
        rows += [_tcp(net, sk) for sk in net.socks.dump()]
    return rows


def _device(net: NetNamespace, sk: Any) -> str:
    bound = getattr(sk, "bound_dev", 0)
    dev = net.dev_by_index.get(bound) if bound else None
    return dev.name if dev is not None else ""


def _datagram(net: NetNamespace, netid: str, sk: Any) -> SocketRow:
    queues = sk.prot.diag(sk)
    port = sk.sport if netid == "udp" else sk.protocol
    return SocketRow(netid, STATES[sk.state], queues["recv_q"], queues["send_q"], sk.saddr, port, sk.daddr, sk.dport, sk.ino,
                     sk.uid, sk, sk.family, dev=_device(net, sk))


def _tcp(net: NetNamespace, sk: Any) -> SocketRow:
    from kubenet.kernel.tcp.info import tcp_diag

    diag = tcp_diag(sk)
    row = SocketRow("tcp", STATES[diag["state"]], diag["recv_q"], diag["send_q"], sk.saddr, sk.sport, sk.daddr, sk.dport,
                    getattr(sk, "ino", 0), getattr(sk, "uid", 0), sk, dev=_device(net, sk))
    row.timer = diag["timer"]
    row.info = diag["info"]
    if row.state == "TIME-WAIT":
        row.ino = 0
    return row


def attach_users(proc: Process, rows: list[SocketRow]) -> None:
    """Fill in who has each socket open: (program, pid, fd), as far as `proc` may see."""
    owners: dict[int, list[tuple[str, int, int]]] = {}
    for container in visible_containers(proc):
        for other in container.processes.values():
            name = other.argv[0].rpartition("/")[2][:15] if other.argv else "?"
            for fd, file in sorted(other.fds.files.items()):
                if isinstance(file, SocketFile):
                    owners.setdefault(id(file.sk), []).append((name, other.pid, fd))
    for row in rows:
        row.users = owners.get(id(row.sk), [])


def visible_containers(proc: Process) -> list[Any]:
    """The containers whose processes `proc` sees: its own; on a node also those in the node's namespace."""
    own = proc.container
    others = own.host.extra.get("containers", {}).values() if own.image.name == "node" else ()
    return [own, *(c for c in others if c is not own and c.net is own.net)]


@dataclass
class RouteRow:
    """One route; dev is a name."""

    prefix: int
    plen: int
    gateway: int
    dev: str
    metric: int
    route: Any = None


def main_routes(net: NetNamespace) -> list[RouteRow]:
    """The main table, in `ip route`'s order."""
    from kubenet.kernel.ipv4.fib import fib_dump

    return [RouteRow(r.prefix, r.plen, r.gateway, r.dev.name if r.dev is not None else "", r.metric, r) for r in fib_dump(net)]


@dataclass
class NeighRow:
    """One neighbour entry; lladdr None while unknown."""

    addr: int
    dev: str
    lladdr: int | None
    state: str
    entry: Any = None


def neighbours(net: NetNamespace) -> list[NeighRow]:
    """The ARP table."""
    from kubenet.kernel.ipv4.neigh import NUD_NAMES, NUD_VALID

    table = net.neigh.get(2)
    if table is None:
        return []
    return [NeighRow(n.ip, n.dev.name, n.ha if n.state & NUD_VALID else None, NUD_NAMES.get(n.state, "NONE"), n)
            for n in table.dump()]


def addresses(dev: Any) -> list[Any]:
    """The IPv4 addresses of a device (IfAddr records)."""
    return list(dev.ifaddrs)


def duration(ns: int) -> str:
    """A timer as ss prints it: 3min59sec, 56sec, 4.500ms."""
    ms = max(ns, 0) // 1_000_000
    minutes, rest = divmod(ms // 1000, 60)
    if minutes:
        return f"{minutes}min" + (f"{rest}sec" if minutes < 9 else "")
    if rest > 9:
        return f"{rest}sec"
    text = f"{rest}.{ms % 1000:03d}" if rest else f".{ms % 1000:03d}"
    return f"{text}ms" if not rest else f"{text}sec" if ms % 1000 else f"{rest}sec"


__all__ = ["attach_users", "sockets"]
