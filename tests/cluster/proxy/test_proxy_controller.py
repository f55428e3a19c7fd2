"""kube-proxy as a program: when it syncs, what it does with failures, flushed tables and stale UDP entries."""

from __future__ import annotations

import pytest
from proxy_objects import SEP_1, SVC, WEB_0, WEB_1, ep, eslice, options, rules, service

from kubenet.cluster.api.ips import AF_INET, AF_INET6, parse_ip
from kubenet.cluster.proxy import KubeProxy, nat_chains_after
from kubenet.cluster.store import Store
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC, SEC

UDP = {"name": "dns", "port": 53, "protocol": "UDP"}


class FakeNode:
    """A node's kernel: chains by table, the texts it was fed, a few conntrack entries."""

    def __init__(self, loop):
        self.loop = loop
        self.complaint = ""
        self.texts = []
        self.times = []
        self.flush()
        self.udp = []

    def flush(self):
        self.chains = {}
        self.rules = []

    def restore(self, family, text):
        self.times.append(self.loop.now)
        if self.complaint:
            return self.complaint
        self.texts.append(text)
        self.chains["nat"] = nat_chains_after(text, self.chains.get("nat", []))
        return ""

    def run(self, family, argv):
        flag, name, table = argv[3], argv[4], argv[6]
        chains = self.chains.setdefault(table, [])
        if flag == "-S":
            return 0 if name in chains else 1
        if flag == "-N":
            exists = name in chains
            chains.extend([] if exists else [name])
            return int(exists)
        rule = (table, name, tuple(argv[7:]))
        if flag == "-C":
            return 0 if rule in self.rules else 1
        self.rules.append(rule)
        return 0

    def nat_chains(self, family):
        return list(self.chains.get("nat", []))

    def delete_udp(self, family, is_stale):
        kept = [entry for entry in self.udp if not is_stale(*entry)]
        deleted, self.udp = len(self.udp) - len(kept), kept
        return deleted


@pytest.fixture
def world():
    loop = EventLoop()
    store = Store(loop)
    node = FakeNode(loop)
    return loop, store, node


def started(world, **changes):
    loop, store, node = world
    proxy = KubeProxy(loop, options(**changes), node)
    proxy.start(store)
    return proxy


def put(store, obj):
    old = store.get(obj["kind"], (obj["metadata"]["namespace"], obj["metadata"]["name"]))
    return store.update(obj) if old else store.create(obj)


def test_first_sync_holds_what_was_there(world):
    loop, store, node = world
    put(store, service())
    put(store, eslice(WEB_0))
    proxy = started(world)
    loop.run(until=SEC)
    assert node.times == [0]
    assert proxy.last_results[0].full
    assert len(node.rules) == 14  # the jumps
    assert rules(node.texts[0], "nat", SVC)
    assert "KUBE-PROXY-CANARY" in node.chains["mangle"]


def test_an_empty_cluster_gets_its_frame(world):
    loop, _, node = world
    started(world)
    loop.run(until=SEC)
    assert len(node.texts) == 1


def test_a_second_passes_between_syncs_and_takes_everything_along(world):
    loop, store, node = world
    started(world)
    loop.run(until=200 * MSEC)
    for obj in (service(), eslice(WEB_0), eslice(WEB_0, WEB_1)):
        put(store, obj)
        loop.run(until=loop.now + 100 * MSEC)
    loop.run(until=3 * SEC)
    assert node.times == [0, 1 * SEC]
    assert SEP_1 in node.texts[-1]
    put(store, service("db", clusterIP="10.96.0.40"))
    loop.run(until=4 * SEC)
    assert node.times == [0, 1 * SEC, 3 * SEC]  # long enough ago: at once


def test_pending_until_the_rules_are_written(world):
    loop, store, _ = world
    proxy = started(world)
    assert proxy.has_pending
    loop.run(until=SEC // 2)
    assert not proxy.has_pending
    put(store, service())
    assert proxy.has_pending  # not heard yet
    loop.run(until=SEC // 2 + 1)
    assert proxy.has_pending  # heard, and waiting for its turn
    loop.run(until=2 * SEC)
    assert not proxy.has_pending
    proxy.pause()
    put(store, service(clusterIP="10.96.0.9"))
    assert not proxy.has_pending  # nothing will come of it as things are


def test_nothing_to_do_is_no_sync(world):
    loop, store, node = world
    put(store, service())
    started(world)
    loop.run(until=2 * SEC)
    labelled = service()
    labelled["metadata"]["labels"] = {"app": "web"}
    put(store, labelled)
    loop.run(until=9 * SEC)
    assert node.times == [0]


def test_a_failed_sync_is_tried_again_in_full(world):
    loop, store, node = world
    proxy = started(world)
    loop.run(until=2 * SEC)
    node.complaint = "iptables-restore: line 7 failed"
    put(store, service())
    loop.run(until=3 * SEC)
    assert (proxy.failures, proxy.last_error) == (1, "iptables-restore: line 7 failed")
    node.complaint = ""
    loop.run(until=33 * SEC)
    assert node.times == [0, 2 * SEC, 32 * SEC]
    assert proxy.last_results[0].full
    assert proxy.last_error == ""


def test_health_is_lost_after_two_sync_periods(world):
    loop, store, node = world
    proxy = started(world)
    loop.run(until=2 * SEC)
    node.complaint = "no"
    put(store, service())
    loop.run(until=61 * SEC)
    assert proxy.is_healthy()
    loop.run(until=62 * SEC)
    assert not proxy.is_healthy()
    node.complaint = ""
    loop.run(until=95 * SEC)
    assert proxy.is_healthy()


def test_hourly_full_sync(world):
    loop, _, node = world
    proxy = started(world)
    loop.run(until=3601 * SEC)
    assert node.times == [0, 3600 * SEC + 1]
    assert proxy.last_results[0].full


def test_flushed_tables_are_written_again_within_a_sync_period(world):
    loop, store, node = world
    put(store, service())
    proxy = started(world)
    loop.run(until=40 * SEC)
    node.flush()
    loop.run(until=61 * SEC)
    assert node.times == [0, 60 * SEC]
    assert proxy.last_results[0].full
    assert len(node.rules) == 14
    assert all("KUBE-PROXY-CANARY" in node.chains[name] for name in ("mangle", "nat", "filter"))


def test_a_flush_that_spares_a_table_is_waited_for_five_seconds(world):
    loop, _, node = world
    started(world)
    loop.run(until=40 * SEC)
    node.chains["mangle"] = []
    loop.run(until=70 * SEC)
    assert node.times == [0, 65 * SEC]


def test_a_hanging_proxy_leaves_stale_rules(world):
    loop, store, node = world
    put(store, service())
    put(store, eslice(WEB_0))
    proxy = started(world)
    loop.run(until=2 * SEC)
    proxy.pause()
    put(store, eslice(WEB_0, WEB_1))
    loop.run(until=20 * SEC)
    assert len(node.texts) == 1
    proxy.resume()
    loop.run(until=21 * SEC)
    assert SEP_1 in node.texts[-1]


def test_a_sync_that_was_due_while_hanging_comes_on_resume(world):
    loop, store, node = world
    proxy = started(world)
    loop.run(until=SEC // 2)
    put(store, service())
    loop.run(until=SEC // 2 + 1)  # heard, but minSyncPeriod is not over
    proxy.pause()
    loop.run(until=20 * SEC)
    assert node.times == [0]
    proxy.resume()
    loop.run(until=21 * SEC)
    assert node.times == [0, 20 * SEC]


def test_a_stopped_proxy_does_nothing_and_starts_anew(world):
    loop, store, node = world
    proxy = started(world)
    loop.run(until=2 * SEC)
    proxy.stop()
    put(store, service())
    node.flush()
    loop.run(until=7200 * SEC)
    assert len(node.texts) == 1
    again = started(world)
    loop.run(until=loop.now + SEC)
    assert again.last_results[0].full
    assert "default/web:http" in node.texts[-1]


def test_a_watch_that_fell_behind_starts_over(world):
    """Events the store has forgotten: the list tells what is there, and what is missing was deleted."""
    loop, _, node = world
    store = Store(loop, history=2)
    put(store, service())
    put(store, service("gone", clusterIP="10.96.0.77"))
    proxy = KubeProxy(loop, options(), node)
    proxy.start(store)
    loop.run(until=2 * SEC)
    proxy.pause()
    store.delete("Service", ("default", "gone"))
    for number in range(2, 12):
        put(store, service("web", clusterIP=f"10.96.0.{number}"))
    loop.run(until=4 * SEC)
    proxy.resume()
    loop.run(until=6 * SEC)
    assert "default/gone" not in node.texts[-1]
    assert "-d 10.96.0.11 " in node.texts[-1]


def test_latency_delays_what_the_watches_say(world):
    loop, store, node = world
    proxy = KubeProxy(loop, options(), node, latency=5 * SEC)
    proxy.start(store)
    loop.run(until=20 * SEC)
    put(store, service())
    loop.run(until=40 * SEC)
    assert node.times == [5 * SEC, 25 * SEC]


def test_both_families(world):
    loop, store, node = world
    proxy = KubeProxy(loop, options(), node, families=(AF_INET, AF_INET6))
    proxy.start(store)
    put(store, service(clusterIPs=["10.96.0.1", "fd00::1"], ipFamilies=["IPv4", "IPv6"]))
    loop.run(until=SEC)
    assert ["-d 10.96.0.1 " in text for text in node.texts] == [True, False]
    assert ["-d fd00::1 " in text for text in node.texts] == [False, True]


def test_stale_udp_entries_are_deleted_after_the_rules_are_in_place(world):
    loop, store, node = world
    put(store, service("dns", UDP, clusterIP="10.96.0.10"))
    put(store, eslice(ep("10.48.2.2"), ep("10.48.2.3"), service="dns", ports=[UDP]))
    proxy = started(world)
    loop.run(until=2 * SEC)
    cluster_ip, gone, kept = (parse_ip(text).value for text in ("10.96.0.10", "10.48.2.3", "10.48.2.2"))
    node.udp = [(cluster_ip, 53, gone, 53), (cluster_ip, 53, kept, 53)]
    put(store, service())  # no UDP endpoint changed
    loop.run(until=4 * SEC)
    assert proxy.udp_entries_deleted == 0
    put(store, eslice(ep("10.48.2.2"), service="dns", ports=[UDP]))
    loop.run(until=6 * SEC)
    assert proxy.udp_entries_deleted == 1
    assert node.udp == [(cluster_ip, 53, kept, 53)]
