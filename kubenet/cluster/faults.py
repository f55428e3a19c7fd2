"""Faults: what a person breaks on purpose, and mends again.

    loss duplicate corrupt reorder WIRE 10%       delay WIRE 50ms [jitter]     rate WIRE 10mbit     mtu WIRE 1400     cut WIRE
    drop WIRE [flags, addresses, ports, count]    partition MACHINES MACHINES
    freeze POD | NODE | kube-proxy/NODE           kill POD | NODE | kube-proxy/NODE              race NODE 50us [kernel]

A wire is a machine's cable to the LAN (node-1) or a pod's veth pair (web-0); a device may be named behind a colon. Each change applies
to both directions. A small MTU on a wire loses larger packets without a word, as a broken path does; to change a device's own MTU is
`ip link set`. A cut takes the carrier away. `drop` compares SYN, ACK, FIN and RST as iptables --tcp-flags does: S is a SYN alone.

A frozen pod is a paused container: its programs stand still, its kernel answers. A frozen node stands still as a whole: nothing comes
in or goes out, its kubelet is silent, so that after 50 s the control plane calls it NotReady. simplified: timers of its kernel go on;
kubelets renew no Lease, so the last one is written when the node falls silent. A killed pod's programs get SIGKILL, and the kubelet
does what the pod's restartPolicy says. A killed node is one whose power is off: nothing but `undo` brings it back. A frozen kube-proxy
hangs, a killed one is gone, and in both cases its rules stay in the kernel.

A race makes two packets of one new flow, closer together than a time, blind for each other's conntrack entry, as they are on two CPUs:
both make one, and at confirmation they clash. Linux before 4.7 drops the second datagram (insert_failed; the 5 s delay of A and AAAA
queries from one socket), before 5.7 only if NAT gave them different destinations, later none; a TCP packet is always dropped.

A fault enters the run as an input at one moment (engine/engine.py), and the dice of its wire belong to the wire, so a replay breaks the
same packets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kubenet.cluster.resolve import address_of
from kubenet.cluster.store import key_of
from kubenet.errors import NotFoundError, UsageError, WrongMomentError
from kubenet.fabric.impair import BOTH, IN, OUT, DropMatching, Partition
from kubenet.fabric.link import Link
from kubenet.fabric.wires import Wire
from kubenet.kernel.dev.veth import Veth
from kubenet.units import parse_duration, parse_rate
from kubenet.userland.container import Container
from kubenet.wire.addr import ip4
from kubenet.wire.tcp import ACK, FIN, RST, SYN

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster
    from kubenet.cluster.node import Node
    from kubenet.cluster.proxy.controller import KubeProxy

Obj = dict[str, Any]

CHANCE_KINDS = ("loss", "duplicate", "corrupt", "reorder")
WIRE_KINDS = (*CHANCE_KINDS, "delay", "rate", "mtu", "cut", "drop")
KINDS = (*WIRE_KINDS, "partition", "freeze", "kill", "race")
EXAMPLES = {
    "loss": "loss node-1 10%", "duplicate": "duplicate node-1 5%", "corrupt": "corrupt node-1 1%", "reorder": "reorder node-1 10%",
    "delay": "delay node-1 50ms", "rate": "rate node-1 10mbit", "mtu": "mtu node-1 1400", "cut": "cut node-1",
    "drop": "drop web-0 --flags S", "partition": "partition node-1 node-2", "freeze": "freeze web-0", "kill": "kill web-0",
    "race": "race node-1 50us --kernel 4.6",
}
FLAG_BITS = {"S": SYN, "A": ACK, "F": FIN, "R": RST}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}
OPTIONS = ("flags", "proto", "from", "to", "sport", "dport", "direction", "min-len", "skip", "count", "jitter", "hold", "queue", "kernel")
PROXY = "kube-proxy/"
LEASES = "kube-node-lease"


class Fault:
    """One fault: how it is started and ended, and how people see it."""

    def __init__(self, kind: str, target: str, what: str, start: Callable[[int], None], end: Callable[[int], None] | None,
                 rules: Sequence[Any] = (), wires: Sequence[Wire] = ()) -> None:
        self.kind = kind
        self.target = target
        self.what = what
        self.start = start
        self.end = end  # None: nothing can take it back
        self.rules = rules
        self.wires = wires
        self.since = 0

    def json(self, number: int) -> Obj:
        """One row of `kubenet fault list`."""
        hits = sum(rule.hits for rule in self.rules) if self.rules else None
        state = "active" if all(wire.exists for wire in self.wires) else "gone with its pod"
        return {"id": number, "kind": self.kind, "target": self.target, "what": self.what, "since": self.since, "hits": hits,
                "state": state}


class Faults:
    """The faults of one cluster. `active` by number; numbers are not used twice."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.active: dict[int, Fault] = {}
        self.wires: dict[str, Wire] = {}
        self.hanging: dict[str, KubeProxy] = {}  # kube-proxies that hang because their node does
        self.last = 0

    # ---- what the engine calls

    def add(self, data: Obj) -> Obj:
        """A fault begins. Raises KubenetError as plan()."""
        fault = self.plan(data)
        fault.since = self.cluster.loop.now
        self.last += 1
        for wire in fault.wires:
            self.wires[wire.name] = wire
        fault.start(self.last)
        if fault.kind != "kill" or fault.end is not None or fault.target in self.cluster.nodes:
            self.active[self.last] = fault
        return fault.json(self.last)

    def remove(self, number: int) -> Obj:
        """A fault ends. NotFoundError; WrongMomentError if nothing can take it back."""
        fault = self.find(number)
        if fault.end is None:
            raise WrongMomentError(f"{fault.target} was killed: nothing takes that back but `undo`", try_="kubenet undo")
        del self.active[number]
        fault.end(number)
        for wire in fault.wires:
            if not wire.changes and self.wires.get(wire.name) is wire:
                del self.wires[wire.name]
        return fault.json(number)

    def find(self, number: int) -> Fault:
        """The fault of this number. NotFoundError."""
        if number not in self.active:
            raise NotFoundError(f"there is no fault {number}", why=f"active: {', '.join(map(str, self.active)) or 'none'}",
                                try_="kubenet fault list")
        return self.active[number]

    def clear(self) -> list[Obj]:
        """All end that can."""
        return [self.remove(number) for number, fault in list(self.active.items()) if fault.end is not None]

    def json(self) -> list[Obj]:
        """The rows of `kubenet fault list`."""
        return [fault.json(number) for number, fault in self.active.items()]

    # ---- plans: nothing has happened yet

    def plan(self, data: Obj) -> Fault:
        """The fault that `data` describes. UsageError, NotFoundError, WrongMomentError; nothing is changed."""
        kind = str(data.get("kind", ""))
        if kind not in KINDS:
            raise UsageError(f"no fault is called {kind!r}", why="known: " + ", ".join(KINDS), try_="kubenet fault add loss node-1 10%")
        values = [str(value) for value in data.get("values") or []]
        given = data.get("options") or {}
        if unknown := [name for name in given if name not in OPTIONS]:
            raise UsageError(f"faults have no option {sorted(unknown)[0]!r}", why="known: " + ", ".join(OPTIONS))
        options = {name: str(given[name]) for name in OPTIONS if given.get(name)}  # in an order that survives the journal
        namespace = str(data.get("namespace") or "default")
        if kind == "partition":
            return self._partition(values, options)
        if kind == "drop" and not values and (place := options.get("to") or options.get("from")):
            values = [place]
        if not values:
            raise self._usage(kind, "where?")
        target = values.pop(0)
        if kind == "race":
            return self._race(target, values, options)
        if kind in ("freeze", "kill"):
            if values or options:
                raise self._usage(kind, f"{kind} takes no more than a name")
            return self._stop(kind, target, namespace)
        wire = self._wire(target, namespace)
        if kind == "drop":
            if values:
                raise self._usage(kind, f"what is {values[0]!r}?")
            return self._drop(wire, target, options, namespace)
        settings, what = self._settings(kind, values, options)
        return Fault(kind, target, what, lambda number: wire.put(number, settings), wire.take, (), [wire])

    def _usage(self, kind: str, what: str) -> UsageError:
        return UsageError(f"fault {kind}: {what}", try_=f"kubenet fault add {EXAMPLES[kind]}")

    def _wire(self, target: str, namespace: str) -> Wire:
        """The wire at a machine or a pod, or at one of its devices."""
        place, _, dev_name = target.partition(":")
        machine = self.cluster.fabric.machines.get(place.removeprefix("node/"))
        if machine is not None and self.cluster.store.get("Pod", (namespace, place)) is None:
            if dev_name in ("", "eth0"):
                return self._cable(machine.link)
            net = machine.net
        else:
            net = self.cluster.container(place, namespace).net
            dev_name = dev_name or "eth0"
        dev = net.devs.get(dev_name)
        if dev is None:
            raise NotFoundError(f"{place} has no device {dev_name}", why="it has: " + ", ".join(net.devs),
                                try_=f"kubenet exec {place} -- ip link")
        if getattr(dev, "link", None) is not None and not isinstance(dev, Veth):  # a pod of the node's network
            return self._cable(dev.link)
        if not isinstance(dev, Veth) or dev.peer is None:
            raise UsageError(f"{dev_name} of {place} is a {dev.kind}: there is no wire to break", try_=f"kubenet exec {place} -- ip link")
        inside = dev if dev.master is None else dev.peer
        known = self.wires.get(inside.ledger_name)
        return known if known is not None and known.exists else Wire.of_veth(inside, self.cluster.seed)

    def _cable(self, link: Link) -> Wire:
        return self.wires.get(link.name) or Wire.of_link(link)

    def _settings(self, kind: str, values: list[str], options: Obj) -> tuple[Obj, str]:
        """(settings for the wire, words for people)."""
        allowed = {"delay": ["jitter"], "reorder": ["hold"], "rate": ["queue"]}.get(kind, [])
        for name in options:
            if name not in allowed:
                raise self._usage(kind, f"--{name} has no meaning here")
        if kind == "cut":
            if values:
                raise self._usage(kind, f"what is {values[0]!r}?")
            return {"up": False}, "no carrier"
        if len(values) != 1:
            raise self._usage(kind, "one value is needed")
        text = values[0]
        try:
            if kind in CHANCE_KINDS:
                settings: Obj = {kind: _chance(text)}
                if "hold" in options:
                    settings["reorder_hold"] = parse_duration(options["hold"])
            elif kind == "delay":
                settings = {"latency": parse_duration(text)}
                if "jitter" in options:
                    settings["jitter"] = parse_duration(options["jitter"])
            elif kind == "rate":
                settings = {"rate": parse_rate(text)}
                if not settings["rate"]:
                    raise ValueError("a rate of 0 lets nothing through; that is `cut`")
                if "queue" in options:
                    settings["queue_packets"] = _number(options["queue"], 1, 1_000_000)
            else:
                settings = {"mtu": _number(text, 68, 65535)}
        except ValueError as error:
            raise self._usage(kind, str(error)) from None
        return settings, " ".join([text, *(f"{name} {value}" for name, value in options.items())])

    def _drop(self, wire: Wire, target: str, options: Obj, namespace: str) -> Fault:
        match: Obj = {}
        try:
            for name, text in options.items():
                if name in ("jitter", "hold", "queue"):
                    raise ValueError(f"--{name} has no meaning here")
                if name == "flags":
                    match.update(flags=_flags(text), mask=SYN | ACK | FIN | RST, proto=6)
                elif name == "proto":
                    if text not in PROTOCOLS:
                        raise ValueError(f"{text!r} is no protocol; known: {', '.join(PROTOCOLS)}")
                    if match.setdefault("proto", PROTOCOLS[text]) != PROTOCOLS[text]:
                        raise ValueError("only TCP has flags")
                elif name in ("from", "to"):
                    match["saddr" if name == "from" else "daddr"] = self._address(text, namespace)
                elif name == "direction":
                    match["direction"] = {"in": IN, "out": OUT}.get(text, BOTH)
                else:
                    match[name.replace("-", "_")] = _number(text, 0, 1 << 31)
        except ValueError as error:
            raise self._usage("drop", str(error)) from None
        rule = DropMatching(**match)
        what = " ".join(f"{name} {value}" for name, value in options.items()) or "everything of IPv4"
        return Fault("drop", target, what, lambda number: wire.put(number, {}, [rule]), wire.take, [rule], [wire])

    def _address(self, text: str, namespace: str) -> int:
        machine = self.cluster.fabric.machines.get(text)
        if machine is not None:
            return machine.spec.ip
        try:
            return ip4(address_of(self.cluster, text, namespace) or text)
        except ValueError:
            raise NotFoundError(f"nobody is called {text}", try_="kubenet get pods,services -o wide") from None

    def _partition(self, values: list[str], options: Obj) -> Fault:
        if len(values) != 2 or options:
            raise self._usage("partition", "two sides are needed")
        sides = [side.split(",") for side in values]
        cables = self.cluster.fabric.cables()
        for name in (*sides[0], *sides[1]):
            if name not in cables:
                raise NotFoundError(f"no machine is called {name!r}", why="machines: " + ", ".join(cables))
        names = [*sides[0], *sides[1]]
        if twice := [name for name in names if names.count(name) > 1]:
            raise self._usage("partition", f"{twice[0]} is given twice")
        pieces = []
        for mine, others in (sides, sides[::-1]):
            macs = [cables[name][1] for name in others]
            pieces += [(self._wire(name, ""), Partition(macs)) for name in mine]

        def start(number: int) -> None:
            for wire, rule in pieces:
                wire.put(number, {}, [rule])

        def end(number: int) -> None:
            for wire, _ in pieces:
                wire.take(number)

        return Fault("partition", values[0], f"from {values[1]}", start, end, [rule for _, rule in pieces], [wire for wire, _ in pieces])

    def _race(self, target: str, values: list[str], options: Obj) -> Fault:
        """Packets of one flow, this close together, do not see each other's conntrack entry, as on two CPUs of the node."""
        node = self.cluster.nodes.get(target.removeprefix("node/"))
        if node is None:
            raise NotFoundError(f"no node is called {target!r}", why="nodes: " + ", ".join(self.cluster.nodes))
        if unknown := [name for name in options if name != "kernel"]:
            raise self._usage("race", f"--{unknown[0]} has no meaning here")
        try:
            (text,) = values or ["50us"]
            within, level = parse_duration(text), _clash_resolution(options.get("kernel", ""))
        except ValueError as error:
            raise self._usage("race", str(error)) from None
        table = node.net.ct
        if table is None:
            raise WrongMomentError(f"{node.name} tracks no connections", why="no rule asks for it", try_="kubenet get pods -A")
        if table.race_ns:
            raise WrongMomentError(f"{node.name} has a race already", try_="kubenet fault list")

        def start(_: int) -> None:
            table.race_ns, table.clash_resolution = within, level

        def end(_: int) -> None:
            table.race_ns, table.clash_resolution = 0, CLASH_NOW

        what = f"within {text}" + (f", as Linux {options['kernel']} resolves it" if "kernel" in options else "")
        return Fault("race", node.name, what, start, end)

    # ---- things that stop

    def _stop(self, kind: str, target: str, namespace: str) -> Fault:
        if target.startswith(PROXY):
            return self._stop_proxy(kind, target)
        node = self.cluster.nodes.get(target.removeprefix("node/"))
        if node is not None and self.cluster.store.get("Pod", (namespace, target)) is None:
            if any(fault.target == node.name and fault.kind in ("freeze", "kill") for fault in self.active.values()):
                raise WrongMomentError(f"{node.name} stands still already", try_="kubenet fault list")
            end = (lambda _: self._silence(node, False)) if kind == "freeze" else None
            return Fault(kind, node.name, "stands still" if kind == "freeze" else "the power is off",
                         lambda _: self._silence(node, True), end)
        self.cluster.container(target, namespace)  # says what is wrong with the name
        containers = self._containers(target, namespace)
        if kind == "kill":
            return Fault(kind, target, "SIGKILL", lambda _: _each(containers, Container.kill), None)
        if any(container.frozen for container in containers):
            raise WrongMomentError(f"{target} is frozen already", try_="kubenet fault list")
        return Fault(kind, target, "its programs stand still", lambda _: _each(containers, lambda c: c.freeze(True)),
                     lambda _: _each(containers, lambda c: c.freeze(False)))

    def _containers(self, target: str, namespace: str) -> list[Container]:
        """A pod's running containers; those of an outside client are itself."""
        pod = self.cluster.store.get("Pod", (namespace, target.removeprefix("pod/")))
        if pod is None:
            return [self.cluster.container(target, namespace)]
        node = self.cluster.nodes[pod["spec"]["nodeName"]]
        assert node.kubelet is not None
        worker = node.kubelet.workers[key_of(pod)]
        return [record.container for record in worker.records if record.container is not None and record.container.running]

    def _stop_proxy(self, kind: str, target: str) -> Fault:
        name = target.removeprefix(PROXY)
        node = self.cluster.nodes.get(name)
        if node is None:
            raise NotFoundError(f"no node is called {name!r}", why="nodes: " + ", ".join(self.cluster.nodes))
        proxy = node.proxy
        if proxy is None or not proxy.is_running or proxy.is_paused:
            raise WrongMomentError(f"kube-proxy does not run on {name}", try_="kubenet fault list")
        if kind == "freeze":
            return Fault(kind, target, "hangs; its rules stay", lambda _: proxy.pause(), lambda _: proxy.resume())
        return Fault(kind, target, "gone; its rules stay", lambda _: proxy.stop(), lambda _: proxy.start(self.cluster.store))

    def _silence(self, node: Node, silent: bool) -> None:
        """A node stands still, or goes on where it was."""
        node.host.alive = not silent
        for machine in [node.container, *self._here(node)]:
            if machine is not None:
                machine.freeze(silent)
        store, kubelet = self.cluster.store, node.kubelet
        assert kubelet is not None
        if silent:
            kubelet.stop()
            store.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node.name, "namespace": LEASES},
                          "spec": {"holderIdentity": node.name, "leaseDurationSeconds": 40, "renewTime": store.now_text()}})
            if node.proxy is not None and node.proxy.is_running and not node.proxy.is_paused:
                node.proxy.pause()
                self.hanging[node.name] = node.proxy
            return
        store.delete("Lease", (LEASES, node.name))
        known = store.must_get("Node", ("", node.name))
        conditions = [{**c, "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                       "lastTransitionTime": store.now_text() if c["status"] != "True" else c["lastTransitionTime"]}
                      if c["type"] == "Ready" else c for c in known["status"]["conditions"]]
        store.set_status("Node", ("", node.name), {**known["status"], "conditions": conditions})
        kubelet.start()
        if (proxy := self.hanging.pop(node.name, None)) is not None:
            proxy.resume()

    def _here(self, node: Node) -> list[Container]:
        assert node.kubelet is not None
        records = [record for worker in node.kubelet.workers.values() for record in worker.records]
        return [record.container for record in records if record.container is not None and record.container.running]


CLASH_NOW = 2  # conntrack/table.py clash_resolution


def _clash_resolution(kernel: str) -> int:
    """How a kernel resolves a clash of two entries: 4.7 learnt to join equal ones, 5.7 to keep both. ValueError."""
    if not kernel:
        return CLASH_NOW
    major, dot, minor = kernel.partition(".")
    if not major.isdigit() or not minor.isdigit():
        raise ValueError(f"{kernel!r} is no version of Linux; write it like 4.6")
    version = (int(major), int(minor))
    return 0 if version < (4, 7) else 1 if version < (5, 7) else CLASH_NOW


def _each(containers: Sequence[Container], act: Callable[[Container], None]) -> None:
    for container in containers:
        act(container)


def _chance(text: str) -> float:
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= 1:
        raise ValueError(f"{text!r} is no chance; write it like 10%")
    return number


def _number(text: str, low: int, high: int) -> int:
    if not text.isdigit() or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def _flags(text: str) -> int:
    bits = 0
    for letter in text.upper():
        if letter not in FLAG_BITS:
            raise ValueError(f"{text!r} are no flags; letters are S, A, F and R: S is a SYN alone, SA a SYN-ACK")
        bits |= FLAG_BITS[letter]
    return bits
