"""What is wrong in a cluster, as far as its own state says it: the questions of somebody whose packet vanished, asked all at once.

    findings(cluster) -> [Finding, ...]       worst first, in the order in which one would look

Each check is a function of the cluster that yields findings; it reads what the tools read and changes nothing. A finding says what is
so, how that is known, and one command that shows more or mends it. ERROR is something that does not work, WARNING something that will
surprise, NOTE something that is so on purpose (a fault that somebody added).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kubenet.cluster.api import selectors
from kubenet.cluster.controllers.common import condition, is_ready
from kubenet.cluster.settle import blocked, stuck_reason
from kubenet.cluster.store import key_of
from kubenet.kernel.ipv4.fib import Flow, fib_lookup
from kubenet.kernel.netfilter.core import nf_ready
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.vxlan.device import VXLAN_HEADROOM, Vxlan
from kubenet.userland.netview import sockets
from kubenet.wire.addr import ip4, ip4_text, mac

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster
    from kubenet.cluster.node import Node

Obj = dict[str, Any]

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
NEARLY_FULL = 90  # percent of nf_conntrack_max
LOOPBACK = 127


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    severity: str
    check: str
    what: str
    why: str = ""
    try_: str = ""

    def json(self) -> Obj:
        """For the wire and for `-o json`."""
        return {"severity": self.severity, "check": self.check, "what": self.what, "why": self.why, "try": self.try_}


Check = Callable[["Cluster"], Iterator[tuple[str, str, str, str]]]  # (severity, what, why, try)


def findings(cluster: Cluster) -> list[Finding]:
    """All checks, worst findings first."""
    found = [Finding(severity, name, what, why, try_) for name, check in CHECKS.items() for severity, what, why, try_ in check(cluster)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _flag(namespace: str) -> str:
    return "" if namespace == "default" else f" -n {namespace}"


# ---- Kubernetes


def nodes(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Nodes that are not ready, or take no pods."""
    for node in cluster.store.iter("Node"):
        name = node["metadata"]["name"]
        ready = condition(node, "Ready")
        if ready is None or ready.get("status") != "True":
            yield ERROR, f"node {name} is not ready", str((ready or {}).get("message", "its kubelet has not spoken yet")), \
                f"kubenet describe node {name}"
        elif node["spec"].get("unschedulable"):
            yield WARNING, f"node {name} takes no new pods", "spec.unschedulable is true", f"kubectl uncordon {name}"


def pods(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Pods that do not run, are not ready, or keep on starting."""
    waiting = {line.split(":", 1)[0]: line.split(": ", 1)[1] for line in blocked(cluster)}
    for pod in cluster.store.iter("Pod"):
        meta, status = pod["metadata"], pod.get("status") or {}
        name, show = meta["name"], f"kubenet describe pod {meta['name']}{_flag(meta['namespace'])}"
        if meta.get("deletionTimestamp") or status.get("phase") == "Succeeded":
            continue
        if status.get("phase") == "Failed":
            yield ERROR, f"pod {name} has failed", str(status.get("message") or status.get("reason") or ""), show
        elif not pod["spec"].get("nodeName"):
            said = condition(pod, "PodScheduled") or {}
            yield ERROR, f"pod {name} is on no node", str(said.get("message", "the scheduler has not seen it yet")), show
        elif f"pod/{name}" in waiting:
            yield ERROR, f"pod {name} does not start", waiting[f"pod/{name}"], show
        elif reason := stuck_reason(pod):
            yield ERROR, f"pod {name} does not run: {reason}", _last_words(status), f"kubenet logs {name}{_flag(meta['namespace'])}"
        elif not is_ready(pod):
            why = str((condition(pod, "ContainersReady") or {}).get("message", ""))
            yield WARNING, f"pod {name} is not ready", why or f"phase {status.get('phase', 'Pending')}", show


def _last_words(status: Obj) -> str:
    for each in status.get("containerStatuses") or []:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            return str(waiting["message"])
    return ""


def addresses(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Two pods that think they have the same address."""
    seen: dict[str, str] = {}
    for pod in cluster.store.iter("Pod"):
        if pod["spec"].get("hostNetwork") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for entry in (pod.get("status") or {}).get("podIPs") or []:
            other = seen.setdefault(entry["ip"], pod["metadata"]["name"])
            if other != pod["metadata"]["name"]:
                yield ERROR, f"pods {other} and {pod['metadata']['name']} both have {entry['ip']}", "", "kubenet get pods -A -o wide"


def services(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Services that lead nowhere: no pod fits, none is ready, or nobody listens on the port."""
    for service in cluster.store.iter("Service"):
        meta, spec = service["metadata"], service["spec"]
        name, flag = meta["name"], _flag(meta["namespace"])
        if spec.get("type") == "ExternalName" or not spec.get("selector"):
            continue
        wanted: list[selectors.Requirement] = [(k, "=", (str(v),)) for k, v in spec["selector"].items()]
        chosen = cluster.store.list("Pod", meta["namespace"], wanted)
        text = ",".join(f"{k}={v}" for k, v in spec["selector"].items())
        if not chosen:
            yield ERROR, f"service {name} has no endpoints", f"no pod has {text}", f"kubenet get pods --show-labels{flag}"
        elif not any(is_ready(pod) for pod in chosen) and not spec.get("publishNotReadyAddresses"):
            yield ERROR, f"service {name} has no ready endpoint", f"none of {len(chosen)} pods with {text} is ready", \
                f"kubenet get pods -l {text}{flag}"
        else:
            yield from _ports(cluster, service, chosen)


def _ports(cluster: Cluster, service: Obj, chosen: list[Obj]) -> Iterator[tuple[str, str, str, str]]:
    """Does somebody listen where the endpoints say?"""
    name, flag = service["metadata"]["name"], _flag(service["metadata"]["namespace"])
    for port in service["spec"].get("ports") or []:
        for pod in chosen:
            number, net = _target(port, pod), _net(cluster, pod)
            pod_name = pod["metadata"]["name"]
            if not number:
                yield ERROR, f"service {name}: pod {pod_name} has no port called {port.get('targetPort')}", \
                    "so it is no endpoint of this port", f"kubenet describe pod {pod_name}{flag}"
            elif is_ready(pod) and net is not None and (why := _not_listening(net, str(port.get("protocol", "TCP")), number)):
                tool = f"kubenet exec {pod_name}{flag} -- ss -ln{str(port.get('protocol', 'TCP'))[0].lower()}"
                yield ERROR, f"service {name} port {port['port']}: pod {pod_name} does not answer on {number}", why, tool


def _target(port: Obj, pod: Obj) -> int:
    """targetPort as this pod means it; 0 if it has none of the name."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for each in container.get("ports") or []:
            if each.get("name") == target and each.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(each["containerPort"])
    return 0


def _net(cluster: Cluster, pod: Obj) -> NetNamespace | None:
    node = cluster.nodes.get(pod["spec"].get("nodeName", ""))
    worker = node.kubelet.workers.get(key_of(pod)) if node is not None and node.kubelet is not None else None
    return worker.net if worker is not None else None


def _not_listening(net: NetNamespace, protocol: str, port: int) -> str:
    """Why nobody answers on the port; "" if somebody listens, or for a protocol without listeners."""
    if protocol not in ("TCP", "UDP"):
        return ""
    servers = [row for row in sockets(net, (protocol.lower(),)) if row.state == ("LISTEN" if protocol == "TCP" else "UNCONN")]
    bound = [row for row in servers if row.sport == port]
    if not bound:
        others = sorted({row.sport for row in servers})
        return f"no {protocol} socket listens there; these do: {', '.join(map(str, others)) or 'none'}"
    if all(row.saddr >> 24 == LOOPBACK for row in bound):
        return "it listens on 127.0.0.1 only, so no packet from outside the pod reaches it"
    return ""


def policies(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """NetworkPolicies, which nothing here enforces."""
    names = [policy["metadata"]["name"] for policy in cluster.store.iter("NetworkPolicy")]
    if names:
        yield WARNING, f"NetworkPolicy {', '.join(names)} has no effect", \
            "a CNI plugin enforces them, and the one here (a bridge and routes) does not", "kubenet get networkpolicies -A"


# ---- nodes


def proxies(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """kube-proxies that do not do their work."""
    for node in cluster.nodes.values():
        proxy = node.proxy
        if proxy is None:
            continue
        if not proxy.is_running:
            yield ERROR, f"kube-proxy does not run on {node.name}", "its rules stay as they were", "kubenet fault list"
        elif proxy.is_paused:
            yield ERROR, f"kube-proxy on {node.name} hangs", "its rules stay as they were", "kubenet fault list"
        elif proxy.has_pending:
            yield WARNING, f"kube-proxy on {node.name} is behind", "what changed is not in its rules yet", "kubenet run 1s"
        elif not proxy.is_healthy():
            yield ERROR, f"kube-proxy on {node.name} is not healthy", "it has not synced for a long time", "kubenet events -A"


def sysctls(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Settings without which a node forwards nothing, or answers take another way."""
    for node in cluster.nodes.values():
        sysctl = node.net.sysctl
        if not sysctl.ipv4.ip_forward:
            yield ERROR, f"{node.name} forwards nothing", "net.ipv4.ip_forward is 0", \
                f"kubenet exec {node.name} -- sysctl -w net.ipv4.ip_forward=1"
        if sysctl.bridge is not None and not sysctl.bridge.bridge_nf_call_iptables:
            yield ERROR, f"on {node.name} bridged packets pass no iptables rule", \
                "net.bridge.bridge-nf-call-iptables is 0: answers of a pod on the same node go back without being translated", \
                f"kubenet exec {node.name} -- sysctl -w net.bridge.bridge-nf-call-iptables=1"
        nf_ready(node.net)
        table = node.net.xt.get(AF_INET, {}).get("filter")
        if table is not None and table.policies.get("FORWARD") == "DROP":
            yield WARNING, f"on {node.name} the policy of FORWARD is DROP", "what no rule accepts is lost without a word", \
                f"kubenet exec {node.name} -- iptables -vnL FORWARD"


def conntrack(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Tables that are full, packets that were lost in them, entries that lead to nobody."""
    alive = _alive(cluster)
    for node in cluster.nodes.values():
        table, limit = node.net.ct, node.host.nf_conntrack_max
        if table is None:
            continue
        show = f"kubenet exec {node.name} -- conntrack"
        if limit and table.count * 100 >= limit * NEARLY_FULL:
            yield ERROR, f"conntrack on {node.name} is full: {table.count} of {limit}", "new connections are dropped", f"{show} -C"
        for name, means in (("insert_failed", "two packets of one new flow raced, and one was dropped"),
                            ("drop", "packets were dropped because their entry could not be made")):
            if table.stats[name]:
                yield WARNING, f"conntrack on {node.name}: {name} is {table.stats[name]}", means, f"{show} -S"
                break
        translated = {ct.reply[0] for ct in table.entries() if ct.family == AF_INET and ct.reply[0] != ct.orig[2]}
        stale = [ip4_text(addr) for addr in sorted(translated - alive) if _in_pods(cluster, addr)]
        if stale:
            yield WARNING, f"conntrack on {node.name} sends to {', '.join(stale[:3])}, where nobody is any more", \
                "an entry made before the pod went still translates packets of its flow", f"{show} -L -r {stale[0]}"


def _alive(cluster: Cluster) -> set[int]:
    """The addresses of pods that have not ended."""
    found = set()
    for pod in cluster.store.iter("Pod"):
        status = pod.get("status") or {}
        if status.get("phase") not in ("Succeeded", "Failed"):
            found |= {ip4(entry["ip"]) for entry in status.get("podIPs") or [] if ":" not in entry["ip"]}
    return found


def _in_pods(cluster: Cluster, addr: int) -> bool:
    for node in cluster.nodes.values():
        base, _, plen = node.pod_cidr.partition("/")
        if base and ":" not in base and addr >> (32 - int(plen)) == ip4(base) >> (32 - int(plen)):
            return True
    return False


def routes(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """Nodes that do not know the way to another node's pods, or whose devices are down or of different size."""
    for node in cluster.nodes.values():
        for other in cluster.nodes.values():
            base = other.pod_cidr.partition("/")[0]
            if other is node or not base or ":" in base:
                continue
            route = fib_lookup(node.net, Flow(ip4(base) + 2))
            if route is None or route.dev is None or route.plen == 0:
                yield ERROR, f"{node.name} has no route to the pods of {other.name}", \
                    f"nothing fits {other.pod_cidr}" + (" but the default route" if route is not None and route.dev is not None else ""), \
                    f"kubenet exec {node.name} -- ip route add {other.pod_cidr} " + (
                        f"via {other.ip}" if node.flannel is None else f"via {base} dev {node.flannel.device.name} onlink")
            yield from _tunnel(node, other)
        yield from _devices(node)


def _tunnel(node: Node, other: Node) -> Iterator[tuple[str, str, str, str]]:
    """What flannel wrote for another node and somebody took away: its VTEP's neighbour entry and FDB entry."""
    flannel = node.flannel
    peer = flannel.peers.get(other.name) if flannel is not None else None
    if flannel is None or peer is None:
        return
    gateway, dev = peer.subnet.partition("/")[0], flannel.device.name
    neigh = node.net.neigh[AF_INET].lookup(flannel.device, ip4(gateway))
    if neigh is None or neigh.ha != mac(peer.vtep_mac):
        yield ERROR, f"{dev} of {node.name} has no neighbour entry for the VTEP of {other.name}", \
            "ARP does not cross the tunnel: nobody answers for " + gateway, \
            f"kubenet exec {node.name} -- ip neigh replace {gateway} lladdr {peer.vtep_mac} dev {dev}"
    entry = flannel.device.fdb.find(mac(peer.vtep_mac))
    if entry is None or entry.remotes[0].remote_ip != ip4(peer.public_ip):
        yield ERROR, f"{dev} of {node.name} does not know that the VTEP of {other.name} is at {peer.public_ip}", \
            f"its FDB has no such entry for {peer.vtep_mac}", \
            f"kubenet exec {node.name} -- bridge fdb replace {peer.vtep_mac} dev {dev} dst {peer.public_ip}"


def _devices(node: Node) -> Iterator[tuple[str, str, str, str]]:
    devs = list(node.net.devs.values())
    for dev in devs:
        if dev.kind != "loopback" and not dev.flags & 1:
            yield WARNING, f"{dev.name} of {node.name} is down", "", f"kubenet exec {node.name} -- ip link set {dev.name} up"
    uplink = node.net.devs.get("eth0")
    for dev in devs:
        if uplink is not None and isinstance(dev, Vxlan) and dev.mtu + VXLAN_HEADROOM > uplink.mtu:
            yield WARNING, f"on {node.name} {dev.name} makes packets of {dev.mtu + VXLAN_HEADROOM}, eth0 takes {uplink.mtu}", \
                "outer packets leave in fragments, and whole ones that come in are dropped without a word: connections hang", \
                f"kubenet exec {node.name} -- ip link set {dev.name} mtu {uplink.mtu - VXLAN_HEADROOM}"
        if uplink is not None and dev.kind == "bridge" and dev.mtu > uplink.mtu:
            yield WARNING, f"on {node.name} {dev.name} takes larger packets ({dev.mtu}) than eth0 ({uplink.mtu})", \
                "larger ones are cut in two or answered with \"fragmentation needed\"; if that answer is lost, connections hang", \
                f"kubenet exec {node.name} -- ip link set {dev.name} mtu {uplink.mtu}"


def faults(cluster: Cluster) -> Iterator[tuple[str, str, str, str]]:
    """What somebody broke on purpose."""
    for number, fault in cluster.faults.active.items():
        yield NOTE, f"fault {number}: {fault.kind} {fault.target}, {fault.what}", "somebody added it", f"kubenet fault rm {number}"


CHECKS: dict[str, Check] = {
    "nodes": nodes, "pods": pods, "addresses": addresses, "services": services, "kube-proxy": proxies, "settings": sysctls,
    "routes": routes, "conntrack": conntrack, "policies": policies, "faults": faults,
}
