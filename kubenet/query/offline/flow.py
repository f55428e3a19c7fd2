r"""Where a packet goes through kube-proxy's rules on one node: it is sent through the emulated kernel's hooks, once for each
way the dice can fall.

    tracer = FlowTracer(options, [restore_text(objects, options)])
    tracer.answer(flow)     {"outcome": ["10.180.0.1:80"], "masquerade": false, "path": [...]}

The packet is the first of a new connection (a SYN, a datagram, an SCTP INIT) and takes the path of its kind:

    from the node itself     OUTPUT, POSTROUTING; to an address of the node then PREROUTING and INPUT on lo
    from anywhere else       PREROUTING, then INPUT if it is (now) for the node, else FORWARD and POSTROUTING

Every hook is asked as for any packet of the emulation: raw, connection tracking, mangle, nat, filter. The namespace has the
node's addresses; between the hooks only one thing is decided here, whether an address is the node's own. `-m statistic`
rolls scripted dice: a run ends with a record of its throws, the last hit of it is turned into a miss, and the packet is sent
again, until no hit is left. Affinity lists (recent) and the connection table are empty at the start of every run.

What an answer means
    outcome      the endpoints it may end at, in the order of their rules; or "REJECT", "DROP"; "ACCEPT" where a rule let it
                 pass untranslated; [] where nothing translated or filtered it. The words stand only if they hold for
                 every throw of the dice; a mixture lists the endpoints and the words side by side.
    masquerade   its source is replaced, or it is marked for that (it may end here, or have the node's address already);
                 null: it depends on the endpoint
    path         the rules it matched, for the first outcome

Source: the order of hooks is Linux's ip_rcv(), ip_forward(), ip_output(); ip6_input.c, ip6_output.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from kubenet.cluster.api.ips import AF_INET, AF_INET6, Ip, ips_of_family
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.errors import UsageError
from kubenet.kernel.dev.device import NetDevice, dev_change_flags
from kubenet.kernel.dev.dummy import Dummy
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_conf_write
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.ipv4.route import inet_addr_type
from kubenet.kernel.netfilter.conntrack.entry import IPS_DST_NAT, IPS_SRC_NAT
from kubenet.kernel.netfilter.core import ACCEPT, FORWARD, HOOK_NAMES, INPUT, OUTPUT, POSTROUTING, PREROUTING, nf_hook
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, ETH_P_IPV6, SkBuff, describe
from kubenet.kernel.stack import new_namespace
from kubenet.query.offline.inputs import PROTOCOLS, Flow
from kubenet.query.offline.render import load_rules
from kubenet.sim.clock import EventLoop
from kubenet.sim.rng import Stream
from kubenet.sim.trace import Station
from kubenet.wire.addr import endpoint_text
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.ipv6 import Ipv6Hdr
from kubenet.wire.tcp import NO_OPTIONS, TcpHdr
from kubenet.wire.udp import UdpHdr

Obj = dict[str, Any]

UPLINK = "eth0"
SOURCE_PORT = 41000
SYN = 2
HIT, MISS = 0, 0x7FFFFFFF
MAX_BRANCHES = 100_000
RTN_LOCAL = 2
NOWHERE = {AF_INET: (169 << 24) | (254 << 16) | 1, AF_INET6: (0xFE80 << 112) | 1}
"""The uplink's address where the node's is not known: of link scope, so that it is nobody's destination."""


class Dice(Stream):
    """The stream of `-m statistic`: hits and misses by a script, hits beyond its end; `throws` has what was thrown."""

    __slots__ = ("throws", "at")

    def __init__(self) -> None:
        super().__init__(0)
        self.throws: list[bool] = []
        self.at = 0

    def u32(self) -> int:
        """A number below every probability, or above every one but 1."""
        if self.at == len(self.throws):
            self.throws.append(True)
        hit = self.throws[self.at]
        self.at += 1
        return HIT if hit else MISS

    def rewind(self) -> None:
        """The same throws again."""
        self.at = 0

    def next_branch(self) -> bool:
        """The next script: the last hit becomes a miss. False: all have been tried."""
        del self.throws[self.at:]
        while self.throws and not self.throws[-1]:
            self.throws.pop()
        if not self.throws:
            return False
        self.throws[-1] = False
        self.at = 0
        return True


class Run(NamedTuple):
    """What became of the packet under one script."""

    end: str
    """ "ip:port", or "", "ACCEPT", "REJECT", "DROP"."""
    masquerade: bool


class FlowTracer:
    """One node with its rules in, and questions about packets."""

    def __init__(self, options: ProxyOptions, texts: Iterable[str], has_jumps: bool = False) -> None:
        self.options = options
        self.family = options.ip_family
        self.mark = 1 << options.masquerade_bit
        self.leaving_mark = 0
        """The packet's mark as POSTROUTING finds it, which takes it away."""
        host = Host(EventLoop(), options.node_name or "node")
        self.net: NetNamespace = new_namespace(host, host.name)
        self.uplink = self._device(UPLINK)
        self._addresses()
        self.dice = Dice()
        self.net.streams["statistic"] = self.dice
        load_rules(self.net, texts, options, has_jumps)

    # ---- the node

    def _device(self, name: str) -> NetDevice:
        dev = self.net.devs.get(name)
        if dev is None:
            dev = Dummy(self.net, name)
            dev_change_flags(dev, True)
        return dev

    def _addresses(self) -> None:
        """The uplink has the node's addresses and leads everywhere."""
        options, net = self.options, self.net
        mine = ips_of_family((*options.node_ip, *options.node_ips), self.family)
        values = list(dict.fromkeys(ip.value for ip in mine if not ip.is_loopback)) or [NOWHERE[self.family]]
        if self.family == AF_INET6:
            net.local_addrs[AF_INET6] = {1: net.lo, **dict.fromkeys(values, self.uplink)}
            return
        for value in values:
            inet_addr_add(self.uplink, value, 32)
        fib_add(net, 0, 0, dev=self.uplink)
        if options.localhost_ports(AF_INET):
            inet_conf_write(net, "all", "route_localnet", 1)  # kube-proxy does when it starts

    def is_own(self, addr: int) -> bool:
        """Whether the address is the node's, loopback's included."""
        if self.family == AF_INET6:
            return addr in self.net.local_addrs[AF_INET6]
        return inet_addr_type(self.net, addr) == RTN_LOCAL

    # ---- the question

    def answer(self, flow: Flow) -> Obj:
        """What becomes of this packet. UsageError if the node's rules are of the other family."""
        if flow.source.family != self.family:
            names = {AF_INET: "IPv4", AF_INET6: "IPv6"}
            raise UsageError(f"{flow.source.text} is no {names[self.family]} address", why="the node's ipFamily is "
                             f"{names[self.family]}", try_=f"ipFamily: {names[flow.source.family]}")
        self.dice.throws.clear()
        self.dice.rewind()
        ends: dict[str, None] = {}
        masks: dict[bool, None] = {}
        path: list[Obj] = []
        for branch in range(MAX_BRANCHES):
            run = self._run(flow, path if branch == 0 else None)
            ends[run.end] = None
            masks[run.masquerade] = None
            if not self.dice.next_branch():
                break
        else:
            raise UsageError(f"the dice can fall in more than {MAX_BRANCHES} ways", why="that many `-m statistic` rules match")
        found = list(ends)
        outcome: str | list[str] = [end for end in found if end]
        if len(found) == 1 and found[0] in ("ACCEPT", "REJECT", "DROP"):
            outcome = found[0]
        return {"outcome": outcome, "masquerade": next(iter(masks)) if len(masks) == 1 else None, "path": path}

    def _run(self, flow: Flow, path: list[Obj] | None) -> Run:
        """The packet's fate under the present script; `path` is filled with the rules it matches."""
        skb, passed = self._send(flow, watched=path is not None)
        if path is not None and skb.tr is not None:
            path += [self._rule(s) for s in _matched(skb.tr.stations)]
        ct = skb.ct
        masquerade = bool(ct is not None and ct.status & IPS_SRC_NAT) or bool((skb.mark | self.leaving_mark) & self.mark)
        if passed and ct is not None and ct.status & IPS_DST_NAT:
            return Run(endpoint_text(ct.reply[0], ct.reply[1], self.family), masquerade)
        if skb.tr is None or path is None:  # what filtered it is only known of a watched packet
            self.dice.rewind()
            skb, passed = self._send(flow, watched=True)
        assert skb.tr is not None
        matched = _matched(skb.tr.stations)
        if passed:
            is_accepted = any(s.verdict == "ACCEPT" and s.table == "filter" for s in matched)
            return Run("ACCEPT" if is_accepted else "", masquerade)
        is_rejected = bool(matched) and matched[-1].verdict == "REJECT"
        return Run("REJECT" if is_rejected else "DROP", masquerade)

    def _rule(self, s: Station) -> Obj:
        chain = self.net.xt[self.family][s.table].chains[s.chain]
        rule = chain.rules[s.rule - 1]
        return {"hook": HOOK_NAMES[s.hook], "table": s.table, "chain": s.chain, "number": s.rule,
                "rule": f"-A {s.chain}{rule.text}"}

    # ---- the packet

    def _send(self, flow: Flow, watched: bool) -> tuple[SkBuff, bool]:
        """The packet at its end, and whether every hook let it pass."""
        net = self.net
        net.extra["xt_recent"] = {}
        self.leaving_mark = 0
        skb = make_packet(net, flow.source, flow.dest, flow.port, PROTOCOLS[flow.protocol])
        if watched:
            net.loop.tracer.packets.clear()
            skb.tr = net.loop.tracer.open(skb.id, describe(skb))
        passed = self._walk(skb, flow)
        if net.ct is not None and net.ct.count:
            net.ct.flush()
        return skb, passed

    def _walk(self, skb: SkBuff, flow: Flow) -> bool:
        """The hooks in the order of the packet's path; False as soon as one keeps it."""
        if not flow.in_interface and self.is_own(flow.source.value):
            if not self._ask(OUTPUT, skb, None, self._way_out(skb)) or not self._ask(POSTROUTING, skb, None, self._way_out(skb)):
                return False
            if not self.is_own(skb.ip.daddr):
                return True
            return self._ask(PREROUTING, skb, self.net.lo, None) and self._ask(INPUT, skb, self.net.lo, None)
        dev = self._device(flow.in_interface) if flow.in_interface else self.uplink
        if not self._ask(PREROUTING, skb, dev, None):
            return False
        if self.is_own(skb.ip.daddr):
            return self._ask(INPUT, skb, dev, None)
        return self._ask(FORWARD, skb, dev, self.uplink) and self._ask(POSTROUTING, skb, None, self.uplink)

    def _way_out(self, skb: SkBuff) -> NetDevice:
        lo: NetDevice = self.net.lo
        return lo if self.is_own(skb.ip.daddr) else self.uplink

    def _ask(self, hook: int, skb: SkBuff, indev: NetDevice | None, outdev: NetDevice | None) -> bool:
        skb.indev, skb.outdev, skb.dev = indev, outdev, indev or outdev
        if hook == POSTROUTING:
            self.leaving_mark = skb.mark
        return nf_hook(self.family, hook, skb) == ACCEPT


def _matched(stations: list[Station]) -> list[Station]:
    """The stations of rules that matched."""
    return [s for s in stations if s.func == "ipt_do_table" and s.rule > 0 and s.verdict != "NO MATCH"]


def make_packet(net: NetNamespace, source: Ip, dest: Ip, port: int, proto: int, sport: int = SOURCE_PORT) -> SkBuff:
    """The first packet of a connection: a SYN, an empty datagram, an SCTP INIT's first bytes."""
    payload, plen = b"", 0
    l4: Any = None
    if proto == 6:
        l4 = TcpHdr(sport, port, 1, 0, SYN, 64240, NO_OPTIONS)
    elif proto == 17:
        l4 = UdpHdr(sport, port)
    else:
        payload = sport.to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(8) + b"\x01" + bytes(19)
        plen = len(payload)
    size = plen + {6: 20, 17: 8}.get(proto, 0)
    if source.family == AF_INET6:
        return SkBuff(net, ETH_P_IPV6, Ipv6Hdr(source.value, dest.value, proto), l4, payload, plen, 40 + size)
    return SkBuff(net, ETH_P_IP, IpHdr(source.value, dest.value, proto), l4, payload, plen, 20 + size)
