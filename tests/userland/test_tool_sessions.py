"""Sessions of iproute2 6.1 and iptables 1.8.9 (legacy) on Linux 6.18, command by command: what was printed there, and its exit code, we print.

The namespace of the recordings: lo up, eth0 (02:00:00:00:00:05) 10.48.1.5/24 brd +, default via 10.48.1.1; what belongs to IPv6
is left out of the recordings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kubenet.wire.addr import mac

GOLDEN = Path(__file__).parent / "golden"


def session(name: str) -> list[tuple[str, str, int]]:
    """(command, what it printed, exit code) in order."""
    text = (GOLDEN / name).read_text()
    return [(m[1], m[2], int(m[3])) for m in re.finditer(r"^\$ (.*)\n((?:(?!exit \d).*\n)*)exit (\d+)$", text, re.MULTILINE)]


@pytest.mark.parametrize("name", ["ip-rule.txt", "ip-route.txt", "bridge.txt", "iptables.txt", "ip-neigh.txt", "ip-link.txt", "vxlan.txt"])
def test_a_session_goes_as_recorded(lab: Any, box: Any, name: str) -> None:
    lab.start(box, "cat")  # so that the namespace is in use
    box.net.devs["eth0"].addr = mac("02:00:00:00:00:05")
    differ = []
    for number, (command, printed, code) in enumerate(session(name), 1):
        result = lab.run(box, command + " 2>&1")
        out = result.out
        if name == "ip-neigh.txt" and out.startswith("10."):  # rows of a hash whose key is random
            out, printed = "\n".join(sorted(out.splitlines())), "\n".join(sorted(printed.splitlines()))
        if (out, result.code) != (printed, code):
            differ.append(f"{number}: $ {command}\n-- recorded, exit {code}\n{printed}-- ours, exit {result.code}\n{result.out}")
    assert not differ, "\n".join(differ)


def test_ss_as_recorded(lab: Any) -> None:
    """ss of iproute2 6.1 beside five netcats (OpenBSD): options, filters, errors, what -K leaves. Rows in any order: the kernel's is a hash's."""
    box = lab.pod("sockets", "10.48.1.5")
    for number, pipe in enumerate(["nc -lk 10.48.1.5 80", "nc -lk 127.0.0.1 9000", "nc -lku 10.48.1.5 53", "nc -p 40000 10.48.1.5 80",
                                   "nc -p 40001 127.0.0.1 9000"]):
        lab.run(box, f"(sleep 1000 | {pipe}) >/dev/null 2>&1 &")
        if number == 2:
            lab.run(box, "sleep 0.5")
    lab.run(box, "sleep 0.7")
    differ = []
    for command, printed, code in session("ss-session.txt"):
        result = lab.run(box, command + " 2>&1")
        if (sorted(result.out.splitlines()), result.code) != (sorted(printed.splitlines()), code):
            differ.append(f"$ {command}\n-- recorded, exit {code}\n{printed}-- ours, exit {result.code}\n{result.out}")
    assert not differ, "\n".join(differ)


MEMBERS = re.compile(r"(?<=Members:\n)(?:(?!exit|Name:).*\n)+|(?:^add \S+ .*\n)+", re.MULTILINE)


def test_ipset_as_recorded(lab: Any) -> None:
    """ipset 7.17 on Linux 6.18, and what iptables says of sets. Members in any order: there it is that of a hash with a random key."""
    box = lab.pod("sets", "10.48.1.5")

    def plain(text: str) -> str:
        text = re.sub("initval 0x[0-9a-f]+", "initval 0x0", re.sub(r"timeout 29\d|timeout 300(?= packets| nomatch)", "timeout 299", text))
        return MEMBERS.sub(lambda found: "".join(sorted(found[0].splitlines(keepends=True))), text)

    differ = []
    for command, printed, code in session("ipset.txt"):
        result = lab.run(box, command + " 2>&1")
        if (plain(result.out), result.code) != (plain(printed), code):
            differ.append(f"$ {command}\n-- recorded, exit {code}\n{printed}-- ours, exit {result.code}\n{result.out}")
    assert not differ, "\n".join(differ)


def test_ranges_of_a_set(lab: Any) -> None:
    """As on Linux 6.18: a long range fills the set and then fails, a netmask makes one element a network, a bitmap has 65536 at most."""
    box = lab.pod("sets", "10.48.1.5")
    lab.run(box, "ipset create a hash:ip; ipset create f hash:ip netmask 16; ipset create e hash:ip,port")
    assert lab.run(box, "ipset add a 10.0.0.0/15").err == "ipset v7.17: Hash is full, cannot add more elements\n"
    assert lab.run(box, "ipset add f 10.0.0.0/8; ipset list f | grep -c '^10'").out == "256\n"
    assert lab.run(box, "ipset add e 10.0.0.0/24,tcp:1-100; ipset list e | grep -c '^10'").out == "25600\n"
    assert lab.run(box, "ipset create b bitmap:ip range 10.0.0.0-10.1.0.0").err == \
        "ipset v7.17: The range you specified exceeds the size limit of the set type\n"


UNLIKE = re.compile(r"(?<= id=)\d+|(?<=<id>)\d+|(?<=<timeout>)\d+|(?<= -t )\d+|\b\d{2,6} (?=ESTAB|src=)")


def test_conntrack_as_recorded(lab: Any) -> None:
    """conntrack 1.4.7 on Linux 6.18, with a TCP and a UDP connection and some made by hand: lists, filters, errors, exit codes. The seconds
    left, the ids (a hash with a random key) and the order are the machine's own."""
    box = lab.pod("tracked", "10.48.1.5")
    lab.run(box, "iptables -A INPUT -m conntrack --ctstate NEW")
    for number, pipe in enumerate(["sleep 1000 | nc -lk 127.0.0.1 9000", "sleep 1000 | nc -lku 127.0.0.1 5300",
                                   "sleep 1000 | nc -p 40001 127.0.0.1 9000", "(echo x; sleep 1000) | nc -u -p 40002 127.0.0.1 5300"]):
        lab.run(box, f"({pipe}) >/dev/null 2>&1 &")
        if number == 1:
            lab.run(box, "sleep 0.5")
    lab.run(box, "sleep 0.7")
    differ = []
    for command, printed, code in session("conntrack.txt"):
        result = lab.run(box, command + " 2>&1")
        ours, theirs = (sorted(UNLIKE.sub("N", text).splitlines()) for text in (result.out, printed))
        if (ours, result.code) != (theirs, code):
            differ.append(f"$ {command}\n-- recorded, exit {code}\n{printed}-- ours, exit {result.code}\n{result.out}")
    assert not differ, "\n".join(differ)
