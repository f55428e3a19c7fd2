"""The map of a cluster as data: machines, cables, pods on nodes, and which Service each pod is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubenet.wire.addr import ip4_text

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster

Obj = dict[str, Any]


def topology_json(cluster: Cluster) -> Obj:
    """{"name", "nodes": [...], "outside": [...], "links": [...], "services": [...]} for `topo` and the web page."""
    pods = [pod for pod in cluster.store.iter("Pod") if pod["spec"].get("nodeName")]
    behind = _endpoints(cluster)
    nodes = []
    for name, node in cluster.nodes.items():
        ct = node.net.ct
        nodes.append({
            "name": name, "ip": node.ip, "podCIDR": node.pod_cidr, "bridge": "cni0", "nic": "eth0",
            "conntrack": {"count": ct.count if ct is not None else 0, "max": node.host.nf_conntrack_max},
            "pods": [_pod(cluster, node, pod, behind) for pod in pods if pod["spec"]["nodeName"] == name],
        })
    links = [{"between": [machine.name, "lan"], "latency_ns": machine.link.latency, "rate": machine.link.rate, "mtu": machine.spec.link.mtu,
              "loss": machine.link.loss, "up": machine.link.up} for machine in cluster.fabric.machines.values()]
    outside = [{"name": m.name, "ip": ip4_text(m.spec.ip)} for m in cluster.fabric.machines.values() if not m.spec.is_node]
    services = [{"name": s["metadata"]["name"], "namespace": s["metadata"]["namespace"], "clusterIP": s["spec"].get("clusterIP", ""),
                 "ports": s["spec"].get("ports") or []} for s in cluster.store.iter("Service")]
    return {"name": cluster.topology.name, "nodes": nodes, "outside": outside, "links": links, "services": services}


def _pod(cluster: Cluster, node: Any, pod: Obj, behind: dict[tuple[str, str], list[str]]) -> Obj:
    meta = pod["metadata"]
    key = (meta["namespace"], meta["name"])
    veth = node.cni.veth_name("/".join(key)) if not pod["spec"].get("hostNetwork") else ""
    status = pod.get("status") or {}
    return {"name": meta["name"], "namespace": meta["namespace"], "ip": status.get("podIP", ""), "veth": veth,
            "phase": status.get("phase", "Pending"), "services": behind.get(key, [])}


def _endpoints(cluster: Cluster) -> dict[tuple[str, str], list[str]]:
    """(namespace, pod) -> the Services it is an endpoint of."""
    out: dict[tuple[str, str], list[str]] = {}
    for piece in cluster.store.iter("EndpointSlice"):
        service = (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
        for endpoint in piece.get("endpoints") or []:
            target = endpoint.get("targetRef") or {}
            if service and target.get("kind") == "Pod":
                names = out.setdefault((piece["metadata"]["namespace"], target["name"]), [])
                if service not in names:
                    names.append(service)
    return out
