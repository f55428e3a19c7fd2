"""EndpointSlices become endpoints; traffic policy, topology and termination choose among them."""

from __future__ import annotations

import pytest
from proxy_objects import ep, eslice, service

from kubenet.cluster.api.ips import AF_INET, AF_INET6
from kubenet.cluster.api.views import EndpointSliceView, ServiceView
from kubenet.cluster.proxy.categorize import categorize
from kubenet.cluster.proxy.changes import merge_slices, service_ports

HTTP = ("default/web:http", "tcp")


def merged(*slices, family=AF_INET):
    return merge_slices(("default", "web"), [EndpointSliceView.of(obj) for obj in slices], family)


def texts(endpoints):
    return [endpoint.text for endpoint in endpoints]


def test_order_is_by_text_not_by_number():
    """':' is above the digits and '.' below: 10.0.1.100 comes before 10.0.1.10."""
    given = [ep("10.0.0.9"), ep("10.0.0.10"), ep("10.0.1.10"), ep("10.0.1.100")]
    assert texts(merged(eslice(*given))[HTTP]) == [
        "10.0.0.10:8080",
        "10.0.0.9:8080",
        "10.0.1.100:8080",
        "10.0.1.10:8080",
    ]


def test_only_the_first_address_counts():
    two = {**ep("10.48.2.7"), "addresses": ["10.48.2.7", "10.48.2.8"]}
    assert texts(merged(eslice(two))[HTTP]) == ["10.48.2.7:8080"]


def test_all_slices_of_a_service_are_merged():
    found = merged(eslice(ep("10.48.2.7"), name="web-b"), eslice(ep("10.48.1.6"), name="web-a"))
    assert texts(found[HTTP]) == ["10.48.1.6:8080", "10.48.2.7:8080"]


def test_a_slice_port_serves_the_service_port_of_its_name_and_protocol():
    ports = [{"name": "http", "port": 8080}, {"name": "http", "port": 8081, "protocol": "UDP"}, {"port": 9090}]
    found = merged(eslice(ep("10.48.2.7"), ports=ports))
    assert {key: texts(value) for key, value in found.items()} == {
        ("default/web:http", "tcp"): ["10.48.2.7:8080"],
        ("default/web:http", "udp"): ["10.48.2.7:8081"],
        ("default/web", "tcp"): ["10.48.2.7:9090"],
    }


def test_an_address_of_the_other_family_or_none_is_passed_over():
    found = merged(eslice(ep("fd00::7"), ep("web-0"), {**ep(""), "addresses": []}, ep("10.48.2.7")))
    assert texts(found[HTTP]) == ["10.48.2.7:8080"]


def test_a_port_without_number_is_ignored():
    assert merged(eslice(ep("10.48.2.7"), ports=[{"name": "http"}, {"name": "x", "port": 0}])) == {}


def test_ipv6_text_has_brackets():
    found = merged(eslice(ep("FD00::0:7"), addressType="IPv6"), family=AF_INET6)
    assert texts(found[HTTP]) == ["[fd00::7]:8080"]


@pytest.mark.parametrize(
    ("first", "second", "is_terminating"),
    [(False, False, False), (False, True, False), (True, False, False), (True, True, True)],
)
def test_running_beats_terminating_among_duplicates(first, second, is_terminating):
    found = merged(
        eslice(ep("10.48.2.7", terminating=first), name="a"), eslice(ep("10.48.2.7", terminating=second), name="b")
    )
    assert [endpoint.terminating for endpoint in found[HTTP]] == [is_terminating]


def test_a_later_duplicate_that_runs_replaces():
    found = merged(eslice(ep("10.48.2.7", "node-2"), name="a"), eslice(ep("10.48.2.7", "node-3"), name="b"))
    assert [endpoint.node_name for endpoint in found[HTTP]] == ["node-3"]


# Categories. An endpoint is written as its name: r ready, t serving and terminating, n not ready, d terminating only;
# upper case on this node.

STATES = {
    "r": {},
    "t": {"ready": False, "serving": True, "terminating": True},
    "n": {"ready": False, "serving": False},
    "d": {"ready": False, "serving": False, "terminating": True},
}
NODE_PORT = {"port": {"name": "http", "port": 80, "nodePort": 30080}, "type": "NodePort"}
CLUSTER = {}
INTERNAL_LOCAL = {"internalTrafficPolicy": "Local"}
EXTERNAL_LOCAL = {**NODE_PORT, "externalTrafficPolicy": "Local"}
BOTH_LOCAL = {**EXTERNAL_LOCAL, **INTERNAL_LOCAL}


def category(spec, names: str, hints=None, zone=""):
    """(cluster, local, reachable, has_any), endpoints as positions in `names`."""
    endpoints = []
    for at, name in enumerate(names):
        node = "node-1" if name.isupper() else "node-2"
        endpoints.append(ep(f"10.0.0.{at}", node, **STATES[name.lower()], **(hints[at] if hints else {})))
    (port,) = service_ports(ServiceView.of(service(**spec)), AF_INET).values()
    found = merged(eslice(*endpoints)).get(HTTP, ())
    cat = categorize(found, port, "node-1", zone)
    short = ["".join(e.ip.text[-1] for e in part) for part in cat[:3]]
    return (*short, cat.has_any)


@pytest.mark.parametrize(
    ("spec", "endpoints", "expected"),
    [
        (CLUSTER, "", ("", "", "", False)),
        (CLUSTER, "rR", ("01", "", "01", True)),
        (CLUSTER, "rtn", ("0", "", "0", True)),
        (CLUSTER, "tnd", ("0", "", "0", True)),  # nothing ready: what still serves
        (CLUSTER, "nd", ("", "", "", False)),
        (INTERNAL_LOCAL, "rR", ("", "1", "1", True)),
        (INTERNAL_LOCAL, "r", ("", "", "", True)),  # some elsewhere: DROP, not REJECT
        (INTERNAL_LOCAL, "rT", ("", "1", "1", True)),
        (INTERNAL_LOCAL, "nd", ("", "", "", False)),
        (EXTERNAL_LOCAL, "rR", ("01", "1", "01", True)),
        (EXTERNAL_LOCAL, "r", ("0", "", "0", True)),
        (EXTERNAL_LOCAL, "rT", ("0", "1", "01", True)),  # the fallbacks are independent
        (EXTERNAL_LOCAL, "tT", ("01", "1", "01", True)),
        (EXTERNAL_LOCAL, "nN", ("", "", "", False)),
        (BOTH_LOCAL, "rR", ("01", "1", "01", True)),
    ],
)
def test_policy_and_termination(spec, endpoints, expected):
    assert category(spec, endpoints) == expected


ZA, ZB = {"zones": ["a"]}, {"zones": ["b"]}
N1, N2 = {"nodes": ["node-1"]}, {"nodes": ["node-2"]}


@pytest.mark.parametrize(
    ("hints", "zone", "cluster"),
    [
        ([ZA, ZB, ZA], "a", "02"),
        ([ZA, ZB, ZA], "b", "1"),
        ([ZA, ZB, ZA], "c", "012"),  # no hint for this zone
        ([ZA, ZB, ZA], "", "012"),  # the node has no zone label
        ([ZA, ZB, {}], "a", "012"),  # one without hint switches hints off
        ([N1, N2, N1], "", "02"),
        ([N2, N2, N2], "", "012"),
        ([{**N2, **ZA}, {**N2, **ZB}, {**N2, **ZA}], "a", "02"),  # no node hint matches: zones
        ([{**N1, **ZB}, {**N2, **ZA}, {**N2, **ZA}], "a", "0"),  # node before zone
    ],
)
def test_topology(hints, zone, cluster):
    assert category(CLUSTER, "rrr", hints, zone)[0] == cluster


def test_topology_looks_at_ready_endpoints_only():
    assert category(CLUSTER, "rrn", [ZA, ZB, {}], "a")[0] == "0"


def test_topology_is_not_asked_for_terminating_ones():
    assert category(CLUSTER, "tt", [ZA, ZB], "a")[0] == "01"


def test_with_topology_reachable_is_the_union():
    """Local endpoints outside the preferred zone still need a chain."""
    assert category(EXTERNAL_LOCAL, "rR", [ZA, ZB], "a") == ("0", "1", "01", True)
