"""Cluster DNS against the Kubernetes DNS specification 1.1.0 and CoreDNS's kubernetes plugin."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, pod, service

from kubenet.cluster.api.bootstrap import dns_service, put_service
from kubenet.cluster.dns import ClusterDns
from kubenet.wire.addr import ip4_text
from kubenet.wire.dns import AAAA, CNAME, NOERROR, NS, NXDOMAIN, PTR, SOA, SRV, TXT, A, DnsMessage, Question, build_dns, parse_dns

Obj = dict[str, Any]


@pytest.fixture
def dns(cp: ControlPlane) -> ClusterDns:
    put_service(cp.api, dns_service())
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "metrics", "port": 9100, "targetPort": 9100}]
    cp.apply(service(clusterIP="10.96.0.20", ports=ports))
    cp.apply({**service("db", clusterIP="None", ports=[{"name": "sql", "port": 5432}]),
              "metadata": {"name": "db", "namespace": "default"}})
    cp.apply(service("lonely", clusterIP="None"))
    cp.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out"},
              "spec": {"type": "ExternalName", "externalName": "db.example.com"}})
    for number, node in ((0, "node-2"), (1, "node-1")):
        made = pod(f"db-{number}", labels={"app": "db"}, nodeName=node, hostname=f"db-{number}", subdomain="db")
        cp.apply(made)
    cp.apply(pod("db-sick", "broken", {"app": "db"}, nodeName="node-3"))
    cp.apply(pod("web-0", labels={"app": "web"}, nodeName="node-3"))
    cp.run(3)
    return ClusterDns(cp.store)


def ask(dns: ClusterDns, name: str, type_: int = A, query_id: int = 1) -> DnsMessage | None:
    reply = dns.answer(DnsMessage(query_id, rd=True, question=[Question(name, type_)]))
    if reply is not None:
        assert parse_dns(build_dns(reply, 4096)) == reply               # what we answer can be sent
        assert reply.qr and reply.aa and reply.rd and not reply.ra      # the kubernetes plugin offers no recursion
    return reply


def addresses(dns: ClusterDns, name: str, type_: int = A) -> list[str]:
    reply = ask(dns, name, type_)
    assert reply is not None and reply.rcode == NOERROR
    assert all(r.ttl == 30 for r in reply.answer)
    return sorted(ip4_text(r.data) for r in reply.answer if r.type == A)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.default.svc.cluster.local.", ["10.96.0.20"]),
        ("WEB.Default.svc.Cluster.Local.", ["10.96.0.20"]),              # RFC 4343
        ("kubernetes.default.svc.cluster.local.", ["10.96.0.1"]),
        ("db.default.svc.cluster.local.", ["10.48.1.2", "10.48.2.2"]),   # ready ones only
        ("db-0.db.default.svc.cluster.local.", ["10.48.2.2"]),
        ("10-48-3-3.web.default.svc.cluster.local.", ["10.48.3.3"]),     # an endpoint without a hostname
        ("10-48-2-2.default.pod.cluster.local.", ["10.48.2.2"]),
        ("1-2-3-4.default.pod.cluster.local.", ["1.2.3.4"]),             # pods insecure: whatever is asked
        ("ns.dns.cluster.local.", ["10.96.0.10"]),
    ],
)
def test_addresses(dns: ClusterDns, name: str, expected: list[str]) -> None:
    assert addresses(dns, name) == expected


@pytest.mark.parametrize(
    ("name", "type_", "rcode"),
    [
        ("web.default.svc.cluster.local.", AAAA, NOERROR),               # the name exists, no such record: NODATA
        ("db.default.svc.cluster.local.", AAAA, NOERROR),
        ("web.default.svc.cluster.local.", TXT, NOERROR),
        ("default.svc.cluster.local.", A, NOERROR),
        ("svc.cluster.local.", A, NOERROR),
        ("cluster.local.", A, NOERROR),
        ("nope.default.svc.cluster.local.", A, NXDOMAIN),
        ("nope.default.svc.cluster.local.", AAAA, NXDOMAIN),
        ("web.nope.svc.cluster.local.", A, NXDOMAIN),
        ("nope.svc.cluster.local.", A, NXDOMAIN),
        ("lonely.default.svc.cluster.local.", A, NXDOMAIN),              # headless without ready endpoints
        ("db-sick.db.default.svc.cluster.local.", A, NXDOMAIN),
        ("web.default.cluster.local.", A, NXDOMAIN),
        ("a.b.c.web.default.svc.cluster.local.", A, NXDOMAIN),
        ("_nope._tcp.web.default.svc.cluster.local.", SRV, NXDOMAIN),
        ("_http._udp.web.default.svc.cluster.local.", SRV, NXDOMAIN),
        ("not-an-ip.default.pod.cluster.local.", A, NXDOMAIN),
        ("www.google.com.svc.cluster.local.", A, NXDOMAIN),              # what ndots 5 makes of an outside name
    ],
)
def test_no_answer_carries_the_soa(dns: ClusterDns, name: str, type_: int, rcode: int) -> None:
    reply = ask(dns, name, type_)
    assert reply is not None and reply.rcode == rcode and reply.answer == []
    (soa,) = reply.authority
    assert soa.type == SOA and soa.name == "cluster.local." and soa.ttl == 30
    assert soa.data[0] == "ns.dns.cluster.local." and soa.data[1] == "hostmaster.cluster.local."
    assert soa.data[3:] == (7200, 1800, 86400, 30)


@pytest.mark.parametrize("name", ["example.com.", "cluster.local.example.", "notcluster.local.", "4.3.2.1.in-addr.arpa.", "."])
def test_other_names_are_for_the_forwarder(dns: ClusterDns, name: str) -> None:
    assert ask(dns, name, PTR if "arpa" in name else A) is None


class TestSrv:
    def test_a_named_port_of_a_cluster_ip(self, dns: ClusterDns) -> None:
        reply = ask(dns, "_http._tcp.web.default.svc.cluster.local.", SRV)
        assert reply is not None
        assert [r.data for r in reply.answer] == [(0, 100, 80, "web.default.svc.cluster.local.")]
        assert [(r.name, ip4_text(r.data)) for r in reply.additional] == [("web.default.svc.cluster.local.", "10.96.0.20")]

    def test_all_ports(self, dns: ClusterDns) -> None:
        reply = ask(dns, "web.default.svc.cluster.local.", SRV)
        assert reply is not None and sorted(r.data[2] for r in reply.answer) == [80, 9100]

    def test_headless_names_every_endpoint(self, dns: ClusterDns) -> None:
        reply = ask(dns, "_sql._tcp.db.default.svc.cluster.local.", SRV)
        assert reply is not None
        assert sorted(r.data for r in reply.answer) == [(0, 50, 5432, "db-0.db.default.svc.cluster.local."),
                                                        (0, 50, 5432, "db-1.db.default.svc.cluster.local.")]
        assert {ip4_text(r.data) for r in reply.additional} == {"10.48.1.2", "10.48.2.2"}


class TestReverse:
    @pytest.mark.parametrize(("name", "target"), [
        ("20.0.96.10.in-addr.arpa.", "web.default.svc.cluster.local."),
        ("2.2.48.10.in-addr.arpa.", "db-0.db.default.svc.cluster.local."),
        ("3.3.48.10.in-addr.arpa.", "10-48-3-3.web.default.svc.cluster.local.")])
    def test_ptr(self, dns: ClusterDns, name: str, target: str) -> None:
        reply = ask(dns, name, PTR)
        assert reply is not None and [r.data for r in reply.answer] == [target]


def test_external_name_is_a_cname(dns: ClusterDns) -> None:
    reply = ask(dns, "out.default.svc.cluster.local.")
    assert reply is not None and [(r.type, r.data) for r in reply.answer] == [(CNAME, "db.example.com.")]


def test_apex(dns: ClusterDns) -> None:
    reply = ask(dns, "cluster.local.", NS)
    assert reply is not None and [r.data for r in reply.answer] == ["ns.dns.cluster.local."]
    reply = ask(dns, "dns-version.cluster.local.", TXT)
    assert reply is not None and [r.data for r in reply.answer] == [(b"1.1.0",)]


def test_several_addresses_are_turned_by_the_query(dns: ClusterDns) -> None:
    """plugin/loadbalance: over many queries each address comes first about as often; one query always gets one answer."""
    def first(query_id: int) -> int:
        reply = ask(dns, "db.default.svc.cluster.local.", A, query_id)
        assert reply is not None
        return int(reply.answer[0].data)

    firsts = [first(n) for n in range(200)]
    assert firsts == [first(n) for n in range(200)]
    assert 60 < firsts.count(firsts[0]) < 140


def test_publish_not_ready_addresses(dns: ClusterDns, cp: ControlPlane) -> None:
    """Peers of a cluster that find each other before they are ready."""
    path = "/api/v1/namespaces/default/services/db"
    cp.ok("PATCH", path, {"spec": {"publishNotReadyAddresses": True}}, kind="application/merge-patch+json")
    cp.settle()
    assert addresses(dns, "db.default.svc.cluster.local.") == ["10.48.1.2", "10.48.2.2", "10.48.3.2"]


def test_an_external_name_of_the_zone_is_followed(cp: ControlPlane, dns: ClusterDns) -> None:
    """CoreDNS plugin/backend_lookup.go A(): the CNAME and what it leads to; without records of the type, or in a loop, neither."""
    for name, target in (("alias", "web.default.svc.cluster.local"), ("twice", "alias.default.svc.cluster.local."),
                         ("ring", "gnir.default.svc.cluster.local"), ("gnir", "ring.default.svc.cluster.local"),
                         ("gone", "nobody.default.svc.cluster.local"), ("away", "out.default.svc.cluster.local")):
        cp.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": "ExternalName", "externalName": target}})

    def found(name: str, type_: int = A) -> list[tuple[str, int]]:
        reply = ask(dns, f"{name}.default.svc.cluster.local.", type_)
        assert reply is not None and reply.rcode == NOERROR and bool(reply.authority) is not bool(reply.answer)
        return [(r.name.partition(".")[0], r.type) for r in reply.answer]

    assert found("alias") == [("alias", CNAME), ("web", A)]
    assert found("twice") == [("twice", CNAME), ("alias", CNAME), ("web", A)]
    assert found("away") == [("away", CNAME), ("out", CNAME)]
    assert found("alias", CNAME) == [("alias", CNAME)]
    assert found("alias", AAAA) == found("ring") == found("gone") == []
