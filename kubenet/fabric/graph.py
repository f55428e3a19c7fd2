"""The topology: which machines there are and how they are wired, as a graph and as running hosts.

    topo = three_nodes()                      node-1..3 172.18.0.2.., the client `outside` 172.18.0.100, all on one switch
    topo = from_manifest(document, file)      kind: Topology; ManifestError says what is wrong and where
    topo.graph                                networkx MultiGraph for paths and drawings; packets never look at it
    fabric = topo.build(loop)                 Hosts with eth0, address and routes; cables; the switch

The LAN has a gateway, 172.18.0.1: a machine that answers ARP and pings and knows no way further, as a lab without
Internet has. All nodes' default route points there, which matters: a process on a node cannot reach a ClusterIP
without one (connect() looks up the route before netfilter sees anything).

A manifest's `links` are one object (defaults for every cable) or a list of objects with `node` or `between`. A cable's
latency is half the way between two machines: 25 us by default, so a ping between pods of two nodes takes 0.12 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kubenet.errors import ManifestError
from kubenet.fabric.link import DEFAULT_LATENCY, Link
from kubenet.fabric.switch import Switch
from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.dev.nic import Nic
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.units import parse_duration, parse_rate
from kubenet.wire.addr import ip4, ip4_text, parse_cidr

if TYPE_CHECKING:
    import networkx as nx

Obj = dict[str, Any]
LAN = "lan"
CNI_MODES = ("host-gw", "vxlan")  # how pods of other nodes are reached: cluster/cni.py, cluster/flannel.py


@dataclass(slots=True)
class LinkSpec:
    """One cable. Times ns, rate bit/s (0: no limit), the rest probabilities 0..1."""

    latency: int = DEFAULT_LATENCY
    rate: int = 0
    loss: float = 0.0
    mtu: int = 1500
    queue: int = 0
    jitter: int = 0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    offload: bool = True


@dataclass(slots=True)
class MachineSpec:
    """A node or an outside client. `spec` is its object in the manifest (labels, taints, podCIDR, sysctls ...)."""

    name: str
    ip: int
    is_node: bool
    link: LinkSpec
    pod_cidr: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    spec: Obj = field(default_factory=dict)


@dataclass(slots=True)
class Machine:
    """A running one."""

    name: str
    spec: MachineSpec
    host: Host
    net: NetNamespace
    nic: Nic
    link: Link


class Fabric:
    """Everything that was built. `machines` in the order of the topology; the gateway stands apart."""

    __slots__ = ("loop", "switch", "machines", "gateway", "topology")

    def __init__(self, loop: EventLoop, switch: Switch, topology: Topology) -> None:
        self.loop = loop
        self.switch = switch
        self.machines: dict[str, Machine] = {}
        self.gateway: Machine | None = None
        self.topology = topology

    @property
    def nodes(self) -> list[Machine]:
        """The cluster's nodes."""
        return [m for m in self.machines.values() if m.spec.is_node]

    @property
    def links(self) -> dict[str, Link]:
        """Cables by the name of the machine they end at."""
        return {name: machine.link for name, machine in self.machines.items()}

    def cables(self) -> dict[str, tuple[Link, int]]:
        """What impair.partition() wants."""
        return {name: (machine.link, machine.nic.addr) for name, machine in self.machines.items()}


@dataclass(slots=True)
class Topology:
    """The plan. `spec` keeps the manifest's other fields (kubeProxy, cniMode, clusterDomain ...) for the cluster."""

    name: str
    seed: int
    machines: list[MachineSpec]
    cidr: tuple[int, int]
    gateway: int
    pod_cidr: str = "10.48.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    kube_proxy: Obj = field(default_factory=dict)
    spec: Obj = field(default_factory=dict)
    cni_mode: str = "host-gw"

    @property
    def nodes(self) -> list[MachineSpec]:
        """The nodes, in order."""
        return [m for m in self.machines if m.is_node]

    @property
    def outside(self) -> list[MachineSpec]:
        """The clients outside the cluster."""
        return [m for m in self.machines if not m.is_node]

    @property
    def graph(self) -> nx.MultiGraph[Any]:
        """Machines and the switch as nodes (attribute `kind`), cables as edges (attribute `link`)."""
        import networkx as nx  # 0.1 s: only for those who draw or ask for paths

        graph: nx.MultiGraph[Any] = nx.MultiGraph(name=self.name)
        graph.add_node(LAN, kind="switch")
        for machine in self.machines:
            graph.add_node(machine.name, kind="node" if machine.is_node else "outside", ip=ip4_text(machine.ip))
            graph.add_edge(machine.name, LAN, link=machine.link)
        return graph

    def build(self, loop: EventLoop) -> Fabric:
        """Hosts, cards, cables and the switch exist and are up."""
        fabric = Fabric(loop, Switch(loop, LAN), self)
        for spec in self.machines:
            fabric.machines[spec.name] = self._machine(fabric, spec)
        gateway = MachineSpec("gateway", self.gateway, False, LinkSpec())
        fabric.gateway = self._machine(fabric, gateway)
        return fabric

    def _machine(self, fabric: Fabric, spec: MachineSpec) -> Machine:
        host = Host(fabric.loop, spec.name, self.seed)
        net = new_namespace(host, spec.name)
        link_spec = spec.link
        nic = Nic(net, "eth0", link_spec.mtu)
        link = Link(fabric.loop, spec.name, link_spec.latency, link_spec.rate, 0, link_spec.queue, link_spec.loss,
                    link_spec.reorder, link_spec.duplicate, link_spec.corrupt, link_spec.jitter, self.seed, link_spec.offload)
        link.attach(0, nic)
        link.attach(1, fabric.switch.add_port())
        dev_change_flags(nic, True)
        base, plen = self.cidr
        inet_addr_add(nic, spec.ip, plen, brd=base | (1 << 32 - plen) - 1)
        if spec.ip != self.gateway and self.gateway:
            fib_add(net, 0, 0, gateway=self.gateway)
        return Machine(spec.name, spec, host, net, nic, link)


# -- built-in --------------------------------------------------------------------------------------------------------


def _nodes(count: int, seed: int, name: str) -> Topology:
    return from_manifest({"metadata": {"name": name}, "spec": {
        "seed": seed, "nodes": [{"name": f"node-{k}"} for k in range(1, count + 1)], "outside": [{"name": "outside"}]}})


def three_nodes(seed: int = 7) -> Topology:
    """node-1, node-2, node-3 and outside."""
    return _nodes(3, seed, "three-nodes")


def two_nodes(seed: int = 7) -> Topology:
    """node-1, node-2 and outside: the labs' cluster."""
    return _nodes(2, seed, "two-nodes")


# -- manifests -------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads fields and knows how to complain."""

    __slots__ = ("file",)

    def __init__(self, file: str) -> None:
        self.file = file

    def bad(self, what: str, at: str, why: str = "", try_: str = "") -> ManifestError:
        return ManifestError(what, file=self.file, field=at, why=why or f"field {at}", try_=try_)

    def object(self, obj: Obj, key: str, at: str) -> Obj:
        value = obj.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.bad(f"Topology: {at} is not an object", at)
        return value

    def items(self, obj: Obj, key: str, at: str) -> list[Any]:
        value = obj.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(f"Topology: {at} is not a list", at)
        return value

    def text(self, obj: Obj, key: str, at: str, default: str = "") -> str:
        value = obj.get(key, default)
        if not isinstance(value, str):
            raise self.bad(f"Topology: {at}.{key} is not a text: {value!r}", f"{at}.{key}")
        return value

    def address(self, obj: Obj, at: str) -> int:
        text = obj.get("ip", obj.get("address", ""))
        if not text:
            return 0
        try:
            return ip4(str(text))
        except ValueError as error:
            raise self.bad(f"Topology: {at}: {error}", f"{at}.ip")

    def cidr(self, text: Any, at: str) -> tuple[int, int]:
        try:
            addr, plen = parse_cidr(str(text))
        except ValueError as error:
            raise self.bad(f"Topology: {at}: {error}", at)
        if plen > 30 or addr & ((1 << 32 - plen) - 1):
            raise self.bad(f"Topology: {at} is {text}, which is not a network", at, try_=f"{at}: 172.18.0.0/16")
        return addr, plen

    def number(self, obj: Obj, key: str, at: str, default: int, low: int, high: int) -> int:
        value = obj.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(f"Topology: {at}.{key} is {value!r}", f"{at}.{key}", f"a number from {low} to {high} belongs here")
        return value

    def probability(self, obj: Obj, key: str, at: str, default: float) -> float:
        value = obj.get(key, default)
        try:
            number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or not 0.0 <= number <= 1.0:
            raise self.bad(f"Topology: {at}.{key} is {value!r}", f"{at}.{key}", "a probability belongs here", f"{key}: 5%")
        return number

    def duration(self, obj: Obj, key: str, at: str, default: int) -> int:
        if key not in obj:
            return default
        try:
            return parse_duration(str(obj[key]))
        except ValueError as error:
            raise self.bad(f"Topology: {at}.{key}: {error}", f"{at}.{key}")

    def rate(self, obj: Obj, at: str, default: int) -> int:
        if "rate" not in obj:
            return default
        try:
            return parse_rate(str(obj["rate"]))
        except ValueError as error:
            raise self.bad(f"Topology: {at}.rate: {error}", f"{at}.rate")

    def offload(self, obj: Obj, at: str, default: bool) -> bool:
        value = obj.get("offload", default)
        if isinstance(value, dict):
            return bool(value.get("tso", True)) and bool(value.get("gso", True))
        if isinstance(value, bool):
            return value
        if value in ("on", "off"):
            return bool(value == "on")
        raise self.bad(f"Topology: {at}.offload is {value!r}", f"{at}.offload", try_="offload: off")

    def link(self, obj: Any, at: str, base: LinkSpec) -> LinkSpec:
        """A cable's settings over those of `base`."""
        if obj is None:
            return replace(base)
        if not isinstance(obj, dict):
            raise self.bad(f"Topology: {at} is not an object", at)
        known = {"latency", "rate", "loss", "mtu", "queue", "jitter", "reorder", "duplicate", "corrupt", "offload", "node",
                 "between"}
        for key in obj:
            if key not in known:
                raise self.bad(f"Topology: unknown field {at}.{key}", f"{at}.{key}", "known: " + ", ".join(sorted(known)))
        return LinkSpec(
            self.duration(obj, "latency", at, base.latency),
            self.rate(obj, at, base.rate),
            self.probability(obj, "loss", at, base.loss),
            self.number(obj, "mtu", at, base.mtu, 576, 9216),
            self.number(obj, "queue", at, base.queue, 0, 1_000_000),
            self.duration(obj, "jitter", at, base.jitter),
            self.probability(obj, "reorder", at, base.reorder),
            self.probability(obj, "duplicate", at, base.duplicate),
            self.probability(obj, "corrupt", at, base.corrupt),
            self.offload(obj, at, base.offload),
        )


def from_manifest(document: Obj, file: str = "") -> Topology:
    """The topology a manifest describes. Raises ManifestError."""
    read = _Reader(file)
    spec = document.get("spec")
    if not isinstance(spec, dict):
        raise read.bad("Topology: spec is missing", "spec", try_="spec: {nodes: [{name: node-1}, {name: node-2}]}")
    network = read.object(spec, "network", "spec.network")
    cidr = read.cidr(network.get("cidr", spec.get("nodeCIDR", "172.18.0.0/16")), "spec.network.cidr")
    gateway = read.address({"ip": network.get("gateway", "")}, "spec.network.gateway") or cidr[0] + 1
    links = spec.get("links")
    base = read.link(links if isinstance(links, dict) else None, "spec.links", LinkSpec())
    topo = Topology(
        str(read.object(document, "metadata", "metadata").get("name", "topology")),
        read.number(spec, "seed", "spec", 7, 0, (1 << 63) - 1), [], cidr, gateway,
        str(spec.get("podCIDR", "10.48.0.0/16")), str(spec.get("serviceCIDR", "10.96.0.0/16")),
        read.object(spec, "kubeProxy", "spec.kubeProxy"), spec,
    )
    topo.cni_mode = read.text(spec, "cniMode", "spec") or topo.cni_mode
    if topo.cni_mode not in CNI_MODES:
        raise read.bad(f"Topology: spec.cniMode is {topo.cni_mode!r}", "spec.cniMode", f"modes: {', '.join(CNI_MODES)}", "cniMode: vxlan")
    read.cidr(topo.pod_cidr, "spec.podCIDR")
    read.cidr(topo.service_cidr, "spec.serviceCIDR")
    if not read.items(spec, "nodes", "spec.nodes"):
        raise read.bad("Topology: spec.nodes is empty", "spec.nodes", "a cluster has at least one node",
                       "nodes: [{name: node-1}]")
    for is_node, key in ((True, "nodes"), (False, "outside")):
        for index, obj in enumerate(read.items(spec, key, f"spec.{key}")):
            _add_machine(read, topo, obj, f"spec.{key}[{index}]", is_node, base)
    if isinstance(links, list):
        _apply_links(read, topo, links)
    return topo


def _add_machine(read: _Reader, topo: Topology, obj: Any, at: str, is_node: bool, base: LinkSpec) -> None:
    if not isinstance(obj, dict) or not obj.get("name"):
        raise read.bad(f"Topology: {at} has no name", f"{at}.name", try_="- name: node-1")
    name = read.text(obj, "name", at)
    if name in (LAN, "gateway") or any(m.name == name for m in topo.machines):
        raise read.bad(f"Topology: {at}.name {name} is taken", f"{at}.name")
    network, plen = topo.cidr
    used = [m.ip for m in topo.machines] + [topo.gateway]
    ip = read.address(obj, at)
    if not ip:
        ip = network + (2 if is_node else 100)
        while ip in used:
            ip += 1
    if ip in used or (ip ^ network) >> 32 - plen:
        why = "two machines have it" if ip in used else f"it is not in {ip4_text(network)}/{plen}"
        raise read.bad(f"Topology: {at}: {name} cannot have {ip4_text(ip)}", f"{at}.ip", why)
    pod_cidr = read.text(obj, "podCIDR", at)
    if pod_cidr:
        read.cidr(pod_cidr, f"{at}.podCIDR")
    labels = read.object(obj, "labels", f"{at}.labels")
    topo.machines.append(MachineSpec(name, ip, is_node, read.link(obj.get("link"), f"{at}.link", base), pod_cidr,
                                     {str(k): str(v) for k, v in labels.items()}, obj))


def _apply_links(read: _Reader, topo: Topology, links: list[Any]) -> None:
    """`links` as a list: each entry names a machine by `node: NAME` or `between: [NAME, lan]`."""
    by_name = {m.name: m for m in topo.machines}
    for index, obj in enumerate(links):
        at = f"spec.links[{index}]"
        if not isinstance(obj, dict):
            raise read.bad(f"Topology: {at} is not an object", at)
        ends = [obj["node"]] if "node" in obj else [e for e in read.items(obj, "between", f"{at}.between") if e != LAN]
        if len(ends) != 1 or not isinstance(ends[0], str) or ends[0] not in by_name:
            raise read.bad(f"Topology: {at} names no machine", at, "machines: " + ", ".join(by_name),
                           f"between: [{topo.machines[0].name}, {LAN}]")
        machine = by_name[ends[0]]
        machine.link = read.link(obj, at, machine.link)
