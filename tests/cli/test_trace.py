"""`kubenet trace` and `topo`: which question is asked of the engine, and how the answer is drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubenet.cli.topo import box, cable, dot, picture
from kubenet.cli.trace import destination
from kubenet.errors import UsageError


def _step(us: int, place: str, func: str, what: str, addr: str, **more: Any) -> dict[str, Any]:
    netns = place if place.startswith("node") else f"default/{place}"
    step = {"t_ns": us * 1000, "us": us, "node": "node-1", "netns": netns, "place": place, "dev": "eth0", "func": func,
            "file": "", "line": 0,
            "hook": "", "priority": 0, "table": "", "chain": "", "rule_no": 0, "verdict": "", "what": what, "before": "",
            "after": "", "addr": addr, "ct": "", "mark": 0, "length": 60, "nat": False, "drop": False}
    return {**step, **more}


TRACE: dict[str, Any] = {
    "id": 17, "kind": "TCP SYN", "outcome": "delivered", "t_ns": 0, "took_ns": 34_000, "from": "pod client", "to": "service web",
    "at": "web-0",
    "endpoints": [{"letter": "C", "addr": "10.48.1.5:41000", "ip": "10.48.1.5", "port": 41000, "what": "pod client, node-1"},
                  {"letter": "V", "addr": "10.96.0.1:80", "ip": "10.96.0.1", "port": 80, "what": "service web"},
                  {"letter": "P", "addr": "10.48.2.7:8080", "ip": "10.48.2.7", "port": 8080, "what": "pod web-0, node-2"}],
    "head": {"proto": 6, "flags": 2, "seq": 0, "ack": 0, "window": 64240, "mss": 1460, "len": 60, "plen": 0},
    "steps": [
        _step(0, "client", "tcp_transmit_skb", "SYN", "C → V"),
        _step(1, "node-1", "nf_nat_manip_pkt", "destination 10.96.0.1:80 becomes 10.48.2.7:8080", "C → P", hook="PREROUTING",
              priority=-100, nat=True),
        _step(34, "web-0", "tcp_v4_rcv", "to the listener", "C → P"),
    ],
    "socket": None, "wire": None, "points": [], "conntrack": None,
}


@pytest.mark.parametrize("words, request_", [
    (["client", "web:80"], {"op": "trace", "src": "client", "dst": "web", "port": 80, "proto": "tcp", "namespace": "default"}),
    (["client", "[fd00::1]:53", "--proto", "udp"], {"op": "trace", "dst": "fd00::1", "port": 53, "proto": "udp"}),
    (["--namespace", "shop", "node-1", "10.96.0.1:80"], {"op": "trace", "src": "node-1", "dst": "10.96.0.1", "namespace": "shop"}),
    (["--last"], {"op": "trace_get", "last": True, "target": ""}),
    (["--last", "client"], {"op": "trace_get", "last": True, "target": "client"}),
    (["--packet", "17"], {"op": "trace_get", "packet": 17}),
    (["--reply", "17"], {"op": "trace_get", "reply": 17}),
    (["--flow", "client", "web:80"], {"op": "trace_get", "flow": {"src": "client", "dst": "web", "port": 80}}),
])
def test_what_is_asked(kubenet: Any, fake: Any, words: list[str], request_: dict[str, Any]) -> None:
    fake.answers.update(trace={"trace": TRACE}, trace_get={"traces": [TRACE]})
    assert kubenet("trace", *words).code == 0
    assert {key: fake.asked[0][key] for key in request_} == request_


def test_the_picture_fits_and_the_letter_changes_on_the_line_that_says_nat(kubenet: Any, fake: Any) -> None:
    fake.answers["trace"] = {"trace": TRACE}
    for width in (80, 120):
        lines = kubenet("trace", "client", "web:80", "--width", str(width)).out.splitlines()
        assert lines[0].startswith("TRACE 17  TCP SYN  pod client > service web")
        assert max(map(len, lines)) <= width
        assert [("NAT" in line) for line in lines if "C → P" in line][0]


def test_plain_is_ascii(kubenet: Any, fake: Any) -> None:
    fake.answers["trace"] = {"trace": TRACE}
    assert kubenet("trace", "client", "web:80", "--plain").out.isascii()
    assert kubenet("--plain", "trace", "client", "web:80", "--oneline").out.isascii()


def test_colour_only_when_asked_or_on_a_terminal(kubenet: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answers["trace"] = {"trace": TRACE}
    assert "\x1b[" not in kubenet("trace", "client", "web:80").out
    assert "\x1b[" in kubenet("trace", "client", "web:80", "--color", "always").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in kubenet("trace", "client", "web:80", "--color", "auto").out


def test_json_is_the_engines_answer(kubenet: Any, fake: Any) -> None:
    fake.answers.update(trace={"trace": TRACE}, trace_get={"traces": [TRACE]})
    assert json.loads(kubenet("trace", "client", "web:80", "-o", "json").out) == TRACE
    assert json.loads(kubenet("trace", "--flow", "client", "web:80", "-o", "json").out) == [TRACE]


def test_a_dropped_packet_is_a_no(kubenet: Any, fake: Any) -> None:
    drop = {**TRACE, "outcome": "dropped", "drop": {"reason": "NETFILTER_DROP", "words": "a rule said so", "where": "node-1", "rule": None}}
    fake.answers["trace"] = {"trace": drop}
    found = kubenet("trace", "client", "web:80")
    assert found.code == 1 and "DROP" in found.out


def test_long_names_do_not_hide_the_outcome(kubenet: Any, fake: Any) -> None:
    """A Deployment's pods have names of 20 letters and more: names are cut, what became of the packet is not."""
    pod = "web-665dff984c-v2mhn"
    socket = {"place": pod, "local": "10.48.3.2:80", "peer": "10.48.1.2:41134", "letter": "C", "state": "LAST-ACK"}
    wire = {"place": "node-3", "dev": "eth0", "src": "10.48.3.2:80", "dst": "10.48.1.2:41134", "src_letter": "P", "dst_letter": "C"}
    fake.answers["trace"] = {"trace": {**TRACE, "from": f"pod {pod}", "to": f"pod {pod}", "socket": socket, "wire": wire}}
    lines = kubenet("trace", "client", "web:80", "--width", "80").out.splitlines()
    assert lines[0].endswith("…  ok, delivered after 34 µs") and len(lines[0]) == 80
    panel = next(at for at, line in enumerate(lines) if line.startswith("+- SOCKET"))
    assert lines[panel].startswith("+- SOCKET'S VIEW (web-665dff984c-v2…) +- WIRE'S VIEW (node-3 eth0) -")
    assert {len(line) for line in lines[panel:panel + 5]} == {79} and lines[panel].endswith("+")


@pytest.mark.parametrize("rule, probe, words", [
    ({"verdict": "DROP", "comment": "DROP"}, {"error": "Connection timed out", "gave_up": True, "took_ns": 3_000_000_000},
     ["      filter FORWARD #1 DROP", "      The app sees nothing: no answer comes. The probe gave up after 3 s."]),
    ({"verdict": "REJECT", "comment": "default/db has no endpoints"}, {"error": "Connection refused", "gave_up": False, "took_ns": 8000},
     ["      filter FORWARD #1 REJECT: default/db has no endpoints", "      The app sees: Connection refused after 8 µs."]),
])
def test_why_it_was_dropped(kubenet: Any, fake: Any, rule: dict[str, Any], probe: dict[str, Any], words: list[str]) -> None:
    """The rule once, and the time in a unit that can be read; the probe's patience is not the kernel's ETIMEDOUT."""
    where = {"table": "filter", "chain": "FORWARD", "rule_no": 1}
    drop = {"reason": "NETFILTER_DROP", "words": "a rule said so", "where": "node-1", "rule": {**where, **rule}}
    fake.answers["trace"] = {"trace": {**TRACE, "outcome": "dropped", "drop": drop, "probe": probe}}
    lines = kubenet("trace", "client", "web:80").out.splitlines()
    at = lines.index("DROP  A rule said so.")
    assert lines[at + 1:at + 3] == words


@pytest.mark.parametrize("words", [[], ["client"], ["client", "web"], ["client", "web:0"], ["client", "web:http"],
                                   ["--last", "--packet", "1"],
                                   ["--flow", "client"], ["--packet", "1", "client"], ["client", "web:80", "--only", "dns"],
                                   ["client", "--dry"]])
def test_usage(kubenet: Any, fake: Any, words: list[str]) -> None:
    found = kubenet("trace", *words)
    assert found.code == 2 and found.err.startswith("error: ") and fake.asked == []


def test_destination() -> None:
    assert destination("web.shop:8080") == ("web.shop", 8080)
    assert destination("[::1]:80") == ("::1", 80)
    with pytest.raises(UsageError, match="NAME:PORT"):
        destination("80")


POD = {"name": "web-0", "namespace": "default", "ip": "10.48.2.7", "veth": "veth1a2b3c4d", "phase": "Running", "services": ["web"]}
NODE = {"name": "node-2", "ip": "172.18.0.3", "podCIDR": "10.48.2.0/24", "bridge": "cni0", "nic": "eth0",
        "conntrack": {"count": 1, "max": 262144}, "pods": [POD, {**POD, "name": "coredns", "namespace": "kube-system", "services": []}]}
GRAPH = {"name": "two-nodes", "nodes": [{**NODE, "name": "node-1", "ip": "172.18.0.2", "pods": []}, NODE],
         "outside": [{"name": "outside", "ip": "172.18.0.100"}],
         "links": [{"between": ["node-1", "lan"], "latency_ns": 25_000, "rate": 0, "mtu": 1500, "loss": 0.0, "up": True},
                   {"between": ["node-2", "lan"], "latency_ns": 40_000_000, "rate": 10_000_000, "mtu": 1400, "loss": 0.01, "up": True}],
         "services": [{"name": "web", "namespace": "default", "clusterIP": "10.96.0.1", "ports": [{"port": 80}]}]}


def test_topo(kubenet: Any, fake: Any) -> None:
    fake.answers["topo"] = {"graph": GRAPH}
    assert kubenet("topo", "--service", "web").out == """\
 node-1  172.18.0.2                      node-2  172.18.0.3
 +------------------------------------+  +------------------------------------+
 |                                    |  | web-0 * 10.48.2.7   veth1a2b3c4d-+ |
 | pods 10.48.2.0/24           cni0-+ |  | pods 10.48.2.0/24           cni0-+ |
 | conntrack 1 / 262144        eth0---|  | conntrack 1 / 262144        eth0---|
 +------------------------------------+  +------------------------------------+
                            cable: 25us  cable: 40ms, 10mbit, mtu 1400, loss 1%

 lan: node-1, node-2, outside 172.18.0.100
 V 10.96.0.1:80 lives in the nodes' rules only        * endpoint of web
 (1 more pod)
"""
    assert kubenet("topo", "--service", "wbe").code == 3
    assert json.loads(kubenet("topo", "-o", "json").out) == GRAPH


def test_boxes_stand_below_each_other_where_there_is_no_room() -> None:
    narrow = picture(GRAPH, "", None, 60)
    assert max(map(len, narrow.splitlines())) <= 60 and narrow.count("+----") == 4


def test_a_cut_cable_is_said() -> None:
    assert cable({**GRAPH["links"][0], "up": False}) == "cable: cut"  # type: ignore[index]
    assert box(NODE, None, [], 38)[-1].strip() == ""


def test_dot_is_a_graph_of_machines_and_pods() -> None:
    text = dot(GRAPH)
    assert text.startswith("graph kubenet {\n") and text.endswith("}\n")
    assert '  "default/web-0" -- "node-2" [label="veth1a2b3c4d"];\n' in text
    assert '  "node-2" -- lan [label="40ms, 10mbit, mtu 1400, loss 1%"];\n' in text


def _tunnelled() -> dict[str, Any]:
    """TRACE over two nodes and a tunnel: wrapped on node-1, unwrapped on node-2, which changes nothing."""
    steps = [
        *TRACE["steps"][:2],
        _step(1, "node-1", "vxlan_xmit_one", "", "N → N2", dev="flannel.1", tunnel=True, data={"vni": 1, "remote": "172.18.0.3:8472"}),
        _step(2, "node-1", "link_send", "", "N → N2", length=110, tunnel=True),
        _step(30, "node-2", "ip_rcv", "", "N → N2", tunnel=True, hook="INPUT", node="node-2"),
        _step(30, "node-2", "vxlan_rcv", "", "C → P", dev="flannel.1", data={"vni": 1, "from": "172.18.0.2"}, node="node-2"),
        _step(30, "node-2", "ip_rcv", "", "C → P", hook="FORWARD", node="node-2"),
        _step(34, "web-0", "tcp_v4_rcv", "to the listener", "C → P"),
    ]
    wire = {"place": "node-1", "dev": "eth0", "length": 124, "src": "10.48.1.5:41000", "dst": "10.48.2.7:8080", "src_letter": "C",
            "dst_letter": "P", "tunnel": {"vni": 1, "src": "172.18.0.2:40000", "dst": "172.18.0.3:8472"}}
    socket = {"place": "client", "local": "10.48.1.5:41000", "peer": "10.96.0.1:80", "letter": "V", "state": "SYN-SENT"}
    return {**TRACE, "steps": steps, "wire": wire, "socket": socket,
            "points": [{"place": "client", "dev": "eth0", "addr": "C → V"}, {"place": "node-1", "dev": "flannel.1", "addr": "C → P"},
                       {"place": "node-1", "dev": "eth0", "addr": "N → N2", "tunnel": True},
                       {"place": "node-2", "dev": "flannel.1", "addr": "C → P"}, {"place": "web-0", "dev": "eth0", "addr": "C → P"}]}


def test_a_tunnel_is_told_where_it_begins_and_ends(kubenet: Any, fake: Any) -> None:
    fake.answers["trace"] = {"trace": _tunnelled()}
    narrow = kubenet("trace", "client", "web:80", "--width", "80").out
    wide = kubenet("trace", "client", "web:80", "--width", "120").out
    for text, width in ((narrow, 80), (wide, 120)):
        lines = text.splitlines()
        assert all(len(line) <= width for line in lines)
        wrapped = next(line for line in lines if "wrapped  TUNNEL" in line)
        assert "node-1 vxlan" in wrapped and "VNI 1 > 172.18.0.3:8472" in wrapped and "N → N2" in wrapped
        unwrapped = next(at for at, line in enumerate(lines) if "unwrapped  TUNNEL" in line)
        assert "IN " in lines[unwrapped - 1] and "N → N2" in lines[unwrapped - 1]
        assert "FWD" in lines[unwrapped + 1] and "C → P" in lines[unwrapped + 1]
        assert "The app asked for V, the tunnel carries P, and one table remembers both." in lines
    assert "| in UDP 172.18.0.2 > 172.18.0.3:8472   |" in narrow
    assert "| WIRE node-1 eth0     |" in wide and "N → N2   TUNNEL" in wide and "^ unwrapped" in wide
