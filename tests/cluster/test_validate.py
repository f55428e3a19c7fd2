"""Schemas and validation: the server's words (Kubernetes apimachinery validation, pkg/apis/core/validation)."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, deployment, pod

from kubenet.cluster.api import effects, schema
from kubenet.cluster.api.defaults import apply_defaults
from kubenet.cluster.api.kinds import SERVED, by_gvk, by_name
from kubenet.cluster.api.patch import merge_patch
from kubenet.cluster.api.schema import Issues, clean, node_at, schema_of

Obj = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"


def containers(**fields: Any) -> Obj:
    return {"containers": [{"name": "c", "image": "i", **fields}]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image: Required value"),
        ({"containers": [{"image": "i"}]}, "spec.containers[0].name: Required value"),
        ({"containers": [{"name": "c", "image": "i"}] * 2}, 'spec.containers[1].name: Duplicate value: "c"'),
        (containers(ports=[{"containerPort": 70000}]),
         "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
        (containers(ports=[{"name": "http"}]), "spec.containers[0].ports[0].containerPort: Required value"),
        (containers(ports=[{"name": "averyveryverylongname", "containerPort": 80}]),
         'spec.containers[0].ports[0].name: Invalid value: "averyveryverylongname": must be no more than 15 characters'),
        (containers(ports=[{"name": "80", "containerPort": 80}]),
         'spec.containers[0].ports[0].name: Invalid value: "80": must contain at least one letter (a-z)'),
        (containers(ports=[{"containerPort": 80, "protocol": "ICMP"}]),
         'spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"'),
        (containers(volumeMounts=[{"name": "data", "mountPath": "/d"}]),
         'spec.containers[0].volumeMounts[0].name: Not found: "data"'),
        (containers(readinessProbe={"periodSeconds": 1}),
         "spec.containers[0].readinessProbe: Required value: must specify a handler type"),
        (containers(readinessProbe={"httpGet": {"port": 0}}),
         "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        (containers(livenessProbe={"tcpSocket": {"port": 80}, "successThreshold": 2}),
         "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"),
        ({**containers(), "restartPolicy": "Sometimes"},
         'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"'),
        ({**containers(), "tolerations": [{"operator": "Equal", "value": "x"}]},
         'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match '
         'all values and all keys"'),
        ({**containers(), "terminationGracePeriodSeconds": -1},
         "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"),
    ],
)
def test_pods(cp: ControlPlane, spec: Obj, message: str) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    response = cp.call("POST", PODS, body)
    assert response.code == 422 and response.json()["message"] == f'Pod "p" is invalid: {message}'


@pytest.mark.parametrize(("kind", "name", "text"), [
    ("configmaps", "Upper", "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
     "must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
     "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"),
    ("services", "a.b", "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
     "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
     "'[a-z]([-a-z0-9]*[a-z0-9])?')"),
    ("configmaps", "a" * 254, "must be no more than 253 characters")])
def test_names(cp: ControlPlane, kind: str, name: str, text: str) -> None:
    body: Obj = {"metadata": {"name": name}}
    if kind == "services":
        body["spec"] = {"ports": [{"port": 80}]}
    assert f'metadata.name: Invalid value: "{name}": {text}' in (
        cp.call("POST", f"/api/v1/namespaces/default/{kind}", body).json()["message"])


@pytest.mark.parametrize(("labels", "text"), [
    ({"app": "has space"}, 'metadata.labels: Invalid value: "has space": a valid label must be an empty string or consist of '
     "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
     "'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"),
    ({"-app": "x"}, 'metadata.labels: Invalid value: "-app": name part must consist of'),
    ({"/app": "x"}, 'metadata.labels: Invalid value: "/app": prefix part must be non-empty')])
def test_labels(cp: ControlPlane, labels: dict[str, str], text: str) -> None:
    assert text in cp.call("POST", PODS, pod("p", labels=labels)).json()["message"]


def test_immutable_config(cp: ControlPlane) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    cp.ok("POST", path, {"metadata": {"name": "a"}, "data": {"x": "1"}, "immutable": True})
    assert cp.call("PUT", path + "/a", {"metadata": {"name": "a"}, "data": {"x": "2"}, "immutable": True}).json()["message"] == (
        'ConfigMap "a" is invalid: data: Forbidden: field is immutable when `immutable` is set')


class TestDefaults:
    def test_a_pod(self, cp: ControlPlane) -> None:
        spec = cp.ok("POST", PODS, pod("p"))["spec"]
        assert (spec["restartPolicy"], spec["dnsPolicy"], spec["schedulerName"]) == (
            "Always", "ClusterFirst", "default-scheduler")
        assert spec["terminationGracePeriodSeconds"] == 30 and spec["serviceAccountName"] == "default"
        assert [t["key"] for t in spec["tolerations"]] == ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"

    @pytest.mark.parametrize(("image", "policy"), [
        ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1.27", "IfNotPresent"), ("reg:5000/nginx", "Always"),
        ("reg:5000/nginx:2", "IfNotPresent"), ("nginx@sha256:abc", "IfNotPresent")])
    def test_pull_policy(self, cp: ControlPlane, image: str, policy: str) -> None:
        assert cp.ok("POST", PODS, pod("p", image))["spec"]["containers"][0]["imagePullPolicy"] == policy

    def test_probe(self, cp: ControlPlane) -> None:
        body = pod("p")
        body["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"port": 80}}
        assert cp.ok("POST", PODS, body)["spec"]["containers"][0]["readinessProbe"] == {
            "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3}

    def test_a_deployment(self, cp: ControlPlane) -> None:
        spec = cp.ok("POST", "/apis/apps/v1/namespaces/default/deployments", deployment())["spec"]
        assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
        assert spec["revisionHistoryLimit"] == 10 and spec["progressDeadlineSeconds"] == 600

    @pytest.mark.parametrize("info", SERVED, ids=lambda i: i.kind)
    def test_twice_is_once(self, info: Any) -> None:
        obj: Obj = {"apiVersion": info.api_version, "kind": info.kind, "metadata": {"name": "a"}, "spec": {
            "template": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]}},
            "containers": [{"name": "c", "image": "i"}], "ports": [{"port": 80}]}}
        apply_defaults(obj)
        once = merge_patch(obj, {})
        apply_defaults(obj)
        assert obj == once


class TestSchema:
    @pytest.mark.parametrize("info", SERVED, ids=lambda i: i.kind)
    def test_every_kind_has_one(self, info: Any) -> None:
        assert "metadata" in schema_of(info.kind).fields

    @pytest.mark.parametrize(("kind", "path", "keys", "strategy", "merge_key"), [
        ("Service", "spec.ports", ("port", "protocol"), ("merge",), "port"),
        ("Pod", "spec.containers", ("name",), ("merge",), "name"),
        ("Pod", "spec.containers.ports", ("containerPort", "protocol"), ("merge",), "containerPort"),
        ("Pod", "spec.volumes", ("name",), ("merge", "retainKeys"), "name"),
        ("Pod", "metadata.ownerReferences", ("uid",), ("merge",), "uid"),
        ("Pod", "status.conditions", ("type",), ("merge",), "type"),
        ("Deployment", "spec.strategy", (), ("retainKeys",), ""),
        ("Pod", "spec.tolerations", (), (), "")])
    def test_merge_keys(self, kind: str, path: str, keys: Any, strategy: Any, merge_key: str) -> None:
        """kubernetes.io, the x-kubernetes-* extensions of the published OpenAPI."""
        node = node_at(schema_of(kind), path.split("."))
        assert node is not None and (node.map_keys, node.patch_strategy, node.patch_key) == (keys, strategy, merge_key)

    @pytest.mark.parametrize(("body", "text"), [
        ({"data": {"a": 1}}, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        ({"data": "x"}, "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string"),
        ({"metadata": {"name": True}},
         "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string"),
        ({"immutable": "yes"}, "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool"),
        ({"metadata": []}, "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta")])
    def test_type_errors_are_gos(self, body: Obj, text: str) -> None:
        issues = Issues()
        clean(schema_of("ConfigMap"), body, issues)
        assert [t for _, t in issues.types] == [text]

    def test_a_clean_copy_shares_nothing_that_defaults_could_change(self) -> None:
        body = deployment()
        out = clean(schema_of("Deployment"), body, Issues())
        assert out == body and out["spec"]["template"]["spec"] is not body["spec"]["template"]["spec"]

    def test_names_people_use(self) -> None:
        for word in ("po", "pods", "Pod", "pod", "deploy", "deployments.apps", "eps", "svc"):
            assert by_name(word) is not None, word
        assert by_name("deployments.core") is None and by_gvk("apps/v1", "Pod") is None

    def test_only_what_is_touched_is_compiled(self) -> None:
        """Start-up time counts: a Service needs a dozen of 278 definitions."""
        schema.named.cache_clear()
        schema.schema_of.cache_clear()
        clean(schema_of("Service"), {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}, Issues())
        assert schema.named.cache_info().currsize < 20


def test_fields_with_effect_exist_in_the_schema() -> None:
    """The list of what has effect cannot name fields that do not exist."""
    def walk(tree: Obj, path: list[str], kind: str) -> None:
        for name, below in tree.items():
            here = [*path, name]
            assert node_at(schema_of(kind), here) is not None, f"{kind}: {'.'.join(here)}"
            if isinstance(below, dict):
                walk(below, here, kind)

    for kind, tree in effects.HEEDED.items():
        walk(tree, ["spec"], kind)
