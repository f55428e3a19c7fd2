"""Which Services count, and what is read from them (service ports of one family)."""

from __future__ import annotations

from proxy_objects import service

from kubenet.cluster.api.ips import AF_INET, AF_INET6
from kubenet.cluster.api.views import ServiceView
from kubenet.cluster.proxy.changes import ServicePort, service_ports

HTTP = ("default/web:http", "tcp")


def ports(family: int = AF_INET, allow: bool = True, **kw) -> dict[tuple[str, str], ServicePort]:
    return service_ports(ServiceView.of(service(**kw)), family, allow)


def only(**kw) -> ServicePort:
    (port,) = ports(**kw).values()
    return port


def test_headless_and_external_name_and_unallocated_are_skipped():
    assert ports(clusterIP="None") == {}
    assert ports(clusterIP="") == {}
    assert ports(type="ExternalName") == {}


def test_one_service_port_per_port_and_protocol():
    both = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}]
    assert list(ports(port=both)) == [("default/web:dns", "udp"), ("default/web:dns-tcp", "tcp")]


def test_same_name_in_two_protocols_is_two_service_ports():
    both = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns", "port": 53}]
    assert sorted(ports(port=both)) == [("default/web:dns", "tcp"), ("default/web:dns", "udp")]


def test_family_of_the_cluster_ip_decides():
    assert ports(AF_INET6) == {}
    dual = {"clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}
    assert ports(AF_INET6, **dual)[HTTP].cluster_ip.text == "fd00::1"
    assert ports(AF_INET, **dual)[HTTP].cluster_ip.text == "10.96.0.1"


def test_leading_zeros():
    assert only(clusterIP="172.30.0.041").cluster_ip.text == "172.30.0.41"


def test_external_ips_by_family_and_gate():
    given = {"externalIPs": ["192.0.2.9", "2001:db8::9", "192.0.2.08"]}
    assert [ip.text for ip in only(**given).external_ips] == ["192.0.2.9", "192.0.2.8"]
    assert only(allow=False, **given).external_ips == ()


def test_source_ranges():
    ranges = [" 203.0.113.9/24 ", "nonsense", "2001:db8::/32"]
    assert [cidr.text for cidr in only(loadBalancerSourceRanges=ranges).source_ranges] == ["203.0.113.0/24"]


def test_a_range_that_holds_everybody_is_no_restriction():
    assert only(loadBalancerSourceRanges=["203.0.113.0/24", "0.0.0.0/0"]).source_ranges == ()
    assert only(loadBalancerSourceRanges=["203.0.113.0/24", "::/0"]).source_ranges  # not of this family


def test_vips_are_ingress_ips_that_the_node_captures():
    status = [
        {"ip": "198.51.100.1"},
        {"ip": "198.51.100.2", "ipMode": "VIP"},
        {"ip": "198.51.100.3", "ipMode": "Proxy"},
        {"hostname": "lb.example"},
        {"ip": "2001:db8::1"},
    ]
    assert [ip.text for ip in only(status=status, type="LoadBalancer").vips] == ["198.51.100.1", "198.51.100.2"]


def test_external_policy_local_needs_a_way_in_from_outside():
    local = {"externalTrafficPolicy": "Local"}
    assert only(type="NodePort", **local).external_local
    assert only(type="LoadBalancer", **local).external_local
    assert only(externalIPs=["192.0.2.9"], **local).external_local
    assert not only(**local).external_local
    assert not only(type="NodePort").external_local


def test_health_check_port_only_for_local_load_balancers():
    given = {"healthCheckNodePort": 32000, "externalTrafficPolicy": "Local"}
    assert only(type="LoadBalancer", **given).health_check_node_port == 32000
    assert only(type="NodePort", **given).health_check_node_port == 0
    assert only(type="LoadBalancer", healthCheckNodePort=32000).health_check_node_port == 0


def test_affinity():
    assert only().affinity_seconds == 0
    assert only(sessionAffinity="ClientIP").affinity_seconds == 10800
    config = {"clientIP": {"timeoutSeconds": 600}}
    assert only(sessionAffinity="ClientIP", sessionAffinityConfig=config).affinity_seconds == 600


def test_which_endpoints_are_of_use():
    def use(**kw):
        port = only(**kw)
        return port.uses_cluster_endpoints, port.uses_local_endpoints

    node_port = {"port": {"name": "http", "port": 80, "nodePort": 30080}, "type": "NodePort"}
    assert use() == (True, False)
    assert use(internalTrafficPolicy="Local") == (False, True)
    assert use(internalTrafficPolicy="Local", **node_port) == (True, True)
    assert use(externalTrafficPolicy="Local", **node_port) == (True, True)
    assert use(externalTrafficPolicy="Local", type="LoadBalancer") == (True, False)  # no node port, no VIP yet
