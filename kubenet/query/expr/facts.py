"""All that a question can see: functions of the state of a cluster.

    socks(place, state=, port=, peer=), sock(...), listener(place, port)     sockets, as ss shows them
    ct(node, orig_src=, orig_dst=, reply_src=, reply_dst=, proto=, state=), cts(...), ct_count(node)
    chain(node, table, name), rule(node, table, chain, number)               iptables, numbered as -L --line-numbers does
    nstat(place, 'TcpExtListenOverflows'), dev(place, 'eth0')                counters
    wire('PLACE/DEV').packets(flags=, src=, dst=, ...), at(node, hook, table).saw(...)     packets that came by (watchers.py)
    app(place)                                                               the container's first process
    ready(pod), pod(name), node(name), svc(name), endpoints(service)         Kubernetes
    now, time_of('CHECK')                                                    virtual time; when a check of a lab was passed

A place is what `kubenet exec` takes: a pod, a node, deploy/NAME. Times are ns. Everything is read at the moment of asking from the
kernel's own structures, by the functions that the tools use, and nothing is changed; an iptables table that nobody has looked at yet
is written first, as for a tool (kernel/netfilter/core.py nf_ready()).

nstat(), wire() and at() count from the first time that the same Facts was asked (nstat().total is the whole); close() ends that.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kubenet.errors import NotFoundError, UsageError
from kubenet.kernel.netfilter.conntrack.entry import IPS_ASSURED, IPS_SEEN_REPLY, NfConn
from kubenet.kernel.netfilter.conntrack.text import proto_name, state_name
from kubenet.kernel.netfilter.conntrack.tuple import AF_INET, Tuple
from kubenet.kernel.netfilter.core import nf_ready
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.snmp import NAMES
from kubenet.kernel.socket.sock import TCP_LISTEN
from kubenet.kernel.tcp.info import tcp_diag
from kubenet.query.expr.records import Absent, Counter, Fields, Record
from kubenet.query.expr.watchers import LOG, METHODS, HookPoint, Log, Wire
from kubenet.query.expr.watchers import device as find_device
from kubenet.userland.netview import STATE_NUMBERS, STATES
from kubenet.wire.addr import ip4, ip4_text

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster
    from kubenet.userland.syscalls import Sys

Obj = dict[str, Any]


def _of(name: str, default: Any = 0) -> Callable[[Any], Any]:
    return lambda thing: getattr(thing, name, default)


def _diag(name: str) -> Callable[[Any], Any]:
    return lambda sk: tcp_diag(sk)[name]


def _info(name: str) -> Callable[[Any], Any]:
    return lambda sk: (tcp_diag(sk)["info"] or {}).get(name, 0)


def _timer_name(sk: Any) -> str | None:
    timer = tcp_diag(sk)["timer"]
    return timer[0] if timer else None


def _timer_left(sk: Any) -> int:
    timer = tcp_diag(sk)["timer"]
    return timer[1] if timer else 0


SOCKET: Fields = {
    "state": lambda sk: STATES[tcp_diag(sk)["state"]], "recv_q": _diag("recv_q"), "send_q": _diag("send_q"),
    "local": lambda sk: f"{ip4_text(sk.saddr)}:{sk.sport}", "peer": lambda sk: f"{ip4_text(sk.daddr)}:{sk.dport}",
    "port": _of("sport"), "peer_port": _of("dport"), "cwnd": _info("snd_cwnd"), "snd_wnd": _info("snd_wnd"), "rcv_wnd": _info("rcv_wnd"),
    "unacked": _info("unacked"), "retrans": _info("total_retrans"), "rto": lambda sk: _info("rto")(sk) * 1000,
    "rtt": lambda sk: _info("rtt")(sk) * 1000, "mss": _info("snd_mss"), "rcvbuf": _of("rcvbuf"), "sndbuf": _of("sndbuf"),
    "timer": _timer_name, "left": _timer_left, "bytes_sent": _info("bytes_sent"), "bytes_received": _info("bytes_received"),
    "inode": _of("ino"), "uid": _of("uid"),
}
LISTENER: Fields = {
    "recv_q": lambda sk: len(sk.listen.accept_queue), "limit": lambda sk: sk.listen.backlog, "qlen": lambda sk: sk.listen.qlen,
    "local": lambda sk: f"{ip4_text(sk.saddr)}:{sk.sport}", "port": _of("sport"), "owner_uid": _of("uid"),
}


def _end(t: Tuple, first: bool) -> str:
    """One end of a tuple; without a port for protocols that have none."""
    addr, port = (t[0], t[1]) if first else (t[2], t[3])
    return f"{ip4_text(addr)}:{port}" if t[4] & 0xFF in (6, 17, 132, 136, 33) else ip4_text(addr)


_TUPLE: Fields = {"src": lambda t: _end(t, True), "dst": lambda t: _end(t, False)}
CONNECTION: Fields = {
    "state": lambda ct: state_name(ct), "proto": lambda ct: proto_name(ct.protonum),
    "left": lambda ct: max(ct.timeout - ct.net.loop.now, 0), "assured": lambda ct: bool(ct.status & IPS_ASSURED),
    "replied": lambda ct: bool(ct.status & IPS_SEEN_REPLY), "mark": _of("mark"),
    "orig": lambda ct: Record("tuple", _TUPLE, ct.orig), "reply": lambda ct: Record("tuple", _TUPLE, ct.reply),
}
DEVICE: Fields = {
    **{name: _of(name) for name in ("rx_packets", "rx_bytes", "rx_dropped", "rx_errors", "tx_packets", "tx_bytes", "tx_dropped",
                                    "tx_errors", "mtu", "carrier")},
    "up": lambda dev: bool(dev.flags & 1), "operstate": _of("operstate"),
}


def _counts(at: tuple[Any, str, int]) -> tuple[int, int]:
    table, chain, number = at
    counters = table.counters.get(chain)
    return (counters[2 * number], counters[2 * number + 1]) if counters else (0, 0)


def _target(at: tuple[Any, str, int]) -> str:
    rule = at[0].chains[at[1]].rules[at[2]]
    return str(rule.target.NAME if rule.target is not None else rule.jump)


RULE: Fields = {
    "pkts": lambda at: _counts(at)[0], "bytes": lambda at: _counts(at)[1], "target": _target,
    "text": lambda at: at[0].chains[at[1]].rules[at[2]].text, "comment": lambda at: at[0].chains[at[1]].rules[at[2]].comment,
}
CHAIN: Fields = {
    "name": lambda at: at[1], "count": lambda at: len(at[0].chains[at[1]].rules),
    "rules": lambda at: [Record("rule", RULE, (at[0], at[1], n)) for n in range(len(at[0].chains[at[1]].rules))],
    "policy": lambda at: at[0].policies.get(at[1], ""),
}
def _sys(read: Callable[[Sys], Any], none: Any) -> Callable[[Any], Any]:
    """A field of the first process's system calls; `none` while there is no process."""
    return lambda container: read(container.main.sys) if container.main is not None else none


APP: Fields = {
    "running": lambda c: c.running, "exit_code": lambda c: c.main.exit_code if c.main is not None and c.main.done else None,
    "blocked_in": lambda c: c.main.task.blocked_on if c.main is not None and c.main.task is not None else "",
    "calls": _sys(lambda sys: sys.calls, 0), "log": lambda c: c.log_text(),
    "syscalls": _sys(lambda sys: frozenset(sys.results), frozenset()),
    "errno": _sys(lambda sys: errno.errorcode.get(sys.errno, ""), ""),
    "bytes_in": _sys(lambda sys: sum(sys.results.get(name, 0) for name in ("recv", "recvfrom")), 0),
    "bytes_out": _sys(lambda sys: sum(sys.results.get(name, 0) for name in ("send", "sendto")), 0),
}


def _status(name: str, default: Any = "") -> Callable[[Obj], Any]:
    return lambda obj: (obj.get("status") or {}).get(name, default)


def _condition(name: str) -> Callable[[Obj], bool]:
    return lambda obj: any(c["type"] == name and c["status"] == "True" for c in (obj.get("status") or {}).get("conditions") or [])


POD: Fields = {
    "phase": _status("phase", "Pending"), "ip": _status("podIP"), "node": lambda p: p["spec"].get("nodeName", ""),
    "ready": _condition("Ready"), "restarts": lambda p: sum(c.get("restartCount", 0) for c in _status("containerStatuses", [])(p)),
    "terminating": lambda p: "deletionTimestamp" in p["metadata"],
}
NODE: Fields = {"ready": _condition("Ready"), "pod_cidr": lambda n: n["spec"].get("podCIDR", "")}
SERVICE: Fields = {
    "cluster_ip": lambda s: s["spec"].get("clusterIP", ""), "type": lambda s: s["spec"].get("type", "ClusterIP"),
    "ports": lambda s: [p["port"] for p in s["spec"].get("ports") or []],
    "node_ports": lambda s: [p["nodePort"] for p in s["spec"].get("ports") or [] if p.get("nodePort")],
    "external_policy": lambda s: s["spec"].get("externalTrafficPolicy", ""),
    "internal_policy": lambda s: s["spec"].get("internalTrafficPolicy", ""), "affinity": lambda s: s["spec"].get("sessionAffinity", "None"),
}
ENDPOINT: Fields = {
    "address": lambda e: (e["addresses"] or [""])[0], "ready": lambda e: (e.get("conditions") or {}).get("ready") is not False,
    "serving": lambda e: (e.get("conditions") or {}).get("serving") is not False,
    "terminating": lambda e: (e.get("conditions") or {}).get("terminating") is True,
    "node": lambda e: e.get("nodeName", ""), "pod": lambda e: (e.get("targetRef") or {}).get("name", ""),
}


POLICY: Fields = {"types": lambda p: p["spec"].get("policyTypes") or ["Ingress"]}
KINDS_OF_PLACES = ("deploy/", "deployment/", "pod/", "pods/", "node/", "nodes/")


class Facts:
    """The state of one cluster, as questions see it."""

    FUNCTIONS = ("socks", "sock", "listener", "ct", "cts", "ct_count", "chain", "rule", "nstat", "dev", "wire", "at", "app",
                 "ready", "pod", "node", "svc", "endpoints", "policy", "time_of")

    def __init__(self, cluster: Cluster, namespace: str = "default", passed: Mapping[str, int] | None = None) -> None:
        """passed: when each check of a lab was passed, ns."""
        self.cluster = cluster
        self.namespace = namespace
        self.passed = passed or {}
        self.logs: dict[tuple[str, ...], Log] = {}
        self.since: dict[tuple[str, str], int] = {}  # counters when they were first asked for

    @property
    def now(self) -> int:
        """Virtual time."""
        return self.cluster.loop.now

    def function(self, name: str) -> Callable[..., Any] | None:
        """The function of this name."""
        return getattr(self, name) if name in self.FUNCTIONS else None

    def close(self) -> None:
        """Nothing is noted for wire() and at() any more."""
        for log in self.logs.values():
            log.close()
        self.logs.clear()

    def _net(self, place: str) -> NetNamespace:
        if not isinstance(place, str):
            raise UsageError("a place is a text", try_="'web-0'")
        return self.cluster.container(place, self.namespace).net

    # ---- sockets

    def socks(self, place: str, state: str = "", port: int = 0, peer: str | int = "") -> list[Record]:
        """socks('POD', state='ESTAB', port=80, peer='10.0.0.1:80'): TCP connections that fit, without listeners."""
        if state and state not in STATE_NUMBERS:
            raise UsageError(f"{state!r} is no state of a connection", why="known: " + ", ".join(STATE_NUMBERS))
        net = self._net(place)
        addr, peer_port = self._peer(peer)
        found = []
        for sk in net.socks.dump() if net.socks is not None else []:
            number = tcp_diag(sk)["state"] if hasattr(sk, "substate") else sk.state
            if number == TCP_LISTEN or (state and STATES[number] != state) or (port and sk.sport != port):
                continue
            if (addr and sk.daddr != addr) or (peer_port and sk.dport != peer_port):
                continue
            found.append(Record("socket", SOCKET, sk))
        return found

    def _peer(self, peer: str | int) -> tuple[int, int]:
        """Address and port of '10.48.2.7:8080', 'web-0:8080', 'web', ':80' or 80; 0 where nothing is asked."""
        if isinstance(peer, int):
            return 0, peer
        host, _, port = peer.partition(":")
        if port and not port.isdigit():
            raise UsageError(f"{port!r} is no port")
        addr = 0
        if host:
            from kubenet.cluster.resolve import address_of

            try:
                addr = ip4(address_of(self.cluster, host, self.namespace) or host)
            except ValueError:
                raise NotFoundError(f"nobody is called {host}", try_="kubenet get pods,services") from None
        return addr, int(port or 0)

    def sock(self, place: str, state: str = "", port: int = 0, peer: str | int = "") -> Record | None:
        """sock('POD', state=, port=, peer=): the first connection that fits"""
        found = self.socks(place, state, port, peer)
        return found[0] if found else None

    def listener(self, place: str, port: int) -> Record | None:
        """listener('POD', 8080): the listening socket"""
        net = self._net(place)
        for bucket in net.socks.listeners.values() if net.socks is not None else ():
            for sk in bucket:
                if sk.sport == port and sk.state == TCP_LISTEN and sk.listen is not None:
                    return Record("listener", LISTENER, sk)
        return None

    # ---- conntrack

    def cts(self, place: str, orig_src: str = "", orig_dst: str = "", reply_src: str = "", reply_dst: str = "", proto: str = "",
            state: str = "") -> list[Record]:
        """cts('NODE', orig_dst='10.96.0.1:80', proto='tcp', state='ESTABLISHED'): conntrack entries that fit, oldest first"""
        net = self._net(place)
        nf_ready(net)
        wanted = [(self._peer(text), side, first) for text, side, first in (
            (orig_src, 0, True), (orig_dst, 0, False), (reply_src, 1, True), (reply_dst, 1, False)) if text]
        out = []
        for entry in net.ct.entries() if net.ct is not None else []:
            if (proto and proto_name(entry.protonum) != proto) or (state and state_name(entry) != state):
                continue
            if entry.orig[4] >> 8 == AF_INET and all(_fits(entry, *want) for want in wanted):
                out.append(Record("connection", CONNECTION, entry))
        return out

    def ct(self, place: str, orig_src: str = "", orig_dst: str = "", reply_src: str = "", reply_dst: str = "", proto: str = "",
           state: str = "") -> Record | None:
        """ct('NODE', orig_dst='10.96.0.1:80', ...): the first entry that fits"""
        found = self.cts(place, orig_src, orig_dst, reply_src, reply_dst, proto, state)
        return found[0] if found else None

    def ct_count(self, place: str) -> int:
        """ct_count('NODE'): how many connections are tracked"""
        return len(self.cts(place))

    # ---- rules and counters

    def chain(self, place: str, table: str, name: str) -> Record | None:
        """chain('NODE', 'nat', 'KUBE-SERVICES'): a chain of iptables"""
        net = self._net(place)
        nf_ready(net)
        found = net.xt.get(AF_INET, {}).get(table)
        return Record("chain", CHAIN, (found, name)) if found is not None and name in found.chains else None

    def rule(self, place: str, table: str, chain: str, number: int) -> Record | None:
        """rule('NODE', 'nat', 'KUBE-SERVICES', 1): a rule by its line number"""
        found = self.chain(place, table, chain)
        if found is None or not isinstance(number, int) or not 1 <= number <= found.get("count"):
            return None
        rules: list[Record] = found.get("rules")
        return rules[number - 1]

    def nstat(self, place: str, name: str) -> Counter:
        """nstat('POD', 'TcpExtListenOverflows'): how much a counter gained"""
        full = name if name in NAMES else f"TcpExt{name}"
        if full not in NAMES:
            from difflib import get_close_matches

            near = get_close_matches(str(name), NAMES, 1)
            raise UsageError(f"no counter {name}.{f' Did you mean {near[0]}?' if near else ''}", try_="kubenet exec web-0 -- nstat -az")
        total = self._net(place).snmp[full]
        return Counter.of(total, self.since.setdefault((place, full), total))

    def dev(self, place: str, name: str) -> Record | None:
        """dev('POD', 'eth0'): a network device"""
        found = self._net(place).devs.get(name)
        return Record("device", DEVICE, found) if found is not None else None

    def wire(self, device: str) -> Record:
        """wire('POD/eth0'): the frames of a device from now on"""
        if not isinstance(device, str):
            raise UsageError("a device is a text", try_="'node-1/eth0'")
        log = self.logs.get(("wire", device))
        if log is None:
            kind = next((kind for kind in KINDS_OF_PLACES if device.startswith(kind)), "")
            rest, _, name = device[len(kind):].partition("/")
            place = kind + rest
            log = self.logs["wire", device] = Wire(find_device(self._net(place), place, name), self._peer)
        return Record("wire", LOG, log, METHODS)

    def at(self, place: str, hook: str, table: str) -> Record:
        """at('NODE', 'OUTPUT', 'mangle'): the packets that come to this table at this hook from now on"""
        log = self.logs.get(("at", place, hook, table))
        if log is None:
            log = self.logs["at", place, hook, table] = HookPoint(self._net(place), hook, table, self._peer)
        return Record("hook", LOG, log, METHODS)

    def app(self, place: str) -> Record:
        """app('POD'): the container's first process"""
        return Record("program", APP, self.cluster.container(place, self.namespace))

    # ---- Kubernetes

    def _object(self, kind: str, name: str) -> Obj | None:
        key = ("", name) if kind == "Node" else (self.namespace, name)
        return self.cluster.store.get(kind, key)

    def _record(self, kind: str, fields: Fields, name: str) -> Record | None:
        found = self._object(kind, name)
        return Record(kind.lower(), fields, found) if found is not None else None

    def ready(self, name: str) -> bool:
        """ready('POD'): its Ready condition; a pod that does not exist is not ready"""
        found = self._object("Pod", name)
        return found is not None and _condition("Ready")(found)

    def pod(self, name: str) -> Record | None:
        """pod('NAME'): a Pod"""
        return self._record("Pod", POD, name)

    def node(self, name: str) -> Record | None:
        """node('NAME'): a Node"""
        return self._record("Node", NODE, name)

    def svc(self, name: str) -> Record | None:
        """svc('NAME'): a Service"""
        return self._record("Service", SERVICE, name)

    def policy(self, name: str) -> Record | None:
        """policy('NAME'): a NetworkPolicy"""
        return self._record("NetworkPolicy", POLICY, name)

    def time_of(self, check: str) -> int:
        """time_of('CHECK'): when a check of the lab was passed"""
        if check not in self.passed:
            raise Absent(f"no check {check} was passed", why="passed: " + (", ".join(self.passed) or "none"))
        return self.passed[check]

    def endpoints(self, service: str) -> list[Record]:
        """endpoints('SERVICE'): the endpoints of its slices"""
        out = []
        for piece in self.cluster.store.iter("EndpointSlice", self.namespace):
            if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service:
                out += [Record("endpoint", ENDPOINT, endpoint) for endpoint in piece.get("endpoints") or []]
        return out


def _fits(entry: NfConn, want: tuple[int, int], side: int, first: bool) -> bool:
    t = entry.reply if side else entry.orig
    addr, port = (t[0], t[1]) if first else (t[2], t[3])
    return (not want[0] or addr == want[0]) and (not want[1] or port == want[1])


