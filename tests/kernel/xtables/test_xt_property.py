"""Compiled chains agree with the plain interpreter on random rules and packets: verdict, counters, marks, dice, lists.

evaluate.py walks rule after rule as ipt_do_table() does; compile.py may skip rules by its index. Two namespaces with the
same name and seed get the same rules and packets, one way each; afterwards everything that rules can change is equal.
And: what iptables-save prints is read back as the same rules.
"""

from __future__ import annotations

# ruff: noqa: E501  (rules and packets read best as one line each)
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.core import FORWARD, HOOK_NAMES
from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.evaluate import evaluate
from kubenet.kernel.netfilter.xtables.restore import iptables_restore, iptables_restore_command
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netfilter.xtables.table import Table, ipt_do_table, xt_table
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import TcpHdr
from kubenet.wire.udp import UdpHdr

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.1.1")
CHAINS = ("FORWARD", "A", "B", "C")
bang = st.sampled_from(("", "", "! "))


def some(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(("", text))


headers = st.builds(
    lambda s, d, i: f"{s}{d}{i}",
    st.one_of(st.just(""), st.builds(lambda b, a, p: f"{b}-s {a}/{p} ", bang, st.sampled_from(ADDRESSES), st.sampled_from((32, 24, 8)))),
    st.one_of(st.just(""), st.builds(lambda b, a, p: f"{b}-d {a}/{p} ", bang, st.sampled_from(ADDRESSES), st.sampled_from((32, 32, 32, 24)))),
    st.one_of(st.just(""), st.builds(lambda b, i: f"{b}-i {i} ", bang, st.sampled_from(("eth0", "eth+", "cni0")))),
)
ports = st.one_of(
    st.just(""),
    st.builds(lambda m, b, p: f"-p {m} {b}--dport {p} ", st.sampled_from(("tcp", "udp")), bang, st.sampled_from((80, 80, 81, "80:90"))),
    st.builds(lambda m, p: f"-m {m} -p {m} --dport {p} ", st.sampled_from(("tcp", "udp")), st.sampled_from((80, 81, 443))),
    st.builds(lambda p: f"-p {p} ", st.sampled_from(("tcp", "udp", "icmp"))),
)
matches = st.lists(st.sampled_from((
    "-m mark --mark 0x1/0x1 ", "-m mark ! --mark 0x2/0x2 ", "-m statistic --mode random --probability 0.5 ",
    "-m statistic --mode nth --every 3 --packet 1 ", "-m comment --comment x ", "-m recent --name R --set ",
    "-m recent --name R --rcheck --seconds 1 --reap ", "-m recent --name R --remove ", "-m limit --limit 100/sec --limit-burst 2 ",
    "-m quota --quota 200 ", "-m length --length 40:60 ", "-m ttl --ttl-gt 30 ", "-m recent --name R --update ",
)), max_size=2).map("".join)
targets = st.sampled_from((
    "-j ACCEPT", "-j DROP", "-j RETURN", "", "-j MARK --or-mark 1", "-j MARK --xor-mark 2", "-j MARK --set-mark 3/7", "-j LOG",
    "-j TTL --ttl-dec 1", "-j DSCP --set-dscp 4",
))


@st.composite
def rulesets(draw: Any) -> str:
    """A mangle table with three user chains that jump forwards only."""
    lines = ["*mangle", f":FORWARD {draw(st.sampled_from(('ACCEPT', 'DROP')))} [0:0]", ":A - [0:0]", ":B - [0:0]", ":C - [0:0]"]
    for at, chain in enumerate(CHAINS):
        later = [f"-{how} {name}" for name in CHAINS[at + 1:] for how in "jg"]
        target = st.one_of(targets, st.sampled_from(later)) if later else targets
        # matches may stand before the port match, as kube-proxy writes it, so that dice are rolled before ports are looked at
        rule = st.one_of(st.builds(lambda h, p, m, t: f"{h}{p}{m}{t}", headers, ports, matches, target),
                         st.builds(lambda h, m, p, t: f"{h}{m}{p}{t}", headers, matches, ports, target))
        lines += [f"-A {chain} {text}".rstrip() for text in draw(st.lists(rule, max_size=14))]
    return "\n".join([*lines, "COMMIT", ""])


class Dev:
    """A device, as far as rules look at one."""

    def __init__(self, name: str) -> None:
        self.name = name


packets = st.lists(st.tuples(
    st.sampled_from((0x0A000001, 0x0A000002, 0x0A000101)), st.sampled_from((0x0A000001, 0x0A000002, 0x0A000101)),
    st.sampled_from((6, 17, 1)), st.sampled_from((80, 81, 443)), st.sampled_from(("eth0", "cni0")), st.sampled_from((0, 1, 2)),
    st.integers(0, 900)), min_size=1, max_size=12)


def play(text: str, script: list[tuple[Any, ...]], way: str) -> tuple[Any, ...]:
    """The rules' effects on these packets: "plain" interpreter, "watched" packets, or "compiled" chains."""
    loop = EventLoop()
    net = NetNamespace(Host(loop, "node-1"), "node-1")
    iptables_restore(net, AF_INET, text)
    table: Table = xt_table(net, AF_INET, "mangle")
    seen = []
    for saddr, daddr, proto, port, dev, mark, wait in script:
        loop.now += wait * MSEC
        l4 = TcpHdr(1000, port, 0, 0, 2, 0) if proto == 6 else UdpHdr(1000, port) if proto == 17 else None
        skb = SkBuff(net, ETH_P_IP, IpHdr(saddr, daddr, proto), l4, b"", 0, 40 if proto == 6 else 28)
        skb.mark, skb.indev, skb.outdev = mark, Dev(dev), Dev("eth1")
        if way == "watched":
            skb.tr = loop.tracer.open(skb.id, {})
        verdict = evaluate(table, skb, FORWARD, plain=True) if way == "plain" else ipt_do_table(table, skb, FORWARD)
        seen.append((verdict, skb.mark, skb.ip.ttl, skb.ip.tos))
    counters = {name: counts for name, counts in table.counters.items() if any(counts)}
    recent = {name: [(a, e.ttl, e.stamps) for a, e in found.items()] for name, found in net.extra.get("xt_recent", {}).items()}
    dice = net.streams["statistic"].state if "statistic" in net.streams else None
    return seen, counters, table.policy_counters, table.state, recent, dice, net.host.dmesg


@settings(max_examples=150, deadline=None)
@given(rulesets(), packets)
def test_compiled_is_interpreted(text: str, script: list[tuple[Any, ...]]) -> None:
    """Linux: ipt_do_table() is the specification of both."""
    plain = play(text, script, "plain")
    assert play(text, script, "compiled") == plain
    assert play(text, script, "watched") == plain


@settings(max_examples=60, deadline=None)
@given(rulesets())
def test_saved_text_restores_to_itself(text: str) -> None:
    """iptables-save | iptables-restore changes nothing."""
    net = NetNamespace(Host(EventLoop(), "node-1"), "node-1")
    iptables_restore(net, AF_INET, text)
    saved = iptables_save(net, AF_INET, counters=True)
    again = NetNamespace(Host(EventLoop(), "node-1"), "node-1")
    iptables_restore(again, AF_INET, saved, counters=True)
    assert iptables_save(again, AF_INET, counters=True) == saved


WORDS = ("-A", "INPUT", "-j", "ACCEPT", "-m", "tcp", "-p", "tcp", "--dport", "80", "!", "-s", "10.0.0.1/8", '"', "COMMIT", "*filter", ":X",
         "-", "[1:2]", "-D", "-I", "-X", "-N", "-F", "recent", "--set", "statistic", "--mode", "nth", "--every", "DNAT", "\n", "0x", "--",
         "--mark", "mark", "conntrack", "--ctstate", "NEW", "-E", "-P", "-c", "limit", "--limit", "1/", "-Z", "-R", "1", "-g", "-f", "-4", "-6")


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(WORDS), max_size=16).map(" ".join)))
def test_any_input_gives_rules_or_an_error(text: str) -> None:
    """Whatever the input, the tool answers with an exit code of its own, and a failed table stays as it was."""
    net = NetNamespace(Host(EventLoop(), "node-1"), "node-1")
    body = f"*filter\n{text}\nCOMMIT\n"
    code, _, words = iptables_restore_command(net, AF_INET, [], body)
    assert code in (0, 1, 2, 3)
    assert (code == 0) or words
    assert set(net.xt[AF_INET]["filter"].builtin) == {HOOK_NAMES[i] for i in (1, 2, 3)}
    try:
        iptables_restore(net, AF_INET, text)
    except XtablesError as error:
        assert error.status in (1, 2, 3)
