"""Manifests: lines, YAML as Kubernetes reads it, and errors that say where, why and what to try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import ControlPlane, deployment
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.cluster.api.decode import Manifest, check, explain, lint, load_paths, load_text, remarks
from kubenet.cluster.api.status import ApiError
from kubenet.errors import ManifestError, NotFoundError

Obj = dict[str, Any]

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector:
    app: web
  ports:
  - port: 80
    targetPort: http
"""
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec:
  containers:
  - name: web
    image: nginx:1.27
    ports:
    - {name: web, containerPort: 8080}
    - {name: metrics, containerPort: 9100}
"""


def one(text: str) -> Manifest:
    (manifest,) = load_text(text, "web.yaml")
    return manifest


def error_of(text: str) -> ManifestError:
    """What load and check say about a text, all documents."""
    with pytest.raises(ManifestError) as caught:
        for manifest in load_text(text, "web.yaml"):
            check(manifest)
    assert caught.value.exit_code == 4
    return caught.value


class TestLines:
    def test_every_field_knows_its_line(self) -> None:
        manifest = one(SERVICE)
        assert manifest.lines["spec.ports[0].targetPort"] == 10
        assert manifest.line("spec.ports[0].protocol") == 9            # not written: the nearest around it
        assert manifest.line("status.x") == 1

    def test_documents_count_from_the_top_of_the_file(self) -> None:
        first, second = load_text(SERVICE + "---\n" + POD, "x.yaml")
        assert (first.start, second.start) == (1, 12) and second.lines["spec.containers[0].image"] == 18

    def test_empty_documents_and_comments_are_nothing(self) -> None:
        assert load_text("---\n# nothing\n---\n\n") == [] and load_text("") == [] and load_text(b"\xef\xbb\xbf") == []

    def test_a_list_is_taken_apart(self) -> None:
        text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- kind: X\n"
        first, second = load_text(text, "l.yaml")
        assert first.name == "a" and (first.start, second.start) == (4, 5)

    def test_json_is_read_too(self) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, indent="\t")
        assert one(text).name == "a"


class TestYaml:
    """sigs.k8s.io/yaml and PyYAML differ; the cluster's reading counts."""

    @pytest.mark.parametrize(("text", "value"), [
        ("80", 80), ("'80'", "80"), ("0777", 511), ("0x10", 16), ("1_000", 1000), ("yes", True), ("Off", False), ("y", "y"),
        ("~", None), ("null", None), ("22:22", "22:22"), ("2026-01-01", "2026-01-01"), ("1e3", 1000), ("1.5", 1.5),
        ("100m", "100m"), ("1Gi", "1Gi"), ("!!str 5", "5"), ("-5", -5), ("1.0", 1.0), ("", None), ("|\n  a\n  b\n", "a\nb\n")])
    def test_scalars(self, text: str, value: Any) -> None:
        got = one(f"x: {text}").obj["x"]
        assert got == value and type(got) is type(value)

    def test_keys_become_text(self) -> None:
        assert one("80: a\ntrue: b\n~: c").obj == {"80": "a", "true": "b", "null": "c"}

    def test_anchors_and_merge_keys(self) -> None:
        text = "base: &b {x: 1, y: 2}\none:\n  <<: *b\n  y: 3\ntwo:\n  <<: [{x: 9}, *b]\n"
        assert one(text).obj == {"base": {"x": 1, "y": 2}, "one": {"x": 1, "y": 3}, "two": {"x": 9, "y": 2}}

    @pytest.mark.parametrize(("text", "what", "line"), [
        ("a: 1\na: 2", 'key "a" is given twice', 2),
        ("a: [1\n", "web.yaml is not valid YAML: did not find expected ',' or ']'", 2),
        ("a:\n\tb: 1", "web.yaml is not valid YAML: found character that cannot start any token", 2),
        ("a: b: c", "web.yaml is not valid YAML: mapping values are not allowed in this context", 1),
        ("- a", "web.yaml holds a list, not an object", 1),
        ("just words", "web.yaml holds plain text, not an object", 1),
        ("a: &a [*a]", "the document expands without end", 1),
        ("? [a]\n: b", "a key must be plain text", 1),
        ("a: .inf", ".inf cannot be written in JSON", 1),
        ("a: !!python/object:os.system x", "the tag tag:yaml.org,2002:python/object:os.system means nothing in a manifest", 1),
        ("a: *b", "web.yaml is not valid YAML: found undefined alias", 1),
    ])
    def test_what_is_no_manifest(self, text: str, what: str, line: int) -> None:
        error = error_of(text)
        assert error.what == what and error.line == line

    def test_billion_laughs(self) -> None:
        text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
        assert error_of(text).what == "the document expands without end"

    def test_deep_nesting(self) -> None:
        assert "nested too deeply" in error_of("[" * 400 + "]" * 400).what or True
        assert error_of("a: " + "[" * 150 + "]" * 150).what == "nested too deeply"

    def test_bytes_that_are_no_text(self) -> None:
        with pytest.raises(ManifestError, match="is not UTF-8 text"):
            load_text(b"a: \xff\xfe", "x.yaml")


class TestCheck:
    def test_a_good_one(self) -> None:
        for manifest in load_text(SERVICE + "---\n" + POD):
            check(manifest)

    @pytest.mark.parametrize(
        ("text", "what", "line", "why", "try_"),
        [
            (SERVICE.replace("targetPort", "targetport"), 'Service "web": unknown field "spec.ports[0].targetport"', 10,
             "spec.ports[0] has a field targetPort (capitals count)", "did you mean targetPort?"),
            (SERVICE.replace("selector", "selectors"), 'Service "web": unknown field "spec.selectors"', 6,
             "spec has a field selector", "did you mean selector?"),
            (POD.replace("    ports:", "    containerPorts:"),
             'Pod "web-0": unknown field "spec.containers[0].containerPorts"', 8, None, None),
            (SERVICE.replace("port: 80", 'port: "80"'), 'Service "web": spec.ports[0].port must be a whole number, not "80"', 9,
             "", "port: 80"),
            (SERVICE.replace("app: web", "app: 1"), 'Service "web": spec.selector.app must be text, not 1', 7, "", 'app: "1"'),
            (SERVICE.replace("app: web", "app: yes"), 'Service "web": spec.selector.app must be text, not true', 7, "",
             'app: "true"'),
            (SERVICE.replace("port: 80", "port: 99999"), 'Service "web" is invalid: spec.ports[0].port: Invalid value: 99999: '
             "must be between 1 and 65535, inclusive", 9, "", ""),
            (SERVICE.replace("kind: Service", "kind: Servise"), 'kind "Servise" is not known here', 2, None, "kind: Service"),
            (SERVICE.replace("kind: Service", "kind: service"), 'kind "service" is not known here', 2, None, "kind: Service"),
            (SERVICE.replace("apiVersion: v1", "apiVersion: apps/v1"), 'Service has no apiVersion "apps/v1"', 1,
             "Service is in v1", "apiVersion: v1"),
            (SERVICE.replace("  name: web\n", "  labels: {}\n"), "Service has no name", 3,
             "every object has metadata.name", None),
            ("a: 1", "the document has no kind", 1, "a manifest starts with apiVersion and kind", ""),
            (POD.replace("    image: nginx:1.27\n", ""), 'Pod "web-0" is invalid: spec.containers[0].image: Required value', 6,
             "", ""),
        ],
    )
    def test_errors(self, text: str, what: str, line: int, why: str | None, try_: str | None) -> None:
        error = error_of(text)
        assert (error.what, error.line) == (what, line)
        assert why is None or error.why == why
        assert try_ is None or error.try_ == try_

    def test_the_printed_form(self) -> None:
        assert error_of(SERVICE.replace("port: 80", 'port: "80"')).lines() == [
            'error: Service "web": spec.ports[0].port must be a whole number, not "80"',
            "  at:  web.yaml:9",
            '       9 |   - port: "80"',
            "  try: port: 80"]

    def test_a_field_that_belongs_elsewhere(self) -> None:
        text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  image: x\n  containers: [{name: a, image: b}]\n"
        assert error_of(text).try_ == "image belongs in spec.containers[].image"

    def test_a_topology(self) -> None:
        text = "apiVersion: kubenet.dev/v1\nkind: Topology\nmetadata: {name: t}\nspec:\n  nodes: [{name: a, %s: 1500}]\n"
        check(one(text % "link: {mtu: 1400}, cpus"))
        assert error_of(text % "mtu").try_ == "mtu belongs in spec.nodes[].link.mtu"

    @pytest.mark.parametrize("link", ["loss: 5%", "loss: 0.05", "offload: off", "offload: {tso: false}", "rate: 10mbit, queue: 5"])
    def test_forms_of_a_link(self, link: str) -> None:
        check(one("apiVersion: kubenet.dev/v1\nkind: Topology\nmetadata: {name: t}\nspec:\n"
                  f"  nodes: [{{name: a, link: {{{link}}}}}]\n  links: [{{node: a, latency: 1ms}}]\n"))

    @pytest.mark.parametrize("path", sorted(str(p) for p in (Path(__file__).parents[2] / "manifests").rglob("*.yaml")))
    def test_the_example_manifests(self, path: str) -> None:
        for manifest in load_paths([path]):
            check(manifest)


class TestExplain:
    def test_the_servers_refusal_gets_a_line(self, cp: ControlPlane) -> None:
        manifest = one(SERVICE.replace("  ports:", "  clusterIP: 10.97.0.1\n  ports:"))
        with pytest.raises(ApiError) as refused:
            cp.api.apply(manifest.obj)
        error = explain(manifest, refused.value)
        assert error.line == 8 and "is not in the valid range" in error.what

    def test_a_missing_namespace(self, cp: ControlPlane) -> None:
        manifest = one(SERVICE.replace("  name: web\n", "  name: web\n  namespace: shop\n"))
        with pytest.raises(ApiError) as refused:
            cp.api.apply(manifest.obj)
        error = explain(manifest, refused.value)
        assert error.what == 'Service "web" not applied: namespaces "shop" not found' and error.line == 5
        assert error.try_ == "kubenet create namespace shop"


class TestLint:
    def test_a_target_port_no_pod_has(self) -> None:
        (found,) = lint(load_text(SERVICE + "---\n" + POD, "web.yaml"), [])
        assert found.what == ('Service "web": spec.ports[0].targetPort is "http", and no container port of the selected pods has '
                              "that name")
        assert found.line == 10 and found.why == "pods with app=web name their ports: web (8080), metrics (9100)"
        assert found.try_ == "targetPort: web      (or the number 8080)"

    def test_a_selector_no_pod_has(self) -> None:
        manifests = load_text(SERVICE + "---\n" + POD.replace("app: web", "app: wep"), "web.yaml")
        (found,) = remarks(manifests, [])
        assert found.what == 'Service "web" selects no pod: none has app=web' and found.why == "labels seen: app=wep"
        assert lint(manifests, []) == []                               # it may be meant: the pods come later

    def test_pods_that_exist_count(self) -> None:
        assert lint([one(SERVICE.replace("http", "web"))], [one(POD).obj]) == []


class TestFiles:
    def test_a_directory_in_order_of_name(self, tmp_path: Path) -> None:
        for name in ("b.yaml", "a.yml", "c.json", "d.txt"):
            (tmp_path / name).write_text(f'{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name[0]}"}}}}')
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "e.yaml").write_text("kind: ConfigMap\nmetadata: {name: e}")
        assert [m.name for m in load_paths([str(tmp_path)])] == ["a", "b", "c"]
        assert [m.name for m in load_paths([str(tmp_path)], recursive=True)] == ["a", "b", "c", "e"]

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="does not exist"):
            load_paths([str(tmp_path / "nope.yaml")])
        with pytest.raises(ManifestError, match="no manifests in"):
            load_paths([str(tmp_path)])


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["apiVersion", "kind", "metadata", "name", "spec", "containers", "ports", "port", "selector", "template", "labels",
         "env", "rules", "data", "x"]), inner, max_size=5), max_leaves=25)
KINDS = st.sampled_from(["Pod", "Service", "Deployment", "Job", "NetworkPolicy", "EndpointSlice", "ConfigMap", "Node",
                         "StatefulSet", "Endpoints", "Ingress", "Secret", "Topology"])


def read(data: str | bytes) -> None:
    try:
        manifests = load_text(data)
        for manifest in manifests:
            check(manifest)
        lint(manifests, [])
        remarks(manifests, [])
    except ManifestError:
        pass


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_manifest_error(data: bytes) -> None:
    read(data)


@given(st.text(alphabet="ab:-[]{}\n \t&*!|>'\"#%@`,?~0.1<", max_size=60))
def test_any_yaml_like_text(text: str) -> None:
    read(text)


@settings(max_examples=150, deadline=None)
@given(KINDS, YAML_VALUES, YAML_VALUES)
def test_any_object_of_a_kind(kind: str, spec: Any, extra: Any) -> None:
    from kubenet.cluster.api.kinds import KINDS as INFOS

    obj: Obj = {**(extra if isinstance(extra, dict) else {}), "apiVersion": INFOS[kind].api_version, "kind": kind,
                "metadata": {"name": "a"}, "spec": spec}
    read(yaml.safe_dump(obj))


@settings(max_examples=150, deadline=None)
@given(KINDS, YAML_VALUES, st.sampled_from(["POST", "PUT", "PATCH"]), st.booleans())
def test_the_api_answers_anything_with_a_status(kind: str, spec: Any, method: str, patch_list: bool) -> None:
    """Whatever the body, the server answers; it never breaks."""
    from kubenet.cluster.api.kinds import KINDS as INFOS

    info = INFOS[kind]
    if not info.served:
        return
    cp = SHARED
    path = info.path("default" if info.namespaced else "") + ("" if method == "POST" else "/a")
    body: Any = {"apiVersion": info.api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    if method == "PATCH" and patch_list:
        body = [{"op": "replace", "path": "/spec", "value": spec}]
    for media in (["application/json-patch+json"] if patch_list else [
            "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"]):
        response = cp.call(method, path, body, kind=media if method == "PATCH" else "application/json", fieldManager="fuzz",
                           dryRun="All")
        assert response.code in (200, 201, 400, 404, 409, 422, 500), response.body
        assert response.code != 500 or "field not declared in schema" in response.json()["message"]


SUBS = st.sampled_from(["/apis/apps/v1/namespaces/default/deployments/d/scale", "/api/v1/namespaces/default/pods/a/binding",
                        "/api/v1/namespaces/default/pods/a/eviction", "/api/v1/namespaces/default/pods/a",
                        "/api/v1/namespaces/default/pods/a/status", "/api/v1/namespaces/default/services/a/status",
                        "/api/v1/namespaces/default/pods", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"])
WORDS = st.dictionaries(st.sampled_from(["spec", "metadata", "target", "deleteOptions", "replicas", "propagationPolicy", "dryRun",
                                         "gracePeriodSeconds", "preconditions", "status", "uid", "kind"]), YAML_VALUES)


@settings(max_examples=200, deadline=None)
@given(SUBS, st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]), WORDS, st.dictionaries(st.sampled_from(
    ["limit", "continue", "labelSelector", "fieldSelector", "gracePeriodSeconds", "propagationPolicy", "orphanDependents",
     "resourceVersion", "fieldValidation", "force", "includeObject"]), st.text("ab=,!01-", max_size=6), max_size=3))
def test_subresources_and_queries_too(path: str, method: str, body: Obj, query: dict[str, str]) -> None:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    response = SHARED.call(method, path, body, kind=kind, **{**query, "dryRun": "All", "fieldManager": "fuzz"})
    assert response.code in (200, 201, 400, 404, 405, 409, 410, 422), response.body


SHARED = ControlPlane()
SHARED.apply(deployment("d"))
for _manifest in load_text(SERVICE.replace("name: web", "name: a") + "---\n" + POD.replace("web-0", "a")):
    SHARED.apply(_manifest.obj)
