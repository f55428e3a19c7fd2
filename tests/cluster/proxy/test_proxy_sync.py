"""Full and partial syncs, stale chains, jumps from built-in chains, kubelet's chains, clean-up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_objects import (
    EXT,
    SEP_0,
    SEP_1,
    SVC,
    WEB_0,
    WEB_1,
    chain,
    chains,
    ep,
    eslice,
    full,
    options,
    proxier,
    rules,
    service,
    table,
)

from kubenet.cluster.api.ips import AF_INET, AF_INET6
from kubenet.cluster.proxy import (
    IptablesProxier,
    canary_steps,
    cleanup_steps,
    cleanup_text,
    ensure,
    find_mode,
    jump_rules,
    kubelet_rules,
    nat_chains_after,
)
from kubenet.errors import NotFoundError
from kubenet.units import SEC

DB = service("db", clusterIP="10.96.0.40")
DB_SVC = chain("SVC", "default/db:http")
DB_SEP = chain("SEP", "default/db:http", "tcp10.48.2.9:8080")
DB_SLICE = eslice(ep("10.48.2.9"), service="db")
HOUR = 3600 * SEC


def synced(*objects, **changes):
    """A proxier after its first sync."""
    made = proxier(*objects, **changes)
    assert made.sync().full
    return made


# Which sync is full


def test_first_sync_is_full_and_the_next_is_not():
    made = proxier(service())
    first, second = made.sync(), made.sync(now=SEC)
    assert (first.full, len(first.jumps)) == (True, 14)
    assert (second.full, second.jumps) == (False, [])


def test_full_again_after_more_than_an_hour():
    made = synced(service())
    assert not made.sync(now=HOUR).full
    assert made.sync(now=HOUR + 1).full
    assert not made.sync(now=2 * HOUR).full


def test_a_large_cluster_is_not_resynced_hourly():
    many = [ep(f"10.{n >> 8}.{n & 255}.1") for n in range(1001)]
    assert not synced(service(), eslice(*many)).sync(now=2 * HOUR).full


def test_full_after_a_failure():
    made = synced(service())
    made.sync_failed()
    assert made.sync().full
    assert not made.sync().full


def test_full_after_the_nodes_topology_changed():
    a, b = eslice(ep("10.48.2.7", zones=["a"]), ep("10.48.2.8", zones=["b"])), "topology.kubernetes.io/zone"
    made = synced(service(), a, topologyLabels={b: "a"})
    assert made.active_chains() == sorted([SVC, SEP_0])
    made.on_node({"kind": "Node", "metadata": {"name": "node-1", "labels": {b: "a", "x": "y"}}})
    assert not made.sync().full  # other labels mean nothing
    made.on_node({"kind": "Node", "metadata": {"name": "node-2", "labels": {b: "c"}}})
    assert not made.sync().full  # another node's neither
    made.on_node({"kind": "Node", "metadata": {"name": "node-1", "labels": {b: "b"}}})
    assert made.sync().full
    assert SEP_0 not in made.active_chains()


# What a partial sync writes


def test_partial_sync_writes_shared_chains_and_nothing_else_if_nothing_changed():
    made = synced(service(port={"name": "http", "port": 80, "nodePort": 30080}, type="NodePort"), eslice(WEB_0))
    everything, partial = made.full_sync_text(), made.sync().text
    assert table(partial, "filter") == table(everything, "filter")
    assert chains(partial) == ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
    for name in chains(partial):
        assert rules(partial, "nat", name) == rules(everything, "nat", name)
    assert f"-A {SVC}" not in partial
    assert f"-A {EXT}" not in partial


def test_partial_sync_writes_changed_services_completely():
    made = synced(service(), eslice(WEB_0), DB, DB_SLICE)
    made.on_event("update", eslice(WEB_0, WEB_1))
    partial = made.sync([SVC, SEP_0, DB_SVC, DB_SEP]).text
    assert chains(partial)[4:] == [SVC, SEP_1, SEP_0]
    assert len(rules(partial, "nat", SVC)) == 3
    assert "-X" not in partial  # the other service's chains stay in the kernel


def test_a_label_on_a_service_is_no_change():
    made = synced(service(), eslice(WEB_0))
    labelled = service()
    labelled["metadata"]["labels"] = {"app": "web"}
    assert made.on_service(service(), labelled) is False
    assert made.sync().stats.rewritten == 0


def test_a_slice_event_without_difference_is_no_change():
    made = synced(service(), eslice(WEB_0))
    assert made.on_slice(eslice(WEB_0), eslice(WEB_0)) is False
    assert made.on_slice(eslice(WEB_0), eslice(WEB_1)) is True


def test_nodes_that_agree_share_one_text():
    """Nodes differ in name and address; a Service with policy Cluster is the same for all of them."""
    one, other = synced(service(), eslice(WEB_0)), synced(service(), eslice(WEB_0), nodeName="node-2")
    key = ("default/web:http", "tcp")
    assert one._entries[key].chains is other._entries[key].chains
    assert one._entries[key].portals is other._entries[key].portals


def test_a_change_taken_back_before_the_sync_is_none():
    made = synced(service(), eslice(WEB_0))
    assert made.on_event("update", service(clusterIP="10.96.0.9"))
    assert not made.on_event("update", service())
    assert made.sync().stats.rewritten == 0


def test_deleted_service_loses_its_chains_and_keeps_its_slices():
    made = synced(service(), eslice(WEB_0), DB, DB_SLICE)
    made.on_event("delete", service())
    partial = made.sync([SVC, SEP_0, DB_SVC, DB_SEP]).text
    assert [line for line in table(partial, "nat") if SVC in line or SEP_0 in line] == [
        f":{SEP_0} - [0:0]",
        f":{SVC} - [0:0]",
        f"-X {SEP_0}",
        f"-X {SVC}",
    ]
    made.on_event("add", service())
    assert chains(made.sync().text)[4:] == [SVC, SEP_0]


def test_deleted_slice_turns_the_service_into_a_refusal():
    made = synced(service(), eslice(WEB_0))
    made.on_event("delete", eslice(WEB_0))
    partial = made.sync([SVC, SEP_0]).text
    assert rules(partial, "filter", "KUBE-SERVICES")[0].endswith("-j REJECT")
    assert f"-X {SVC}" in partial


def test_slices_may_come_before_their_service():
    made = proxier(eslice(WEB_0))
    assert SVC not in made.sync().text
    made.on_event("add", service())
    assert chains(made.sync().text)[4:] == [SVC, SEP_0]


def test_slice_without_service_name_is_ignored():
    stray = eslice(WEB_0)
    stray["metadata"]["labels"] = {}
    assert IptablesProxier(options()).on_slice(None, stray) is False


def test_full_sync_text_does_not_count_as_a_sync():
    made = proxier(service(), eslice(WEB_0))
    before = made.full_sync_text()
    result = made.sync()
    assert (result.full, result.text) == (True, before)


# Stale chains


def test_stale_chains_are_declared_and_removed_before_the_last_rule():
    made = proxier(service(), eslice(WEB_0))
    gone = ["KUBE-FW-GONE", "KUBE-EXT-GONE", "KUBE-SVL-GONE", "KUBE-SVC-GONE", "KUBE-SEP-GONE"]
    nat = table(made.sync([SVC, "KUBE-SERVICES", "MINE", "KUBE-XLB-OLD", *gone]).text, "nat")
    assert [line for line in nat if "GONE" in line] == [
        *[f":{name} - [0:0]" for name in sorted(gone)],
        *[f"-X {name}" for name in sorted(gone)],
    ]
    assert nat.index(":KUBE-EXT-GONE - [0:0]") == 6  # after this sync's own chains
    assert nat[-2] == "-X KUBE-SVL-GONE"
    assert "must be the last rule" in nat[-1]


def test_large_clusters_look_for_stale_chains_once_per_sync_period():
    many = [ep(f"10.{n >> 8}.{n & 255}.1") for n in range(1001)]
    made = proxier(service(), eslice(*many))
    assert "-X KUBE-SEP-GONE" in made.sync(["KUBE-SEP-GONE"], now=SEC).text
    assert "-X" not in made.sync(["KUBE-SEP-GONE"], now=31 * SEC).text
    assert "-X KUBE-SEP-GONE" in made.sync(["KUBE-SEP-GONE"], now=31 * SEC + 1).text


def test_growing_large_changes_only_what_is_rewritten():
    many = [ep(f"10.{n >> 8}.{n & 255}.1") for n in range(1001)]
    made = synced(service(), eslice(WEB_0), DB)
    made.on_event("add", eslice(*many, service="db"))
    partial = made.sync().text
    assert SVC not in chains(partial)
    assert " -> " not in partial
    assert " -> " not in made.full_sync_text()


# Partial syncs end where a full one would

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["service", "slice"]),
        st.sampled_from(["web", "db"]),
        st.sampled_from(["set", "delete"]),
        st.lists(st.integers(1, 4), max_size=3, unique=True),
        st.booleans(),
    ),
    max_size=12,
)


def kernel_after(kernel, text):
    """What --noflush leaves in the nat table: a chain line empties, -A appends, -X removes."""
    for line in table(text, "nat"):
        word, name, *_ = line.replace(":", "-N ", 1).split() if line.startswith(":") else line.split()
        if word == "-N":
            kernel[name] = []
        elif word == "-A":
            kernel[name].append(line)
        else:
            assert not kernel.pop(name), "only an empty chain can be removed"
    return kernel


@settings(max_examples=60)
@given(EVENTS)
def test_any_sequence_of_partial_syncs_leaves_what_one_full_sync_writes(events):
    made, kernel, known = IptablesProxier(options()), {}, {}
    kernel_after(kernel, made.sync().text)
    for kind, name, op, numbers, flag in events:
        if kind == "service":
            port = {"name": "http", "port": 80, **({"nodePort": 30080} if flag else {})}
            obj = service(name, port, type="NodePort" if flag else "ClusterIP", externalTrafficPolicy="Local")
        else:
            obj = eslice(*[ep(f"10.48.{n}.1", f"node-{n}", ready=not flag) for n in numbers], service=name)
        known.pop((kind, name), None)
        if op == "set":
            known[kind, name] = obj
        made.on_event("delete" if op == "delete" else "update", obj)
        result = made.sync(list(kernel))
        assert not result.full
        assert sorted(nat_chains_after(result.text, list(kernel))) == sorted(kernel_after(kernel, result.text))
    assert kernel == kernel_after({}, full(*known.values()))


# UDP and conntrack


def dns(**spec):
    return service("dns", {"name": "dns", "port": 53, "protocol": "UDP"}, clusterIP="10.96.0.10", **spec)


def dns_slice(*endpoints):
    return eslice(*endpoints, service="dns", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])


def test_only_slices_of_udp_ports_ask_for_a_conntrack_cleanup():
    made = proxier(dns(), service())
    assert not made.sync().udp_endpoints_changed
    made.on_event("add", eslice(WEB_0))
    assert not made.sync().udp_endpoints_changed
    made.on_event("add", dns_slice(WEB_0))
    assert made.sync().udp_endpoints_changed
    made.on_event("update", dns(externalIPs=["192.0.2.9"]))
    assert not made.sync().udp_endpoints_changed
    made.on_event("delete", dns_slice(WEB_0))
    assert made.sync().udp_endpoints_changed
    made.on_event("delete", dns())
    result = made.sync()
    assert [port.spn for port in result.gone_udp] == ["default/dns:dns"]


# Statistics


def test_stats_count_lines():
    made = proxier(service(), eslice(WEB_0), DB)
    result = made.sync(["KUBE-SEP-GONE"])
    nat = [line for line in table(result.text, "nat") if line.startswith("-")]
    kept = [line for line in table(result.text, "filter") if line.startswith("-")]
    assert (result.stats.nat_rules, result.stats.filter_rules) == (len(nat), len(kept))
    assert (result.stats.services, result.stats.endpoints, result.stats.stale_chains) == (2, 1, 1)
    partial = made.sync()
    assert partial.stats.nat_rules_total == len(nat) - 1
    assert partial.stats.nat_rules == len([line for line in table(partial.text, "nat") if line.startswith("-")])


# Jumps, canaries, kubelet, clean-up


class FakeTables:
    """Chains of rules as argument lists, driven by the commands themselves."""

    def __init__(self):
        builtin = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "OUTPUT", "POSTROUTING")}
        self.chains = {(tab, name): [] for tab, names in builtin.items() for name in names}

    def run(self, argv):
        program, wait, five, flag, name, t, tab, *args = argv
        assert (program, wait, five, t) == ("iptables", "-w", "5", "-t")
        if flag == "-N":
            exists = (tab, name) in self.chains
            self.chains.setdefault((tab, name), [])
            return int(exists)
        rules_ = self.chains[tab, name]
        if flag == "-C":
            return 0 if args in rules_ else 1
        if flag == "-D":
            rules_.remove(args)
        else:
            rules_.insert(0 if flag == "-I" else len(rules_), args)
        return 0

    def targets(self, name, tab="filter"):
        return [rule[-1] for rule in self.chains[tab, name]]


def all_jump_steps():
    return [step for jump in jump_rules() for step in jump.steps()]


def test_jumps_read_in_reverse_because_each_is_put_in_front():
    kernel = FakeTables()
    assert ensure(all_jump_steps(), kernel.run) == []
    assert kernel.targets("INPUT") == [
        "KUBE-FIREWALL",
        "KUBE-PROXY-FIREWALL",
        "KUBE-NODEPORTS",
        "KUBE-EXTERNAL-SERVICES",
    ]
    assert kernel.targets("FORWARD") == [
        "KUBE-PROXY-FIREWALL",
        "KUBE-FORWARD",
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
    ]
    assert kernel.targets("OUTPUT") == ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"]
    assert kernel.targets("PREROUTING", "nat") == kernel.targets("OUTPUT", "nat") == ["KUBE-SERVICES"]
    assert kernel.targets("POSTROUTING", "nat") == ["KUBE-POSTROUTING"]


def test_jumps_are_ensured_once():
    kernel = FakeTables()
    ensure(all_jump_steps(), kernel.run)
    before = {key: list(value) for key, value in kernel.chains.items()}
    ensure(all_jump_steps(), kernel.run)
    assert kernel.chains == before


def test_with_kubelet_first_its_jump_ends_up_last():
    kernel = FakeTables()
    ensure([*kubelet_rules(AF_INET), *all_jump_steps()], kernel.run)
    assert kernel.targets("INPUT")[-1] == "KUBE-FIREWALL"
    assert kernel.targets("OUTPUT")[-1] == "KUBE-FIREWALL"


def test_jump_commands():
    chain_step, jump_step = jump_rules()[0].steps()
    assert " ".join(chain_step.argv()) == "iptables -w 5 -N KUBE-EXTERNAL-SERVICES -t filter"
    assert " ".join(jump_step.argv()) == (
        "iptables -w 5 -I INPUT -t filter -m conntrack --ctstate NEW -m comment --comment"
        " kubernetes externally-visible service portals -j KUBE-EXTERNAL-SERVICES"
    )
    assert "kubernetes externally-visible service portals" in jump_step.argv()
    assert jump_step.argv("-C", AF_INET6)[:5] == ["ip6tables", "-w", "5", "-C", "INPUT"]
    assert jump_rules()[-1].args == ("-j", "KUBE-FIREWALL")


def test_ensure_reports_what_failed():
    assert ensure(all_jump_steps()[:1], lambda argv: 4) == all_jump_steps()[:1]


def test_kubelet_chains():
    kernel = FakeTables()
    ensure(kubelet_rules(AF_INET), kernel.run)
    assert [name for name in kernel.chains if name[1].startswith("KUBE")] == [
        ("mangle", "KUBE-IPTABLES-HINT"),
        ("filter", "KUBE-FIREWALL"),
        ("mangle", "KUBE-KUBELET-CANARY"),
        ("nat", "KUBE-KUBELET-CANARY"),
        ("filter", "KUBE-KUBELET-CANARY"),
    ]
    (rule,) = kernel.chains["filter", "KUBE-FIREWALL"]
    assert rule[-5:] == ["!", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "DROP"]
    assert [step.chain for step in kubelet_rules(AF_INET6)] == ["KUBE-IPTABLES-HINT", *["KUBE-KUBELET-CANARY"] * 3]


def test_canaries():
    assert [(step.table, step.chain) for step in canary_steps()] == [
        ("mangle", "KUBE-PROXY-CANARY"),
        ("nat", "KUBE-PROXY-CANARY"),
        ("filter", "KUBE-PROXY-CANARY"),
    ]


def test_cleanup_leaves_only_kube_firewall():
    kernel = FakeTables()
    ensure([*canary_steps(), *all_jump_steps()], kernel.run)
    ensure(cleanup_steps(), kernel.run)
    assert kernel.targets("INPUT") == kernel.targets("OUTPUT") == ["KUBE-FIREWALL"]
    assert kernel.targets("FORWARD") == kernel.targets("POSTROUTING", "nat") == []
    names = {tab: [name for t, name in kernel.chains if t == tab] for tab in ("mangle", "nat", "filter")}
    text = cleanup_text({**names, "nat": [*names["nat"], SVC, "MINE"]})
    assert table(text, "mangle") == [":KUBE-PROXY-CANARY - [0:0]", "-X KUBE-PROXY-CANARY"]
    assert f"-X {SVC}" in table(text, "nat")
    assert "MINE" not in text
    assert "KUBE-FIREWALL" not in text
    assert cleanup_text({}) == ""


def test_modes_by_name():
    assert find_mode("iptables") is IptablesProxier
    with pytest.raises(NotFoundError, match="ebpf"):
        find_mode("ebpf")


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_objects_labelled_for_others_are_not_there(label):
    """cmd/kube-proxy/app/server.go: informers with the selector !service-proxy-name,!headless. A label that comes is a delete."""
    for make in (service, lambda: eslice(WEB_0)):
        marked = make()
        marked["metadata"]["labels"] = {**marked["metadata"].get("labels", {}), label: ""}
        kept = [obj for obj in (service(), eslice(WEB_0)) if obj["kind"] != marked["kind"]]
        without = proxier(*kept).full_sync_text()
        assert proxier(*kept, marked).full_sync_text() == without
        made = proxier(*kept, make())
        made.sync()
        made.on_event("update", marked)
        assert made.full_sync_text() == without
