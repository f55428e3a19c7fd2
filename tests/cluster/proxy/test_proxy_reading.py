"""Random clusters and nodes: our text is that of a second reading of kube-proxy, byte for byte, whole and step by step."""

from __future__ import annotations

import random
from typing import Any

import pytest
from proxy_reading import reading

from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.cluster.proxy.render import render, render_steps

POLICIES = (None, "Cluster", "Local")
NODES = ("node-1", "node-2", "node-3")
PORTS = [("http", "TCP"), ("", "TCP"), ("dns", "UDP"), ("dns-tcp", "TCP"), ("sig", "SCTP"), ("dns", "TCP")]


def node(rng: random.Random) -> dict[str, Any]:
    """A node's options; addresses of both families."""
    made: dict[str, Any] = {
        "nodeName": "node-1", "nodeIP": ["172.18.0.2", "2001:db8::2"],
        "nodeIPs": ["127.0.0.1", "172.18.0.2", "172.18.0.11", "10.48.1.1", "::1", "2001:db8::2", "2001:db8:1::2"],
        "detectLocal": rng.choice([
            None, {"mode": "ClusterCIDR", "value": ["10.48.0.0/16", "fd00:10:48::/48"]},
            {"mode": "ClusterCIDR", "value": ["fd00:10:48::/48"]}, {"mode": "NodeCIDR", "value": ["10.48.1.0/24"]},
            {"mode": "BridgeInterface", "value": "cni0"}, {"mode": "InterfaceNamePrefix", "value": "veth"}]),
    }
    choices: dict[str, list[Any]] = {
        "topologyLabels": [{"topology.kubernetes.io/zone": "a"}], "masqueradeAll": [True], "masqueradeBit": [0, 7, 31],
        "localhostNodePorts": [False], "conntrackTCPBeLiberal": [True], "randomFully": [False],
        "nfacct": [["ct_state_invalid_dropped_pkts"], ["localhost_nps_accepted_pkts", "ct_state_invalid_dropped_pkts"]],
        "nodePortAddresses": [["172.18.0.0/16"], ["127.0.0.0/8", "172.18.0.0/16", "2001:db8::/32"], ["0.0.0.0/0", "10.0.0.0/8"],
                              ["2001:db8:1::/64"], ["203.0.113.0/24"], ["127.0.0.1/32"]],
    }
    for name, values in choices.items():
        if rng.random() < 0.35:
            made[name] = rng.choice(values)
    return made


def _some(rng: random.Random, values: list[Any], most: int = 3) -> list[Any]:
    return rng.sample(values, rng.randint(0, min(most, len(values))))


def endpoint(rng: random.Random, family: int) -> dict[str, Any]:
    """An endpoint of a few addresses, so that slices repeat each other."""
    number = rng.randint(1, 12)
    ip = f"10.48.{number % 3}.{number}" if family == 4 else f"fd00:10:48::{number:x}"
    made: dict[str, Any] = {"addresses": [ip, "192.0.2.77"], "nodeName": rng.choice(NODES)}
    made["conditions"] = {name: rng.choice([True, False, None]) for name in ("ready", "serving", "terminating") if rng.random() < 0.5}
    if rng.random() < 0.6:
        made["hints"] = {"forZones": [{"name": zone} for zone in _some(rng, ["a", "b"], 2)],
                         "forNodes": [{"name": name} for name in _some(rng, list(NODES), 2)]}
    return made


def service(rng: random.Random, at: int) -> dict[str, Any]:
    """A Service of any kind, of one family or both."""
    four, six = f"10.96.{at}.1", f"fd00:10:96::{at + 1:x}"
    spec: dict[str, Any] = {"type": rng.choice(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"])}
    shape = rng.choice(["four", "six", "both", "six first", "old", "None", ""])
    if shape in ("None", ""):
        spec["clusterIP"] = shape
    elif shape == "old":
        spec["clusterIP"] = rng.choice([four, six])
    else:
        pairs = {"four": [("IPv4", four)], "six": [("IPv6", six)], "both": [("IPv4", four), ("IPv6", six)],
                 "six first": [("IPv6", six), ("IPv4", four)]}[shape]
        spec.update(clusterIP=pairs[0][1], clusterIPs=[ip for _, ip in pairs], ipFamilies=[name for name, _ in pairs])
    spec["ports"] = []
    for number, (name, proto) in enumerate(_some(rng, PORTS, 3)):
        port: dict[str, Any] = {"name": name, "protocol": proto, "port": 80 + number, "targetPort": 9999}
        if spec["type"] in ("NodePort", "LoadBalancer") and rng.random() < 0.7:
            port["nodePort"] = 30000 + at * 10 + number
        spec["ports"].append(port)
    for field in ("externalTrafficPolicy", "internalTrafficPolicy"):
        policy = rng.choice(POLICIES)
        if policy:
            spec[field] = policy
    spec["externalIPs"] = _some(rng, [f"192.0.2.{at}", "2001:db8:9::9", "198.51.100.9"], 2)
    spec["loadBalancerSourceRanges"] = _some(
        rng, ["172.18.0.0/16", " 203.0.113.7/32 ", "2001:db8::/32", "fd00::/8", "10.0.0.0/8"], 3)
    if rng.random() < 0.15:
        spec["loadBalancerSourceRanges"].append(rng.choice(["0.0.0.0/0", "::/0"]))
    if rng.random() < 0.4:
        spec["sessionAffinity"] = "ClientIP"
        if rng.random() < 0.5:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": rng.choice([1, 600])}}
    spec["healthCheckNodePort"] = rng.choice([0, 32000 + at])
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "spec": spec,
                            "metadata": {"name": f"s{at}", "namespace": rng.choice(["default", "b"])}}
    if spec["type"] == "LoadBalancer":
        ingress = [{"ip": f"198.51.100.{at}"}, {"ip": f"2001:db8:5::{at + 1:x}"}, {"ip": "198.51.100.99", "ipMode": "Proxy"},
                   {"ip": "198.51.100.98", "ipMode": "VIP"}, {"hostname": "lb.example"}]
        made["status"] = {"loadBalancer": {"ingress": _some(rng, ingress, 4)}}
    return made


def slices_of(rng: random.Random, svc: dict[str, Any]) -> list[dict[str, Any]]:
    """EndpointSlices of one Service, of either family, with ports it has and ports it has not."""
    meta, found = svc["metadata"], []
    for number in range(rng.randint(0, 3)):
        family = rng.choice([4, 6])
        kind = rng.choice([f"IPv{family}"] * 9 + ["FQDN"])  # in the name, because the API lets no slice change it
        ports = [{"name": name, "protocol": proto, "port": rng.choice([8080, 8080, 53, 0])} for name, proto in _some(rng, PORTS, 6)]
        found.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
            "metadata": {"name": f"{meta['name']}-{number}-{kind.lower()}", "namespace": meta["namespace"],
                         "labels": {"kubernetes.io/service-name": meta["name"]}},
            "ports": ports, "endpoints": [endpoint(rng, family) for _ in range(rng.randint(0, 5))],
        })
    return found


def cluster(rng: random.Random) -> list[dict[str, Any]]:
    """A few Services and their slices, in any order."""
    services = [service(rng, at) for at in range(rng.randint(1, 5))]
    objects = [*services, *[one for svc in services for one in slices_of(rng, svc)]]
    rng.shuffle(objects)
    return objects


def _compare(seed: int) -> None:
    rng = random.Random(seed)
    objects, options = cluster(rng), node(rng)
    for family in (4, 6):
        ours = render(objects, ProxyOptions.parse({**options, "ipFamily": f"IPv{family}"}))
        assert ours.splitlines() == reading(objects, options, family).splitlines()


@pytest.mark.parametrize("seed", range(60))
def test_a_second_reading_agrees(seed):
    _compare(seed)


@pytest.mark.full
def test_a_second_reading_agrees_on_many():
    for seed in range(1000, 6000):
        _compare(seed)


@pytest.mark.parametrize("count", [1000, 1001])
def test_large_cluster(count):
    """More than 1000 endpoints, and the comments of endpoints' rules are gone."""
    svc = {"kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}
    eps = [{"addresses": [f"10.48.{n // 250}.{n % 250}"]} for n in range(count)]
    one = {"kind": "EndpointSlice", "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
           "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": eps}
    options = {"nodeName": "node-1", "nodeIP": ["172.18.0.2"]}
    assert render([svc, one], ProxyOptions.parse(options)) == reading([svc, one], options, 4)


# ---- steps


def _state(text: str, kernel: dict[str, list[str]]) -> None:
    """What restore --noflush leaves of the nat table: a chain line makes or empties, -A appends, -X deletes."""
    for line in text.partition("*nat\n")[2].splitlines():
        if line.startswith(":"):
            kernel[line[1:].partition(" ")[0]] = []
        elif line.startswith("-A "):
            kernel[line.split(" ", 2)[1]].append(line)
        elif line.startswith("-X "):
            assert not kernel.pop(line[3:]), "a chain is emptied before it goes"


def _walk(seed: int) -> None:
    rng = random.Random(seed)
    live: dict[tuple[str, str, str], dict[str, Any]] = {}
    options, steps, states = node(rng), [], []
    for _ in range(5):
        events = []
        for obj in cluster(rng):
            key = (obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
            chance = rng.random()
            if chance < 0.5 or (not live and chance < 0.9):
                events.append({"op": "update" if key in live else "add", "object": obj})
                live[key] = obj
            elif chance < 0.7 and key in live:
                events.append({"op": "delete", "object": live.pop(key)})
        steps.append({"events": events})
        states.append(list(live.values()))
    for family in (4, 6):
        texts = render_steps(steps, ProxyOptions.parse({**options, "ipFamily": f"IPv{family}"}))
        kernel: dict[str, list[str]] = {}
        for text, objects in zip(texts, states, strict=True):
            whole, wanted = reading(objects, options, family), {}
            assert text.partition("*nat\n")[0] == whole.partition("*nat\n")[0], "the filter table is written whole"
            _state(text, kernel)
            _state(whole, wanted)
            assert kernel == wanted
            lines, full = text.splitlines(), whole.splitlines()
            kept = [line for line in lines if line in set(full)]
            assert kept == [line for line in full if line in set(lines)], "lines keep the places a full sync gives them"


@pytest.mark.parametrize("seed", range(25))
def test_partial_syncs_lead_where_a_second_reading_does(seed):
    _walk(seed)


@pytest.mark.full
def test_many_partial_syncs():
    for seed in range(1000, 2000):
        _walk(seed)
