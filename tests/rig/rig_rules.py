"""Sets of iptables rules by name: kube-proxy's own text for the services of the cases, one node's view each.

    rule_steps("n1", "kube")   [("cmd", "-t nat -N KUBE-SERVICES"), ..., ("restore", text)]

Services: web 10.96.0.1:80, NodePort 30080, on w1 10.48.1.6:8080 or w2 10.48.2.7:8080, or both; local: policy Local,
NodePort 30081; none: no endpoints, 10.96.0.40:80, NodePort 30082; dns: UDP 10.96.0.10:53 on w2:5353; gone: UDP without
endpoints 10.96.0.41:53.
"""

from __future__ import annotations

import shlex
from functools import cache
from typing import Any

from kubenet.cluster.api.ips import AF_INET
from kubenet.cluster.proxy import ProxyOptions, jump_rules, rules_for

NODES = {"n1": ("node-1", "172.18.0.2", "10.48.1.1"), "n2": ("node-2", "172.18.0.3", "10.48.2.1")}
ENDPOINTS = {"w1": ("10.48.1.6", "node-1"), "w2": ("10.48.2.7", "node-2")}


def _options(node: str, **changes: Any) -> ProxyOptions:
    name, ip, cni = NODES[node]
    return ProxyOptions.parse({
        "nodeName": name, "nodeIP": ip, "nodeIPs": ["127.0.0.1", ip, cni],
        "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16"}, **changes,
    })


def _service(name: str, ip: str, port: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": ip, "ports": [port], "type": "NodePort" if "nodePort" in port else "ClusterIP", **spec}}


def _slice(name: str, pods: str, port: dict[str, Any]) -> dict[str, Any]:
    ends = [{"addresses": [ENDPOINTS[p][0]], "nodeName": ENDPOINTS[p][1], "conditions": {}} for p in pods.split("+") if p]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [port], "endpoints": ends}


def _objects(pods: str) -> list[dict[str, Any]]:
    tcp, udp = {"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}
    return [
        _service("web", "10.96.0.1", {"name": "http", "port": 80, "nodePort": 30080}),
        _slice("web", pods, tcp),
        _service("local", "10.96.0.2", {"name": "http", "port": 80, "nodePort": 30081}, externalTrafficPolicy="Local"),
        _slice("local", pods, tcp),
        _service("none", "10.96.0.40", {"name": "http", "port": 80, "nodePort": 30082}),
        _service("dns", "10.96.0.10", {"name": "dns", "port": 53, "protocol": "UDP"}),
        _slice("dns", pods, udp),
        _service("gone", "10.96.0.41", {"name": "dns", "port": 53, "protocol": "UDP"}),
    ]


@cache
def kube_text(node: str, pods: str, fully: bool) -> str:
    """kube-proxy's first full sync on a node when web's endpoints are `pods`."""
    return rules_for(_objects(pods), _options(node, randomFully=fully), AF_INET)


@cache
def rule_steps(node: str, kind: str) -> tuple[tuple[str, str], ...]:
    """How a set of rules is put in: ("cmd", iptables arguments) and ("restore", text). "kube:w1+w2", "kube:w2,plain"."""
    if kind.startswith("+"):
        return (("cmd", kind[1:]),)
    pods, _, more = kind.removeprefix("kube:").partition(",")
    steps: list[tuple[str, str]] = []
    for jump in jump_rules():
        steps += [("cmd", shlex.join(step.argv()[1:])) for step in jump.steps()]
    return (*steps, ("restore", kube_text(node, pods, more != "plain")))
