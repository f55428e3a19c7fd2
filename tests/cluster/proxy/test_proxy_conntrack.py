"""Which UDP entries of conntrack a sync deletes."""

from __future__ import annotations

import pytest
from proxy_objects import ep, eslice, proxier, service

from kubenet.cluster.api.ips import parse_ip

UDP = {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}
DEAD = ep("10.48.2.9", ready=False, serving=False, terminating=True)
ENDPOINTS = [ep("10.48.2.2"), ep("10.48.2.3", ready=False, serving=True, terminating=True), DEAD]


def dns(port=UDP, **spec):
    return service("dns", port, [{"ip": "198.51.100.1"}], clusterIP="10.96.0.10", type="LoadBalancer", **spec)


def dns_slice(*endpoints):
    return eslice(*endpoints, service="dns", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])


def is_stale(cleanup, orig, dport, source, sport):
    return cleanup.is_stale(parse_ip(orig).value, dport, parse_ip(source).value, sport)


@pytest.mark.parametrize(
    ("orig", "dport", "source", "sport", "stale"),
    [
        ("10.96.0.10", 53, "10.48.2.2", 53, False),
        ("10.96.0.10", 53, "10.48.2.3", 53, False),  # terminating, but serving
        ("10.96.0.10", 53, "10.48.2.9", 53, True),  # not serving
        ("10.96.0.10", 53, "10.48.2.77", 53, True),  # no endpoint (any more)
        ("10.96.0.10", 53, "10.48.2.2", 54, True),  # another port of it
        ("10.96.0.10", 53, "10.96.0.10", 53, True),  # made before there was a rule
        ("10.96.0.10", 80, "10.48.2.77", 53, False),  # not the service's port
        ("192.0.2.9", 53, "10.48.2.77", 53, True),  # externalIP
        ("198.51.100.1", 53, "10.48.2.77", 53, True),  # VIP
        ("172.18.0.2", 30053, "10.48.2.77", 53, True),  # NodePort
        ("8.8.8.8", 30053, "8.8.8.8", 30053, True),  # NodePort: any address
        ("172.18.0.2", 30053, "10.48.2.2", 53, False),
        ("8.8.8.8", 53, "8.8.8.8", 53, False),  # no service at all
        ("10.48.2.77", 53, "10.48.2.77", 53, False),
    ],
)
def test_decision(orig, dport, source, sport, stale):
    made = proxier(dns(externalIPs=["192.0.2.9"]), dns_slice(*ENDPOINTS))
    assert is_stale(made.udp_cleanup(made.sync()), orig, dport, source, sport) is stale


def test_traffic_policy_does_not_count():
    made = proxier(dns(internalTrafficPolicy="Local", externalTrafficPolicy="Local"), dns_slice(*ENDPOINTS))
    cleanup = made.udp_cleanup(made.sync())
    assert not is_stale(cleanup, "10.96.0.10", 53, "10.48.2.2", 53)


def test_tcp_services_are_left_alone():
    tcp = {"name": "dns", "port": 53}
    made = proxier(dns({**tcp, "nodePort": 30053}), eslice(*ENDPOINTS, service="dns", ports=[tcp]))
    cleanup = made.udp_cleanup(made.sync())
    assert not cleanup.has_work
    assert not is_stale(cleanup, "10.96.0.10", 53, "10.48.2.77", 53)


@pytest.mark.parametrize("endpoints", [[], [DEAD]])
@pytest.mark.parametrize("switch", [False, True])
def test_service_without_serving_endpoints(endpoints, switch):
    """1.32 to 1.36 pass it over; later ones delete all its entries."""
    made = proxier(dns(), dns_slice(*endpoints), cleanEmptyUDPServices=switch)
    assert is_stale(made.udp_cleanup(made.sync()), "10.96.0.10", 53, "10.48.2.2", 53) is switch


@pytest.mark.parametrize("switch", [False, True])
def test_deleted_service(switch):
    made = proxier(dns(), dns_slice(*ENDPOINTS), cleanEmptyUDPServices=switch)
    made.sync()
    made.on_event("delete", dns())
    cleanup = made.udp_cleanup(made.sync())
    assert is_stale(cleanup, "10.96.0.10", 53, "10.48.2.2", 53) is switch


def test_a_new_service_on_a_deleted_ones_address_wins():
    made = proxier(dns(), dns_slice(*ENDPOINTS), cleanEmptyUDPServices=True)
    made.sync()
    made.on_event("delete", dns())
    other = service("dns2", UDP, clusterIP="10.96.0.10")
    made.on_event("add", other)
    made.on_event("add", eslice(ep("10.48.2.2"), service="dns2", ports=[{**UDP, "port": 53}]))
    assert not is_stale(made.udp_cleanup(made.sync()), "10.96.0.10", 53, "10.48.2.2", 53)
