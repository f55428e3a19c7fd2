"""Who an address is: a pod, a Service's address that no interface has, a node, a bridge, an outside client."""

from __future__ import annotations

from typing import Any

from kubenet.cluster.cluster import Cluster
from kubenet.wire.addr import ip4, ip4_text

Obj = dict[str, Any]

POD, SERVICE, NODE, OUTSIDE, OTHER = "pod", "service", "node", "outside", "other"


class Directory:
    """Addresses to names, as they are now."""

    def __init__(self, cluster: Cluster) -> None:
        self.pods: dict[int, Obj] = {}
        for pod in cluster.store.iter("Pod"):
            ip = (pod.get("status") or {}).get("podIP")
            if ip and not pod["spec"].get("hostNetwork"):
                self.pods[ip4(ip)] = pod
        self.services: dict[int, Obj] = {}
        self.balanced: dict[int, Obj] = {}  # those of `services` that are load balancer addresses
        for service in cluster.store.iter("Service"):
            for ip in [service["spec"].get("clusterIP"), *(service["spec"].get("externalIPs") or [])]:
                if ip and ip != "None":
                    self.services[ip4(ip)] = service
            for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
                if entry.get("ip"):
                    self.services.setdefault(ip4(entry["ip"]), service)
                    self.balanced.setdefault(ip4(entry["ip"]), service)
        self.machines: dict[int, tuple[str, str, str]] = {}  # address -> (machine, device, kind)
        for name, machine in cluster.fabric.machines.items():
            for dev in machine.net.devs.values():
                for entry in dev.ifaddrs:
                    if entry.addr >> 24 != 127:
                        self.machines[entry.addr] = (name, dev.name, NODE if machine.spec.is_node else OUTSIDE)

    def kind(self, addr: int) -> str:
        """POD, SERVICE, NODE, OUTSIDE or OTHER."""
        if addr in self.pods:
            return POD
        if addr in self.services:
            return SERVICE
        found = self.machines.get(addr)
        return found[2] if found else OTHER

    def name(self, addr: int) -> str:
        """The shortest name: web-0, web, node-1; the address itself if nobody has it."""
        if addr in self.pods:
            return str(self.pods[addr]["metadata"]["name"])
        if addr in self.services:
            return str(self.services[addr]["metadata"]["name"])
        found = self.machines.get(addr)
        return found[0] if found else ip4_text(addr)

    def words(self, addr: int) -> str:
        """For a legend: "pod web-0, node-2", "service web (ClusterIP: on no interface, only in rules)"."""
        pod = self.pods.get(addr)
        if pod is not None:
            return f"pod {pod['metadata']['name']}, {pod['spec'].get('nodeName', '?')}"
        service = self.services.get(addr)
        if service is not None:
            other = "load balancer IP" if self.balanced.get(addr) is service else "external IP"
            kind = "ClusterIP" if service["spec"].get("clusterIP") == ip4_text(addr) else other
            return f"service {service['metadata']['name']} ({kind}: on no interface, only in rules)"
        found = self.machines.get(addr)
        if found is None:
            return "nobody here has this address"
        name, dev, kind = found
        return f"{'node' if kind == NODE else 'outside client'} {name}, {dev}"

    def title(self, addr: int) -> str:
        """For a headline: "pod client", "service web", "node node-1"."""
        kind = self.kind(addr)
        return f"{kind} {self.name(addr)}" if kind != OTHER else self.name(addr)


def place_name(host: str, netns: str) -> str:
    """Where a station is: the pod's name in a pod, else the machine's."""
    return netns.rpartition("/")[2] if netns != host else host
