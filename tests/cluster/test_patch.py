"""The patch types: RFC 6902, RFC 7386, and Kubernetes' strategic merge patch with kubectl's directives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.api.patch import json_patch, merge_patch, strategic_merge
from kubenet.cluster.api.schema import schema_of
from kubenet.cluster.api.status import ApiError

Obj = dict[str, Any]
POD, SERVICE, DEPLOYMENT = schema_of("Pod"), schema_of("Service"), schema_of("Deployment")


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [   # RFC 7386 appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


class TestJsonPatch:
    def test_operations(self) -> None:
        doc = {"a": {"b": [1, 2]}}
        ops = [{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "add", "path": "/a/b/-", "value": 3},
               {"op": "remove", "path": "/a/b/0"}]
        assert json_patch(doc, ops) == {"a": {"b": [2, 3]}}
        assert doc == {"a": {"b": [1, 2]}}

    @pytest.mark.parametrize("ops", [
        [{"op": "remove", "path": "/nope"}], [{"op": "test", "path": "/a", "value": 2}], [{"op": "fly", "path": "/a"}],
        [{"path": "/a"}], [{"op": "add", "path": "a", "value": 1}]])
    def test_what_cannot_be_applied_is_422_without_details(self, ops: list[Obj]) -> None:
        with pytest.raises(ApiError, match="the server rejected our request due to an error in our request") as error:
            json_patch({"a": 1}, ops)
        assert error.value.code == 422 and error.value.details is None


def containers(*items: Obj) -> Obj:
    return {"spec": {"containers": list(items)}}


class TestStrategic:
    def test_set_image_as_kubectl_sends_it(self) -> None:
        live = containers({"name": "sidecar", "image": "a"}, {"name": "nginx", "image": "nginx:1.25", "tty": True})
        patch = {"spec": {"$setElementOrder/containers": [{"name": "sidecar"}, {"name": "nginx"}],
                          "containers": [{"name": "nginx", "image": "nginx:1.26"}]}}
        assert strategic_merge(POD, live, patch) == containers(
            {"name": "sidecar", "image": "a"}, {"name": "nginx", "image": "nginx:1.26", "tty": True})

    def test_a_new_element_goes_to_the_end_unless_ordered(self) -> None:
        live = containers({"name": "a"}, {"name": "b"})
        plain = strategic_merge(POD, live, containers({"name": "c"}))
        assert [c["name"] for c in plain["spec"]["containers"]] == ["a", "b", "c"]
        patch = {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
                          "containers": [{"name": "c"}]}}
        ordered = strategic_merge(POD, live, patch)
        assert [c["name"] for c in ordered["spec"]["containers"]] == ["c", "a", "b"]

    def test_delete_one_element(self) -> None:
        live = containers({"name": "a"}, {"name": "b"})
        patch = containers({"$patch": "delete", "name": "a"})
        assert strategic_merge(POD, live, patch) == containers({"name": "b"})

    def test_replace_the_whole_list(self) -> None:
        live = containers({"name": "a"}, {"name": "b"})
        patch = containers({"$patch": "replace"}, {"name": "c"})
        assert strategic_merge(POD, live, patch) == containers({"name": "c"})

    def test_service_ports_merge_on_port_alone(self) -> None:
        """Unlike server-side apply, which uses port and protocol: the reason DNS Services cannot be patched this way."""
        live = {"spec": {"ports": [{"port": 53, "protocol": "UDP", "name": "dns"}]}}
        patch = {"spec": {"ports": [{"port": 53, "protocol": "TCP"}]}}
        assert strategic_merge(SERVICE, live, patch)["spec"]["ports"] == [{"port": 53, "protocol": "TCP", "name": "dns"}]

    def test_a_list_without_a_merge_strategy_is_replaced(self) -> None:
        live = {"spec": {"containers": [{"name": "a", "command": ["x", "y"]}]}}
        out = strategic_merge(POD, live, containers({"name": "a", "command": ["z"]}))
        assert out["spec"]["containers"][0]["command"] == ["z"]

    def test_finalizers_are_a_set_with_their_own_delete(self) -> None:
        live = {"metadata": {"finalizers": ["a/x", "b/x"]}}
        added = strategic_merge(POD, live, {"metadata": {"finalizers": ["c/x", "a/x"]}})
        assert added["metadata"]["finalizers"] == ["a/x", "b/x", "c/x"]
        gone = strategic_merge(POD, live, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"]}})
        assert gone["metadata"]["finalizers"] == ["b/x"]

    def test_retain_keys_changes_the_strategy(self) -> None:
        """kubectl apply from RollingUpdate to Recreate."""
        live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
        patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
        assert strategic_merge(DEPLOYMENT, live, patch) == {"spec": {"strategy": {"type": "Recreate"}}}

    def test_null_deletes_a_label(self) -> None:
        live = {"metadata": {"labels": {"a": "1", "b": "2"}}}
        assert strategic_merge(POD, live, {"metadata": {"labels": {"a": None}}}) == {"metadata": {"labels": {"b": "2"}}}

    def test_a_nested_env(self) -> None:
        live = containers({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]})
        out = strategic_merge(POD, live, containers({"name": "a", "env": [{"name": "Y", "value": "3"}]}))
        assert out["spec"]["containers"][0]["env"] == [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]

    @pytest.mark.parametrize("patch", [[], {"spec": {"containers": [{"image": "x"}]}}, {"spec": {"containers": ["x"]}},
                                       {"metadata": {"$patch": "explode"}}])
    def test_what_makes_no_sense_is_400(self, patch: Any) -> None:
        with pytest.raises(ApiError) as error:
            strategic_merge(POD, containers({"name": "a"}), patch)
        assert error.value.code == 400


NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTAINER = st.fixed_dictionaries({"name": NAMES}, optional={
    "image": st.sampled_from(["x", "y"]), "env": st.lists(st.fixed_dictionaries({"name": NAMES, "value": NAMES}),
                                                          unique_by=lambda e: e["name"])})
LISTS = st.lists(CONTAINER, unique_by=lambda c: c["name"])


@given(LISTS, LISTS)
def test_a_strategic_patch_applied_twice_changes_nothing_more(live: list[Obj], patch: list[Obj]) -> None:
    once = strategic_merge(POD, containers(*live), containers(*patch))
    assert strategic_merge(POD, once, containers(*patch)) == once


@given(LISTS, LISTS)
def test_the_result_contains_the_patch_and_keeps_the_rest(live: list[Obj], patch: list[Obj]) -> None:
    out = {c["name"]: c for c in strategic_merge(POD, containers(*live), containers(*patch))["spec"]["containers"]}
    for c in patch:
        assert out[c["name"]].get("image", c.get("image")) == c.get("image", out[c["name"]].get("image"))
    assert list(out) == list(dict.fromkeys([c["name"] for c in live] + [c["name"] for c in patch]))


JSON = st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))


@given(JSON, JSON)
def test_merge_patch_is_idempotent(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
