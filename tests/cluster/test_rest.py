"""The REST contract: codes, Status bodies word for word, discovery, lists, tables, watches, dry runs, deletes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from control_plane import ControlPlane, deployment, pod, service

from kubenet.cluster.api.status import ApiError

Obj = dict[str, Any]
NS = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
STRATEGIC, MERGE = "application/strategic-merge-patch+json", "application/merge-patch+json"


def config(name: str = "a", **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def refusal(cp: ControlPlane, method: str, path: str, body: Any = None, **kwargs: Any) -> tuple[int, str, str]:
    response = cp.call(method, path, body, **kwargs)
    status = response.json()
    assert status["kind"] == "Status" and status["status"] == "Failure" and status["code"] == response.code
    return response.code, status["reason"], status["message"]


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "body", "code", "reason", "message"),
        [
            ("GET", NS + "/pods/nope", None, 404, "NotFound", 'pods "nope" not found'),
            ("GET", APPS + "/deployments/x", None, 404, "NotFound", 'deployments.apps "x" not found'),
            ("DELETE", NS + "/pods/nope", None, 404, "NotFound", 'pods "nope" not found'),
            ("GET", "/api/v1/bogus", None, 404, "NotFound", "the server could not find the requested resource"),
            ("GET", "/apis/nope.io/v1/things", None, 404, "NotFound", "the server could not find the requested resource"),
            ("POST", "/api/v1/namespaces/nope/configmaps", config(), 404, "NotFound", 'namespaces "nope" not found'),
            ("POST", NS + "/configmaps/a", config(), 405, "MethodNotAllowed",
             "the server does not allow this method on the requested resource"),
            ("POST", NS + "/configmaps", {**config(), "metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest",
             "the namespace of the provided object does not match the namespace sent on the request"),
            ("PUT", NS + "/configmaps/b", config("a"), 400, "BadRequest",
             "the name of the object (a) does not match the name on the URL (b)"),
            ("POST", NS + "/configmaps", {**config(), "apiVersion": "v2"}, 400, "BadRequest",
             "the API version in the data (v2) does not match the expected API version (v1)"),
            ("POST", NS + "/configmaps", {**config(), "data": {"a": 1}}, 400, "BadRequest",
             'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field '
             "ConfigMap.data of type string"),
            ("POST", NS + "/services", {**service(), "spec": {"ports": [{"port": "http"}]}}, 400, "BadRequest",
             'Service in version "v1" cannot be handled as a Service: json: cannot unmarshal string into Go struct field '
             "ServicePort.spec.ports.port of type int32"),
            ("POST", NS + "/pods", b"{nonsense", 400, "BadRequest",
             "couldn't get version/kind; json parse error: Expecting property name enclosed in double quotes: line 1 column 2 "
             "(char 1)"),
            ("POST", NS + "/pods", {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}}, 422, "Invalid",
             'Pod "" is invalid: metadata.name: Required value: name or generateName is required'),
        ],
    )
    def test_one_by_one(self, cp: ControlPlane, method: str, path: str, body: Any, code: int, reason: str,
                        message: str) -> None:
        assert refusal(cp, method, path, body) == (code, reason, message)

    def test_details_name_the_resource_and_for_invalid_the_kind(self, cp: ControlPlane) -> None:
        status = cp.call("GET", APPS + "/deployments/x").json()
        assert status["details"] == {"name": "x", "group": "apps", "kind": "deployments"}
        status = cp.call("POST", APPS + "/deployments", deployment(replicas=-1)).json()
        assert status["message"] == (
            'Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0')
        assert status["details"] == {"name": "web", "group": "apps", "kind": "Deployment", "causes": [
            {"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be greater than or equal to 0",
             "field": "spec.replicas"}]}

    def test_exists(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config())
        assert refusal(cp, "POST", NS + "/configmaps", config()) == (409, "AlreadyExists", 'configmaps "a" already exists')

    def test_stale_put(self, cp: ControlPlane) -> None:
        made = cp.ok("POST", NS + "/configmaps", config(x="1"))
        cp.ok("PUT", NS + "/configmaps/a", config(x="2"))                    # no resourceVersion: unconditional
        made["data"] = {"x": "3"}
        assert refusal(cp, "PUT", NS + "/configmaps/a", made) == (
            409, "Conflict", 'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your '
            "changes to the latest version and try again")

    def test_stale_patch(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config())
        code, reason, _ = refusal(cp, "PATCH", NS + "/configmaps/a", {"metadata": {"resourceVersion": "1"}}, kind=MERGE)
        assert (code, reason) == (409, "Conflict")

    @pytest.mark.parametrize("kind", ["application/cbor", "text/plain"])
    def test_other_media_types_are_415(self, cp: ControlPlane, kind: str) -> None:
        assert refusal(cp, "POST", NS + "/pods", b"k8s\0", kind=kind)[:2] == (415, "UnsupportedMediaType")
        assert refusal(cp, "PATCH", NS + "/pods/x", b"{}", kind=kind)[:2] == (415, "UnsupportedMediaType")

    def test_a_yaml_body_is_as_good_as_json(self, cp: ControlPlane) -> None:
        body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {day: 2026-01-01}\n"
        assert cp.ok("POST", NS + "/configmaps", body, kind="application/yaml")["data"] == {"day": "2026-01-01"}


class TestFieldValidation:
    BAD = {**config(x="1"), "bogus": 1, "metadata": {"name": "a", "colour": "red"}}

    def test_strict_refuses_and_names_them_all(self, cp: ControlPlane) -> None:
        assert refusal(cp, "POST", NS + "/configmaps", self.BAD, fieldValidation="Strict") == (
            400, "BadRequest", 'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
            'unknown field "metadata.colour", unknown field "bogus"')      # in document order

    @pytest.mark.parametrize("mode", [{}, {"fieldValidation": "Warn"}])
    def test_warn_is_the_default(self, cp: ControlPlane, mode: dict[str, str]) -> None:
        response = cp.call("POST", NS + "/configmaps", self.BAD, **mode)
        assert response.code == 201 and "bogus" not in response.json()                # pruned
        warnings = [v for k, v in response.headers if k == "Warning"]
        assert warnings == ['299 - "unknown field \\"metadata.colour\\""', '299 - "unknown field \\"bogus\\""']

    def test_ignore_says_nothing(self, cp: ControlPlane) -> None:
        response = cp.call("POST", NS + "/configmaps", self.BAD, fieldValidation="Ignore")
        assert response.code == 201 and not [k for k, _ in response.headers if k == "Warning"]

    def test_a_duplicate_key(self, cp: ControlPlane) -> None:
        body = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"1","x":"2"}}'
        assert refusal(cp, "POST", NS + "/configmaps", body, fieldValidation="Strict")[2].endswith('duplicate field "x"')
        assert ("Warning", '299 - "duplicate field \\"x\\""') in cp.call("POST", NS + "/configmaps", body).headers

    def test_a_strict_patch(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config())
        code, reason, message = refusal(cp, "PATCH", NS + "/configmaps/a", {"bogus": 1}, kind=MERGE, fieldValidation="Strict")
        assert (code, reason) == (422, "Invalid") and message.endswith('strict decoding error: unknown field "bogus"')

    def test_nulls_mean_absent(self, cp: ControlPlane) -> None:
        body = {**config(x="1"), "binaryData": None, "metadata": {"name": "a", "creationTimestamp": None}}
        response = cp.call("POST", NS + "/configmaps", body, fieldValidation="Strict")
        assert response.code == 201 and "binaryData" not in response.json()


class TestNoEffectWarnings:
    def test_fields_without_effect_are_named_once(self, cp: ControlPlane) -> None:
        body = pod("p", priorityClassName="high")
        body["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "1"}}
        response = cp.call("POST", NS + "/pods", body)
        (warning,) = [v for k, v in response.headers if k == "Warning"]
        assert warning == ('299 - "stored, but without effect here: spec.containers.resources, spec.priorityClassName"')

    def test_kinds_without_effect(self, cp: ControlPlane) -> None:
        policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"},
                  "spec": {"podSelector": {}}}
        response = cp.call("POST", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", policy)
        assert response.code == 201
        assert ("Warning", '299 - "NetworkPolicy is stored, but has no effect: network policies are not enforced yet"') in (
            response.headers)

    def test_a_later_patch_does_not_repeat_it(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/pods", pod("p", priorityClassName="high"))
        response = cp.call("PATCH", NS + "/pods/p", {"metadata": {"labels": {"a": "b"}}}, kind=MERGE)
        assert not [v for k, v in response.headers if k == "Warning"]


class TestWrites:
    def test_the_server_owns_the_identity(self, cp: ControlPlane) -> None:
        body = config()
        body["metadata"].update(uid="mine", resourceVersion="99", creationTimestamp="1999-01-01T00:00:00Z", generation=5)
        meta = cp.ok("POST", NS + "/configmaps", body)["metadata"]
        assert meta["uid"] != "mine" and meta["creationTimestamp"].startswith("2026-") and "generation" not in meta

    def test_generate_name(self, cp: ControlPlane) -> None:
        body = config()
        body["metadata"] = {"generateName": "job-"}
        assert len(cp.ok("POST", NS + "/configmaps", body)["metadata"]["name"]) == len("job-") + 5

    def test_put_and_patch_leave_the_status_alone(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/pods", pod("p", schedulerName="nobody"))
        path = NS + "/pods/p"
        cp.ok("PATCH", path + "/status", {"status": {"phase": "Running"}}, kind=MERGE)
        out = cp.ok("PATCH", path, {"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}}, kind=MERGE)
        assert out["status"]["phase"] == "Running" and out["metadata"]["labels"] == {"a": "b"}
        out = cp.ok("PATCH", path + "/status", {"metadata": {"labels": {"a": "c"}}, "status": {"phase": "Failed"}}, kind=MERGE)
        assert out["status"]["phase"] == "Failed" and out["metadata"]["labels"] == {"a": "b"}

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_a_dry_run_answers_and_writes_nothing(self, cp: ControlPlane, method: str) -> None:
        if method != "POST":
            cp.ok("POST", NS + "/services", service())
        rv = cp.store.rv
        path = NS + "/services" + ("" if method == "POST" else "/web")
        body = service(type="NodePort") if method in ("POST", "PUT") else {"spec": {"type": "NodePort"}}
        out = cp.ok(method, path, None if method == "DELETE" else body, dryRun="All",
                    kind=MERGE if method == "PATCH" else "application/json")
        if method != "DELETE":
            assert out["spec"]["type"] == "NodePort" and out["spec"]["ports"][0]["nodePort"] >= 30000
        assert cp.store.rv == rv
        held = [p for band in cp.api.admission.services.ports.values() for p in band.used]
        assert held == []                                                     # and gives back what it took

    def test_a_dry_run_does_not_move_later_names(self, cp: ControlPlane) -> None:
        body = config()
        body["metadata"] = {"generateName": "x-"}
        first = cp.ok("POST", NS + "/configmaps", body, dryRun="All")["metadata"]["name"]
        assert cp.ok("POST", NS + "/configmaps", body)["metadata"]["name"] == first

    def test_identical_put_is_no_write(self, cp: ControlPlane) -> None:
        made = cp.ok("POST", APPS + "/deployments", deployment())
        again = cp.ok("PUT", APPS + "/deployments/web", deployment())
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    def test_secret_string_data_ends_up_in_data(self, cp: ControlPlane) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hello"}}
        out = cp.ok("POST", NS + "/secrets", secret)
        assert out["data"] == {"k": "aGVsbG8="} and out["type"] == "Opaque" and "stringData" not in out


class TestScale:
    def test_get_patch_put(self, cp: ControlPlane) -> None:
        cp.ok("POST", APPS + "/deployments", deployment(replicas=2))
        path = APPS + "/deployments/web/scale"
        scale = cp.ok("GET", path)
        assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
        assert scale["spec"] == {"replicas": 2} and scale["status"]["selector"] == "app=web"
        assert cp.ok("PATCH", path, {"spec": {"replicas": 5}}, kind=MERGE)["spec"] == {"replicas": 5}
        assert cp.get("Deployment", "web")["metadata"]["generation"] == 2
        assert refusal(cp, "PUT", path, scale)[:2] == (409, "Conflict")        # its resourceVersion is old now
        assert refusal(cp, "PATCH", path, {"spec": {"replicas": -1}}, kind=MERGE)[2] == (
            'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0')


class TestDelete:
    def test_what_is_gone_answers_a_status_with_the_uid(self, cp: ControlPlane) -> None:
        made = cp.ok("POST", NS + "/configmaps", config())
        out = cp.ok("DELETE", NS + "/configmaps/a")
        assert out["kind"] == "Status" and out["status"] == "Success"
        assert out["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}

    def test_a_pod_answers_itself(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/pods", pod("p"))
        cp.run(3)
        out = cp.ok("DELETE", NS + "/pods/p", {"gracePeriodSeconds": 5})
        assert out["kind"] == "Pod" and out["metadata"]["deletionGracePeriodSeconds"] == 5

    def test_options_come_in_the_query_too(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/pods", pod("p"))
        cp.run(3)
        cp.ok("DELETE", NS + "/pods/p", gracePeriodSeconds="0")
        assert cp.call("GET", NS + "/pods/p").code == 404

    def test_a_collection(self, cp: ControlPlane) -> None:
        for name in "abc":
            cp.ok("POST", NS + "/configmaps", {**config(name), "metadata": {"name": name, "labels": {"n": name}}})
        out = cp.ok("DELETE", NS + "/configmaps", labelSelector="n in (a,b)")
        assert out["kind"] == "ConfigMapList" and [i["metadata"]["name"] for i in out["items"]] == ["a", "b"]
        assert cp.names("ConfigMap") == ["c"]

    def test_eviction_is_a_graceful_delete(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/pods", pod("p"))
        cp.run(3)
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        assert cp.call("POST", NS + "/pods/p/eviction", body).code == 201
        assert "deletionTimestamp" in cp.get("Pod", "p")["metadata"]


class TestLists:
    def test_shape(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config())
        out = cp.ok("GET", NS + "/configmaps/")                                # trailing slash
        assert (out["kind"], out["apiVersion"]) == ("ConfigMapList", "v1")
        assert out["metadata"]["resourceVersion"] == str(cp.store.rv) and len(out["items"]) == 1

    def test_all_namespaces(self, cp: ControlPlane) -> None:
        assert {o["metadata"]["namespace"] for o in cp.ok("GET", "/api/v1/serviceaccounts")["items"]} == {
            "default", "kube-node-lease", "kube-public", "kube-system"}

    def test_paging(self, cp: ControlPlane) -> None:
        for number in range(5):
            cp.ok("POST", NS + "/configmaps", config(f"c{number}"))
        seen: list[str] = []
        token = ""
        for _ in range(3):
            page = cp.ok("GET", NS + "/configmaps", limit="2", **({"continue": token} if token else {}))
            seen += [o["metadata"]["name"] for o in page["items"]]
            token = page["metadata"].get("continue", "")
            assert page["metadata"].get("remainingItemCount", 0) == 5 - len(seen)
        assert seen == ["c0", "c1", "c2", "c3", "c4"] and not token
        assert refusal(cp, "GET", NS + "/configmaps", **{"continue": "junk"})[:2] == (410, "Expired")

    def test_selectors(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/pods", pod("a", labels={"app": "web"}))
        cp.ok("POST", NS + "/pods", pod("b"))
        def names(**query: str) -> list[str]:
            return [o["metadata"]["name"] for o in cp.ok("GET", NS + "/pods", **query)["items"]]
        assert names(labelSelector="app=web") == ["a"] and names(labelSelector="!app") == ["b"]
        assert names(fieldSelector="metadata.name=b") == ["b"]
        assert refusal(cp, "GET", NS + "/pods", fieldSelector="spec.x=1")[2] == "field label not supported: spec.x"

    def test_partial_metadata(self, cp: ControlPlane) -> None:
        headers = {"accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        out = cp.api.request("GET", "/api/v1/namespaces", {}, headers).json()
        assert out["kind"] == "PartialObjectMetadataList" and list(out["items"][0]) == ["kind", "apiVersion", "metadata"]

    def test_an_accept_nobody_can_serve_is_406(self, cp: ControlPlane) -> None:
        assert cp.api.request("GET", NS + "/pods", {}, {"accept": "image/png"}).code == 406


class TestWatch:
    def events(self, stream: Any) -> list[tuple[str, str]]:
        return [(e["type"], e["object"]["metadata"].get("name", "")) for e in stream.poll()]

    def test_life_of_an_object(self, cp: ControlPlane) -> None:
        stream = cp.api.watch(NS + "/configmaps", {"watch": ["true"]})
        cp.ok("POST", NS + "/configmaps", config())
        cp.ok("PUT", NS + "/configmaps/a", config(x="1"))
        cp.ok("DELETE", NS + "/configmaps/a")
        assert self.events(stream) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    def test_from_a_version(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config("a"))
        rv = cp.ok("GET", NS + "/configmaps")["metadata"]["resourceVersion"]
        cp.ok("POST", NS + "/configmaps", config("b"))
        assert self.events(cp.api.watch(NS + "/configmaps", {"resourceVersion": [rv]})) == [("ADDED", "b")]
        assert self.events(cp.api.watch(NS + "/configmaps", {"resourceVersion": ["0"]})) == [("ADDED", "a"), ("ADDED", "b")]

    def test_selectors_turn_changes_into_added_and_deleted(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config())
        stream = cp.api.watch(NS + "/configmaps", {"labelSelector": ["app=web"], "resourceVersion": [str(cp.store.rv)]})
        for labels in ({"app": "web"}, {"app": "web", "x": "y"}, {"app": None}):
            cp.ok("PATCH", NS + "/configmaps/a", {"metadata": {"labels": labels}}, kind=MERGE)
        assert self.events(stream) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    def test_initial_events_end_with_a_bookmark(self, cp: ControlPlane) -> None:
        """Without it client-go from 0.35 on waits for ever."""
        query = {"sendInitialEvents": ["true"], "resourceVersionMatch": ["NotOlderThan"], "allowWatchBookmarks": ["true"]}
        stream = cp.api.watch("/api/v1/namespaces", query)
        *added, last = stream.poll()
        assert len(added) == 4 and {e["type"] for e in added} == {"ADDED"}
        assert last == {"type": "BOOKMARK", "object": {"kind": "Namespace", "apiVersion": "v1", "metadata": {
            "resourceVersion": str(cp.store.rv), "annotations": {"k8s.io/initial-events-end": "true"}}}}
        assert stream.poll() == []

    def test_tables_name_their_columns_once(self, cp: ControlPlane) -> None:
        accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
        stream = cp.api.watch("/api/v1/namespaces", {}, accept)
        tables = [e["object"] for e in stream.poll()]
        assert tables[0]["columnDefinitions"][0]["name"] == "Name"
        assert all(t["columnDefinitions"] is None and len(t["rows"]) == 1 for t in tables[1:])

    def test_one_object(self, cp: ControlPlane) -> None:
        cp.ok("POST", NS + "/configmaps", config("a"))
        cp.ok("POST", NS + "/configmaps", config("b"))
        assert self.events(cp.api.watch(NS + "/configmaps/b", {"watch": ["1"]})) == [("ADDED", "b")]

    def test_too_old_before_the_start_is_410(self, cp: ControlPlane) -> None:
        cp.store._history = 5
        cp.ok("POST", NS + "/configmaps", config())
        stream = cp.api.watch(NS + "/configmaps", {"resourceVersion": [str(cp.store.rv)]})
        for number in range(20):
            cp.ok("PUT", NS + "/configmaps/a", config(x=str(number)))
        with pytest.raises(ApiError) as error:
            cp.api.watch(NS + "/configmaps", {"resourceVersion": ["1"]})
        assert (error.value.code, error.value.reason) == (410, "Expired")
        (event,) = stream.poll()                                             # one that fell behind while open
        assert event["type"] == "ERROR" and event["object"]["code"] == 410 and stream.closed


class TestDiscovery:
    ACCEPT = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
                        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"}

    def test_aggregated_is_known_by_its_content_type(self, cp: ControlPlane) -> None:
        response = cp.api.request("GET", "/apis", {"timeout": ["32s"]}, self.ACCEPT)
        assert ("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList") in response.headers
        apps = next(g for g in response.json()["items"] if g["metadata"]["name"] == "apps")
        deployments = next(r for r in apps["versions"][0]["resources"] if r["resource"] == "deployments")
        assert deployments["shortNames"] == ["deploy"] and deployments["categories"] == ["all"]
        assert [s["subresource"] for s in deployments["subresources"]] == ["scale", "status"]
        assert deployments["subresources"][0]["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        assert len(cp.api.request("GET", "/api", {}, self.ACCEPT).json()["items"]) == 1

    def test_clients_that_only_know_v2beta1_get_the_legacy_form(self, cp: ControlPlane) -> None:
        accept = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"}
        assert cp.api.request("GET", "/apis", {}, accept).json()["kind"] == "APIGroupList"

    def test_legacy(self, cp: ControlPlane) -> None:
        assert cp.ok("GET", "/api/")["kind"] == "APIVersions"
        core = {r["name"]: r for r in cp.ok("GET", "/api/v1")["resources"]}
        assert core["pods/eviction"]["group"] == "policy" and core["pods/eviction"]["version"] == "v1"   # kubectl drain looks
        assert core["services"]["shortNames"] == ["svc"] and core["nodes"]["namespaced"] is False
        assert cp.ok("GET", "/apis/apps")["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}

    def test_everything_advertised_can_be_listed(self, cp: ControlPlane) -> None:
        for group in ["/api/v1", *(f"/apis/{g['name']}/v1" for g in cp.ok("GET", "/apis")["groups"])]:
            for resource in cp.ok("GET", group)["resources"]:
                if "list" in resource["verbs"]:
                    assert cp.ok("GET", f"{group}/{resource['name']}")["items"] is not None

    def test_version_and_health(self, cp: ControlPlane) -> None:
        assert cp.ok("GET", "/version/")["gitVersion"] == "v1.32.4+kubenet"
        for path in ("/healthz", "/livez", "/readyz"):
            assert cp.call("GET", path).body == b"ok"

    def test_openapi(self, cp: ControlPlane) -> None:
        """v2 must be empty and a 200; v3 must name only documents that exist, and apply's probe must find fieldValidation."""
        v2 = cp.call("GET", "/openapi/v2")
        assert (v2.code, v2.body) == (200, b"")
        for path, entry in cp.ok("GET", "/openapi/v3")["paths"].items():
            assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=")
            document = cp.ok("GET", f"/openapi/v3/{path}")
            for name, methods in document["paths"].items():
                if "patch" in methods:
                    assert "fieldValidation" in [p["name"] for p in methods["patch"]["parameters"]], name
            text = json.dumps(document)
            for ref in set(text.split('"#/components/schemas/')[1:]):
                assert ref.partition('"')[0] in document["components"]["schemas"]
        assert cp.call("GET", "/openapi/v3/apis/nope/v1").code == 404

    def test_reviews(self, cp: ControlPlane) -> None:
        body = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        out = cp.ok("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        assert out["status"]["allowed"] is True
        assert cp.call("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").code == 405
