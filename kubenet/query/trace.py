"""What happened to a packet, from the stations it left; nothing here is computed a second time.

    packet_json(cluster, 17)        one packet, or None if it was not recorded
    probe_json(cluster, probe)      the first packet of a probe, with what became of the probe
    reply_of(cluster, 17)           the id of the first packet that answers it
    search(cluster, last=..., ...)  packets of the ring that fit

A step has t_ns, us (since the first), node, netns, dev, func with file and line, hook, priority, table, chain, rule_no, verdict,
what, before and after ("10.48.1.5:41000 > 10.96.0.1:80"), addr ("C → V"), ct, and the flags nat and drop; from
vxlan_xmit_one to vxlan_rcv the packet is inside another one, whose addresses these are, and "tunnel" is true. Each endpoint gets one
letter in a legend; it changes on the line where NAT happens.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, Protocol

import kubenet
from kubenet.cluster.cluster import Cluster
from kubenet.cluster.probe import Probe
from kubenet.errors import NotFoundError
from kubenet.fabric.link import Link
from kubenet.kernel.netfilter.conntrack.text import ct_summary
from kubenet.kernel.netfilter.core import HOOK_NAMES, PRI_CONNTRACK_CONFIRM
from kubenet.kernel.netns import NetNamespace
from kubenet.query.names import NODE, OUTSIDE, POD, SERVICE, Directory, place_name
from kubenet.sim.trace import PacketTrace, Station
from kubenet.wire.addr import ip4_text

Obj = dict[str, Any]
Milestone = tuple[tuple[str, ...], str]

PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
DELIVERED = ("tcp_v4_rcv", "udp_queue_rcv_skb", "ping_rcv", "icmp_rcv", "ip_protocol_deliver_rcu")
STATE_FILES = ("kernel", "fabric")


# ---- one packet


def packet_json(cluster: Cluster, packet: int) -> Obj | None:
    """The packet with this id; None if it left no stations."""
    trace = cluster.loop.tracer.packets.get(packet)
    return _story(cluster, trace) if trace is not None and trace.stations else None


def probe_json(cluster: Cluster, probe: Probe) -> Obj:
    """What a probe's first packet met, and what the program saw. NotFoundError if it sent nothing."""
    if probe.resolve_error:
        raise NotFoundError(f"{probe.src} cannot resolve {probe.dst!r}: {probe.resolve_error}", why="DNS was asked inside the pod",
                            try_=f"kubenet exec {probe.src} -- dig {probe.dst}")
    tracer = cluster.loop.tracer
    for packet in range(probe.first_id + 1, probe.last_id + 1):
        trace = tracer.packets.get(packet)
        if trace is not None and _is_probe(trace, probe):
            found = _story(cluster, trace)
            found["probe"] = {"src": probe.src, "dst": probe.dst, "port": probe.port, "error": probe.error_text,
                              "gave_up": probe.gave_up, "took_ns": probe.ended - probe.began, "local": list(probe.local)}
            if found["outcome"] == "dropped" or probe.error:
                found["first_difference"] = _first_difference(cluster, trace)
            return found
    raise NotFoundError(f"the probe from {probe.src} to {probe.dst}:{probe.port} sent no packet", why=probe.error_text or "it ended",
                        try_=f"kubenet exec {probe.src} -- ip route")


def _is_probe(trace: PacketTrace, probe: Probe) -> bool:
    head = trace.head
    if head["netns"] != probe.netns or head["host"] != probe.host or head["dport"] != probe.port:
        return False
    return bool(head["flags"] & SYN) if probe.proto == "tcp" else head["proto"] == 17


def reply_of(cluster: Cluster, packet: int) -> int:
    """The first later packet with the ends exchanged, as its receiver saw them. NotFoundError."""
    tracer = cluster.loop.tracer
    trace = tracer.packets.get(packet)
    if trace is None or not trace.stations:
        raise NotFoundError(f"packet {packet} was not recorded", try_=f"kubenet trace --packet {packet}")
    last = trace.stations[-1]
    wanted = (last.daddr, last.dport, last.saddr, last.sport)
    for number in sorted(n for n in tracer.packets if n > packet):
        head = tracer.packets[number].head
        ends = (head["saddr"], head["sport"], head["daddr"], head["dport"])
        if ends == wanted or _errors_about(head, trace):
            return number
    raise NotFoundError(f"nothing answered packet {packet}", try_=f"kubenet trace --packet {packet}")


def _errors_about(head: Obj, trace: PacketTrace) -> bool:
    """An ICMP error to the sender, right after."""
    icmp = head.get("icmp")
    return icmp is not None and icmp[0] in (3, 11, 12) and head["daddr"] == trace.stations[-1].saddr


def search(cluster: Cluster, last: bool = False, target: str = "", flow: Obj | None = None, namespace: str = "default",
           limit: int = 50) -> list[Obj]:
    """Packets of the ring: the last one sent by `target`, or all of a flow between src and dst[:port], oldest first."""
    tracer, directory = cluster.loop.tracer, Directory(cluster)
    found: list[PacketTrace] = []
    place = cluster.container(target, namespace) if target else None
    for number in sorted(tracer.packets, reverse=last):
        trace = tracer.packets[number]
        head = trace.head
        if head["protocol"] != 0x0800 or not trace.stations:
            continue
        if place is not None and (head["host"], head["netns"]) != (place.net.host.name, place.net.name):
            continue
        if flow and not _in_flow(trace, directory, flow):
            continue
        if last and not _opens(head) and any(_opens(t.head) for t in tracer.packets.values()):
            continue  # "what did it just try": the packet that opened, not the ACKs and FINs after it
        found.append(trace)
        if last or len(found) >= limit:
            break
    if not found:
        raise NotFoundError("no recorded packet fits", why=f"{len(tracer.packets)} packets are recorded",
                            try_="kubenet trace client web:80")
    return [_story(cluster, trace) for trace in found]


def _opens(head: Obj) -> bool:
    """A SYN, a datagram, an echo request: what a program did, not what TCP did for it."""
    if head["proto"] == 6:
        return bool(head["flags"] & SYN and not head["flags"] & ACK)
    return bool(head["proto"] == 17 or (head["proto"] == 1 and head["icmp"] == (8, 0)))


def _in_flow(trace: PacketTrace, directory: Directory, flow: Obj) -> bool:
    names = set()
    ports = set()
    for s in (trace.stations[0], trace.stations[-1]):
        names |= {directory.name(s.saddr), directory.name(s.daddr)}
        ports |= {s.sport, s.dport}
    wanted = [n for n in (flow.get("src"), flow.get("dst")) if n]
    return all(n in names for n in wanted) and (not flow.get("port") or int(flow["port"]) in ports)


# ---- telling it


def _story(cluster: Cluster, trace: PacketTrace) -> Obj:
    nets = {name: machine.net for name, machine in cluster.fabric.machines.items()}
    return Story(trace, Directory(cluster), nets).json()


class Names(Protocol):
    """Who has an address: Directory for a cluster, other sources for other worlds."""

    def kind(self, addr: int) -> str: ...
    def name(self, addr: int) -> str: ...
    def words(self, addr: int) -> str: ...
    def title(self, addr: int) -> str: ...


class Story:
    """One packet's stations made into steps. `nets`: the machines' own namespaces by name."""

    def __init__(self, trace: PacketTrace, names: Names, nets: Mapping[str, NetNamespace]) -> None:
        self.trace = trace
        self.directory = names
        self.nets = nets
        self.letters: dict[tuple[int, int], str] = {}
        self.outer = _outer(trace.stations)

    def json(self) -> Obj:
        """The whole story."""
        stations, head = self.trace.stations, self.trace.head
        first, last = stations[0], stations[-1]
        self._name_endpoints(stations)
        steps = [self._step(stations, at) for at in range(len(stations))]
        delivered = [s for s in stations if s.func in DELIVERED]
        dropped = _fatal_drop(stations, delivered)
        outcome = "dropped" if dropped is not None else "delivered" if delivered else "in flight"
        out: Obj = {
            "id": self.trace.id, "kind": packet_kind(head), "outcome": outcome, "t_ns": first.t, "took_ns": last.t - first.t,
            "from": self.directory.title(first.saddr), "to": self.directory.title(first.daddr),
            "at": place_name(last.host, last.netns), "endpoints": self._legend(), "steps": steps,
            "head": {k: head[k] for k in ("proto", "flags", "seq", "ack", "window", "mss", "len", "plen")},
            "socket": self._socket(stations), "wire": self._wire(stations), "points": self._points(stations),
            "conntrack": self._conntrack(stations),
        }
        if dropped is not None:
            out["drop"] = {"reason": (dropped.data or {}).get("reason", ""), "words": dropped.what,
                           "where": place_name(dropped.host, dropped.netns), "rule": self._last_rule(stations)}
        return out

    def _name_endpoints(self, stations: list[Station]) -> None:
        """One letter each: C the pod that asked (N a node, O from outside), V a Service's address, P a pod that answers."""
        head = self.trace.head
        first = stations[0]
        source_asks = bool(head["flags"] & SYN and not head["flags"] & ACK) or (
            not head["flags"] & SYN and first.sport >= first.dport)
        for s in stations:
            for end, asks in (((s.saddr, s.sport), source_asks), ((s.daddr, s.dport), not source_asks)):
                if end[0] and end not in self.letters:
                    self.letters[end] = self._letter(end[0], asks)

    def _letter(self, addr: int, asks: bool) -> str:
        kind = self.directory.kind(addr)
        wanted = {SERVICE: "V", NODE: "N", OUTSIDE: "O", POD: "C" if asks else "P"}.get(kind, "X")
        taken = set(self.letters.values())
        if wanted not in taken:
            return wanted
        return next(f"{wanted}{n}" for n in range(2, 100) if f"{wanted}{n}" not in taken)

    def _legend(self) -> list[Obj]:
        return [{"letter": letter, "addr": _endpoint(*end), "ip": ip4_text(end[0]), "port": end[1],
                 "what": self.directory.words(end[0])} for end, letter in self.letters.items()]

    def _addr(self, s: Station) -> str:
        left, right = self.letters.get((s.saddr, s.sport), "?"), self.letters.get((s.daddr, s.dport), "?")
        return f"{left} → {right}"

    def _step(self, stations: list[Station], at: int) -> Obj:
        s = stations[at]
        before = stations[at - 1] if at else s
        file, line = source_of(s.func)
        step: Obj = {
            "t_ns": s.t, "us": (s.t - stations[0].t) // 1000, "node": s.host, "netns": s.netns, "place": place_name(s.host, s.netns),
            "dev": s.dev, "func": s.func, "file": file, "line": line, "hook": HOOK_NAMES[s.hook] if s.hook >= 0 else "",
            "priority": s.prio if s.prio != PRI_CONNTRACK_CONFIRM else "last", "table": s.table, "chain": s.chain, "rule_no": s.rule,
            "verdict": s.verdict, "what": s.what, "before": _ends_text(before), "after": _ends_text(s), "addr": self._addr(s),
            "ct": s.ct, "mark": s.mark, "length": s.length, "nat": s.func == "nf_nat_manip_pkt",
            "drop": s.func == "kfree_skb_reason",
        }
        if s.data:
            step["data"] = s.data
        if self.outer[at]:
            step["tunnel"] = True
        return step

    def _socket(self, stations: list[Station]) -> Obj | None:
        """What the sender's socket knows: the addresses before any hook saw the packet."""
        s = stations[0]
        if s.func not in ("tcp_transmit_skb", "ip_local_out"):
            return None
        state = (s.data or {}).get("state", "")
        return {"place": place_name(s.host, s.netns), "local": _endpoint(s.saddr, s.sport), "peer": _endpoint(s.daddr, s.dport),
                "letter": self.letters.get((s.daddr, s.dport), ""), "state": state} if s.sport else None

    def _wire(self, stations: list[Station]) -> Obj | None:
        """What the first cable between machines carried."""
        at = next((at for at, s in enumerate(stations) if s.func == "link_send"), -1)
        if at < 0:
            return None
        s = carried = stations[at]
        found: Obj = {"place": s.host, "dev": s.dev, "length": s.length + 14}
        if self.outer[at]:
            wrapped = max(n for n in range(at) if stations[n].func == "vxlan_xmit_one")
            s = stations[max(wrapped - 1, 0)]
            found["tunnel"] = {"vni": (stations[wrapped].data or {}).get("vni", 0), "src": _endpoint(carried.saddr, carried.sport),
                               "dst": _endpoint(carried.daddr, carried.dport)}
        return {**found, "src": _endpoint(s.saddr, s.sport), "dst": _endpoint(s.daddr, s.dport),
                "src_letter": self.letters.get((s.saddr, s.sport), ""), "dst_letter": self.letters.get((s.daddr, s.dport), "")}

    def _points(self, stations: list[Station]) -> list[Obj]:
        """The addresses at each device the packet entered or left, for the strip below the wide view."""
        out: list[Obj] = []
        for at, s in enumerate(stations):
            if s.func in ("netif_receive_skb", "link_send", "dev_queue_xmit") and s.dev not in ("lo",):
                point: Obj = {"place": place_name(s.host, s.netns), "dev": s.dev, "addr": self._addr(s)}
                if self.outer[at]:
                    point["tunnel"] = True
                if not out or (out[-1]["place"], out[-1]["dev"]) != (point["place"], point["dev"]):
                    out.append(point)
        return out

    def _conntrack(self, stations: list[Station]) -> Obj | None:
        """The entry that translates this packet, or the first one it made."""
        tracked = [s for s in stations if s.ct]
        chosen = next((s for s in tracked if s.func == "nf_nat_manip_pkt"), None)
        if chosen is None:
            return None
        final = next((s for s in reversed(tracked) if (s.host, s.netns) == (chosen.host, chosen.netns)), chosen)
        return {"place": place_name(chosen.host, chosen.netns), "entry": final.ct, "entries": self._live_entry(chosen)}

    def _live_entry(self, s: Station) -> Obj | None:
        """The entry as the table has it now, if it still has it."""
        net = self.nets.get(s.host)
        table = net.ct if net is not None and s.netns == s.host else None
        if net is None or table is None:
            return None
        first = self.trace.stations[0]
        ends = {(first.saddr, first.sport), (first.daddr, first.dport)}
        for ct in table.entries():
            if ends in ({ct.orig[0:2], ct.orig[2:4]}, {ct.reply[0:2], ct.reply[2:4]}):
                now = net.loop.now
                return {"id": ct.id, "summary": ct_summary(ct), "original": f"{_endpoint(*ct.orig[:2])} > {_endpoint(*ct.orig[2:4])}",
                        "reply": f"{_endpoint(*ct.reply[:2])} > {_endpoint(*ct.reply[2:4])}", "left_s": max(ct.timeout - now, 0) // 10**9}
        return None

    def _last_rule(self, stations: list[Station]) -> Obj | None:
        """The last rule that matched, if a rule is why the packet ended."""
        rule = next((s for s in reversed(stations) if s.func == "ipt_do_table"), None)
        if rule is None or rule.verdict not in ("DROP", "REJECT"):
            return None
        return {"table": rule.table, "chain": rule.chain, "rule_no": rule.rule, "verdict": rule.verdict, "comment": rule.what}


def _outer(stations: list[Station]) -> list[bool]:
    """For each station: is the packet inside a tunnel's there?"""
    out, inside = [], False
    for s in stations:
        inside = s.func != "vxlan_rcv" and (inside or s.func == "vxlan_xmit_one")
        out.append(inside)
    return out


def _first_difference(cluster: Cluster, trace: PacketTrace) -> Obj | None:
    """Where this packet and a delivered one to the same destination parted: of those that began a connection as it did, the one that
    it kept company with longest, and the newest of these."""
    wanted = _errand(trace)
    mine = _milestones(trace)
    best: tuple[int, int, PacketTrace] | None = None
    tracer = cluster.loop.tracer
    for number in sorted(n for n in tracer.packets if n < trace.id):
        other = tracer.packets[number]
        if not other.stations or _errand(other) != wanted or not any(s.func in DELIVERED for s in other.stations) \
                or any(s.func == "kfree_skb_reason" for s in other.stations):
            continue
        together = _together(mine, _milestones(other))
        if best is None or together >= best[0]:
            best = (together, number, other)
    if best is None:
        return None
    at, _, good = best
    theirs = _milestones(good)
    here, there = ("" if at >= len(m) else m[at][1] for m in (mine, theirs))
    return {"good": good.id, "good_from": Directory(cluster).name(good.stations[0].saddr), "step": at, "here": here, "there": there}


def _errand(trace: PacketTrace) -> tuple[Any, ...]:
    """What a packet was sent for: a SYN is compared with SYNs, for nobody asks the rules about a FIN."""
    first = trace.stations[0]
    return first.daddr, first.dport, first.proto, first.func, trace.head["flags"] & SYN if first.proto == 6 else 0


def _together(mine: list[Milestone], theirs: list[Milestone]) -> int:
    """How many milestones two packets have in common before they part."""
    count = 0
    for a, b in zip(mine, theirs, strict=False):
        if a[0] != b[0]:
            break
        count += 1
    return count


def _milestones(trace: PacketTrace) -> list[Milestone]:
    """Steps reduced to what can be compared between two senders: rules and their verdicts, rewrites, the end."""
    out: list[Milestone] = []
    for s in trace.stations:
        if s.func == "ipt_do_table" and s.rule > 0:
            out.append(((s.func, s.table, s.chain, str(s.rule), s.verdict), f"{s.table} {s.chain} #{s.rule} {s.verdict}"))
        elif s.func in ("nf_nat_manip_pkt", "kfree_skb_reason") or s.func in DELIVERED:
            out.append(((s.func, s.verdict), s.what))
    return out


def _fatal_drop(stations: list[Station], delivered: list[Station]) -> Station | None:
    """The drop that ended the packet. Copies of a flooded frame die at machines it was not meant for: that is no loss."""
    drops = [s for s in stations if s.verdict == "DROP" and s.func == "kfree_skb_reason"]
    if delivered:
        drops = [s for s in drops if (s.host, s.netns) == (delivered[-1].host, delivered[-1].netns)]
    return drops[0] if drops else None


# ---- words


def packet_kind(head: Obj) -> str:
    """"TCP SYN", "UDP", "ICMP echo request"."""
    proto = PROTOCOLS.get(head["proto"], f"protocol {head['proto']}")
    if head["protocol"] == 0x0806:
        return "ARP"
    if head["proto"] == 1 and head.get("icmp"):
        names = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
        return f"ICMP {names.get(head['icmp'][0], head['icmp'][0])}"
    if head["proto"] != 6:
        return proto
    flags = head["flags"]
    words = [name for bit, name in ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST")) if flags & bit]
    if flags & ACK and (words or not head["plen"]):
        words.append("ACK")
    if head["plen"]:
        words.append(f"{head['plen']} bytes")
    return f"TCP {' '.join(words) if head['plen'] else '-'.join(words)}"


def _endpoint(addr: int, port: int) -> str:
    return f"{ip4_text(addr)}:{port}" if port else ip4_text(addr)


def _ends_text(s: Station) -> str:
    return f"{_endpoint(s.saddr, s.sport)} > {_endpoint(s.daddr, s.dport)}" if s.saddr or s.daddr else ""


@functools.cache
def source_of(func: str) -> tuple[str, int]:
    """(file, line) of the kernel or fabric function with this name; ("", 0) if there is none."""
    return _functions().get(func, ("", 0))


@functools.cache
def _functions() -> dict[str, tuple[str, int]]:
    out: dict[str, tuple[str, int]] = {}
    for package in STATE_FILES:
        base = import_module(f"kubenet.{package}")
        for info in walk_packages(base.__path__, f"kubenet.{package}."):
            module = import_module(info.name)
            for name, value in vars(module).items():
                if inspect.isfunction(value) and value.__module__ == info.name and name not in out:
                    file = inspect.getsourcefile(value) or ""
                    root = str(kubenet.__path__[0])
                    out[name] = ("kubenet" + file.removeprefix(root), value.__code__.co_firstlineno)
    out["link_send"] = ("kubenet/fabric/link.py", Link.send.__code__.co_firstlineno)  # a method, so not found by name
    return out
