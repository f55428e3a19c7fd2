"""Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs, against the stand-in kubelet (one second to start or stop)."""

from __future__ import annotations

from typing import Any

import pytest
from control_plane import ControlPlane, deployment
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.controllers.common import resolve_percent, template_hash
from kubenet.cluster.controllers.deployment import fence, proportional, rolling_new, rolling_old
from kubenet.cluster.controllers.replicaset import victims
from kubenet.cluster.store import key_of

Obj = dict[str, Any]
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE = "application/merge-patch+json"


def sizes(cp: ControlPlane) -> dict[str, int]:
    """image -> replicas of its ReplicaSet."""
    return {rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["spec"]["replicas"]
            for rs in cp.store.iter("ReplicaSet")}


def status(cp: ControlPlane, kind: str, name: str = "web") -> Obj:
    out: Obj = cp.get(kind, name)["status"]
    return out


def condition(cp: ControlPlane, type_: str) -> tuple[str, str]:
    found = next(c for c in status(cp, "Deployment")["conditions"] if c["type"] == type_)
    return found["status"], found["reason"]


def events(cp: ControlPlane, reason: str) -> list[str]:
    found = [e for e in cp.store.iter("Event") if e["reason"] == reason]
    return [e["message"] for e in sorted(found, key=lambda e: int(e["metadata"]["resourceVersion"]))]


class TestDeployment:
    def test_names_labels_and_owners(self, cp: ControlPlane) -> None:
        cp.apply(deployment())
        cp.run(3)
        (rs,) = cp.store.iter("ReplicaSet")
        digest = rs["metadata"]["labels"]["pod-template-hash"]
        assert rs["metadata"]["name"] == f"web-{digest}"
        assert rs["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
        assert rs["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
        for pod in cp.store.iter("Pod"):
            assert pod["metadata"]["generateName"] == f"web-{digest}-"
            assert pod["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
        assert events(cp, "ScalingReplicaSet") == [f"Scaled up replica set web-{digest} from 0 to 3"]

    def test_status_when_done(self, cp: ControlPlane) -> None:
        cp.apply(deployment())
        cp.run(3)
        made = status(cp, "Deployment")
        assert {k: made[k] for k in made if k != "conditions"} == {
            "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
        assert condition(cp, "Available") == ("True", "MinimumReplicasAvailable")
        assert condition(cp, "Progressing") == ("True", "NewReplicaSetAvailable")

    def test_a_rollout_keeps_within_its_fence(self, cp: ControlPlane) -> None:
        """25 % of 4: at most 5 pods, at least 3 available, at every moment."""
        cp.apply(deployment(replicas=4))
        cp.run(3)
        cp.apply(deployment(replicas=4, image="nginx:2"))
        for _ in range(80):
            cp.run(0.1)
            alive = [p for p in cp.store.iter("Pod") if "deletionTimestamp" not in p["metadata"]]
            ready = [p for p in alive if any(c["type"] == "Ready" for c in p["status"].get("conditions", ()))]
            assert len(alive) <= 5 and len(ready) >= 3
        assert sizes(cp) == {"nginx:1": 0, "nginx:2": 4}
        assert status(cp, "Deployment")["updatedReplicas"] == 4 and status(cp, "Deployment")["observedGeneration"] == 2

    def test_a_broken_image_stops_half_way_and_the_deadline_says_so(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=4))
        cp.run(3)
        cp.apply(deployment(replicas=4, image="broken", progressDeadlineSeconds=30))
        cp.run(10)
        assert sizes(cp) == {"nginx:1": 3, "broken": 2}              # one up by surge, one more by unavailability
        assert condition(cp, "Progressing") == ("True", "ReplicaSetUpdated")
        cp.run(40)
        assert condition(cp, "Progressing") == ("False", "ProgressDeadlineExceeded")
        assert condition(cp, "Available") == ("True", "MinimumReplicasAvailable")

    def test_undo_brings_back_the_old_replica_set_under_the_next_number(self, cp: ControlPlane) -> None:
        for image in ("nginx:1", "nginx:2"):
            cp.apply(deployment(image=image))
            cp.run(12)
        assert cp.get("Deployment", "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
        cp.apply(deployment(image="nginx:1"))
        cp.run(12)
        revisions = {rs["spec"]["template"]["spec"]["containers"][0]["image"]:
                     rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for rs in cp.store.iter("ReplicaSet")}
        assert revisions == {"nginx:1": "3", "nginx:2": "2"}
        assert cp.get("Deployment", "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"

    def test_recreate_never_mixes(self, cp: ControlPlane) -> None:
        cp.apply(deployment(strategy={"type": "Recreate"}))
        cp.run(3)
        cp.apply(deployment(image="nginx:2", strategy={"type": "Recreate"}))
        for _ in range(60):
            cp.run(0.1)
            images = {p["spec"]["containers"][0]["image"] for p in cp.store.iter("Pod")}
            assert len(images) <= 1
        assert sizes(cp) == {"nginx:1": 0, "nginx:2": 3} and status(cp, "Deployment")["availableReplicas"] == 3

    def test_paused_takes_no_new_template_but_scales(self, cp: ControlPlane) -> None:
        cp.apply(deployment())
        cp.run(3)
        cp.apply(deployment(image="nginx:2", paused=True, replicas=5))
        cp.run(5)
        assert sizes(cp) == {"nginx:1": 5} and condition(cp, "Progressing") == ("Unknown", "DeploymentPaused")

    def test_scaling_in_the_middle_of_a_rollout_is_proportional(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=4))
        cp.run(3)
        cp.apply(deployment(replicas=4, image="broken"))
        cp.run(5)
        cp.ok("PATCH", DEPLOYMENTS + "/web/scale", {"spec": {"replicas": 8}}, kind=MERGE)
        cp.settle()
        assert sum(sizes(cp).values()) == 10                          # 8 + 25 % surge, shared 3:2
        assert sizes(cp) == {"nginx:1": 6, "broken": 4}

    def test_history_is_limited(self, cp: ControlPlane) -> None:
        for number in range(4):
            cp.apply(deployment(image=f"nginx:{number}", revisionHistoryLimit=1))
            cp.run(12)
        assert sorted(sizes(cp)) == ["nginx:2", "nginx:3"]

    def test_deletion_takes_everything_along(self, cp: ControlPlane) -> None:
        cp.apply(deployment())
        cp.run(3)
        cp.ok("DELETE", DEPLOYMENTS + "/web", {"propagationPolicy": "Background"})
        cp.run(3)
        assert not cp.names("ReplicaSet") and not cp.names("Pod")

    def test_orphan_leaves_the_pods_running(self, cp: ControlPlane) -> None:
        cp.apply(deployment())
        cp.run(3)
        cp.ok("DELETE", DEPLOYMENTS + "/web", {"propagationPolicy": "Orphan"})
        cp.run(3)
        assert len(cp.names("Pod")) == 3 and len(cp.names("ReplicaSet")) == 1
        cp.apply(deployment())                                        # and a new one adopts them
        cp.run(3)
        assert len(cp.names("ReplicaSet")) == 1 and len(cp.names("Pod")) == 3


class TestRollingArithmetic:
    @pytest.mark.parametrize(("spec", "expected"), [
        ({"replicas": 4}, (1, 1)), ({"replicas": 3}, (1, 0)), ({"replicas": 1}, (1, 0)), ({"replicas": 10}, (3, 2)),
        ({"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}}}, (0, 1)),
        ({"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}}, (2, 0)),
        ({"replicas": 3, "strategy": {"type": "Recreate"}}, (0, 3))])
    def test_fence(self, spec: Obj, expected: tuple[int, int]) -> None:
        """Surge rounds up, unavailable down; both zero would never move."""
        assert fence(spec) == expected

    @pytest.mark.parametrize(("replicas", "surge", "new", "total", "size"), [
        (10, 0, 0, 10, 0), (10, 2, 0, 10, 2), (10, 2, 4, 10, 6), (10, 2, 9, 10, 10), (10, 2, 12, 12, 10), (10, 4, 0, 12, 2)])
    def test_new(self, replicas: int, surge: int, new: int, total: int, size: int) -> None:
        """Kubernetes: TestDeploymentController_reconcileNewReplicaSet."""
        assert rolling_new(replicas, surge, new, total) == size

    @pytest.mark.parametrize(("replicas", "unavailable", "new", "olds", "after"), [
        (10, 0, (0, 0), [(10, 10)], [10]),
        (10, 2, (0, 0), [(10, 10)], [8]),
        (10, 2, (0, 0), [(10, 8)], [8]),               # two sick ones are the two that may go
        (10, 2, (2, 0), [(10, 9)], [8]),               # surge not yet ready does not count; a sick one goes first
        (10, 2, (4, 4), [(8, 8)], [4]),
        (10, 2, (6, 5), [(8, 0)], [3])])
    def test_old(self, replicas: int, unavailable: int, new: tuple[int, int], olds: list[tuple[int, int]],
                 after: list[int]) -> None:
        """Kubernetes: TestDeploymentController_reconcileOldReplicaSets, cleanupUnhealthyReplicas."""
        assert rolling_old(replicas, unavailable, new, olds) == after

    @given(st.integers(1, 12), st.integers(0, 4), st.integers(0, 4), st.integers(0, 12), st.data())
    def test_never_below_what_must_be_available(self, replicas: int, surge: int, unavailable: int, new: int, data: Any) -> None:
        unavailable = min(max(unavailable, 0 if surge else 1), replicas)
        new_ok = data.draw(st.integers(0, new))
        olds = data.draw(st.lists(st.integers(0, 8).flatmap(lambda s: st.tuples(st.just(s), st.integers(0, s))), max_size=3))
        before = new_ok + sum(a for _, a in olds)
        after = rolling_old(replicas, unavailable, (new, new_ok), olds)
        kept = new_ok + sum(min(a, s) for (_, a), s in zip(olds, after, strict=True))
        assert kept >= min(before, replicas - unavailable)
        assert all(0 <= s <= size for s, (size, _) in zip(after, olds, strict=True))

    @given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(0, 60))
    def test_proportional_adds_up(self, have: list[int], wanted: int) -> None:
        out = proportional(have, wanted)
        assert sum(out) == (wanted if sum(have) else 0)
        assert all(o == 0 for o, h in zip(out, have, strict=True) if h == 0)

    @pytest.mark.parametrize(("value", "total", "up", "result"), [("25%", 4, True, 1), ("25%", 3, True, 1), ("25%", 3, False, 0),
                                                                  (2, 10, True, 2), ("100%", 7, False, 7), ("0%", 7, True, 0)])
    def test_percent(self, value: Any, total: int, up: bool, result: int) -> None:
        assert resolve_percent(value, total, up) == result

    def test_hashes_are_spelled_in_the_usual_letters(self) -> None:
        assert set("".join(template_hash({"n": n}) for n in range(200))) == set("bcdf456789")


class TestReplicaSet:
    def test_a_relabelled_pod_is_replaced_and_left_alone(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=2))
        cp.run(3)
        name = cp.names("Pod")[0]
        cp.ok("PATCH", f"/api/v1/namespaces/default/pods/{name}", {"metadata": {"labels": {"app": "sick"}}}, kind=MERGE)
        cp.run(3)
        assert len(cp.names("Pod")) == 3 and "ownerReferences" not in cp.get("Pod", name)["metadata"]

    def test_a_deleted_pod_is_replaced(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=2))
        cp.run(3)
        gone = cp.names("Pod")[0]
        cp.ok("DELETE", f"/api/v1/namespaces/default/pods/{gone}")
        cp.run(3)
        assert len(cp.names("Pod")) == 2 and gone not in cp.names("Pod")

    def test_who_goes_first(self) -> None:
        """Kubernetes: ActivePodsWithRanks: unassigned, pending, not ready, low cost, crowded nodes, young."""
        def pod(name: str, node: str = "n1", phase: str = "Running", ready: bool = True, born: int = 0, cost: str = "") -> Obj:
            return {"metadata": {"name": name, "creationTimestamp": f"2026-01-01T00:00:{born:02}Z",
                                 "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {}},
                    "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": [
                        {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}

        pods = [pod("old"), pod("young", born=9), pod("alone", node="n2"), pod("unready", ready=False), pod("cheap", cost="-5"),
                pod("pending", phase="Pending", ready=False), pod("nowhere", node="", phase="Pending", ready=False)]
        order = [p["metadata"]["name"] for p in victims(pods, len(pods))]
        assert order == ["nowhere", "pending", "unready", "cheap", "young", "old", "alone"]

    def test_min_ready_seconds(self, cp: ControlPlane) -> None:
        cp.apply(deployment(replicas=1, minReadySeconds=10))
        cp.run(5)
        assert status(cp, "Deployment")["readyReplicas"] == 1 and "availableReplicas" not in status(cp, "Deployment")
        cp.run(10)
        assert status(cp, "Deployment")["availableReplicas"] == 1


def statefulset(replicas: int = 3, image: str = "nginx:1", **spec: Any) -> Obj:
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, **spec,
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}}


class TestStatefulSet:
    def test_one_after_the_other(self, cp: ControlPlane) -> None:
        cp.apply(statefulset())
        cp.settle()
        assert cp.names("Pod") == ["db-0"]
        cp.run(1.2)
        assert cp.names("Pod") == ["db-0", "db-1"]
        cp.run(3)
        assert cp.names("Pod") == ["db-0", "db-1", "db-2"]
        spec = cp.get("Pod", "db-1")["spec"]
        assert (spec["hostname"], spec["subdomain"]) == ("db-1", "db")
        assert cp.get("Pod", "db-1")["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-1"
        assert status(cp, "StatefulSet", "db")["readyReplicas"] == 3

    def test_parallel(self, cp: ControlPlane) -> None:
        cp.apply(statefulset(podManagementPolicy="Parallel"))
        cp.settle()
        assert cp.names("Pod") == ["db-0", "db-1", "db-2"]

    def test_scaling_down_from_the_top(self, cp: ControlPlane) -> None:
        cp.apply(statefulset())
        cp.run(6)
        cp.apply(statefulset(replicas=1))
        cp.settle()
        dying = [p["metadata"]["name"] for p in cp.store.iter("Pod") if "deletionTimestamp" in p["metadata"]]
        assert dying == ["db-2"]
        cp.run(4)
        assert cp.names("Pod") == ["db-0"]

    def test_a_deleted_pod_comes_back_under_its_name(self, cp: ControlPlane) -> None:
        cp.apply(statefulset())
        cp.run(6)
        uid = cp.get("Pod", "db-1")["metadata"]["uid"]
        cp.ok("DELETE", "/api/v1/namespaces/default/pods/db-1")
        cp.run(4)
        assert cp.get("Pod", "db-1")["metadata"]["uid"] != uid

    def test_rolling_update_goes_down_to_the_partition(self, cp: ControlPlane) -> None:
        cp.apply(statefulset())
        cp.run(6)
        cp.apply(statefulset(image="nginx:2", updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}))
        cp.run(12)
        images = [p["spec"]["containers"][0]["image"] for p in cp.store.iter("Pod", "default")]
        assert images == ["nginx:1", "nginx:2", "nginx:2"]


class TestDaemonSet:
    DS: Obj = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}}, "template": {
            "metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}}}

    def nodes(self, cp: ControlPlane) -> list[str]:
        return sorted(p["spec"].get("nodeName", "") for p in cp.store.iter("Pod"))

    def test_one_on_each_node_and_on_new_ones(self, cp: ControlPlane) -> None:
        cp.apply(self.DS)
        cp.run(3)
        assert self.nodes(cp) == ["node-1", "node-2", "node-3"]
        cp.node("node-4")
        cp.run(3)
        assert self.nodes(cp) == ["node-1", "node-2", "node-3", "node-4"]
        assert status(cp, "DaemonSet", "agent")["numberReady"] == 4

    def test_node_selector_and_taints(self, cp: ControlPlane) -> None:
        cp.ok("PATCH", "/api/v1/nodes/node-1", {"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}, kind=MERGE)
        cp.run(1)
        cp.apply(self.DS)
        cp.run(3)
        assert self.nodes(cp) == ["node-2", "node-3"]

    def test_a_cordoned_node_keeps_its_daemon(self, cp: ControlPlane) -> None:
        cp.ok("PATCH", "/api/v1/nodes/node-1", {"spec": {"unschedulable": True}}, kind=MERGE)
        cp.run(1)
        cp.apply(self.DS)
        cp.run(3)
        assert self.nodes(cp) == ["node-1", "node-2", "node-3"]

    def test_rolling_update_one_at_a_time(self, cp: ControlPlane) -> None:
        cp.apply(self.DS)
        cp.run(3)
        new = {**self.DS, "spec": {**self.DS["spec"], "template": {
            "metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "a:2"}]}}}}
        cp.apply(new)
        for _ in range(120):
            cp.run(0.1)
            up = sum(1 for p in cp.store.iter("Pod") if "deletionTimestamp" not in p["metadata"] and any(
                c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", ())))
            assert up >= 2
        assert {p["spec"]["containers"][0]["image"] for p in cp.store.iter("Pod")} == {"a:2"}


def job(**spec: Any) -> Obj:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {**spec, "template": {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "job:1"}]}}}}


class TestJob:
    def finish(self, cp: ControlPlane, ok: bool = True) -> None:
        cp.run(2)
        for p in cp.store.list("Pod"):
            if p["status"]["phase"] == "Running":
                cp.kubelet.finish(p["metadata"]["name"], ok)
        cp.settle()

    def test_to_completion(self, cp: ControlPlane) -> None:
        cp.apply(job(completions=3, parallelism=2))
        cp.settle()
        assert len(cp.names("Pod")) == 2
        self.finish(cp)
        assert len(cp.names("Pod")) == 3                              # only one more is needed
        self.finish(cp)
        made = status(cp, "Job", "once")
        assert made["succeeded"] == 3 and "completionTime" in made
        assert [c["type"] for c in made["conditions"]] == ["SuccessCriteriaMet", "Complete"]
        assert cp.cells("/apis/batch/v1/namespaces/default/jobs")[0][1:4] == ["Complete", "3/3", "4s"]

    def test_its_selector_is_its_uid(self, cp: ControlPlane) -> None:
        made = cp.apply(job())
        uid = made["metadata"]["uid"]
        assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert labels["batch.kubernetes.io/job-name"] == "once" and labels["controller-uid"] == uid

    def test_failures_back_off_and_end_it(self, cp: ControlPlane) -> None:
        """10 s, then 20 s after a failure; backoffLimit 1 allows one retry."""
        cp.apply(job(backoffLimit=1))
        self.finish(cp, ok=False)
        assert len(cp.names("Pod")) == 1
        cp.run(8)
        assert len(cp.names("Pod")) == 1
        cp.run(3)
        assert len(cp.names("Pod")) == 2
        self.finish(cp, ok=False)
        failed = next(c for c in status(cp, "Job", "once")["conditions"] if c["type"] == "Failed")
        assert failed["reason"] == "BackoffLimitExceeded" and len(cp.names("Pod")) == 2

    def test_active_deadline(self, cp: ControlPlane) -> None:
        cp.apply(job(activeDeadlineSeconds=5))
        cp.run(8)
        failed = next(c for c in status(cp, "Job", "once")["conditions"] if c["type"] == "Failed")
        assert failed["reason"] == "DeadlineExceeded" and not cp.names("Pod")

    def test_ttl(self, cp: ControlPlane) -> None:
        cp.apply(job(ttlSecondsAfterFinished=10))
        self.finish(cp)
        cp.run(5)
        assert cp.names("Job") == ["once"]
        cp.run(8)
        assert not cp.names("Job") and not cp.names("Pod")


@pytest.mark.parametrize(("body", "message"), [
    ({"spec": {"selector": {"matchLabels": {"app": "other"}}}},
     'Deployment.apps "web" is invalid: spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: `selector` '
     "does not match template `labels`"),
    ({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}},
     "Deployment.apps \"web\" is invalid: spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is "
     "'Recreate'"),
    ({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}},
     'Deployment.apps "web" is invalid: spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when '
     "`maxSurge` is 0"),
    ({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}},
     'Deployment.apps "web" is invalid: spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: '
     '"Always"'),
    ({"spec": {"template": {"spec": {"containers": []}}}},
     'Deployment.apps "web" is invalid: spec.template.spec.containers: Required value'),
])
def test_what_is_refused(cp: ControlPlane, body: Obj, message: str) -> None:
    from kubenet.cluster.api.patch import merge_patch

    assert cp.call("POST", DEPLOYMENTS, merge_patch(deployment(), body)).json()["message"] == message


def test_a_selector_cannot_change(cp: ControlPlane) -> None:
    cp.apply(deployment())
    body = deployment()
    body["spec"]["selector"] = body["spec"]["template"]["metadata"]["labels"] = {"app": "b"}
    body["spec"]["selector"] = {"matchLabels": {"app": "b"}}
    assert cp.call("PUT", DEPLOYMENTS + "/web", body).json()["message"] == (
        'Deployment.apps "web" is invalid: spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string'
        "{\"app\":\"b\"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: field is immutable")


def test_a_pods_containers_cannot_change_but_their_image_can(cp: ControlPlane) -> None:
    cp.apply(deployment(replicas=1))
    cp.run(2)
    path = f"/api/v1/namespaces/default/pods/{cp.names('Pod')[0]}"
    strategic = "application/strategic-merge-patch+json"
    cp.ok("PATCH", path, {"spec": {"containers": [{"name": "c", "image": "nginx:9"}]}}, kind=strategic)
    response = cp.call("PATCH", path, {"spec": {"containers": [{"name": "c", "command": ["x"]}]}}, kind=strategic)
    assert response.code == 422 and "spec: Forbidden: pod updates may not change fields other than" in response.json()["message"]


def test_the_same_seed_gives_the_same_cluster() -> None:
    """Names, addresses, versions and events, object for object."""
    def history(seed: int) -> list[Obj]:
        cp = ControlPlane(seed)
        cp.apply(deployment(replicas=4))
        cp.run(5)
        cp.apply(deployment(replicas=4, image="nginx:2"))
        cp.run(15)
        return [o for kind in ("Pod", "ReplicaSet", "Event", "Node", "Deployment") for o in cp.store.iter(kind)]

    assert history(7) == history(7)
    assert [key_of(o) for o in history(7)] != [key_of(o) for o in history(8)]
