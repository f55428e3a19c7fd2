"""Health check ports of LoadBalancer Services with externalTrafficPolicy Local."""

from __future__ import annotations

import json

import pytest
from proxy_objects import WEB_0, WEB_1, ep, eslice, proxier, service

from kubenet.cluster.proxy.health import health_check_services, health_response

BOTH = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
SLICE_PORTS = [{"name": "http", "port": 8080}, {"name": "https", "port": 8443}]


def counts(*endpoints, **spec):
    made = proxier(
        service(port=BOTH, type="LoadBalancer", healthCheckNodePort=32000, **spec),
        eslice(*endpoints, ports=SLICE_PORTS),
    )
    made.sync()
    return health_check_services(made.services.ports, made.slices.endpoints, "node-1")


@pytest.mark.parametrize(
    ("endpoints", "count"),
    [
        ([], 0),
        ([WEB_0], 0),  # on another node
        ([WEB_0, WEB_1], 1),  # two ports, one address
        ([ep("10.48.1.6", "node-1", ready=False, serving=True, terminating=True)], 0),  # gets traffic, fails the check
        ([WEB_1, ep("10.48.1.7", "node-1")], 2),
    ],
)
def test_distinct_addresses_of_ready_local_endpoints(endpoints, count):
    assert counts(*endpoints, externalTrafficPolicy="Local") == {("default", "web"): (32000, count)}


def test_policy_cluster_has_no_health_check():
    assert counts(WEB_1) == {}


@pytest.mark.parametrize(("count", "healthy", "code"), [(2, True, 200), (0, True, 503), (2, False, 503)])
def test_response(count, healthy, code):
    got, headers, body = health_response(("default", "web"), count, healthy)
    assert got == code
    assert headers == {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(count),
    }
    assert json.loads(body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    }
    assert body.startswith(b'{\n\t"service": {\n\t\t"namespace"')  # tabs
    assert body.endswith(b"}")  # no newline
