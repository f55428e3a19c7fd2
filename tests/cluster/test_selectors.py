"""Label and field selectors: the grammar of the API (kubernetes.io, Labels and Selectors; Field Selectors)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.api.selectors import (
    fields_match,
    from_label_selector,
    label_text,
    matches,
    parse_field_selector,
    parse_label_selector,
)
from kubenet.cluster.api.status import ApiError


@pytest.mark.parametrize(
    ("selector", "labels", "outcome"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web"}, True),
        ("app=web", {"app": "db"}, False),
        ("app=web", {}, False),
        ("app!=web", {"app": "db"}, True),
        ("app!=web", {}, True),                                    # != matches objects without the key
        ("app in (web,db)", {"app": "db"}, True),
        ("app in ( web , db )", {"app": "db"}, True),
        ("app notin (web,db)", {"app": "db"}, False),
        ("app notin (web)", {}, True),
        ("app", {"app": ""}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("!app", {"app": "x"}, False),
        ("app=web,tier!=db,!canary", {"app": "web", "tier": "front"}, True),
        ("app=web,tier in (a,b),x", {"app": "web", "tier": "b", "x": "1"}, True),
        ("app=", {"app": ""}, True),
        ("kubernetes.io/service-name=web", {"kubernetes.io/service-name": "web"}, True),
    ],
)
def test_label_selector(selector: str, labels: dict[str, str], outcome: bool) -> None:
    assert matches(parse_label_selector(selector), labels) is outcome


@pytest.mark.parametrize("text", ["=a", "a in b", "a=(b)", "a b", "(", "a in (x", "a,,b", "!"])
def test_nonsense_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as error:
        parse_label_selector(text)
    assert error.value.code == 400


@given(st.text(max_size=30))
def test_any_text_parses_or_is_a_bad_request(text: str) -> None:
    try:
        matches(parse_label_selector(text), {"a": "b"})
        parse_field_selector(text, "Pod")
    except ApiError as error:
        assert error.code == 400


def test_a_label_selector_object() -> None:
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["b", "a"]}, {"key": "x", "operator": "DoesNotExist"}]}
    requirements = from_label_selector(selector)
    assert requirements is not None
    assert matches(requirements, {"app": "web", "tier": "a"})
    assert not matches(requirements, {"app": "web", "tier": "a", "x": ""})
    assert label_text(requirements) == "app=web,tier in (a,b),!x"
    assert from_label_selector(None) is None                       # no selector selects nothing
    assert from_label_selector({}) == []                           # an empty one selects everything


@pytest.mark.parametrize(
    ("selector", "outcome"),
    [
        ("metadata.name=web", True), ("metadata.name!=web", False), ("metadata.namespace=default", True),
        ("status.phase=Running", True), ("status.phase!=Succeeded", True), ("spec.nodeName=", True),
        ("metadata.name=web,metadata.name=web", True),             # kr8s sends it twice
    ],
)
def test_field_selector(selector: str, outcome: bool) -> None:
    pod = {"metadata": {"name": "web", "namespace": "default"}, "spec": {}, "status": {"phase": "Running"}}
    assert fields_match(parse_field_selector(selector, "Pod"), pod) is outcome


def test_a_field_a_kind_does_not_offer_is_refused() -> None:
    with pytest.raises(ApiError, match="field label not supported: spec.replicas"):
        parse_field_selector("spec.replicas=1", "Deployment")
