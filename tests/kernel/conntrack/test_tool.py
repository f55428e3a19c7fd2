"""`conntrack`: lines, filters, errors and exit codes, as version 1.4.7 gave them on Linux 6.18."""

from __future__ import annotations

import pytest
from ctworld import World
from hypothesis import given
from hypothesis import strategies as st
from scenarios import CLIENT, DNS, OPEN, SERVER, SERVICE, SYN, WEB, c, icmp, s, udp

from kubenet.kernel.netfilter.conntrack.tool import conntrack_command, event_line
from kubenet.units import SEC

V = "conntrack v1.4.7 (conntrack-tools)"
TRY = "Try `conntrack -h' or 'conntrack --help' for more information.\n"

TCP = ("tcp      6 432000 ESTABLISHED src=10.48.1.5 dst=10.48.2.7 sport=40000 dport=80 src=10.48.2.7 dst=10.48.1.5 sport=80 "
       "dport=40000 [ASSURED] mark=0 use=1")
DNAT = ("udp      17 30 src=10.48.1.5 dst=10.96.0.1 sport=5000 dport=53 [UNREPLIED] src=10.48.2.7 dst=10.48.1.5 sport=5353 "
        "dport=5000 mark=0 use=1")
ECHO = ("icmp     1 30 src=10.48.1.5 dst=10.48.2.7 type=8 code=0 id=77 src=10.48.2.7 dst=10.48.1.5 type=0 code=0 id=77 mark=0 "
        "use=1")


@pytest.fixture
def world() -> World:
    world = World([DNS, WEB])
    for p in [*OPEN, udp("client", CLIENT, 5000, SERVICE, 53), icmp("client", CLIENT, SERVER, 8, id=77),
              icmp("server", SERVER, CLIENT, 0, id=77)]:
        world.deliver(p)
    return world


def listed(world: World, *argv: str) -> list[str]:
    code, out, err = conntrack_command(world.net, ["-L", *argv])
    lines = out.splitlines()
    assert (code, err) == (0, f"{V}: {len(lines)} flow entries have been shown.\n")
    return lines


def test_list(world: World) -> None:
    assert listed(world) == [TCP, DNAT, ECHO]


@pytest.mark.parametrize(("argv", "lines"), [
    ("-p tcp", [TCP]), ("-p 17", [DNAT]), ("-p icmp", [ECHO]), ("-p gre", []),
    ("-s 10.48.1.5", [TCP, DNAT, ECHO]), ("--src 10.48.1.6", []), ("-d 10.96.0.1", [DNAT]), ("--orig-dst 10.96.0.0/16", [DNAT]),
    ("-r 10.48.2.7", [TCP, DNAT, ECHO]), ("-q 10.48.1.5", [TCP, DNAT, ECHO]), ("--reply-src 10.96.0.1", []),
    ("-p tcp --sport 40000", [TCP]), ("-p tcp --dport 81", []), ("--dport 53 -p udp", [DNAT]),
    ("-p udp --reply-port-src 5353", [DNAT]),
    ("-p tcp --state ESTABLISHED", [TCP]), ("-p tcp --state=TIME_WAIT", []), ("-p icmp --icmp-type 8 --icmp-id 77", [ECHO]),
    ("-g", [DNAT]), ("--dst-nat 10.48.2.7", [DNAT]), ("-g 10.48.2.8", []), ("-n", []), ("-j", [DNAT]), ("-j 10.48.2.7", [DNAT]),
    ("-m 0", [TCP, DNAT, ECHO]), ("--mark 1", []), ("-m 0x1/0x2", []), ("-u ASSURED", [TCP]), ("-u SEEN_REPLY", [TCP, ECHO]),
    ("-w 0", [TCP, DNAT, ECHO]), ("-w 3", []), ("-f ipv6", []), ("dying", []),
    ("-d 10.48.2.0 --mask-dst 255.255.255.0", [TCP, ECHO]),
])
def test_filters(world: World, argv: str, lines: list[str]) -> None:
    assert listed(world, *argv.split()) == lines


def test_mark_with_mask(world: World) -> None:
    world.net.ct.entries()[0].mark = 0x4005
    assert [line.split("mark=")[1] for line in listed(world, "-m", "0x4000/0x4000")] == ["16389 use=1"]
    assert listed(world, "-m", "5") == []


def test_output_forms(world: World) -> None:
    assert listed(world, "-p", "tcp", "-o", "extended") == ["ipv4     2 " + TCP]
    ident = world.net.ct.entries()[0].id
    assert listed(world, "-p", "tcp", "-o", "id,extended") == [f"ipv4     2 {TCP} id={ident}"]
    assert listed(world, "-o", "save") == [
        "-A -t 432000 -u SEEN_REPLY,ASSURED -s 10.48.1.5 -d 10.48.2.7 -r 10.48.2.7 -q 10.48.1.5 -p tcp --sport 40000 --dport 80 "
        "--reply-port-src 80 --reply-port-dst 40000 --state ESTABLISHED",
        "-A -t 30 -u UNSET -s 10.48.1.5 -d 10.96.0.1 -r 10.48.2.7 -q 10.48.1.5 -p udp --sport 5000 --dport 53 "
        "--reply-port-src 5353 --reply-port-dst 5000",
        "-A -t 30 -u SEEN_REPLY -s 10.48.1.5 -d 10.48.2.7 -r 10.48.2.7 -q 10.48.1.5 -p icmp --icmp-type 8 --icmp-code 0 "
        "--icmp-id 77",
    ]


def test_counters_and_zeroing() -> None:
    world = World()
    world.net.sysctl.netfilter.nf_conntrack_acct = 1
    world.deliver(icmp("client", CLIENT, SERVER, 8, id=77, len=56))
    assert "id=77 packets=1 bytes=84 [UNREPLIED] src=" in listed(world, "-z")[0]
    assert "id=77 packets=0 bytes=0 mark=0 use=1" in listed(world)[0]


def test_unknown_protocol_has_no_ports() -> None:
    world = World()
    world.deliver({"from": "client", "proto": 99, "src": CLIENT, "dst": SERVER, "len": 8})
    assert listed(world) == ["unknown  99 600 src=10.48.1.5 dst=10.48.2.7 [UNREPLIED] src=10.48.2.7 dst=10.48.1.5 mark=0 use=1"]


def test_seconds_are_rounded_down(world: World) -> None:
    world.at(1)
    assert " 17 29 " in listed(world, "-p", "udp")[0]


def test_delete_prints_what_it_deleted(world: World) -> None:
    run = conntrack_command(world.net, ["-D", "-p", "udp", "--orig-dst", "10.96.0.1"])
    assert run == (0, DNAT + "\n", f"{V}: 1 flow entries have been deleted.\n")
    run = conntrack_command(world.net, ["-D", "-p", "udp", "--orig-dst", "10.96.0.1"])
    assert run == (1, "", f"{V}: 0 flow entries have been deleted.\n")
    assert world.net.ct.count == 2


def test_after_a_delete_the_next_packet_is_picked_up_and_asks_nat_again(world: World) -> None:
    rule = next(fn for providers in world.net.nat.providers.values() for _, fn in providers if fn.rule["to"].endswith(":8080"))
    for p in [c("S", 1, sport=41000, dst=SERVICE, **SYN), s("SA", 5, 2, sport=8080, dport=41000, **SYN),
              c("A", 2, 6, sport=41000, dst=SERVICE)]:
        world.deliver(p)
    assert rule.hits == 1
    conntrack_command(world.net, ["-D", "-p", "tcp", "-d", SERVICE])
    world.deliver(c("PA", 2, 6, sport=41000, dst=SERVICE, len=1))
    assert rule.hits == 2 and listed(world, "-d", SERVICE, "-p", "tcp")[0].startswith("tcp      6 300 ESTABLISHED ")


def test_flush_count_get_stats_version(world: World) -> None:
    assert conntrack_command(world.net, ["-C"]) == (0, "3\n", "")
    got = conntrack_command(world.net, ["-G", "-p", "tcp", "-s", CLIENT, "-d", SERVER, "--sport", "40000", "--dport", "80"])
    assert got == (0, TCP.replace("use=1", "use=2") + "\n", f"{V}: 1 flow entries have been shown.\n")
    assert conntrack_command(world.net, ["-F"]) == (0, "", f"{V}: connection tracking table has been emptied.\n")
    assert conntrack_command(world.net, ["-C"]) == (0, "0\n", "")
    assert conntrack_command(world.net, ["-V"]) == (0, V + "\n", "")
    code, out, _ = conntrack_command(world.net, ["-S"])
    assert out.splitlines()[0] == ("cpu=0   \tfound=0 invalid=0 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 "
                                   "search_restart=0 clash_resolve=0 chaintoolong=0 ")
    assert code == 0 and len(out.splitlines()) == world.host.cpus


@pytest.mark.parametrize(("argv", "code", "text"), [
    ("-L --foo", 2, "unknown option `--foo'"),
    ("-L --dport 80", 2, "unknown option `--dport'"),
    ("-L -p udp --state ESTABLISHED", 2, "unknown option `--state'"),
    ("-X", 2, "unknown option `-X'"),
    ("-L -p foo", 2, "`foo' unsupported protocol"),
    ("-L -s bad", 2, "Invalid IP address `bad'"),
    ("-L foo", 2, "unknown type `foo'"),
    ("-p tcp --state FOO -L", 2, "unknown TCP state `FOO'"),
    ("-L -D", 2, "Invalid commands combination"),
    ("-L -s", 2, "option `-s' requires an argument"),
    ("-L -o foo", 2, "Bad parameter `foo'"),
    ("-L -u FOO", 2, "Bad parameter `FOO'"),
    ("-C -p tcp", 2, "Illegal option `--protonum' with this command"),
    ("-G -p tcp", 2, "you have to specify `--src' and `--dst'"),
    ("-L -s 10.0.0.1 -f ipv6", 2, "mismatched address family"),
    ("-G -p udp -s 1.2.3.4 -d 2.3.4.5 --sport 1 --dport 2", 1, "Operation failed: such conntrack doesn't exist"),
])
def test_errors(argv: str, code: int, text: str) -> None:
    assert conntrack_command(World().net, argv.split()) == (code, "", f"{V}: {text}\n" + (TRY if code == 2 else ""))


def test_a_namespace_without_tracking_has_an_empty_table() -> None:
    world = World(track=False)
    assert listed(world) == []
    assert conntrack_command(world.net, ["-C"]) == (0, "0\n", "")
    assert conntrack_command(world.net, ["-D"])[0] == 1


def test_event_lines() -> None:
    """No mark, no use; a NEW entry is UNREPLIED."""
    world, lines = World(), []
    argv = ["-E", "-e", "NEW,DESTROY"]
    world.net.watchers.append(lambda event, ct: lines.append(event_line(world.net, argv, event, ct)))
    world.deliver(c("S", 1000))
    world.deliver(s("SA", 5000, 1001))
    world.at(1000)
    world.net.ct.flush()
    ends = "src=10.48.1.5 dst=10.48.2.7 sport=40000 dport=80 {}src=10.48.2.7 dst=10.48.1.5 sport=80 dport=40000"
    assert lines == ["    [NEW] tcp      6 120 SYN_SENT " + ends.format("[UNREPLIED] "), "",
                     "[DESTROY] tcp      6 59 SYN_RECV " + ends.format("")]
    assert world.loop.now == SEC


ARGUMENTS = """-L -D -F -C -S -G -p tcp udp 17 icmp -s -d 10.0.0.1 10.0.0.0/8 --sport 80 -o id save -m 0x1/2 -g -n -j --state
ESTABLISHED -u ASSURED -w 3 -f ipv4 ipv6 conntrack expect --icmp-type -- - = --= -z"""
WORDS = st.sampled_from(sorted(set(ARGUMENTS.split())))


@given(st.lists(WORDS | st.text(max_size=6), max_size=7))
def test_no_command_line_breaks_it(argv: list[str]) -> None:
    world = World()
    world.deliver(c("S", 1000))
    code, out, err = conntrack_command(world.net, argv)
    assert code in (0, 1, 2) and (code == 0 or V in err)


def test_times_of_day() -> None:
    """-o timestamp stamps events only; -o ktimestamp needs nf_conntrack_timestamp. The host booted at 2026-01-01."""
    world, lines = World(), []
    world.net.sysctl.netfilter.nf_conntrack_timestamp = 1
    world.net.watchers.append(lambda event, ct: lines.append(event_line(world.net, ["-E", "-o", "timestamp"], event, ct)))
    world.at(1500)
    world.deliver(c("S", 1000))
    world.at(4500)
    assert lines[0].startswith("[1767225601.500000]\t    [NEW] tcp      6 120 SYN_SENT src=")
    assert listed(world, "-o", "timestamp")[0].endswith("mark=0 delta-time=3 use=1")
    assert listed(world, "-o", "ktimestamp")[0].endswith("mark=0 delta-time=3 [start=Thu Jan  1 00:00:01 2026] use=1")
