"""Server-side apply (kubernetes.io, Server-Side Apply): ownership, conflicts, giving fields up, and other writers."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, deployment
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.cluster.api import ssa
from kubenet.cluster.api.schema import schema_of
from kubenet.cluster.api.status import ApiError

Obj = dict[str, Any]
APPLY = "application/apply-patch+yaml"
PATH = "/api/v1/namespaces/default/configmaps/a"
SVC = "/api/v1/namespaces/default/services/web"


def config(**data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def svc(ports: list[Obj], **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": ports, **spec}}


def owners(obj: Obj) -> dict[str, str]:
    """manager/operation -> its fields, as text."""
    return {f"{e['manager']}/{e['operation']}": ssa.compact(e["fieldsV1"]) for e in obj["metadata"]["managedFields"]}


def put(cp: ControlPlane, body: Obj, manager: str, path: str = PATH, **query: str) -> Obj:
    return cp.ok("PATCH", path, body, kind=APPLY, fieldManager=manager, **query)


class TestOwnership:
    def test_creates_with_201_and_owns_what_it_said(self, cp: ControlPlane) -> None:
        response = cp.call("PATCH", PATH, config(x="1"), kind=APPLY, fieldManager="alpha")
        assert response.code == 201
        (entry,) = response.json()["metadata"]["managedFields"]
        assert entry == {"manager": "alpha", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                         "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:x": {}, ".": {}}}}

    def test_the_same_again_changes_nothing(self, cp: ControlPlane) -> None:
        first = put(cp, config(x="1"), "alpha")
        cp.run(60)
        assert put(cp, config(x="1"), "alpha") == first

    def test_list_elements_are_owned_by_their_keys(self, cp: ControlPlane) -> None:
        """Keys sorted, compact, defaulted keys filled in."""
        out = put(cp, svc([{"port": 80}]), "alpha", SVC)
        ports = out["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"]
        assert ports['k:{"port":80,"protocol":"TCP"}'] == {".": {}, "f:port": {}}

    def test_a_selector_is_one_leaf(self, cp: ControlPlane) -> None:
        """map-type atomic: nobody owns half a selector."""
        out = put(cp, svc([{"port": 80}]), "alpha", SVC)
        assert out["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:selector"] == {}

    def test_two_managers_share_a_map(self, cp: ControlPlane) -> None:
        put(cp, config(x="1"), "alpha")
        out = put(cp, config(y="2"), "beta")
        assert out["data"] == {"x": "1", "y": "2"}
        assert list(owners(out)) == ["alpha/Apply", "beta/Apply"]

    def test_the_same_value_is_shared_without_conflict(self, cp: ControlPlane) -> None:
        put(cp, config(x="1"), "alpha")
        out = put(cp, config(x="1"), "beta")
        assert "f:x" in owners(out)["alpha/Apply"] and "f:x" in owners(out)["beta/Apply"]

    def test_what_is_no_longer_said_goes_unless_somebody_else_says_it(self, cp: ControlPlane) -> None:
        put(cp, config(x="1", y="2", z="3"), "alpha")
        put(cp, config(y="2"), "beta")
        assert put(cp, config(x="1"), "alpha")["data"] == {"x": "1", "y": "2"}

    def test_a_list_element_given_up_goes_whole_with_its_defaults(self, cp: ControlPlane) -> None:
        put(cp, svc([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]), "alpha", SVC)
        out = put(cp, svc([{"port": 81, "name": "b"}]), "alpha", SVC)
        assert [p["port"] for p in out["spec"]["ports"]] == [81]


class TestConflicts:
    def test_one(self, cp: ControlPlane) -> None:
        put(cp, config(key="1"), "alpha")
        response = cp.call("PATCH", PATH, config(key="2"), kind=APPLY, fieldManager="beta")
        assert response.code == 409
        body = response.json()
        assert body["message"] == 'Apply failed with 1 conflict: conflict with "alpha": .data.key'
        assert body["reason"] == "Conflict"
        assert body["details"] == {"causes": [
            {"reason": "FieldManagerConflict", "message": 'conflict with "alpha"', "field": ".data.key"}]}

    def test_several_with_an_updater(self, cp: ControlPlane) -> None:
        cp.ok("POST", "/api/v1/namespaces/default/services", svc([{"port": 80, "targetPort": 1}]), manager="x")
        body = svc([{"port": 80, "targetPort": 2}], type="NodePort")
        response = cp.call("PATCH", SVC, body, kind=APPLY, fieldManager="beta")
        assert response.json()["message"] == (
            'Apply failed with 2 conflicts: conflicts with "x" using v1:\n'
            '- .spec.ports[port=80,protocol="TCP"].targetPort\n- .spec.type')

    def test_force_takes_the_field_over(self, cp: ControlPlane) -> None:
        put(cp, config(key="1", other="o"), "alpha")
        out = put(cp, config(key="2"), "beta", force="true")
        assert out["data"] == {"key": "2", "other": "o"}
        assert "f:key" not in owners(out)["alpha/Apply"] and "f:key" in owners(out)["beta/Apply"]

    def test_a_refused_apply_writes_nothing(self, cp: ControlPlane) -> None:
        before = put(cp, config(key="1"), "alpha")
        cp.call("PATCH", PATH, config(key="2", more="m"), kind=APPLY, fieldManager="beta")
        assert cp.ok("GET", PATH) == before


class TestOtherWriters:
    def test_a_patch_takes_what_it_changes(self, cp: ControlPlane) -> None:
        put(cp, config(x="1", y="2"), "alpha")
        out = cp.ok("PATCH", PATH, {"data": {"x": "9"}}, kind="application/merge-patch+json", fieldManager="kubectl-patch")
        assert owners(out) == {"alpha/Apply": '{"f:data":{".":{},"f:y":{}}}', "kubectl-patch/Update": '{"f:data":{"f:x":{}}}'}

    def test_without_a_field_manager_the_user_agent_names_it(self, cp: ControlPlane) -> None:
        out = cp.ok("POST", "/api/v1/namespaces/default/configmaps", config(x="1"), manager="curl")
        assert list(owners(out)) == ["curl/Update"]

    def test_migration_from_client_side_apply(self, cp: ControlPlane) -> None:
        """kubectl rewrites managedFields by JSON patch, guarded by the version."""
        made = cp.ok("POST", "/api/v1/namespaces/default/configmaps", config(x="1"), fieldManager="kubectl-client-side-apply")
        entries = [{**made["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}]
        ops = [{"op": "replace", "path": "/metadata/managedFields", "value": entries},
               {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]}]
        out = cp.ok("PATCH", PATH, ops, kind="application/json-patch+json", fieldManager="kubectl")
        assert "kubectl/Apply" in owners(out) and "kubectl-client-side-apply/Update" not in owners(out)
        assert put(cp, config(y="2"), "kubectl")["data"] == {"y": "2"}

    @pytest.mark.parametrize("value", [[], [{}]])
    def test_an_empty_list_clears_ownership(self, cp: ControlPlane, value: list[Obj]) -> None:
        put(cp, config(x="1"), "alpha")
        ops = [{"op": "replace", "path": "/metadata/managedFields", "value": value}]
        assert "managedFields" not in cp.ok("PATCH", PATH, ops, kind="application/json-patch+json")["metadata"]

    def test_scale_then_apply_of_other_replicas_conflicts(self, cp: ControlPlane) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments/web"
        put(cp, deployment(replicas=3), "alpha", path)
        cp.ok("PATCH", path + "/scale", {"spec": {"replicas": 5}}, kind="application/merge-patch+json", fieldManager="hpa")
        response = cp.call("PATCH", path, deployment(replicas=3), kind=APPLY, fieldManager="alpha")
        assert response.json()["details"]["causes"][0]["field"] == ".spec.replicas"


class TestRefusals:
    def test_no_field_manager(self, cp: ControlPlane) -> None:
        response = cp.call("PATCH", PATH, config(x="1"), kind=APPLY)
        assert response.code == 422 and "fieldManager: Required value" in response.json()["message"]

    def test_managed_fields_in_the_body(self, cp: ControlPlane) -> None:
        body = config(x="1")
        body["metadata"]["managedFields"] = [{"manager": "x"}]
        assert cp.call("PATCH", PATH, body, kind=APPLY, fieldManager="a").json()["message"] == (
            "metadata.managedFields must be nil")

    def test_an_unknown_field_in_any_mode(self, cp: ControlPlane) -> None:
        body = {**config(x="1"), "bogus": 1}
        message = cp.call("PATCH", PATH, body, kind=APPLY, fieldManager="a", fieldValidation="Ignore").json()["message"]
        assert message == ("failed to create typed patch object (default/a; v1, Kind=ConfigMap): .bogus: field not declared "
                           "in schema")


def test_the_command_lines_apply_says_what_happened(cp: ControlPlane) -> None:
    assert cp.api.apply(config(x="1"))[1] == "created"
    assert cp.api.apply(config(x="1"))[1] == "unchanged"
    assert cp.api.apply(config(x="2"))[1] == "configured"
    with pytest.raises(ApiError, match='no matches for kind "Nope" in version "v1"'):
        cp.api.apply({"apiVersion": "v1", "kind": "Nope", "metadata": {"name": "a"}})


DATA = st.dictionaries(st.sampled_from("wxyz"), st.sampled_from("123"), max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from(["alpha", "beta"]), DATA), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_after_forced_applies_every_manager_that_spoke_last_has_its_way(steps: list[tuple[str, dict[str, str]]]) -> None:
    """Each forced apply: the result contains the intent; a second one is unchanged; what the manager dropped is gone."""
    node = schema_of("ConfigMap")
    live: Obj | None = None
    said: dict[str, dict[str, str]] = {}
    for manager, data in steps:
        body = {**config(**data), "metadata": {"name": "a", "namespace": "default"}}
        dropped = [k for k in said.get(manager, {}) if k not in data]
        live = ssa.apply(node, live, body, manager, "v1", "t", force=True)
        assert ssa.apply(node, live, body, manager, "v1", "later", force=True) == live
        assert all(live.get("data", {}).get(k) == v for k, v in data.items())
        said[manager] = data
        others = [k for m, d in said.items() if m != manager for k in d]
        assert all(k not in live.get("data", {}) for k in dropped if k not in others)
