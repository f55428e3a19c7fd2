"""The store: versions, identity, deletion in its forms, owners, and what watches see."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kubenet.cluster.api.status import ApiError
from kubenet.cluster.store import NAME_ALPHABET, Event, Store
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC

Obj = dict[str, Any]


@pytest.fixture
def store(loop: EventLoop) -> Store:
    return Store(loop, seed=7)


def config(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def running_pod(store: Store, name: str = "p", **meta: Any) -> Obj:
    made = store.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", **meta},
                         "spec": {"nodeName": "node-1", "terminationGracePeriodSeconds": 30}})
    return store.set_status("Pod", ("default", name), {"phase": "Running"}) if not meta else made


def dependent(owner: Obj, name: str, **extra: Any) -> Obj:
    ref = {"apiVersion": "v1", "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
           **extra}
    obj = config(name)
    obj["metadata"]["ownerReferences"] = [ref]
    return obj


class TestIdentity:
    def test_create_fills_in_what_only_the_server_knows(self, store: Store, loop: EventLoop) -> None:
        loop.run(61 * SEC)
        meta = store.create(config("a"))["metadata"]
        assert meta["creationTimestamp"] == "2026-01-01T00:01:01Z"          # epoch + virtual time, whole seconds
        assert meta["resourceVersion"] == "1"
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", meta["uid"])

    def test_the_argument_is_left_alone(self, store: Store) -> None:
        mine = config("a", x="1")
        store.create(mine)
        assert mine == config("a", x="1")

    def test_a_second_create_of_the_same_name_is_refused(self, store: Store) -> None:
        store.create(config("a"))
        with pytest.raises(ApiError, match='configmaps "a" already exists') as error:
            store.create(config("a"))
        assert (error.value.code, error.value.reason) == (409, "AlreadyExists")

    def test_generated_names_end_in_five_letters_of_the_safe_alphabet(self, store: Store) -> None:
        obj = config("x")
        obj["metadata"] = {"generateName": "web-", "namespace": "default"}
        names = [store.create(obj)["metadata"]["name"] for _ in range(50)]
        assert len(set(names)) == 50
        assert all(n[:4] == "web-" and len(n) == 9 and set(n[4:]) <= set(NAME_ALPHABET) for n in names)

    def test_names_depend_on_the_seed_and_not_on_other_writes(self) -> None:
        def suffix(seed: int, noise: int) -> str:
            store = Store(EventLoop(), seed=seed)
            for number in range(noise):
                store.create(config(f"noise-{number}"))
            return store.new_name("Pod", "default", "web-")

        assert suffix(7, 0) == suffix(7, 9)
        assert suffix(7, 0) != suffix(8, 0)


class TestVersions:
    def test_one_counter_for_all_kinds(self, store: Store) -> None:
        a = store.create(config("a"))
        p = running_pod(store)
        assert int(p["metadata"]["resourceVersion"]) > int(a["metadata"]["resourceVersion"])
        assert store.rv == int(p["metadata"]["resourceVersion"])

    def test_a_write_that_changes_nothing_is_not_a_write(self, store: Store) -> None:
        a = store.create(config("a", x="1"))
        assert store.update({**config("a", x="1"), "metadata": dict(a["metadata"])}) is a
        assert store.rv == 1

    def test_old_objects_never_change(self, store: Store) -> None:
        a = store.create(config("a", x="1"))
        b = store.update(config("a", x="2"))
        assert a["data"] == {"x": "1"} and b["data"] == {"x": "2"}
        assert a["metadata"]["resourceVersion"] == "1"

    def test_a_stale_version_conflicts(self, store: Store) -> None:
        stale = store.create(config("a", x="1"))
        store.update(config("a", x="2"))
        with pytest.raises(ApiError, match="the object has been modified; please apply your changes to the latest version"):
            store.update({**stale, "data": {"x": "3"}})

    def test_generation_counts_spec_changes_only(self, store: Store) -> None:
        rs = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r", "namespace": "default"},
              "spec": {"replicas": 1}}
        assert store.create(rs)["metadata"]["generation"] == 1
        store.set_status("ReplicaSet", ("default", "r"), {"replicas": 1})
        labelled = store.update({**rs, "metadata": {**rs["metadata"], "labels": {"a": "b"}}})
        assert labelled["metadata"]["generation"] == 1
        assert labelled["status"] == {"replicas": 1}                        # the main path leaves the status alone
        assert store.update({**rs, "spec": {"replicas": 2}})["metadata"]["generation"] == 2


class TestDeletion:
    def test_a_running_pod_is_marked_and_the_kubelet_confirms(self, store: Store, loop: EventLoop) -> None:
        running_pod(store)
        marked, gone = store.delete("Pod", ("default", "p"))
        assert not gone
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        assert marked["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"      # when the grace ends
        store.update({**marked, "metadata": {**marked["metadata"], "labels": {"a": "b"}}})
        assert store.get("Pod", ("default", "p")) is not None               # no update ends it
        assert store.delete("Pod", ("default", "p"), grace=0)[1]
        assert store.get("Pod", ("default", "p")) is None

    def test_a_second_delete_can_only_shorten_the_grace(self, store: Store) -> None:
        running_pod(store)
        store.delete("Pod", ("default", "p"), grace=10)
        assert store.delete("Pod", ("default", "p"), grace=60)[0]["metadata"]["deletionGracePeriodSeconds"] == 10
        assert store.delete("Pod", ("default", "p"), grace=3)[0]["metadata"]["deletionGracePeriodSeconds"] == 3

    def test_a_pod_on_no_node_goes_at_once(self, store: Store) -> None:
        store.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": {}})
        assert store.delete("Pod", ("default", "p"))[1]

    def test_a_finalizer_holds_an_object_until_it_is_taken_away(self, store: Store) -> None:
        obj = config("a")
        obj["metadata"]["finalizers"] = ["example.com/wait"]
        store.create(obj)
        marked, gone = store.delete("ConfigMap", ("default", "a"))
        assert not gone and "deletionTimestamp" in marked["metadata"]
        store.update({**marked, "metadata": {k: v for k, v in marked["metadata"].items() if k != "finalizers"}})
        assert store.get("ConfigMap", ("default", "a")) is None

    @pytest.mark.parametrize("kwargs", [{"uid": "other"}, {"rv": "99"}])
    def test_preconditions(self, store: Store, kwargs: dict[str, Any]) -> None:
        store.create(config("a"))
        with pytest.raises(ApiError, match="Precondition failed") as error:
            store.delete("ConfigMap", ("default", "a"), **kwargs)
        assert error.value.code == 409


class TestOwners:
    def test_background_the_collector_follows(self, store: Store, loop: EventLoop) -> None:
        owner = store.create(config("owner"))
        store.create(dependent(owner, "child"))
        store.delete("ConfigMap", ("default", "owner"))
        assert store.get("ConfigMap", ("default", "child")) is not None     # not in the same breath
        loop.run(loop.now)
        assert store.get("ConfigMap", ("default", "child")) is None

    def test_an_object_with_another_living_owner_only_loses_the_reference(self, store: Store, loop: EventLoop) -> None:
        one, two = store.create(config("one")), store.create(config("two"))
        child = dependent(one, "child")
        child["metadata"]["ownerReferences"] += dependent(two, "child")["metadata"]["ownerReferences"]
        store.create(child)
        store.delete("ConfigMap", ("default", "one"))
        loop.run(loop.now)
        refs = store.must_get("ConfigMap", ("default", "child"))["metadata"]["ownerReferences"]
        assert [r["name"] for r in refs] == ["two"]

    def test_orphan_strips_the_reference(self, store: Store, loop: EventLoop) -> None:
        owner = store.create(config("owner"))
        store.create(dependent(owner, "child"))
        store.delete("ConfigMap", ("default", "owner"), policy="Orphan")
        loop.run(loop.now)
        assert "ownerReferences" not in store.must_get("ConfigMap", ("default", "child"))["metadata"]

    def test_foreground_the_owner_waits_for_what_blocks_it(self, store: Store, loop: EventLoop) -> None:
        owner = store.create(config("owner"))
        blocking = dependent(owner, "child", blockOwnerDeletion=True)
        blocking["metadata"]["finalizers"] = ["example.com/wait"]
        store.create(blocking)
        store.delete("ConfigMap", ("default", "owner"), policy="Foreground")
        loop.run(loop.now)
        assert store.must_get("ConfigMap", ("default", "owner"))["metadata"]["finalizers"] == ["foregroundDeletion"]
        child = store.must_get("ConfigMap", ("default", "child"))
        store.update({**child, "metadata": {**child["metadata"], "finalizers": []}})
        loop.run(loop.now)
        assert store.count("ConfigMap") == 0

    def test_born_after_the_owner_died(self, store: Store, loop: EventLoop) -> None:
        owner = store.create(config("owner"))
        store.delete("ConfigMap", ("default", "owner"))
        store.create(dependent(owner, "late"))
        loop.run(loop.now)
        assert store.get("ConfigMap", ("default", "late")) is None


class TestWatch:
    def test_from_the_present_everything_is_added_first(self, store: Store) -> None:
        store.create(config("b"))
        store.create(config("a"))
        watch = store.watch("ConfigMap")
        assert [(e.type, e.obj["metadata"]["name"]) for e in watch.poll()] == [("ADDED", "a"), ("ADDED", "b")]
        store.update(config("a", x="1"))
        store.delete("ConfigMap", ("default", "b"))
        assert [e.type for e in watch.poll()] == ["MODIFIED", "DELETED"]
        assert watch.poll() == []

    def test_from_a_version_only_what_came_after(self, store: Store) -> None:
        store.create(config("a"))
        since = store.rv
        store.create(config("b"))
        assert [e.obj["metadata"]["name"] for e in store.watch("ConfigMap", since).poll()] == ["b"]

    def test_deleted_carries_the_last_state_and_the_version_of_the_deletion(self, store: Store) -> None:
        store.create(config("a", x="1"))
        watch = store.watch("ConfigMap", store.rv)
        store.delete("ConfigMap", ("default", "a"))
        (event,) = watch.poll()
        assert event.obj["data"] == {"x": "1"} and event.obj["metadata"]["resourceVersion"] == str(store.rv)

    def test_the_history_is_bounded(self, loop: EventLoop) -> None:
        store = Store(loop, history=10)
        store.create(config("a"))
        late = store.watch("ConfigMap", 1)
        for number in range(40):
            store.update(config("a", x=str(number)))
        with pytest.raises(ApiError, match=r"too old resource version: 1 \(41\)") as error:
            store.watch("ConfigMap", 1)
        assert (error.value.code, error.value.reason) == (410, "Expired")
        with pytest.raises(ApiError, match="too old resource version"):
            late.poll()
        assert late.closed

    def test_a_durable_reader_misses_nothing(self, loop: EventLoop) -> None:
        """Controllers notice late (their latency), and thousands of writes may share one instant."""
        store = Store(loop, history=10)
        watch = store.watch("ConfigMap")
        watch.durable = True
        for number in range(100):
            store.create(config(f"c{number}"))
        assert len(watch.poll()) == 100
        for number in range(30):
            store.update(config("c0", x=str(number)))
        watch.poll()
        store.update(config("c0"))
        assert len(store.log("ConfigMap").events) <= 2 * 10                 # and then it is let go

    def test_wake_tells_once_per_write_and_not_after_close(self, store: Store) -> None:
        woken: list[int] = []
        watch = store.watch("ConfigMap")
        watch.wake = lambda: woken.append(store.rv)
        store.create(config("a"))
        running_pod(store)                                                   # another kind
        watch.close()
        store.create(config("b"))
        assert woken == [1]

    def test_hooks_see_every_write(self, store: Store) -> None:
        seen: list[Event] = []
        store.on_write(seen.append)
        store.create(config("a"))
        store.update(config("a", x="1"))
        store.delete("ConfigMap", ("default", "a"))
        assert [e.type for e in seen] == ["ADDED", "MODIFIED", "DELETED"]


def test_lists_are_in_order_of_namespace_and_name(store: Store) -> None:
    for namespace, name in (("b", "x"), ("a", "y"), ("a", "x"), ("ab", "a")):
        store.create({**config(name), "metadata": {"name": name, "namespace": namespace}})
    order = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in store.iter("ConfigMap")]
    assert order == [("a", "x"), ("a", "y"), ("ab", "a"), ("b", "x")]
    assert [o["metadata"]["name"] for o in store.iter("ConfigMap", "a")] == ["x", "y"]
