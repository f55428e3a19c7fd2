"""`kubenet get`: what kubectl prints, column for column (kubectl 1.32; spec of its tables: printers.go, tabwriter 6/4/3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubenet.cli.render import table

SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
           "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "page"}, "data": {"index.html": "<h1>hello</h1>\nbye\n"}}


def test_table_is_padded_as_kubectl_pads() -> None:
    """tabwriter.NewWriter(out, 6, 4, 3, ' ', 0): a cell is at least 6 wide, 3 blanks follow its text, none the last."""
    assert table([["A", "NAME", "AGE"], ["x", "client", "5s"]]) == "A     NAME     AGE\nx     client   5s\n"


def test_pods(kubenet: Any, fake: Any) -> None:
    fake.pod("client", "10.48.1.5", "node-1", labels={"app": "client"})
    fake.pod("web-0")
    assert kubenet("get", "pods").out == (
        "NAME     READY   STATUS    RESTARTS   AGE\n"
        "client   1/1     Running   0          0s\n"
        "web-0    1/1     Running   0          0s\n")


def test_wide_and_namespaces(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    fake.namespace("shop")
    fake.pod("till", "10.48.1.9", "node-1", namespace="shop")
    assert kubenet("get", "po", "-A", "-o", "wide").out == (
        "NAMESPACE   NAME    READY   STATUS    RESTARTS   AGE   IP          NODE     NOMINATED NODE   READINESS GATES\n"
        "default     web-0   1/1     Running   0          0s    10.48.2.7   node-2   <none>           <none>\n"
        "shop        till    1/1     Running   0          0s    10.48.1.9   node-1   <none>           <none>\n")


def test_several_kinds_have_prefixed_names(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    fake.put(SERVICE)
    assert kubenet("get", "pods,svc").out == (
        "NAME        READY   STATUS    RESTARTS   AGE\n"
        "pod/web-0   1/1     Running   0          0s\n"
        "\n"
        "NAME          TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n"
        "service/web   ClusterIP   10.96.0.1    <none>        80/TCP    0s\n")


def test_all_shows_what_there_is(kubenet: Any, fake: Any) -> None:
    fake.put(SERVICE)
    assert kubenet("get", "all").out.splitlines()[1].startswith("service/web ")


def test_labels_and_headers(kubenet: Any, fake: Any) -> None:
    fake.pod("client", labels={"app": "client"})
    fake.pod("web-0", labels={"app": "web", "tier": "front"})
    assert kubenet("get", "pods", "-l", "app=web", "--no-headers", "--show-labels").out == (
        "web-0   1/1   Running   0     0s    app=web,tier=front\n")
    assert kubenet("get", "pods", "-L", "tier,app").out.splitlines()[0].endswith("AGE   TIER    APP")


def test_nothing_found_is_said_on_stderr(kubenet: Any, fake: Any) -> None:
    found = kubenet("get", "pods")
    assert (found.code, found.out, found.err) == (0, "", "No resources found in default namespace.\n")
    assert kubenet("get", "pods", "-q").err == ""


def test_a_missing_name_is_3_with_the_nearest_one(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    found = kubenet("get", "pod", "wbe-0")
    assert (found.code, found.out) == (3, "")
    assert found.err == 'error: no pod "wbe-0" in namespace default. Did you mean web-0?\n'


def test_a_name_in_another_namespace_is_pointed_out(kubenet: Any, fake: Any) -> None:
    fake.namespace("shop")
    fake.pod("till", namespace="shop")
    found = kubenet("get", "pod", "till")
    assert found.code == 3 and "why: there is one in namespace shop: -n shop" in found.err
    found = kubenet("get", "pod", "till", "-n", "nowhere")
    assert found.code == 3 and "why: there is no namespace nowhere" in found.err


@pytest.mark.parametrize("kind, hint", [("pdos", "Did you mean pods?"), ("servce", "Did you mean service?")])
def test_unknown_kinds(kubenet: Any, fake: Any, kind: str, hint: str) -> None:
    found = kubenet("get", kind)
    assert found.code == 2 and found.err.startswith(f"error: no kind '{kind}'. {hint}\n")


def test_kernel_things_are_shown_by_the_real_tools(kubenet: Any, fake: Any) -> None:
    assert "try: kubenet exec node-1 -- conntrack -L" in kubenet("get", "ct").err


def test_json_of_one_and_of_many(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    one = json.loads(kubenet("get", "pod", "web-0", "-o", "json").out)
    assert one["kind"] == "Pod" and "managedFields" not in one["metadata"]
    many = json.loads(kubenet("get", "pods", "-o", "json").out)
    assert many["kind"] == "List" and [i["metadata"]["name"] for i in many["items"]] == ["web-0"]
    assert kubenet("get", "pod", "web-0", "-o", "json").out.startswith('{\n    "apiVersion": "v1",\n    "kind": "Pod",\n')


def test_yaml(kubenet: Any, fake: Any) -> None:
    import yaml

    fake.put(CONFIG)
    text = kubenet("get", "cm", "page", "-o", "yaml").out
    assert "  index.html: |\n    <h1>hello</h1>\n    bye\n" in text
    assert yaml.safe_load(text)["data"] == CONFIG["data"]


def test_names_jsonpath_and_columns(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0", "10.48.2.7")
    fake.pod("web-1", "10.48.1.6")
    assert kubenet("get", "pods", "-o", "name").out == "pod/web-0\npod/web-1\n"
    assert kubenet("get", "pods", "-o", "jsonpath={.items[*].status.podIP}").out == "10.48.2.7 10.48.1.6"
    assert kubenet("get", "pods", "-o", "custom-columns=NAME:.metadata.name,IP:.status.podIP,X:.nothing").out == (
        "NAME    IP          X\nweb-0   10.48.2.7   <none>\nweb-1   10.48.1.6   <none>\n")
    assert kubenet("get", "pods", "-o", "xml").code == 2
    assert kubenet("get", "pods", "-o", "jsonpath").code == 2


def test_sort_by(kubenet: Any, fake: Any) -> None:
    fake.pod("a", "10.48.2.9")
    fake.pod("b", "10.48.2.7")
    out = kubenet("get", "pods", "--sort-by", ".status.podIP", "--no-headers").out
    assert [line.split()[0] for line in out.splitlines()] == ["b", "a"]


def test_several_names_and_slashed_names(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    fake.pod("web-1")
    fake.put(SERVICE)
    assert kubenet("get", "pod", "web-0", "web-1", "--no-headers").out.count("\n") == 2
    assert kubenet("get", "pod/web-0", "svc/web", "-o", "name").out == "pod/web-0\nservice/web\n"
    assert kubenet("get", "pod/web-0", "svc").code == 2
    assert kubenet("get", "pod", "web-0", "-A").code == 2


def test_watch_prints_rows_as_they_come(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    fake.pod("web-1")
    fake.on_watch = lambda: (fake.pod("a-pod-with-a-longer-name"), fake.pod("web-0", "10.48.2.9", ready=False))
    assert kubenet("get", "pods", "--watch").out == (
        "NAME    READY   STATUS    RESTARTS   AGE\n"
        "web-0   1/1     Running   0          0s\n"
        "web-1   1/1     Running   0          0s\n"
        "a-pod-with-a-longer-name   0/1     Pending   0          0s\n"
        "a-pod-with-a-longer-name   1/1     Running   0          0s\n"
        "web-0                      0/1     ImagePullBackOff   0          0s\n")
    query = fake.asked[-1]["query"]
    assert query["watch"] == ["true"] and int(query["resourceVersion"][0]) > 0
    fake.on_watch = lambda: None
    kubenet("get", "pod", "web-1", "-w")
    assert fake.asked[-1]["query"]["fieldSelector"] == ["metadata.name=web-1"]


def test_describe_a_pod(kubenet: Any, fake: Any) -> None:
    fake.pod("web-0")
    text = kubenet("describe", "pod", "web-0").out
    assert text.startswith("Name:             web-0\nNamespace:        default\n")
    assert "Node:             node-2/172.18.0.3\n" in text and "IP:               10.48.2.7\n" in text
    assert "Containers:\n  web:\n" in text and "    Port:           80/TCP (http)\n" in text
    assert text.rstrip().endswith("<none>") and "Events:" in text


def test_describe_a_service_lists_its_endpoints(kubenet: Any, fake: Any) -> None:
    fake.put(SERVICE)
    fake.put({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
              "metadata": {"name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
              "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
              "endpoints": [{"addresses": ["10.48.2.7"], "conditions": {"ready": True}},
                            {"addresses": ["10.48.1.6"], "conditions": {"ready": False}}]})
    text = kubenet("describe", "svc", "web").out
    assert "Endpoints:                10.48.2.7:8080\n" in text and "10.48.1.6" not in text
    assert "Selector:                 app=web\n" in text
