"""What each match says about a packet, and what each target does to it; one row per fact.

Expected values are the man page's (iptables-extensions(8)) and the kernel functions' named in the matches' files.
"""

from __future__ import annotations

# ruff: noqa: E501  (rules and packets read best as one line each)
import re
from typing import Any

import pytest

from kubenet.kernel.host import Host
from kubenet.kernel.netfilter.core import ACCEPT, DROP, FORWARD, OUTPUT
from kubenet.kernel.netfilter.ipset import ip_sets
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.matches.hashlimit import hashlimit_text
from kubenet.kernel.netfilter.xtables.matches.nfacct import nfacct_add, nfacct_objects
from kubenet.kernel.netfilter.xtables.matches.recent import recent_tables, recent_text
from kubenet.kernel.netfilter.xtables.table import ipt_do_table, xt_table
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.query.offline.sets import load_sets
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC, SEC
from kubenet.wire.addr import ip4, mac
from kubenet.wire.ethernet import EthHdr
from kubenet.wire.icmp import IcmpHdr
from kubenet.wire.ipv4 import IpHdr
from kubenet.wire.tcp import TcpHdr, TcpOptions
from kubenet.wire.udp import UdpHdr

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
NEW, ESTABLISHED_REPLY, RELATED, UNTRACKED = 2, 3, 1, 7


class Dev:
    """A device, as far as rules look at one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ifaddrs: list[Any] = []


class Ct:
    """A connection, as far as rules look at one."""

    def __init__(self, status: int = 0, mark: int = 0) -> None:
        tcp = 2 << 8 | 6
        self.orig = (ip4("10.48.1.5"), 40000, ip4("10.96.0.1"), 80, tcp)
        self.reply = (ip4("10.48.2.7"), 8080, ip4("10.48.1.5"), 40000, tcp)
        self.status, self.mark, self.timeout = status, mark, 100 * SEC


@pytest.fixture
def net() -> NetNamespace:
    return NetNamespace(Host(EventLoop(), "node-1"), "node-1")


def packet(net: NetNamespace, kind: str = "tcp", **fields: Any) -> SkBuff:
    """client 10.48.1.5:40000 to web 10.96.0.1:80, a SYN, from cni0 to eth0."""
    l4: Any = {"tcp": TcpHdr(40000, 80, 100, 0, SYN, 64240, TcpOptions(mss=1460)), "udp": UdpHdr(40000, 53),
               "icmp": IcmpHdr(8, 0, 0)}.get(kind)
    proto = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132}[kind]
    length = {"tcp": 44, "udp": 28, "icmp": 28, "sctp": 32}[kind]
    skb = SkBuff(net, ETH_P_IP, IpHdr(ip4("10.48.1.5"), ip4("10.96.0.1"), proto), l4, b"", 0, length)
    skb.indev, skb.outdev = Dev("cni0"), Dev("eth0")
    skb.eth = EthHdr(mac("02:00:00:00:00:02"), mac("02:00:00:00:00:01"), ETH_P_IP)
    for name, value in fields.items():
        where = l4 if name in ("flags", "sport", "dport", "type", "code") else skb.ip if name in ("ttl", "tos", "frag", "saddr") else skb
        setattr(where, name, value)
    return skb


def verdict(net: NetNamespace, rule: str, skb: SkBuff, table: str = "filter", chain: str = "FORWARD") -> bool:
    """Does a rule with these matches and -j DROP drop the packet?"""
    code, _, words = iptables_command(net, AF_INET, ["-t", table, "-A", chain, *rule.split(), "-j", "DROP"])
    assert code == 0, words
    return ipt_do_table(xt_table(net, AF_INET, table), skb, FORWARD if chain == "FORWARD" else OUTPUT) == DROP


@pytest.mark.parametrize(("rule", "hit"), [
    ("-s 10.48.1.5", True), ("-s 10.48.1.0/24", True), ("! -s 10.48.1.0/24", False), ("-d 10.96.0.1", True), ("-d 10.96.0.2", False),
    ("-s 10.0.1.5/255.0.255.255", True), ("-i cni0", True), ("-i cni+", True), ("-i cni", False), ("! -i eth0", True), ("-o eth0", True),
    ("-p tcp", True), ("! -p tcp", False), ("-p 17", False), ("-f", False), ("! -f", True),
    ("-p tcp --dport 80", True), ("-p tcp --dport 1:79", False), ("-p tcp ! --dport 1:79", True), ("-p tcp --sport 40000 --dport 80", True),
    ("-p tcp --syn", True), ("-p tcp ! --syn", False), ("-p tcp --tcp-flags SYN,ACK SYN", True), ("-p tcp --tcp-flags ALL ACK", False),
    ("-p tcp --tcp-option 2", True), ("-p tcp --tcp-option 8", False), ("-p udp --dport 80", False),
    ("-p tcp -m multiport --dports 22,80", True), ("-p tcp -m multiport --sports 22,80", False), ("-p tcp -m multiport --ports 1:90", True),
    ("-p tcp -m multiport ! --dports 22,80", False), ("-m length --length 44", True), ("-m length --length 45:", False),
    ("-m ttl --ttl-eq 64", True), ("-m ttl --ttl-lt 64", False), ("-m ttl ! --ttl-eq 64", False), ("-m dscp --dscp 0", True),
    ("-m iprange --src-range 10.48.1.1-10.48.1.9", True), ("-m iprange ! --dst-range 10.96.0.1-10.96.0.1", False),
    ("-m mac --mac-source 02:00:00:00:00:01", True), ("-m mac ! --mac-source 02:00:00:00:00:01", False),
    ("-m pkttype --pkt-type unicast", True), ("-m pkttype --pkt-type multicast", False), ("-m mark --mark 0", True),
    ("-m mark --mark 0x4000/0x4000", False), ("-m statistic --mode random --probability 1", True),
    ("-m statistic --mode random --probability 0", False), ("-m physdev --physdev-is-in", False), ("-m physdev ! --physdev-is-in", True),
    ("-m comment --comment x", True), ("-p icmp --icmp-type any", False),
])
def test_syn_to_the_service(net: NetNamespace, rule: str, hit: bool) -> None:
    assert verdict(net, rule, packet(net)) is hit


@pytest.mark.parametrize(("rule", "hit"), [
    ("-p icmp --icmp-type 8", True), ("-p icmp --icmp-type 8/0", True), ("-p icmp --icmp-type 8/1", False),
    ("-p icmp ! --icmp-type echo-reply", True), ("-p icmp --icmp-type any", True), ("-p icmp --icmp-type 3", False),
])
def test_icmp(net: NetNamespace, rule: str, hit: bool) -> None:
    assert verdict(net, rule, packet(net, "icmp")) is hit


def test_sctp_ports_are_the_first_bytes(net: NetNamespace) -> None:
    """RFC 9260 3.1: source port, destination port."""
    skb = packet(net, "sctp", payload=bytes((0x9C, 0x40, 0, 80)) + bytes(8), plen=12)
    assert verdict(net, "-p sctp --sport 40000 --dport 80", skb)


def test_later_fragments_have_no_ports(net: NetNamespace) -> None:
    """xt_tcpudp.c: a rule with ports does not match them; one without does."""
    skb = packet(net, frag=185)
    skb.l4 = None
    assert not verdict(net, "-p tcp --dport 80", skb)
    assert verdict(net, "-p tcp -f", skb)


@pytest.mark.parametrize("offset", [0, 1])
def test_cut_headers_are_dropped(net: NetNamespace, offset: int) -> None:
    """xt_tcpudp.c: "Dropping evil TCP offset=1 frag", and headers that do not fit."""
    skb = packet(net, frag=offset)
    skb.l4 = None
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-p", "tcp", "--dport", "443", "-j", "ACCEPT"])
    assert ipt_do_table(xt_table(net, AF_INET, "filter"), skb, FORWARD) == DROP


SRC_NAT, DST_NAT, ASSURED, CONFIRMED = 0x10, 0x20, 4, 8


@pytest.mark.parametrize(("rule", "info", "status", "hit"), [
    ("--ctstate NEW", NEW, 0, True), ("--ctstate RELATED,ESTABLISHED", NEW, 0, False), ("--ctstate ESTABLISHED", ESTABLISHED_REPLY, 0, True),
    ("--ctstate ESTABLISHED", 0, 0, True), ("--ctstate RELATED", RELATED, 0, True), ("--ctstate RELATED", 4, 0, True),
    ("--ctstate DNAT", NEW, DST_NAT, True), ("--ctstate SNAT", NEW, DST_NAT, False), ("! --ctstate RELATED,ESTABLISHED,DNAT", NEW, DST_NAT, False),
    ("! --ctstate RELATED,ESTABLISHED,DNAT", NEW, 0, True), ("--ctstate INVALID", NEW, 0, False),
    ("--ctproto tcp", NEW, 0, True), ("! --ctproto udp", NEW, 0, True), ("--ctorigdst 10.96.0.0/16", NEW, 0, True),
    ("--ctreplsrc 10.48.2.7", NEW, 0, True), ("--ctrepldst 10.48.2.7", NEW, 0, False), ("--ctorigsrc 10.48.1.5 --ctorigdstport 80", NEW, 0, True),
    ("--ctreplsrcport 8000:9000", NEW, 0, True), ("--ctorigsrcport 1:1000", NEW, 0, False), ("--ctstatus ASSURED", NEW, ASSURED | CONFIRMED, True),
    ("--ctstatus ASSURED", NEW, CONFIRMED, False), ("! --ctstatus ASSURED", NEW, CONFIRMED, True), ("--ctexpire 90:110", NEW, 0, True),
    ("--ctexpire 10", NEW, 0, False), ("--ctdir ORIGINAL", NEW, 0, True), ("--ctdir REPLY", NEW, 0, False),
    ("--ctstate NEW --ctorigdst 10.96.0.2", NEW, 0, False),
])
def test_conntrack(net: NetNamespace, rule: str, info: int, status: int, hit: bool) -> None:
    """conntrack_mt() on a connection of the client to web, translated to web-0."""
    skb = packet(net, ct=Ct(status), ctinfo=info, ctdir=0)
    assert verdict(net, f"-m conntrack {rule}", skb) is hit


@pytest.mark.parametrize(("rule", "info", "hit"), [
    ("-m conntrack --ctstate INVALID", 0, True), ("-m conntrack --ctstate NEW", 0, False), ("-m conntrack --ctstate UNTRACKED", UNTRACKED, True),
    ("-m conntrack --ctstate INVALID", UNTRACKED, False), ("-m conntrack --ctproto tcp", 0, False), ("-m conntrack ! --ctproto udp", 0, False),
    ("-m state --state INVALID", 0, True), ("-m state ! --state INVALID", 0, False), ("-m connmark --mark 0", 0, False),
    ("-m conntrack --ctstate INVALID --ctorigdst 10.0.0.1", 0, True),
])
def test_packet_without_connection(net: NetNamespace, rule: str, info: int, hit: bool) -> None:
    """conntrack_mt(): only its state can be asked; "if (ct == NULL) return info->match_flags & XT_CONNTRACK_STATE"."""
    assert verdict(net, rule, packet(net, ctinfo=info)) is hit


def test_probability_is_compared_with_31_random_bits(net: NetNamespace) -> None:
    """statistic_mt(): (get_random_u32() & 0x7FFFFFFF) < lround(p * 2^31)."""
    bits = [net.host.stream("node-1", "statistic")]
    draws = [bits[0].u32() & 0x7FFFFFFF for _ in range(200)]
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "statistic", "--mode", "random", "--probability", "0.3333333333", "-j", "DROP"])
    table = xt_table(net, AF_INET, "filter")
    got = [ipt_do_table(table, packet(net), FORWARD) == DROP for _ in draws]
    assert got == [draw < 715827883 for draw in draws]


def test_nth(net: NetNamespace) -> None:
    """iptables-extensions(8): --packet p, the counter's value at which it matches, 0..n-1."""
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "statistic", "--mode", "nth", "--every", "3", "--packet", "1", "-j", "DROP"])
    table = xt_table(net, AF_INET, "filter")
    assert [ipt_do_table(table, packet(net), FORWARD) for _ in range(7)] == [ACCEPT, DROP, ACCEPT, ACCEPT, DROP, ACCEPT, ACCEPT]
    iptables_command(net, AF_INET, ["-A", "FORWARD"])  # a replaced table counts from the beginning
    assert [ipt_do_table(table, packet(net), FORWARD) for _ in range(3)] == [ACCEPT, DROP, ACCEPT]


def test_limit(net: NetNamespace) -> None:
    """iptables-extensions(8): an initial burst, then one per period."""
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "limit", "--limit", "2/sec", "--limit-burst", "3", "-j", "DROP"])
    table = xt_table(net, AF_INET, "filter")

    def hits(n: int) -> int:
        return [ipt_do_table(table, packet(net), FORWARD) for _ in range(n)].count(DROP)

    assert hits(5) == 3
    net.loop.now += 499 * MSEC
    assert hits(5) == 0
    net.loop.now += 1 * MSEC
    assert hits(5) == 1
    net.loop.now += 60 * SEC
    assert hits(5) == 3


def test_recent_is_session_affinity(net: NetNamespace) -> None:
    """xt_recent.c: --rcheck --seconds asks for the last times; --set writes them. The list outlives the rules."""
    table = xt_table(net, AF_INET, "filter")
    asks, sets = "-A FORWARD -m recent --name SEP --rcheck --seconds 10 --reap -j DROP", "-A FORWARD -m recent --name SEP --set"
    for line in (asks, sets):
        assert iptables_command(net, AF_INET, line.split())[0] == 0
    assert ipt_do_table(table, packet(net), FORWARD) == ACCEPT
    assert ipt_do_table(table, packet(net), FORWARD) == DROP
    net.loop.now += 10 * SEC
    assert ipt_do_table(table, packet(net), FORWARD) == DROP  # 10 s are within 10 s
    net.loop.now += 10 * SEC + MSEC
    iptables_command(net, AF_INET, ["-D", "FORWARD", "2"])
    assert ipt_do_table(table, packet(net), FORWARD) == ACCEPT
    assert recent_tables(net)["SEP"] == {}  # reaped


def test_recent_hitcount_and_remove(net: NetNamespace) -> None:
    """iptables-extensions(8): --hitcount narrows to addresses seen at least so many times."""
    table = xt_table(net, AF_INET, "filter")
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "recent", "--name", "x", "--update", "--seconds", "60", "--hitcount", "3", "-j", "DROP"])
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "recent", "--name", "x", "--set"])
    assert [ipt_do_table(table, packet(net), FORWARD) for _ in range(5)] == [ACCEPT, ACCEPT, ACCEPT, DROP, DROP]
    iptables_command(net, AF_INET, ["-F", "FORWARD"])
    assert verdict(net, "-m recent --name x --remove", packet(net))
    assert recent_tables(net)["x"] == {}


def test_recent_list_holds_100(net: NetNamespace) -> None:
    """xt_recent.c: ip_list_tot=100; the least recently seen address makes room."""
    table = xt_table(net, AF_INET, "filter")
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "recent", "--name", "x", "--set"])
    for i in range(101):
        skb = packet(net)
        skb.ip.saddr = 1000 + i
        ipt_do_table(table, skb, FORWARD)
    assert list(recent_tables(net)["x"]) == list(range(1001, 1101))


def test_quota(net: NetNamespace) -> None:
    """xt_quota.c: what does not fit ends the quota."""
    table = xt_table(net, AF_INET, "filter")
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-m", "quota", "--quota", "100", "-j", "DROP"])
    assert [ipt_do_table(table, packet(net), FORWARD) for _ in range(3)] == [DROP, DROP, ACCEPT]


def test_nfacct_counts_in_its_object(net: NetNamespace) -> None:
    """The rule is refused without the object (recorded); with it, packets and bytes are counted there."""
    nfacct_add(net, "ct_state_invalid_dropped_pkts")
    assert verdict(net, "-m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts", packet(net))
    assert nfacct_objects(net) == {"ct_state_invalid_dropped_pkts": [1, 44]}


def test_owner(net: NetNamespace) -> None:
    """owner_mt(): by the socket's user; a packet without a socket has none."""

    class Sk:
        uid = 1000

    assert verdict(net, "-m owner --uid-owner 1000-2000", packet(net, sk=Sk()), chain="OUTPUT")
    iptables_command(net, AF_INET, ["-F"])
    assert not verdict(net, "-m owner --uid-owner 0", packet(net, sk=Sk()), chain="OUTPUT")
    assert not verdict(net, "-m owner --socket-exists", packet(net), chain="OUTPUT")


def test_string(net: NetNamespace) -> None:
    assert verdict(net, "-m string --algo bm --string GET", packet(net, payload=b"xGET /", plen=6))
    iptables_command(net, AF_INET, ["-F"])
    assert not verdict(net, "-m string --algo bm --string get", packet(net, payload=b"xGET /", plen=6))


@pytest.mark.parametrize(("target", "before", "after"), [
    ("--set-mark 5", 0xF0, 5), ("--set-mark 0x1/0xf", 0xFE, 0xF1), ("--or-mark 0x4000", 1, 0x4001), ("--and-mark 0xff", 0x1FF, 0xFF),
    ("--xor-mark 0x4000", 0x4001, 1), ("--set-xmark 0x3/0x1", 0x1, 0x3),
])
def test_mark_target(net: NetNamespace, target: str, before: int, after: int) -> None:
    """iptables-extensions(8): --set-xmark zeroes the mask's bits and XORs value in; the others are its special cases."""
    iptables_command(net, AF_INET, f"-A FORWARD -j MARK {target}".split())
    skb = packet(net, mark=before)
    assert ipt_do_table(xt_table(net, AF_INET, "filter"), skb, FORWARD) == ACCEPT
    assert skb.mark == after


@pytest.mark.parametrize(("target", "mark", "ctmark", "result"), [
    ("--save-mark", 5, 0, (5, 5)), ("--restore-mark", 5, 9, (9, 9)), ("--set-mark 7", 5, 0, (5, 7)), ("--or-mark 1", 0, 2, (0, 3)),
    ("--restore-mark --mask 0xf", 0xF0, 0xFF, (0xFF, 0xFF)),
])
def test_connmark_target(net: NetNamespace, target: str, mark: int, ctmark: int, result: tuple[int, int]) -> None:
    """connmark_tg()."""
    iptables_command(net, AF_INET, f"-A FORWARD -j CONNMARK {target}".split())
    skb = packet(net, mark=mark, ct=Ct(mark=ctmark), ctinfo=NEW)
    ipt_do_table(xt_table(net, AF_INET, "filter"), skb, FORWARD)
    assert (skb.mark, skb.ct.mark) == result


@pytest.mark.parametrize(("target", "mss", "after"), [("1400", 1460, 1400), ("1460", 1400, 1400), ("1400", 0, 536)])
def test_tcpmss(net: NetNamespace, target: str, mss: int, after: int) -> None:
    """tcpmss_mangle_packet(): never raises; adds the option where there is none, at most 536 (RFC 9293 3.7.1)."""
    iptables_command(net, AF_INET, f"-A FORWARD -p tcp --syn -j TCPMSS --set-mss {target}".split())
    skb = packet(net)
    skb.l4.options = TcpOptions(mss=mss)
    ipt_do_table(xt_table(net, AF_INET, "filter"), skb, FORWARD)
    assert skb.l4.options.mss == after


def test_log_line(net: NetNamespace) -> None:
    """nf_log_syslog.c: dump_ipv4_packet(), as dmesg shows it."""
    iptables_command(net, AF_INET, ["-A", "FORWARD", "-j", "LOG", "--log-prefix", "web: ", "--log-tcp-options"])
    ipt_do_table(xt_table(net, AF_INET, "filter"), packet(net, mark=0x4000), FORWARD)
    assert net.host.dmesg[-1][1] == (
        "web: IN=cni0 OUT=eth0 MAC=02:00:00:00:00:02:02:00:00:00:00:01:08:00 SRC=10.48.1.5 DST=10.96.0.1 LEN=44 TOS=0x00 PREC=0x00 "
        "TTL=64 ID=0 DF PROTO=TCP SPT=40000 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0 OPT (020405B4) MARK=0x4000 ")


def test_notrack(net: NetNamespace) -> None:
    """notrack_tg(): IP_CT_UNTRACKED, so that connection tracking leaves it alone."""
    iptables_command(net, AF_INET, ["-t", "raw", "-A", "OUTPUT", "-j", "NOTRACK"])
    skb = packet(net)
    ipt_do_table(xt_table(net, AF_INET, "raw"), skb, OUTPUT)
    assert skb.ctinfo == UNTRACKED


def _hits(net: NetNamespace, n: int, **fields: Any) -> int:
    table = xt_table(net, AF_INET, "filter")
    return [ipt_do_table(table, packet(net, **fields), FORWARD) for _ in range(n)].count(DROP)


def test_hashlimit_counts_for_each_address(net: NetNamespace) -> None:
    """xt_hashlimit.c: a bucket of `burst` for each key, one more per period; an idle one is full again at htable-expire."""
    rule = "-A FORWARD -m hashlimit --hashlimit-upto 2/sec --hashlimit-burst 3 --hashlimit-mode srcip --hashlimit-name a -j DROP"
    iptables_command(net, AF_INET, rule.split())
    assert [_hits(net, 5), _hits(net, 5, saddr=ip4("10.48.1.9"))] == [3, 3]
    net.loop.now += 500 * MSEC
    assert [_hits(net, 5), _hits(net, 5, saddr=ip4("10.48.1.9"))] == [1, 1]
    net.loop.now += 1 * SEC  # the unit's second is the expiry that goes without saying
    assert _hits(net, 5) == 3
    text = hashlimit_text(net, AF_INET, "a")
    assert re.fullmatch(r"1 10\.48\.1\.5:0->0\.0\.0\.0:0 \d+ \d+ \d+\n", text), text


def test_a_full_hashlimit_table_drops(net: NetNamespace) -> None:
    """xt_hashlimit.c dsthash_alloc_init(): no room for another key, hotdrop; htable_create(): never fewer than buckets."""
    rule = "-A FORWARD -m hashlimit --hashlimit-upto 1/hour --hashlimit-mode srcip --hashlimit-htable-size 2 --hashlimit-htable-max 1 --hashlimit-name a"
    iptables_command(net, AF_INET, rule.split())
    assert [_hits(net, 1, saddr=n) for n in (1, 2, 3, 1)] == [0, 0, 1, 0]


def test_hashlimit_bytes(net: NetNamespace) -> None:
    """xt_hashlimit.c hashlimit_byte_cost(): 1024 b/s lets through what fits in a second, in chunks of 16 bytes, each packet one more."""
    iptables_command(net, AF_INET, "-A FORWARD -m hashlimit --hashlimit-upto 1kb/s --hashlimit-name a -j DROP".split())
    size = packet(net).len
    chunks = (size >> 4) + 1
    assert _hits(net, 100) == 65 // chunks  # cost of a chunk: 2**32 / 65 of a full bucket
    net.loop.now += 1 * SEC
    assert _hits(net, 100) == 65 // chunks


def test_hashlimit_rate_match(net: NetNamespace) -> None:
    """xt_hashlimit.c, revision 3: as long as the last window was below the rate; counted in whole windows."""
    rule = "-A FORWARD -m hashlimit --hashlimit-upto 10/sec --hashlimit-burst 5 --hashlimit-rate-match --hashlimit-htable-expire 9000 --hashlimit-name a -j DROP"
    iptables_command(net, AF_INET, rule.split())
    assert _hits(net, 20) == 15  # burst + rate in one window
    net.loop.now += 1 * SEC
    assert _hits(net, 5) == 0  # the window that ended had 20 packets: more than the rate
    net.loop.now += 1 * SEC
    assert _hits(net, 5) == 5


def test_proc_xt_recent(net: NetNamespace) -> None:
    """xt_recent.c recent_seq_show(): jiffies, which begin 300 s before 2^32."""
    iptables_command(net, AF_INET, "-A FORWARD -m recent --name x --set".split())
    _hits(net, 1)
    net.loop.now += 250 * MSEC
    _hits(net, 1)
    first = (1 << 32) - 300_000
    assert recent_text(net, "x") == f"src=10.48.1.5 ttl: 65 last_seen: {first + 250} oldest_pkt: 2 {first}, {first + 250}\n"


def _sets(net: NetNamespace, *lines: str) -> None:
    load_sets(net, "\n".join(lines), "sets")


@pytest.mark.parametrize(("lines", "rule", "hit"), [
    ("create a hash:ip\nadd a 10.48.1.5", "--match-set a src", True), ("create a hash:ip\nadd a 10.48.1.5", "--match-set a dst", False),
    ("create a hash:ip\nadd a 10.48.1.6", "! --match-set a src", True), ("create a hash:ip netmask 24\nadd a 10.48.1.99", "--match-set a src", True),
    ("create a hash:net\nadd a 10.0.0.0/8", "--match-set a src", True), ("create a hash:net\nadd a 10.0.0.0/8\nadd a 10.48.0.0/16 nomatch", "--match-set a src", False),
    ("create a hash:net\nadd a 10.0.0.0/8\nadd a 10.48.0.0/16 nomatch", "--match-set a src --return-nomatch", True),
    ("create a hash:net\nadd a 10.0.0.0/8 nomatch\nadd a 10.48.0.0/16", "--match-set a src", True),
    ("create a hash:ip,port\nadd a 10.96.0.1,tcp:80", "--match-set a dst,dst", True), ("create a hash:ip,port\nadd a 10.96.0.1,udp:80", "--match-set a dst,dst", False),
    ("create a hash:ip,port\nadd a 10.96.0.1,tcp:40000", "--match-set a dst,src", True), ("create a hash:ip,port\nadd a 10.96.0.1,tcp:80", "--match-set a dst", False),
    ("create a hash:ip,port,ip\nadd a 10.96.0.1,80,10.48.1.5", "--match-set a dst,dst,src", True),
    ("create a hash:net,iface\nadd a 10.48.0.0/16,cni0", "--match-set a src,src", True), ("create a hash:net,iface\nadd a 10.48.0.0/16,cni0", "--match-set a src,dst", False),
    ("create a bitmap:port range 0-100\nadd a 79-81", "--match-set a dst", True), ("create a bitmap:port range 0-100\nadd a 79-81", "--match-set a src", False),
    ("create a hash:ip\nadd a 10.48.1.5\ncreate b list:set\nadd b a", "--match-set b src", True),
    ("create a hash:ip counters\nadd a 10.48.1.5 packets 4 bytes 9", "--match-set a src --packets-gt 4", True),
    ("create a hash:ip counters\nadd a 10.48.1.5 packets 4 bytes 9", "--match-set a src ! --update-counters --packets-gt 4", False),
])
def test_set(net: NetNamespace, lines: str, rule: str, hit: bool) -> None:
    """iptables-extensions(8) set; ipset(8) on each type and on nomatch; ip_set_core.c ip_set_match_counter() counts before it compares."""
    _sets(net, *lines.split("\n"))
    assert verdict(net, f"-m set {rule}", packet(net)) is hit


def test_set_target_fills_a_set_for_a_time(net: NetNamespace) -> None:
    """xt_set.c set_target_v3(): adds with the rule's timeout or the set's; --exist begins it again; --del-set takes away."""
    _sets(net, "create a hash:ip timeout 10")
    iptables_command(net, AF_INET, "-A FORWARD -m set --match-set a src -j DROP".split())
    iptables_command(net, AF_INET, "-A FORWARD -j SET --add-set a src --timeout 2".split())
    assert _hits(net, 2) == 1
    net.loop.now += 2 * SEC
    assert _hits(net, 1) == 0
    assert _hits(net, 1) == 1
    iptables_command(net, AF_INET, "-F FORWARD".split())
    iptables_command(net, AF_INET, "-A FORWARD -j SET --del-set a src".split())
    _hits(net, 1)
    assert ip_sets(net)["a"].members == {}
