"""kube-proxy's texts in the emulated kernel: it prints what a real one printed (recordings/saves.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from proxy_cases import cases
from proxy_objects import SVC, WEB_0, WEB_1, ep, eslice, options, service, table

from kubenet.cluster.api.ips import AF_INET, AF_INET6, parse_ip
from kubenet.cluster.proxy import KubeProxy, ensure, jump_rules, kubelet_rules
from kubenet.cluster.proxy.node_kernel import NodeKernel
from kubenet.cluster.store import Store
from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.conntrack.core import nf_ct_netns_get
from kubenet.kernel.netfilter.conntrack.entry import NfConn
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netns import NetNamespace
from kubenet.sim.clock import EventLoop
from kubenet.units import SEC

RECORDED = json.loads((Path(__file__).parent / "recordings" / "saves.json").read_text())["saves"]


@pytest.fixture
def net():
    return NetNamespace(Host(EventLoop(), "node-1", 7), "node-1")


def saved(net, family, name):
    """The lines of one table, comments dropped."""
    return [line for line in table(iptables_save(net, family, [name]), name) if not line.startswith("#")]


@pytest.mark.parametrize("name", list(cases()))
def test_prints_what_the_real_kernel_printed(net, name):
    version, texts = cases()[name]
    family = AF_INET if version == 4 else AF_INET6
    node = NodeKernel(net)
    steps = [step for jump in jump_rules() for step in jump.steps()]
    assert ensure(steps, lambda argv: node.run(family, argv), family) == []
    for text in texts:
        assert node.restore(family, text) == ""
    for part in ("filter", "nat"):
        assert saved(net, family, part) == RECORDED[name][part]


def test_restore_complains(net):
    complaint = NodeKernel(net).restore(AF_INET, "*nat\n-A KUBE-NOWHERE -j ACCEPT\nCOMMIT\n")
    assert "iptables-restore" in complaint


def test_a_node_from_start_to_change(net):
    """kubelet first, then kube-proxy; a Service comes, grows and goes."""
    loop, store, node = net.loop, Store(net.loop), NodeKernel(net)
    ensure(kubelet_rules(AF_INET), lambda argv: node.run(AF_INET, argv))
    store.create(service())
    store.create(eslice(WEB_0))
    proxy = KubeProxy(loop, options(), node)
    proxy.start(store)
    loop.run(until=2 * SEC)
    assert (proxy.last_error, proxy.syncs) == ("", 1)
    assert [line for line in saved(net, AF_INET, "filter") if line.startswith("-A INPUT")][-1] == (
        "-A INPUT -j KUBE-FIREWALL"
    )
    assert SVC in node.nat_chains(AF_INET)
    store.update(eslice(WEB_0, WEB_1))
    loop.run(until=4 * SEC)
    assert sum(line.startswith(f"-A {SVC}") for line in saved(net, AF_INET, "nat")) == 3
    store.delete("Service", ("default", "web"))
    loop.run(until=6 * SEC)
    assert proxy.last_error == ""
    assert not [name for name in node.nat_chains(AF_INET) if name.startswith(("KUBE-SVC-", "KUBE-SEP-"))]
    assert any("KUBE-PROXY-CANARY" in line for line in saved(net, AF_INET, "mangle"))


def test_somebody_flushes_everything(net):
    """iptables -F and -X in all tables; the canaries tell."""
    loop, store, node = net.loop, Store(net.loop), NodeKernel(net)
    store.create(service())
    store.create(eslice(WEB_0))
    proxy = KubeProxy(loop, options(), node)
    proxy.start(store)
    loop.run(until=2 * SEC)
    before = saved(net, AF_INET, "nat")
    for name in ("nat", "filter", "mangle"):
        for flag in ("-F", "-X"):
            assert node.run(AF_INET, ["iptables", "-t", name, flag]) == 0
    loop.run(until=29 * SEC)
    assert SVC not in node.nat_chains(AF_INET)
    loop.run(until=31 * SEC)
    assert saved(net, AF_INET, "nat") == before


def test_stale_udp_entries_go_from_the_table(net):
    node = NodeKernel(net)
    assert node.delete_udp(AF_INET, lambda *entry: True) == 0  # nothing tracks yet
    nf_ct_netns_get(net, AF_INET)
    client, vip, dead, live = (parse_ip(x).value for x in ("10.48.1.5", "10.96.0.10", "10.48.2.9", "10.48.2.2"))

    def track(sport, target, proto=17, family=AF_INET):
        number = family << 8 | proto
        ct = NfConn(net, (client, sport, vip, 53, number), (target, 53, client, sport, number))
        ct.timeout = 30 * SEC
        net.ct.insert(ct)
        return ct

    kept = [track(1001, live), track(1002, dead, proto=6), track(1003, dead, family=AF_INET6)]
    track(1004, dead)
    udp = {"name": "dns", "port": 53, "protocol": "UDP"}
    loop, store = net.loop, Store(net.loop)
    store.create(service("dns", udp, clusterIP="10.96.0.10"))
    store.create(eslice(ep("10.48.2.2"), service="dns", ports=[udp]))
    proxy = KubeProxy(loop, options(), node)
    proxy.start(store)
    loop.run(until=SEC)
    assert proxy.udp_entries_deleted == 1
    assert net.ct.entries() == kept
