"""How a table walks its chains: jumps, goto, RETURN, policies, counters; what the interpreter records; what commits keep.

Source: Linux ipt_do_table(), iptables(8): "goto: ... return will not continue processing in this chain but instead in the
chain that called us via --jump".
"""

from __future__ import annotations

# ruff: noqa: E501  (rules and packets read best as one line each)
import pytest

from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.core import ACCEPT, DROP, FORWARD
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.restore import iptables_restore
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netfilter.xtables.table import Table, ipt_do_table, xt_table
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff, describe
from kubenet.sim.clock import EventLoop
from kubenet.wire.addr import ip4
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import TcpHdr


@pytest.fixture
def net() -> NetNamespace:
    return NetNamespace(Host(EventLoop(), "node-1"), "node-1")


def syn(net: NetNamespace, daddr: str = "10.96.0.1", dport: int = 80) -> SkBuff:
    return SkBuff(net, ETH_P_IP, IpHdr(ip4("10.48.1.5"), ip4(daddr), 6), TcpHdr(40000, dport, 0, 0, 2, 0), b"", 0, 40)


def counters(net: NetNamespace) -> dict[str, str]:
    """rule text -> packets, of the filter table."""
    lines = iptables_save(net, AF_INET, ["filter"], counters=True).splitlines()
    return {line.split("] ", 1)[1]: line[1:].split(":")[0] for line in lines if line.startswith("[")}


def test_return_goes_on_behind_the_jump(net: NetNamespace) -> None:
    iptables_restore(net, AF_INET, "*filter\n:A - [0:0]\n-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -j RETURN\n-A A -j ACCEPT\nCOMMIT\n")
    assert ipt_do_table(xt_table(net, AF_INET, "filter"), syn(net), FORWARD) == DROP
    assert counters(net) == {"-A FORWARD -j A": "1", "-A FORWARD -j DROP": "1", "-A A -j RETURN": "1", "-A A -j ACCEPT": "0"}


def test_goto_returns_to_the_callers_caller(net: NetNamespace) -> None:
    iptables_restore(net, AF_INET, "*filter\n:A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -g B\n-A A -j ACCEPT\nCOMMIT\n")
    assert ipt_do_table(xt_table(net, AF_INET, "filter"), syn(net), FORWARD) == DROP
    assert counters(net)["-A A -j ACCEPT"] == "0"


def test_goto_from_a_builtin_chain_ends_in_the_policy(net: NetNamespace) -> None:
    iptables_restore(net, AF_INET, "*filter\n:FORWARD DROP [0:0]\n:A - [0:0]\n-A FORWARD -g A\n-A FORWARD -j ACCEPT\nCOMMIT\n")
    table = xt_table(net, AF_INET, "filter")
    assert ipt_do_table(table, syn(net), FORWARD) == DROP
    assert table.policy_counters["FORWARD"] == [1, 40]


def test_return_in_a_builtin_chain_is_the_policy(net: NetNamespace) -> None:
    iptables_restore(net, AF_INET, "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j RETURN\n-A FORWARD -j ACCEPT\nCOMMIT\n")
    assert ipt_do_table(xt_table(net, AF_INET, "filter"), syn(net), FORWARD) == DROP


def test_counters_survive_other_rules_and_policies_do_not(net: NetNamespace) -> None:
    """Recorded ("noflush keeps"): a commit keeps the counters of rules that stay; built-in chains' policies start at 0."""
    table = xt_table(net, AF_INET, "filter")
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-p", "tcp"])
    for _ in range(3):
        ipt_do_table(table, syn(net), FORWARD)
    assert table.policy_counters["FORWARD"] == [3, 120]
    iptables_command(net, AF_INET, ["-I", "FORWARD", "-p", "udp", "-j", "DROP"])
    assert counters(net) == {"-A FORWARD -p udp -j DROP": "0", "-A FORWARD -p tcp": "3"}
    assert table.policy_counters["FORWARD"] == [0, 0]


def long_chain(n: int) -> str:
    """A chain as KUBE-SERVICES: n rules that demand an address, a protocol and a port, and a last one that does not."""
    lines = ["*filter", ":S - [0:0]", "-A FORWARD -j S"]
    lines += [f'-A S -m comment --comment "svc {i}" -m tcp -p tcp -d 10.96.{i // 256}.{i % 256} --dport 80 -j DROP' for i in range(n)]
    return "\n".join([*lines, "-A S -d 10.96.0.0/16 -j RETURN", "COMMIT", ""])


def count_tests(table: Table, skb: SkBuff) -> int:
    """How many tests a packet costs in chain S: every compiled test is wrapped by one that counts."""
    from kubenet.kernel.netfilter.xtables import compile as module

    made = 0
    original = module.all_of

    def counting(tests):  # type: ignore[no-untyped-def]
        inner = original(tests)

        def test(skb, ctx):  # type: ignore[no-untyped-def]
            nonlocal made
            made += 1
            return inner is None or inner(skb, ctx)

        return test

    module.all_of = counting
    try:
        module.compile_chain(table.chains["S"])
    finally:
        module.all_of = original
    ipt_do_table(table, skb, FORWARD)
    table.chains["S"].run = None
    return made


@pytest.mark.parametrize(("daddr", "cost"), [("10.96.0.0", 1), ("10.96.7.207", 1), ("10.96.200.1", 1), ("10.48.2.7", 1)])
def test_cost_does_not_grow_with_the_number_of_services(net: NetNamespace, daddr: str, cost: int) -> None:
    """2,000 services: the first, the last, none of them, a pod's address. Each packet, watched or not, meets at most two tests."""
    iptables_restore(net, AF_INET, long_chain(2000))
    assert count_tests(xt_table(net, AF_INET, "filter"), syn(net, daddr)) <= cost + 1
    watched = syn(net, daddr)
    watched.tr = net.loop.tracer.open(watched.id, describe(watched))
    assert count_tests(xt_table(net, AF_INET, "filter"), watched) <= cost + 1


def test_equal_chains_are_one_object() -> None:
    """A thousand nodes with equal rules hold them once; counters are each one's own."""
    nets = [NetNamespace(Host(EventLoop(), name), name) for name in ("node-1", "node-2")]
    for net in nets:
        iptables_restore(net, AF_INET, long_chain(10))
    tables = [xt_table(net, AF_INET, "filter") for net in nets]
    assert tables[0].chains["S"] is tables[1].chains["S"]
    ipt_do_table(tables[0], syn(nets[0], "10.96.0.3"), FORWARD)
    assert sum(tables[0].counters["S"]) == 41
    assert tables[1].counters.get("S") is None


def test_a_watched_packet_leaves_its_way(net: NetNamespace) -> None:
    """Stations: every rule that matched, with its number as --line-numbers counts, and the policy (-1)."""
    iptables_restore(net, AF_INET, (
        "*filter\n:A - [0:0]\n-A FORWARD -p udp -j DROP\n-A FORWARD -m comment --comment portals -j A\n"
        "-A A -p tcp --dport 443 -j DROP\n-A A -m statistic --mode random --probability 1 -j MARK --or-mark 1\nCOMMIT\n"))
    skb = syn(net)
    skb.tr = net.loop.tracer.open(skb.id, describe(skb))
    assert ipt_do_table(xt_table(net, AF_INET, "filter"), skb, FORWARD) == ACCEPT
    seen = [(s.table, s.chain, s.rule, s.verdict, (s.data or {})["tried"]) for s in skb.tr.stations]
    assert seen == [("filter", "FORWARD", 2, "jump A", 2), ("filter", "A", 2, "MARK", 2), ("filter", "FORWARD", -1, "ACCEPT", 2)]
    assert skb.tr.stations[0].what == "portals"
    assert "rolled" in (skb.tr.stations[1].data or {})["dice"]


def test_trace_target_logs_every_rule(net: NetNamespace) -> None:
    """trace_packet(): TRACE: table:chain:rule|return|policy:number, then the packet as LOG prints it."""
    iptables_restore(net, AF_INET, "*filter\n:A - [0:0]\n-A FORWARD -j A\n-A A -p tcp -j RETURN\nCOMMIT\n")
    skb = syn(net)
    skb.nf_trace = True
    ipt_do_table(xt_table(net, AF_INET, "filter"), skb, FORWARD)
    lines = [text.split(" IN=")[0] for _, text in net.host.dmesg]
    assert lines == ["TRACE: filter:FORWARD:rule:1", "TRACE: filter:A:return:1", "TRACE: filter:FORWARD:policy:2"]


def test_refusals_reach_the_kernel_log(net: NetNamespace) -> None:
    """"Run `dmesg' for more information": xt_check_target() says what was wrong."""
    assert iptables_command(net, AF_INET, ["-A", "FORWARD", "-j", "DNAT", "--to-destination", "10.0.0.1"])[0] == 1
    assert net.host.dmesg[-1][1] == "x_tables: ip_tables: DNAT target: only valid in nat table, not filter"
    iptables_command(net, AF_INET, ["-t", "nat", "-A", "PREROUTING", "-j", "MASQUERADE"])
    assert net.host.dmesg[-1][1] == (
        "x_tables: ip_tables: MASQUERADE target: used from hooks PREROUTING, but only usable from POSTROUTING")
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "tcp", "--dport", "80"])
    assert net.host.dmesg[-1][1] == "x_tables: ip_tables: tcp match: only valid for protocol 6"


def test_hooks_are_registered_when_a_table_is_first_named(net: NetNamespace) -> None:
    """An idle namespace pays nothing; `iptables -t mangle -L` loads the table (iptable_mangle)."""
    assert not any(net.nf.run[AF_INET])
    iptables_command(net, AF_INET, ["-t", "mangle", "-L"])
    assert [len(fns) for fns in net.nf.run[AF_INET]] == [1, 1, 1, 1, 1]
    iptables_command(net, AF_INET, ["-L"])
    assert [entry.name for entry in net.nf.entries[(AF_INET, FORWARD)]] == ["iptable_mangle", "iptable_filter"]


def test_known_lines_are_not_parsed_again(net: NetNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that repeats its lines, here or on another node, pays one lookup for each."""
    from kubenet.kernel.netfilter.xtables import restore

    iptables_restore(net, AF_INET, long_chain(50))
    before = iptables_save(net, AF_INET)
    parsed: list[list[str]] = []
    original = restore.parse_command

    def counting(words: list[str], *more: object, **options: object):  # type: ignore[no-untyped-def]
        parsed.append(words)
        return original(words, *more, **options)

    monkeypatch.setattr(restore, "parse_command", counting)
    iptables_restore(net, AF_INET, long_chain(50))
    other = NetNamespace(Host(EventLoop(), "node-2"), "node-2")
    iptables_restore(other, AF_INET, long_chain(50))
    assert parsed == []
    assert iptables_save(net, AF_INET) == iptables_save(other, AF_INET) == before
    iptables_restore(net, AF_INET, long_chain(50).replace("COMMIT", "-A S -d 1.2.3.4 -j DROP\nCOMMIT"))
    assert parsed == [["-A", "S", "-d", "1.2.3.4", "-j", "DROP"]]


def test_a_known_jump_is_still_checked(net: NetNamespace) -> None:
    """The line's rule may be known from a namespace that has the chain; here it has not."""
    from kubenet.kernel.netfilter.xtables.errors import XtablesError

    other = NetNamespace(Host(EventLoop(), "node-2"), "node-2")
    iptables_restore(other, AF_INET, "*filter\n:KNOWN - [0:0]\n-A FORWARD -j KNOWN\nCOMMIT\n")
    with pytest.raises(XtablesError) as refused:
        iptables_restore(net, AF_INET, "*filter\n-A FORWARD -j ACCEPT\n-A FORWARD -j KNOWN\nCOMMIT\n")
    assert refused.value.text.startswith("iptables-restore v1.8.9 (legacy): Couldn't load target `KNOWN'")
    assert "Error occurred at line: 3\n" in refused.value.text
