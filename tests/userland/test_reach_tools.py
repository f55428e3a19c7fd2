"""traceroute 2.1.2, tracepath, arping and ping of iputils 20221126 on Linux 6.18, command by command, across one router.

The recording's network: client 10.48.1.5 (02:00:00:00:00:05), router 10.48.1.1 (02:00:00:00:00:01) and 10.48.2.1, web 10.48.2.7, where
`nc -lk 80` listens; net.ipv4.icmp_ratelimit=0 on both. Times are the machine's own.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_tool_sessions import session

from kubenet.kernel.dev.device import dev_change_flags, dev_set_addr
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.ipv4.fib import fib_add
from kubenet.kernel.netns import NetNamespace
from kubenet.kernel.stack import new_namespace
from kubenet.userland.container import Container
from kubenet.wire.addr import ip4, mac


@pytest.fixture
def client(lab: Any) -> Container:
    """The client of the recording, with router and web behind it."""
    nets = []
    for name in ("client", "router", "web"):
        net = new_namespace(lab.host, name)
        dev_change_flags(net.lo, True)
        net.sysctl.ipv4.icmp_ratelimit = 0
        nets.append(net)
    near, router, far = nets
    for net, addr, mine in ((near, "10.48.1.5", "10.48.1.1"), (far, "10.48.2.7", "10.48.2.1")):
        dev, port = create_veth_pair(net, "eth0", router, f"to-{net.name}")
        if net is near:
            dev_set_addr(dev, mac("02:00:00:00:00:05"))
            dev_set_addr(port, mac("02:00:00:00:00:01"))
        for each, text in ((dev, addr), (port, mine)):
            dev_change_flags(each, True)
            inet_addr_add(each, ip4(text), 24, ip4(text) | 255)
        fib_add(net, 0, 0, gateway=ip4(mine), dev=dev)
    ip_forward_write(router, 1)
    lab.run(_container(lab, far), "(sleep 100000 | nc -lk 80) >/dev/null 2>&1 &")
    return _container(lab, near)


def _container(lab: Any, net: NetNamespace) -> Container:
    return Container(lab.host, net, net.name, "nicolaka/netshoot", hostname=net.name)


TIMES = re.compile(r"= [\d./]+ ms|\d+\.\d+ ?ms|time=\S+ ms|time \d+ms")


def test_as_recorded(lab: Any, client: Container) -> None:
    differ = []
    for command, printed, code in session("reach.txt"):
        result = lab.run(client, command + " 2>&1")
        if (TIMES.sub("T", result.out), result.code) != (TIMES.sub("T", printed), code):
            differ.append(f"$ {command}\n-- recorded, exit {code}\n{printed}-- ours, exit {result.code}\n{result.out}")
    assert not differ, "\n".join(differ)


def test_traceroute_sends_what_it_is_told_to(lab: Any, client: Container) -> None:
    """-I echo requests, -T SYNs, else UDP: seen on the wire; an open port is reset by the client's kernel, which knows of no connection."""
    def sent(options: str) -> str:
        script = f"tcpdump -lni eth0 'src 10.48.1.5 and not arp' 2>/dev/null & sleep 0.1; traceroute -n -q 1 {options} 10.48.2.7 >/dev/null; sleep 1; kill %1"
        return str(lab.run(client, script).out)

    assert re.findall(r"10\.48\.2\.7: (ICMP echo request)", sent("-I")) == ["ICMP echo request"] * 2
    assert re.findall(r"Flags \[(\S+)\]", sent("-T -p 80")) == ["S", "S", "R"]
    assert len(re.findall(r"10\.48\.2\.7\.3343[45]: UDP, length 32", sent(""))) == 2


def test_bad_numbers_are_refused(lab: Any, client: Container) -> None:
    """iputils: strtol_or_err(); exit 1."""
    assert lab.run(client, "ping -c x 10.48.2.7").err == "ping: invalid argument: 'x'\n"
    refused = lab.run(client, "ping -c 0 10.48.2.7")
    assert (refused.err, refused.code) == ("ping: invalid argument: '0': out of range: 1 <= value <= 9223372036854775807\n", 1)


def test_a_stamp_before_each_line(lab: Any, client: Container) -> None:
    """ping -D: Unix time and microseconds."""
    line = lab.run(client, "ping -D -c 1 10.48.2.7").out.splitlines()[1]
    assert re.match(r"\[\d{1,10}\.\d{6}\] 64 bytes from 10\.48\.2\.7: ", line), line
