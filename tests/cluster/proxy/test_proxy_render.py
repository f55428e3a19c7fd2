"""Rendering without a cluster: objects in, texts out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_objects import SEP_0, SEP_1, SVC, WEB_0, WEB_1, chains, eslice, full, options, rules, service

from kubenet.cluster.proxy.render import render, render_steps
from kubenet.errors import ManifestError


def event(op, obj):
    return {"op": op, "object": obj}


def test_objects_and_lists():
    expected = full(service(), eslice(WEB_0))
    assert render([service(), eslice(WEB_0)], options()) == expected
    assert render([{"kind": "List", "items": [service(), eslice(WEB_0)]}], options()) == expected
    bare = {key: value for key, value in service().items() if key != "kind"}
    assert render([{"kind": "ServiceList", "items": [bare]}, eslice(WEB_0)], options()) == expected


def test_family_comes_from_the_options():
    text = render([service(clusterIP="fd00::1")], options(ipFamily="IPv6"))
    assert "-d fd00::1 " in text


def test_other_kinds_are_passed_over():
    assert render([{"kind": "ConfigMap", "metadata": {"name": "x"}}], options()) == full()


def test_a_sequence():
    """Add, grow, shrink, delete: full first, then only what changed, stale chains removed."""
    steps = [
        {"events": [event("add", service()), event("add", eslice(WEB_0))]},
        {"events": [event("update", eslice(WEB_0, WEB_1))]},
        {"events": []},
        {"events": [event("update", eslice(WEB_1))]},
        {"events": [event("delete", service())]},
    ]
    texts = render_steps(steps, options())
    assert [chains(text)[4:] for text in texts] == [
        [SVC, SEP_0],
        [SVC, SEP_1, SEP_0],
        [],
        [SVC, SEP_1, SEP_0],  # the last one only to be emptied and removed
        [SEP_1, SVC],
    ]
    assert [line for line in texts[3].splitlines() if line.startswith("-X")] == [f"-X {SEP_0}"]
    assert sorted(line for line in texts[4].splitlines() if line.startswith("-X")) == [f"-X {SEP_1}", f"-X {SVC}"]


def test_topology_forces_a_full_sync():
    node = {"kind": "Node", "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "b"}}}
    texts = render_steps([{"events": [event("update", node)]}], options(), [service(), eslice(WEB_0)])
    again = render_steps([{"events": []}, {"events": [event("update", node)]}], options(), [service(), eslice(WEB_0)])
    assert texts[0] == again[1]
    assert rules(again[1], "nat", SVC)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({}, "the steps cannot be used"),
        ([1], "steps[0] has no list of events"),
        ([{"events": [{"op": "replace", "object": {}}]}], "steps[0].events[0] has no op"),
        ([{"events": []}, {"events": [{"op": "add"}]}], "steps[1].events[0] has no object"),
    ],
)
def test_mistakes_are_named(steps, message):
    with pytest.raises(ManifestError) as caught:
        render_steps(steps, options())
    assert caught.value.what == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["add", "delete", "Service"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["events", "op", "object", "kind", "metadata", "spec", "items", "name"]), inner
        )
    ),
    max_leaves=15,
)


@given(JSON)
def test_any_json_is_rendered_or_refused(steps):
    try:
        texts = render_steps(steps, options())
    except ManifestError:
        return
    assert len(texts) == len(steps)


@given(st.dictionaries(st.sampled_from(["kind", "metadata", "spec", "ports", "endpoints", "addressType"]), JSON))
def test_any_object_is_taken(obj):
    for kind in ("Service", "EndpointSlice", "Node"):
        render([{**obj, "kind": kind}], options())
