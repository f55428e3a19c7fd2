"""EndpointSlices, Endpoints and mirrored slices: conditions, ports, sizes, zones (Kubernetes: pkg/controller/endpointslice)."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, deployment, pod, service
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.controllers.endpointslice import MAX_ENDPOINTS, placed

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"


def slices(cp: ControlPlane, name: str = "web") -> list[Obj]:
    return cp.store.list("EndpointSlice", "default", [("kubernetes.io/service-name", "=", (name,))])


def conditions(cp: ControlPlane, name: str = "web") -> dict[str, tuple[bool, bool, bool]]:
    """pod -> (ready, serving, terminating)."""
    return {e["targetRef"]["name"]: (e["conditions"]["ready"], e["conditions"]["serving"], e["conditions"]["terminating"])
            for s in slices(cp, name) for e in s["endpoints"]}


def web(name: str, port_name: str = "http", number: int = 8080, image: str = "nginx:1", **spec: Any) -> Obj:
    made = pod(name, image, {"app": "web"}, **spec)
    made["spec"]["containers"][0]["ports"] = [{"name": port_name, "containerPort": number}]
    return made


class TestSlice:
    def test_everything_about_one_endpoint(self, cp: ControlPlane) -> None:
        cp.apply(service(trafficDistribution="PreferClose"))
        cp.ok("PATCH", "/api/v1/nodes/node-1", {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}, kind=MERGE)
        made = cp.apply(web("web-0", nodeName="node-1"))
        cp.run(3)
        (found,) = slices(cp)
        assert found["addressType"] == "IPv4" and found["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
        assert found["endpoints"] == [{
            "addresses": ["10.48.1.2"], "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "default", "uid": made["metadata"]["uid"]},
            "nodeName": "node-1", "zone": "a", "hints": {"forZones": [{"name": "a"}]}}]
        meta = found["metadata"]
        assert meta["name"].startswith("web-") and meta["labels"] == {
            "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
        assert meta["ownerReferences"][0]["kind"] == "Service" and meta["ownerReferences"][0]["controller"] is True

    def test_a_service_without_pods_has_one_empty_slice(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.settle()
        (found,) = slices(cp)
        assert found["endpoints"] == [] and found["ports"] is None

    def test_its_name_stays_when_the_first_pod_comes_and_the_last_goes(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.settle()
        name = slices(cp)[0]["metadata"]["name"]
        cp.apply(web("web-0"))
        cp.run(3)
        assert [s["metadata"]["name"] for s in slices(cp)] == [name] and len(slices(cp)[0]["endpoints"]) == 1
        cp.ok("DELETE", "/api/v1/namespaces/default/pods/web-0")
        cp.run(3)
        assert [s["metadata"]["name"] for s in slices(cp)] == [name] and slices(cp)[0]["endpoints"] == []

    def test_a_pod_that_is_not_ready_is_listed_so(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0"))
        cp.run(3)
        cp.kubelet.ready("web-0", ready=False)
        cp.settle()
        assert conditions(cp) == {"web-0": (False, False, False)}

    def test_a_terminating_pod_serves_but_is_not_ready(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0"))
        cp.run(3)
        cp.ok("DELETE", "/api/v1/namespaces/default/pods/web-0")
        cp.settle()
        assert conditions(cp) == {"web-0": (False, True, True)}
        cp.run(2)
        assert conditions(cp) == {}

    def test_publish_not_ready_addresses(self, cp: ControlPlane) -> None:
        cp.apply(service(clusterIP="None", publishNotReadyAddresses=True))
        cp.apply(web("web-0", image="broken"))
        cp.run(3)
        assert conditions(cp) == {"web-0": (True, False, False)}
        assert slices(cp)[0]["metadata"]["labels"]["service.kubernetes.io/headless"] == ""

    def test_pods_that_ended_are_no_endpoints(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0"))
        cp.run(3)
        cp.kubelet.finish("web-0")
        cp.settle()
        assert conditions(cp) == {}

    def test_a_named_port_may_be_another_number_in_another_pod(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("old", number=8080))
        cp.apply(web("new", number=9090))
        cp.run(3)
        found = {s["ports"][0]["port"]: [e["targetRef"]["name"] for e in s["endpoints"]] for s in slices(cp)}
        assert found == {8080: ["old"], 9090: ["new"]}

    def test_a_name_no_pod_has_gives_no_endpoint(self, cp: ControlPlane) -> None:
        """The bug "targetPort: http" with a container port called web: the Service has no endpoints."""
        cp.apply(service())
        cp.apply(web("web-0", port_name="web"))
        cp.run(3)
        assert conditions(cp) == {}

    def test_without_a_selector_it_is_left_alone(self, cp: ControlPlane) -> None:
        cp.apply(service(selector={}))
        cp.settle()
        assert slices(cp) == []

    def test_a_relabelled_pod_leaves(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0"))
        cp.run(3)
        cp.ok("PATCH", "/api/v1/namespaces/default/pods/web-0", {"metadata": {"labels": {"app": "x"}}}, kind=MERGE)
        cp.settle()
        assert conditions(cp) == {}

    def test_deleting_the_service_deletes_them(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.settle()
        cp.ok("DELETE", "/api/v1/namespaces/default/services/web")
        cp.settle()
        assert slices(cp) == [] and cp.store.get("Endpoints", ("default", "web")) is None

    def test_a_deleted_slice_comes_back(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0"))
        cp.run(3)
        cp.ok("DELETE", f"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{slices(cp)[0]['metadata']['name']}")
        cp.settle()
        assert list(conditions(cp)) == ["web-0"]

    def test_nothing_is_written_when_nothing_changed(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(deployment())
        cp.run(5)
        rv = cp.store.rv
        cp.run(30)
        assert cp.store.rv == rv


def endpoint(uid: str) -> Obj:
    return {"addresses": ["10.0.0.1"], "targetRef": {"uid": uid}}


def existing(name: str, uids: list[str]) -> Obj:
    return {"metadata": {"name": name}, "ports": [], "endpoints": [endpoint(u) for u in uids]}


class TestPlacement:
    def test_at_most_a_hundred_in_a_slice(self) -> None:
        want = {"[]": {str(n): endpoint(str(n)) for n in range(250)}}
        assert [len(e) for _, _, e in placed(want, [])] == [100, 100, 50]

    def test_an_endpoint_stays_where_it_is_and_holes_are_filled(self) -> None:
        old = [existing("a", ["1", "2", "3"]), existing("b", ["4"])]
        want = {"[]": {u: endpoint(u) for u in ("1", "3", "4", "5")}}
        out = {o["metadata"]["name"]: [e["targetRef"]["uid"] for e in es] for o, _, es in placed(want, old) if o}
        assert out == {"a": ["1", "3", "5"], "b": ["4"]}                    # the fullest is filled first

    @given(st.lists(st.integers(0, 400), unique=True, max_size=300), st.lists(st.integers(0, 400), unique=True, max_size=300))
    def test_exactly_the_wanted_ones_and_never_too_many(self, before: list[int], after: list[int]) -> None:
        first = placed({"[]": {str(n): endpoint(str(n)) for n in before}}, []) if before else []
        old = [existing(f"s{i}", [e["targetRef"]["uid"] for e in es]) for i, (_, _, es) in enumerate(first)]
        out = placed({"[]": {str(n): endpoint(str(n)) for n in after}}, old)
        placed_uids = [e["targetRef"]["uid"] for _, _, es in out for e in es]
        assert sorted(placed_uids) == sorted(map(str, after))
        assert all(0 < len(es) <= MAX_ENDPOINTS for _, _, es in out)


class TestEndpoints:
    def test_ready_and_not_ready(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0", nodeName="node-2"))
        cp.apply(web("web-1", nodeName="node-1", image="broken"))
        cp.run(3)
        (subset,) = cp.get("Endpoints", "web")["subsets"]
        assert [a["ip"] for a in subset["addresses"]] == ["10.48.2.2"]
        assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.48.1.2"]
        assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]

    def test_a_terminating_pod_is_gone_at_once(self, cp: ControlPlane) -> None:
        cp.apply(service())
        cp.apply(web("web-0"))
        cp.run(3)
        cp.ok("DELETE", "/api/v1/namespaces/default/pods/web-0")
        cp.settle()
        assert "subsets" not in cp.get("Endpoints", "web")

    def test_hand_written_endpoints_are_mirrored(self, cp: ControlPlane) -> None:
        """A database outside the cluster behind a Service without selector."""
        cp.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})
        subset: Obj = {"addresses": [{"ip": "172.18.0.100"}], "ports": [{"port": 5432}]}
        cp.apply({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db"}, "subsets": [subset]})
        cp.settle()
        (found,) = slices(cp, "db")
        assert found["endpoints"] == [{"addresses": ["172.18.0.100"], "conditions": {"ready": True}}]
        assert found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == (
            "endpointslicemirroring-controller.k8s.io")
        cp.ok("DELETE", "/api/v1/namespaces/default/endpoints/db")
        cp.settle()
        assert slices(cp, "db") == []

    @pytest.mark.parametrize("name", ["kubernetes"])
    def test_the_api_servers_own_are_not(self, cp: ControlPlane, name: str) -> None:
        cp.settle()
        assert [s["metadata"]["name"] for s in slices(cp, name)] == ["kubernetes"]
