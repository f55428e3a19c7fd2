"""Services and EndpointSlices of the cast, and readers of restore text, for the tests of kube-proxy."""

from __future__ import annotations

from typing import Any

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.proxy import IptablesProxier, ProxyOptions, rules_for
from kubenet.cluster.proxy.names import hash16

NODE = {
    "nodeName": "node-1",
    "nodeIP": "172.18.0.2",
    "nodeIPs": ["127.0.0.1", "172.18.0.2", "10.48.1.1", "::1", "fc00::2"],
    "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16,fd00:10:48::/48"},
}


def options(**changes: Any) -> ProxyOptions:
    """node-1's options, some of them changed."""
    return ProxyOptions.parse({**NODE, **changes})


def service(name: str = "web", port: Any = None, status: Any = None, **spec: Any) -> dict[str, Any]:
    """A Service in `default` with clusterIP 10.96.0.1, port 80 named http."""
    ports = port if isinstance(port, list) else [port or {"name": "http", "port": 80}]
    obj: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": ports, **spec},
    }
    if status:
        obj["status"] = {"loadBalancer": {"ingress": status}}
    return obj


def ep(address: str, node: str = "node-2", **more: Any) -> dict[str, Any]:
    """An endpoint; conditions by name, zones= and nodes= are hints."""
    hints = {
        "forZones": [{"name": zone} for zone in more.pop("zones", ())],
        "forNodes": [{"name": name} for name in more.pop("nodes", ())],
    }
    return {"addresses": [address], "nodeName": node, "conditions": more, "hints": hints}


def eslice(*endpoints: dict[str, Any], name: str = "", service: str = "web", **top: Any) -> dict[str, Any]:
    """An EndpointSlice of `service`, port 8080 named http unless ports= says otherwise."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service}-abcde",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
        **top,
    }


WEB_0 = ep("10.48.2.7")
WEB_1 = ep("10.48.1.6", node="node-1")


def chain(kind: str, spn: str = "default/web:http", rest: str = "tcp") -> str:
    """The full name of a hashed chain."""
    return f"KUBE-{kind}-{hash16(spn + rest)}"


SVC, SVL, EXT, FW = chain("SVC"), chain("SVL"), chain("EXT"), chain("FW")
SEP_0 = chain("SEP", rest="tcp10.48.2.7:8080")
SEP_1 = chain("SEP", rest="tcp10.48.1.6:8080")


def table(text: str, name: str) -> list[str]:
    """The lines between *name and COMMIT."""
    lines = text.splitlines()
    start = lines.index(f"*{name}")
    return lines[start + 1 : lines.index("COMMIT", start)]


def rules(text: str, name: str, of: str) -> list[str]:
    """What follows `-A CHAIN` in one table, in order."""
    head = f"-A {of} "
    return [line.removeprefix(head) for line in table(text, name) if line.startswith(head)]


def chains(text: str, name: str = "nat") -> list[str]:
    """The chains declared in one table."""
    return [line[1:].split()[0] for line in table(text, name) if line.startswith(":")]


def full(*objects: dict[str, Any], family: int = AF_INET, **changes: Any) -> str:
    """The first full sync on node-1."""
    return rules_for(objects, options(**changes), family)


def proxier(*objects: dict[str, Any], family: int = AF_INET, **changes: Any) -> IptablesProxier:
    """A proxier on node-1 that has heard of these objects."""
    made = IptablesProxier(options(**changes), family)
    for obj in objects:
        made.on_event("add", obj)
    return made
