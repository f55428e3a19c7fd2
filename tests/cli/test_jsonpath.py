"""kubectl's JSONPath. The examples are those of kubernetes.io/docs/reference/kubectl/jsonpath, with their printed results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import UsageError
from kubenet.query.jsonpath import evaluate, render

OBJECT = {
    "kind": "List",
    "items": [
        {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
         "status": {"capacity": {"cpu": "4"}, "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
        {"kind": "None", "metadata": {"name": "127.0.0.2"},
         "status": {"capacity": {"cpu": "8"}, "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.2"},
                                                             {"type": "another", "address": "127.0.0.3"}]}},
    ],
    "users": [{"name": "myself", "user": {}},
              {"name": "e2e", "user": {"username": "admin", "password": "secret"}}],
}


@pytest.mark.parametrize("template, text", [
    ("kind is {.kind}", "kind is List"),
    ("{.kind}", "List"),
    ("{['kind']}", "List"),
    ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
    ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
    ("{.users[0].name}", "myself"),
    ("{.users[-2].name}", "myself"),
    ("{.users[-1:].name}", "e2e"),
    ("{.users[0:1].name}", "myself"),
    ("{.items[*]['metadata.name', 'status.capacity']}", ""),
    ("{.items[*]['kind','metadata']['name']}", "127.0.0.1 127.0.0.2"),
    ('{.users[?(@.name=="e2e")].user.password}', "secret"),
    ('{.items[?(@.metadata.name!="127.0.0.1")].status.capacity.cpu}', "8"),
    ('{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}', '[127.0.0.1, {"cpu":"4"}] [127.0.0.2, {"cpu":"8"}] '),
    ('{range .items[*]}{.metadata.name}{"\\t"}{end}', "127.0.0.1\t127.0.0.2\t"),
    ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
    ("{.items[0].metadata.labels['kubernetes.io/hostname']}", "127.0.0.1"),
    ("{.users[1].user}", '{"username":"admin","password":"secret"}'),
    ("{.nothing.here}", ""),
    (".kind", "List"),
    ("{range .items[*]}{range .status.addresses[*]}{.address} {end};{end}", "127.0.0.1 ;127.0.0.2 127.0.0.3 ;"),
    ("{.items[*].status.addresses[?(@.type)].address}", "127.0.0.1 127.0.0.2 127.0.0.3"),
])
def test_templates(template: str, text: str) -> None:
    assert render(template, OBJECT) == text


@pytest.mark.parametrize("template", ["{.a", "{.a[}", "{.a[x]}", "{range .a}", "{end}", "{.a[?(@.b==c)]}", "{.a]}", "{.a[1:2:0]}"])
def test_what_does_not_parse_is_wrong_usage(template: str) -> None:
    with pytest.raises(UsageError):
        render(template, OBJECT)


@given(st.text(alphabet="{}[]().*@$'\"\\,:?=<>!|abrnge01- ", max_size=30))
def test_any_template_is_text_or_wrong_usage(template: str) -> None:
    try:
        assert isinstance(render(template, OBJECT), str)
    except UsageError:
        pass


def test_numbers_compare_as_numbers() -> None:
    obj = {"n": [{"v": 9}, {"v": 10}, {"v": True}]}
    assert evaluate("{.n[?(@.v>9)].v}", obj) == [10]
    assert evaluate("{.n[?(@.v==1)].v}", obj) == []
