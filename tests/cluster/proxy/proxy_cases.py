"""Clusters whose rules were loaded into a real kernel (proxy_record.py), and how to make their texts again.

A case is a list of restore inputs, applied one after the other to fresh tables; most have one, a sequence of syncs more.
"""

from __future__ import annotations

from typing import Any

from proxy_objects import WEB_0, WEB_1, ep, eslice, options, service

from kubenet.cluster.proxy.render import render, render_steps

NODE_PORT = {"port": {"name": "http", "port": 80, "nodePort": 30080}, "type": "NodePort"}
LB = {"type": "LoadBalancer", "status": [{"ip": "198.51.100.1"}], "healthCheckNodePort": 32000}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}
LOCAL = {"externalTrafficPolicy": "Local"}


def everything() -> list[dict[str, Any]]:
    """One Service of each kind, with and without endpoints."""
    return [
        service(**NODE_PORT),
        eslice(WEB_0, WEB_1, ep("10.48.3.3")),
        service("empty", {**NODE_PORT["port"], "nodePort": 30082}, clusterIP="10.96.0.40", externalIPs=["192.0.2.9"]),
        service(
            "lb",
            {"name": "http", "port": 80, "nodePort": 30081},
            clusterIP="10.96.0.41",
            loadBalancerSourceRanges=["172.18.0.0/16", "203.0.113.7/32"],
            sessionAffinity="ClientIP",
            **LOCAL,
            **LB,
        ),
        eslice(WEB_0, WEB_1, ep("10.48.3.3"), service="lb"),
        service("dns", DNS, clusterIP="10.96.0.10"),
        eslice(ep("10.48.2.2"), service="dns", ports=[DNS]),
        service("away", {"port": 80}, clusterIP="10.96.0.42", internalTrafficPolicy="Local"),
        eslice(WEB_0, service="away", ports=[{"port": 8080}]),
    ]


def _event(op: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"op": op, "object": obj}


def _sequence() -> list[str]:
    steps = [
        [_event("add", obj) for obj in everything()],
        [_event("update", eslice(WEB_1))],
        [_event("delete", service("lb")), _event("update", service(clusterIP="10.96.0.9"))],
        [_event("delete", eslice(WEB_1)), _event("add", eslice(WEB_0, service="empty"))],
    ]
    return render_steps([{"events": events} for events in steps], options())


def _seven() -> list[dict[str, Any]]:
    return [service(), eslice(*[ep(f"10.48.2.{number}") for number in range(1, 12)])]


def _six() -> list[dict[str, Any]]:
    ranges = {"loadBalancerSourceRanges": ["fc00::/64"], "status": [{"ip": "2001:db8::9"}], "type": "LoadBalancer"}
    return [
        service(clusterIP="fd00:10:96::1", port=NODE_PORT["port"], sessionAffinity="ClientIP", **ranges),
        eslice(ep("fd00:10:48:2::7"), ep("fd00:10:48:1::6", "node-1"), addressType="IPv6"),
        service("empty", clusterIP="fd00:10:96::2"),
    ]


def cases() -> dict[str, tuple[int, list[str]]]:
    """name -> (4 or 6, restore inputs)."""
    bridge = {"detectLocal": {"mode": "BridgeInterface", "value": "cni0"}, "masqueradeBit": 7}
    prefix = {"detectLocal": {"mode": "InterfaceNamePrefix", "value": "veth"}, "localhostNodePorts": False}
    listed = {"nodePortAddresses": ["172.18.0.0/16", "127.0.0.0/8"], "masqueradeAll": True}
    return {
        "empty": (4, [render([], options(detectLocal=None, randomFully=False, conntrackTCPBeLiberal=True))]),
        "everything": (4, [render(everything(), options())]),
        "bridge": (4, [render(everything(), options(**bridge))]),
        "prefix": (4, [render(everything(), options(**prefix))]),
        "listed": (4, [render(everything(), options(**listed))]),
        "eleven-endpoints": (4, [render(_seven(), options())]),
        "sequence": (4, _sequence()),
        "ipv6": (6, [render(_six(), options(ipFamily="IPv6"))]),
    }
