"""`kubenet explain`: what a real node would do with a packet, from what its tools printed.

    question = Question(make_flow("10.48.1.5", "10.96.0.1", 80), sport=41000)
    Explainer(build_node(dumps), Behind(objects)).answer(question)

The packet is sent through the emulated kernel: received on a device, or made on the node. Every way the dice of `-m statistic`
can fall is tried. An answer has
    outcome     "leaves", "delivered" (to the node itself), "dropped", "rejected", "no route", or "unknown": it passed all that
                can be evaluated of a rule with a part that cannot. Several, if the dice decide
    ends        one for each different end: outcome, to, source, dev, via, rule. A source port of "*" is the kernel's to choose; a
                source in brackets is an address that no file shows
    trace       the first way, as `kubenet trace -o json` has it
    rules       the rules it matched on that way, each with its line, and the object it was written for, if its comment tells
    unknown     the rules that could not be evaluated on any way, with line and part
    assumed     what had to be taken for granted

Which object a rule is for is read from the comments that kube-proxy writes ("default/web:http cluster IP").
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from kubenet.cluster.api.decode import Manifest
from kubenet.errors import UsageError
from kubenet.kernel.dev.device import IFF_UP, NetDevice, netif_receive_skb
from kubenet.kernel.ipv4.fib import Flow as FibFlow
from kubenet.kernel.ipv4.fib import fib_lookup
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import inet_addr_type, ip_route_output_key
from kubenet.kernel.netfilter.conntrack.entry import IPS_SRC_NAT, NfConn
from kubenet.kernel.netfilter.conntrack.text import ct_summary
from kubenet.kernel.netfilter.conntrack.tuple import IP4
from kubenet.kernel.skbuff import SkBuff, describe
from kubenet.query.names import NODE, OTHER, POD, SERVICE
from kubenet.query.offline.flow import MAX_BRANCHES, RTN_LOCAL, Dice, make_packet
from kubenet.query.offline.inputs import PROTOCOLS, Flow
from kubenet.query.offline.node import AF_INET, BRIDGE_NF, IPVS_DEVICE, UPLINK, Node
from kubenet.query.offline.unknown import Unknown
from kubenet.query.trace import Story
from kubenet.sim.trace import Station
from kubenet.wire.addr import endpoint_text, ip4, ip4_text

Obj = dict[str, Any]

ACK = 16
WAYS_KEPT = 1000
LO_TAKES = 10_000
"""Nanoseconds in which a packet has passed lo, as often as it may."""
NOT_IN_RULES = "nothing but these rules looks at the packet: nft's own tables, eBPF programs and IPVS are in no file"
ROUTE_SAYS = {errno.EHOSTUNREACH: "its route is `unreachable`: the sender is told by ICMP",
              errno.EACCES: "its route is `prohibit`: the sender is told by ICMP"}
_COMMENT = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?)/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)(:([-a-z0-9.]+))?(?=$|[ \"])")
_LINE = re.compile(r"^(\[\d+:\d+\] *)?-A (\S+)")


class Question(NamedTuple):
    """Which packet. sport: its source port."""

    flow: Flow
    sport: int = 41000


class Behind:
    """The objects of `kubectl get -o yaml`: who has an address, and for whom a rule was written."""

    def __init__(self, manifests: Iterable[Manifest] = (), own: Iterable[int] = ()) -> None:
        self.pods: dict[int, Obj] = {}
        self.services: dict[int, Obj] = {}
        self.where: dict[tuple[str, str, str], str] = {}  # (kind, namespace, name) -> file:line
        self.own = frozenset(own)
        self.stand_ins: dict[int, str] = {}
        for manifest in manifests:
            items = _items(manifest.obj, "items")
            for item, path in ([(i, f"items[{n}]") for n, i in enumerate(items)] if "items" in manifest.obj else [(manifest.obj, "")]):
                try:
                    self._add(item, f"{manifest.file}:{manifest.line(path) or manifest.start}")
                except ValueError as error:
                    raise manifest.error(f"{manifest.file}: an address cannot be read", path, str(error)) from None

    def _add(self, obj: Any, where: str) -> None:
        if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
            return
        meta, spec, status = obj["metadata"], _part(obj, "spec"), _part(obj, "status")
        kind = str(obj.get("kind", ""))
        self.where[(kind, str(meta.get("namespace", "default")), str(meta.get("name", "")))] = where
        if kind == "Pod" and isinstance(status.get("podIP"), str) and not spec.get("hostNetwork") and "." in status["podIP"]:
            self.pods[ip4(status["podIP"])] = obj
        elif kind == "Service":
            balancer = _items(_part(status, "loadBalancer"), "ingress")
            for ip in [spec.get("clusterIP"), *_items(spec, "externalIPs"), *(i.get("ip") for i in balancer if isinstance(i, dict))]:
                if isinstance(ip, str) and ip.count(".") == 3:
                    self.services[ip4(ip)] = obj

    # what Story asks

    def kind(self, addr: int) -> str:
        """POD, SERVICE, NODE or OTHER."""
        if addr in self.pods:
            return POD
        return SERVICE if addr in self.services else NODE if addr in self.own else OTHER

    def name(self, addr: int) -> str:
        """The object's name, or the address."""
        obj = self.pods.get(addr) or self.services.get(addr)
        return str(obj["metadata"].get("name")) if obj else "node" if addr in self.own else ip4_text(addr)

    def words(self, addr: int) -> str:
        """For the legend."""
        obj = self.pods.get(addr)
        if obj is not None:
            return f"pod {self.name(addr)}, {_part(obj, 'spec').get('nodeName', 'not on a node')}"
        if addr in self.stand_ins:
            return f"stands for {_some_address(self.stand_ins[addr])}"
        if addr in self.services:
            return f"service {self.name(addr)}"
        return "the node itself" if addr in self.own else "in no file"

    def title(self, addr: int) -> str:
        """For the headline."""
        kind = self.kind(addr)
        return f"{kind} {self.name(addr)}" if kind in (POD, SERVICE) else self.name(addr)

    # what rules ask

    def object_of(self, comment: str) -> str:
        """"Service default/web, port http (services.yaml:12)", or "" where the comment names none."""
        found = _COMMENT.match(comment)
        if found is None:
            return ""
        namespace, name, port = found.group(1), found.group(3), found.group(6)
        where = self.where.get(("Service", namespace, name), "")
        return f"Service {namespace}/{name}" + (f", port {port}" if port else "") + (f" ({where})" if where else "")


def _part(obj: Obj, name: str) -> Obj:
    """A mapping of an object, whatever a file has in its place."""
    found = obj.get(name)
    return found if isinstance(found, dict) else {}


def _items(obj: Obj, name: str) -> list[Any]:
    found = obj.get(name)
    return found if isinstance(found, list) else []


def _some_address(dev: str) -> str:
    return f"an address of {'the node' if dev.startswith('(') else dev}"


class Explainer:
    """One node, and questions about packets."""

    def __init__(self, node: Node, behind: Behind, rules_text: str = "") -> None:
        self.node = node
        self.net = node.net
        self.behind = behind
        self.behind.own = frozenset(addr for addr in self.net.local_addrs[AF_INET] if addr >> 24 != 127)
        self.behind.stand_ins = node.stand_ins
        self.lines = _line_numbers(rules_text)
        self.came_in: NetDevice | None = None
        self.dice = Dice()
        self.net.streams["statistic"] = self.dice

    def answer(self, question: Question) -> Obj:
        """What becomes of the packet. UsageError for one that cannot be sent here."""
        flow = question.flow
        if flow.source.family != AF_INET or flow.dest.family != AF_INET:
            raise UsageError("only IPv4 packets are explained", why="the node's IPv6 side is not loaded",
                             try_="--from 10.48.1.5 --to 10.96.0.1:80")
        assumed = [*self.node.assumed, *self._strangers(flow)]
        self.dice.throws.clear()
        self.dice.rewind()
        ends: dict[tuple[Any, ...], Obj] = {}
        unknown: dict[str, Unknown] = {}
        first: Obj = {}
        for way in range(MAX_BRANCHES):
            skb, error = self._send(question, assumed if way == 0 else [])
            stations = skb.tr.stations if skb.tr is not None else []
            met = self._unknown(skb, stations)
            unknown.update(met)
            end = self._end(skb, error, stations, met)
            assumed += self._chosen(end) + self._bridged(flow)
            ends.setdefault(tuple(end.values()), end)
            if way == 0:
                first = self._first(skb, end, stations)
            self._forget(skb)
            if not self.dice.next_branch():
                break
            if way + 1 == WAYS_KEPT:
                assumed.append(f"only the first {WAYS_KEPT} ways the dice can fall were tried")
                break
        assumed.append(NOT_IN_RULES)
        words = list(dict.fromkeys(end["outcome"] for end in ends.values()))
        return {
            "outcome": words[0] if len(words) == 1 else words, "ends": list(ends.values()), **first,
            "unknown": [u._asdict() for u in unknown.values()], "assumed": list(dict.fromkeys(assumed)),
        }

    # ---- the packet

    def _send(self, question: Question, assumed: list[str]) -> tuple[SkBuff, str]:
        """The packet at its end; what the routing said if it could not even leave."""
        net, flow = self.net, question.flow
        net.extra["xt_recent"] = {}
        self.node.delivered.clear()
        for dev in net.devs.values():
            if hasattr(dev, "sent"):
                dev.sent.clear()
        proto = PROTOCOLS[flow.protocol]
        skb = make_packet(net, flow.source, flow.dest, flow.port, proto, question.sport)
        known = net.ct.lookup((flow.source.value, question.sport, flow.dest.value, flow.port, IP4 | proto)) if net.ct is not None else None
        if known is not None and proto == 6 and known[0].proto.state not in (0, 1, 2):
            skb.l4.flags, skb.l4.ack_seq = ACK, 1
            line = self.node.entry_lines.get(id(known[0]), 0)
            assumed.append(f"the packet belongs to the connection of line {line}: an ACK is sent, not a SYN")
        net.loop.tracer.packets.clear()
        skb.tr = net.loop.tracer.open(skb.id, describe(skb))
        if not flow.in_interface and inet_addr_type(net, flow.source.value) == RTN_LOCAL:
            self.came_in = None
            return skb, self._send_from_here(skb)
        self.came_in = dev = self._device(flow, assumed)
        skb.dev = skb.indev = dev
        netif_receive_skb(skb)
        net.loop.run(net.loop.now + LO_TAKES)
        return skb, ""

    def _send_from_here(self, skb: SkBuff) -> str:
        try:
            skb.dst = ip_route_output_key(self.net, skb.ip.daddr, skb.ip.saddr, proto=skb.ip.proto)
        except OSError as error:
            return error.strerror or str(error)
        ip_local_out(skb)
        self.net.loop.run(self.net.loop.now + LO_TAKES)
        return ""

    def _device(self, flow: Flow, assumed: list[str]) -> Any:
        """By which device it comes in."""
        net = self.net
        if flow.in_interface == net.lo.name:
            raise UsageError("only the node's own packets come in by lo", why=f"{flow.source.text} is "
                             "one of its addresses or it cannot be", try_="leave --in-interface out")
        if flow.in_interface:
            if flow.in_interface not in net.devs and (self.node.has_addresses or self.node.has_routes):
                known = list(net.devs)
                raise UsageError(f"the node has no device {flow.in_interface}", why=f"the files show {', '.join(known)}",
                                 try_=f"--in-interface {known[-1]}")
            return self.node.port(flow.in_interface)
        route = fib_lookup(net, FibFlow(flow.source.value))
        if route is None or route.dev is None or route.dev is net.lo:
            raise UsageError(f"by which device does a packet from {flow.source.text} come in?", why="no route leads back to it",
                             try_=f"--in-interface {next((d.name for d in net.devs.values() if d is not net.lo), 'eth0')}")
        assumed.append(f"it comes in by {route.dev.name}, where the route to its source leads (--in-interface says otherwise)")
        assert route.dev.flags & IFF_UP
        return route.dev

    def _forget(self, skb: SkBuff) -> None:
        """The connection that this packet opened is not there for the next one."""
        ct: NfConn | None = skb.ct
        if ct is not None and id(ct) not in self.node.entry_lines and self.net.ct is not None:
            self.net.ct.delete(ct)

    # ---- the answer

    def _strangers(self, flow: Flow) -> list[str]:
        """Addresses that may be the node's own, if not all of those are known."""
        if self.node.knows_addresses:
            return []
        ends = dict.fromkeys((flow.source, flow.dest))
        return [f"{ip.text} is taken for an address of another machine" for ip in ends if inet_addr_type(self.net, ip.value) != RTN_LOCAL]

    def _chosen(self, end: Obj) -> list[str]:
        """What the trace shows a number for, and no file tells."""
        if not end["source"].endswith(":*"):
            return []
        return ["a source port of * is the kernel's choice; the trace shows one that it may choose"]

    def _bridged(self, flow: Flow) -> list[str]:
        """A packet between two ports of a bridge never comes to the rules, unless br_netfilter takes it there."""
        dev = self.came_in
        route = fib_lookup(self.net, FibFlow(flow.dest.value))
        if dev is None or dev.name == UPLINK or self.node.bridge_nf == "1":
            return []
        if route is None or route.dev is not dev or route.gateway or route.type == RTN_LOCAL:
            return []
        known = {"": "", "missing": " (--sysctl does not have it)"}.get(self.node.bridge_nf, f" (it is {self.node.bridge_nf})")
        return [f"{flow.dest.text} is behind {dev.name}, where the packet comes in: if that is a bridge, it meets these rules only with "
                f"{BRIDGE_NF} = 1{known}"]

    def _unknown(self, skb: SkBuff, stations: list[Station]) -> dict[str, Unknown]:
        """The rules with an unknown part that the packet came up to; and IPVS, if it would take the packet."""
        out: dict[str, Unknown] = {}
        holder = self.net.local_addrs[AF_INET].get(skb.ip.daddr)
        if holder is not None and holder.name == IPVS_DEVICE:
            why = f"{ip4_text(skb.ip.daddr)} is on {IPVS_DEVICE}, and IPVS's table is in no file"
            out[IPVS_DEVICE] = Unknown(0, "", "", 0, "IPVS", True, why)
        for s in _matched(stations):
            name = s.verdict.removeprefix("jump ")
            if name in self.node.unknown:
                out[name] = self.node.unknown[name]
        return out

    def _end(self, skb: SkBuff, error: str, stations: list[Station], met: dict[str, Unknown]) -> Obj:
        """How this way ended. Of one that met an unknown rule it is what happens if that rule does nothing."""
        end = self._known_end(skb, error, stations)
        if not met:
            return end
        return {"outcome": "unknown", "otherwise": end["outcome"], **{k: v for k, v in end.items() if k != "outcome"}}

    def _known_end(self, skb: SkBuff, error: str, stations: list[Station]) -> Obj:
        if error:
            return self._end_json("no route", None, rule=error)
        for one in self.node.delivered:
            if one.id == skb.id:
                return self._end_json("delivered", one, one.dev.name)
        for dev in self.net.devs.values():
            for one in getattr(dev, "sent", ()):
                if one.id == skb.id:
                    via = one.dst.nexthop if one.dst is not None and dev.name != UPLINK else 0
                    return self._end_json("leaves", one, "unknown" if dev.name == UPLINK else dev.name,
                                          ip4_text(via) if via and via != one.ip.daddr else "")
        rule = next((s for s in reversed(stations) if s.func == "ipt_do_table"), None)
        if rule is not None and rule.verdict in ("DROP", "REJECT"):
            number = "policy" if rule.rule < 0 else f"#{rule.rule}"
            return self._end_json("rejected" if rule.verdict == "REJECT" else "dropped", skb,
                                  rule=f"{rule.table} {rule.chain} {number} {rule.verdict}")
        last = next((s for s in reversed(stations) if s.func == "kfree_skb_reason"), None)
        words = last.what if last is not None else "it went no further"
        if last is not None and (last.data or {}).get("reason") == "NOT_SPECIFIED" and skb.dst is not None:
            words = ROUTE_SAYS.get(skb.dst.error, words)  # ip_error() gives no reason of its own
        return self._end_json("dropped", skb, rule=words)

    def _end_json(self, outcome: str, skb: SkBuff | None, dev: str = "", via: str = "", rule: str = "") -> Obj:
        """skb: the packet as it was at its end."""
        to = endpoint_text(skb.ip.daddr, _port(skb, False), AF_INET) if skb is not None else ""
        return {"outcome": outcome, "to": to, "source": self._source(skb) if skb is not None else "", "dev": dev, "via": via, "rule": rule}

    def _source(self, skb: SkBuff) -> str:
        """Its source as far as it can be known: an address that no file shows has no number, a port that is chosen has none.

        Linux: nf_nat_l4proto_unique_tuple() starts its search for a free port at a random one.
        """
        port, ct = _port(skb, True), skb.ct
        is_new = ct is not None and id(ct) not in self.node.entry_lines
        is_chosen = is_new and ct.status & IPS_SRC_NAT and ct.reply[3] != ct.orig[1] and port == ct.reply[3]
        dev = self.node.stand_ins.get(skb.ip.saddr)
        host = f"({_some_address(dev)})" if dev is not None else ip4_text(skb.ip.saddr)
        return f"{host}:{'*' if is_chosen else port}"

    def _first(self, skb: SkBuff, end: Obj, stations: list[Station]) -> Obj:
        assert skb.tr is not None
        ct: NfConn | None = skb.ct
        entry = f"line {self.node.entry_lines[id(ct)]}" if ct is not None and id(ct) in self.node.entry_lines else "new"
        trace = Story(skb.tr, self.behind, {self.net.name: self.net}).json() if stations else None
        if trace is not None and end.get("otherwise", end["outcome"]) == "leaves":
            trace["outcome"], trace["left_by"] = "left", end["dev"]
        return {"conntrack": {"entry": entry, "summary": ct_summary(ct)} if ct is not None else None,
                "rules": [self._rule(s) for s in _matched(stations) if s.rule > 0], "trace": trace}

    def _rule(self, s: Station) -> Obj:
        rule = self.net.xt[AF_INET][s.table].chains[s.chain].rules[s.rule - 1]
        unknown = self.node.unknown.get(s.verdict.removeprefix("jump "))
        return {"table": s.table, "chain": s.chain, "number": s.rule, "line": self.lines.get((s.table, s.chain, s.rule), 0),
                "verdict": s.verdict if unknown is None else "unknown",
                "rule": f"-A {s.chain}{rule.text}" if unknown is None else unknown.part,
                "for": self.behind.object_of(rule.comment or "")}


def _port(skb: SkBuff, source: bool) -> int:
    if skb.l4 is None:
        return int.from_bytes(skb.payload[0:2] if source else skb.payload[2:4], "big")
    return int(skb.l4.sport if source else skb.l4.dport)


def _matched(stations: list[Station]) -> list[Station]:
    return [s for s in stations if s.func == "ipt_do_table" and s.rule != 0 and s.verdict != "NO MATCH"]


def _line_numbers(text: str) -> dict[tuple[str, str, int], int]:
    """(table, chain, number) -> line of iptables-save's output."""
    out: dict[tuple[str, str, int], int] = {}
    count: dict[tuple[str, str], int] = {}
    table = ""
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith("*"):
            table = line[1:].strip()
        elif (found := _LINE.match(line)) is not None:
            key = (table, found.group(2))
            count[key] = count.get(key, 0) + 1
            out[(*key, count[key])] = at
    return out
