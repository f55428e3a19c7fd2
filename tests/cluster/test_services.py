"""Services at admission: cluster IPs, node ports, bands, pinning, updates, validation (KEP-3070, KEP-3668)."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, service

from kubenet.cluster.ipam import Band, NodeCidrs, PodIps, PoolFull
from kubenet.wire.addr import ip4

Obj = dict[str, Any]
PATH = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"


def make(cp: ControlPlane, name: str = "web", **spec: Any) -> Obj:
    out: Obj = cp.ok("POST", PATH, service(name, **spec))["spec"]
    return out


def refused(cp: ControlPlane, **spec: Any) -> str:
    response = cp.call("POST", PATH, service("bad", **spec))
    assert response.code == 422, response.body
    text: str = response.json()["message"]
    return text.removeprefix('Service "bad" is invalid: ')


class TestClusterIp:
    def test_the_answer_to_create_has_everything(self, cp: ControlPlane) -> None:
        spec = make(cp)
        assert spec["clusterIPs"] == [spec["clusterIP"]] and spec["ipFamilies"] == ["IPv4"]
        assert spec["ipFamilyPolicy"] == "SingleStack" and spec["internalTrafficPolicy"] == "Cluster"
        assert spec["sessionAffinity"] == "None" and spec["type"] == "ClusterIP"
        assert "externalTrafficPolicy" not in spec and "nodePort" not in spec["ports"][0]

    def test_automatic_addresses_stay_out_of_the_static_band(self, cp: ControlPlane) -> None:
        """A /16 keeps min(max(16, 65536/16), 256) = 256 addresses for those who ask."""
        ips = [ip4(make(cp, f"s{n}")["clusterIP"]) for n in range(40)]
        assert len(set(ips)) == 40
        assert all(ip4("10.96.1.1") <= ip <= ip4("10.96.255.254") for ip in ips)

    def test_an_address_does_not_depend_on_what_was_made_before(self) -> None:
        one, two = ControlPlane(), ControlPlane()
        make(two, "other")
        assert make(one)["clusterIP"] == make(two)["clusterIP"]

    def test_pinned(self, cp: ControlPlane) -> None:
        assert make(cp, clusterIP="10.96.0.40")["clusterIP"] == "10.96.0.40"
        assert refused(cp, clusterIP="10.96.0.40") == (
            'spec.clusterIPs: Invalid value: []string{"10.96.0.40"}: failed to allocate IP 10.96.0.40: provided IP is already '
            "allocated")
        assert refused(cp, clusterIP="10.97.0.1") == (
            'spec.clusterIPs: Invalid value: []string{"10.97.0.1"}: failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) '
            "is not in the valid range. The range of valid IPs is 10.96.0.0/16")

    def test_a_deleted_service_gives_its_address_back(self, cp: ControlPlane) -> None:
        make(cp, clusterIP="10.96.0.40")
        cp.ok("DELETE", PATH + "/web")
        assert make(cp, "again", clusterIP="10.96.0.40")["clusterIP"] == "10.96.0.40"

    def test_a_refused_service_gives_its_address_back(self, cp: ControlPlane) -> None:
        refused(cp, clusterIP="10.96.0.40", ports=[{"port": 0}])
        assert make(cp, clusterIP="10.96.0.40")["clusterIP"] == "10.96.0.40"

    def test_headless(self, cp: ControlPlane) -> None:
        assert make(cp, clusterIP="None")["clusterIPs"] == ["None"]

    def test_external_name_has_none(self, cp: ControlPlane) -> None:
        spec = make(cp, type="ExternalName", externalName="db.example.com", ports=[])
        assert "clusterIP" not in spec and "internalTrafficPolicy" not in spec

    def test_it_may_not_change_once_set(self, cp: ControlPlane) -> None:
        make(cp)
        response = cp.call("PATCH", PATH + "/web", {"spec": {"clusterIP": "10.96.0.40", "clusterIPs": None}}, kind=MERGE)
        assert response.json()["message"] == (
            'Service "web" is invalid: spec.clusterIPs[0]: Invalid value: []string{"10.96.0.40"}: may not change once set')

    def test_a_put_without_one_keeps_it(self, cp: ControlPlane) -> None:
        before = make(cp)["clusterIP"]
        body = service()
        body["spec"]["selector"] = {"app": "other"}
        assert cp.ok("PUT", PATH + "/web", body)["spec"]["clusterIP"] == before


class TestNodePort:
    def test_automatic_ports_stay_out_of_the_static_band(self, cp: ControlPlane) -> None:
        """2768 ports keep min(max(16, 2768/32), 128) = 86 for those who ask."""
        ports = [make(cp, f"s{n}", type="NodePort")["ports"][0]["nodePort"] for n in range(30)]
        assert len(set(ports)) == 30 and all(30086 <= p <= 32767 for p in ports)

    def test_policy_defaults(self, cp: ControlPlane) -> None:
        assert make(cp, type="NodePort")["externalTrafficPolicy"] == "Cluster"

    def test_pinned(self, cp: ControlPlane) -> None:
        ports = [{"port": 80, "nodePort": 30080}]
        assert make(cp, type="NodePort", ports=ports)["ports"][0]["nodePort"] == 30080
        assert refused(cp, type="NodePort", ports=ports) == (
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated")
        assert refused(cp, type="NodePort", ports=[{"port": 80, "nodePort": 80}]) == (
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is "
            "30000-32767")
        assert refused(cp, ports=[{"port": 80, "nodePort": 30081}]) == (
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'")

    def test_tcp_and_udp_of_one_port_share_the_number(self, cp: ControlPlane) -> None:
        spec = make(cp, type="NodePort", ports=[{"port": 53, "protocol": "UDP", "name": "dns"},
                                                {"port": 53, "protocol": "TCP", "name": "dns-tcp"}])
        assert spec["ports"][0]["nodePort"] == spec["ports"][1]["nodePort"]

    def test_changing_the_type_allocates_and_releases(self, cp: ControlPlane) -> None:
        make(cp)
        spec = cp.ok("PATCH", PATH + "/web", {"spec": {"type": "NodePort"}}, kind=MERGE)["spec"]
        port = spec["ports"][0]["nodePort"]
        spec = cp.ok("PATCH", PATH + "/web", {"spec": {"type": "ClusterIP"}}, kind=MERGE)["spec"]
        assert "nodePort" not in spec["ports"][0]
        assert make(cp, "other", type="NodePort", ports=[{"port": 80, "nodePort": port}])["ports"][0]["nodePort"] == port

    def test_a_put_without_the_port_keeps_it(self, cp: ControlPlane) -> None:
        port = make(cp, type="NodePort")["ports"][0]["nodePort"]
        assert cp.ok("PUT", PATH + "/web", service(type="NodePort"))["spec"]["ports"][0]["nodePort"] == port


class TestLoadBalancer:
    def test_node_ports_unless_declined(self, cp: ControlPlane) -> None:
        assert make(cp, type="LoadBalancer")["ports"][0]["nodePort"]
        assert "nodePort" not in make(cp, "b", type="LoadBalancer", allocateLoadBalancerNodePorts=False)["ports"][0]

    def test_local_policy_gets_a_health_check_port(self, cp: ControlPlane) -> None:
        spec = make(cp, type="LoadBalancer", externalTrafficPolicy="Local")
        assert 30000 <= spec["healthCheckNodePort"] <= 32767
        spec = cp.ok("PATCH", PATH + "/web", {"spec": {"externalTrafficPolicy": "Cluster"}}, kind=MERGE)["spec"]
        assert "healthCheckNodePort" not in spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"ports": [{"port": 99999, "targetPort": 80}]},
         "spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive"),
        ({"ports": []}, "spec.ports: Required value"),
        ({"ports": [{"port": 80}, {"port": 81}]},
         "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]"),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}, 'spec.ports[1].name: Duplicate value: "a"'),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]},
         'spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'),
        ({"type": "Nope"},
         'spec.type: Unsupported value: "Nope": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
        ({"sessionAffinity": "Cookie"},
         'spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"'),
        ({"type": "NodePort", "clusterIP": "None"},
         "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"),
        ({"type": "ExternalName", "ports": []}, "spec.externalName: Required value"),
        ({"externalTrafficPolicy": "Local"},
         'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'),
        ({"externalIPs": ["nope"]},
         'spec.externalIPs[0]: Invalid value: "nope": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}}},
         "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400"),
        ({"selector": {"bad key": "x"}},
         'spec.selector: Invalid value: "bad key": name part must consist of alphanumeric characters, \'-\', \'_\' or \'.\', and '
         "must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
         "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"),
    ],
)
def test_what_is_refused(cp: ControlPlane, spec: Obj, message: str) -> None:
    assert refused(cp, **spec) == message


def test_a_service_name_is_a_dns_1035_label(cp: ControlPlane) -> None:
    message = cp.call("POST", PATH, service("1web")).json()["message"]
    assert message.startswith('Service "1web" is invalid: metadata.name: Invalid value: "1web": a DNS-1035 label must consist of')


class TestPools:
    def test_the_upper_band_first_then_the_lower(self) -> None:
        band = Band(10, 19, static=4)
        drawn = [band.draw(str(n), 0) for n in range(11)]
        assert drawn == [14, 15, 16, 17, 18, 19, 10, 11, 12, 13, None]

    def test_node_k_gets_the_kth_range(self) -> None:
        cidrs = NodeCidrs("10.48.0.0/16")
        assert [cidrs.allocate(n) for n in ("node-2", "node-1", "worker", "other-1")] == [
            "10.48.2.0/24", "10.48.1.0/24", "10.48.3.0/24", "10.48.4.0/24"]

    def test_pod_addresses_go_round(self) -> None:
        """host-local: the next one after the last handed out, also when earlier ones are free again."""
        ips = PodIps("10.48.1.0/29")
        assert [ips.allocate(n) for n in "abc"] == ["10.48.1.2", "10.48.1.3", "10.48.1.4"]
        ips.release("a")
        assert [ips.allocate(n) for n in "de"] == ["10.48.1.5", "10.48.1.6"]
        assert ips.allocate("f") == "10.48.1.2"
        with pytest.raises(PoolFull, match="no IP addresses available in range set: 10.48.1.1-10.48.1.6"):
            ips.allocate("g")

    def test_a_pinned_address(self) -> None:
        ips = PodIps("10.48.1.0/24")
        assert ips.allocate("a", "10.48.1.5") == "10.48.1.5"
        with pytest.raises(PoolFull, match="already in use by a"):
            ips.allocate("b", "10.48.1.5")
        with pytest.raises(PoolFull, match="not in this node's range"):
            ips.allocate("b", "10.48.2.5")
