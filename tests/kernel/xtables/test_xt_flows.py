"""A real router's counters: the same packets through the same rules count the same here (flows.py, record_flows.py)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from flows import CLIENT, CLIENT_MAC, PACKETS, RULESETS, WEB, make

from kubenet.kernel.dev.device import dev_change_flags, dev_set_addr
from kubenet.kernel.dev.veth import create_veth_pair
from kubenet.kernel.host import Host
from kubenet.kernel.ipv4.devinet import inet_addr_add, ip_forward_write
from kubenet.kernel.ipv4.output import ip_local_out
from kubenet.kernel.ipv4.route import fib_add, ip_route_output_key
from kubenet.kernel.netfilter.xtables.command import iptables_command
from kubenet.kernel.netfilter.xtables.restore import iptables_restore
from kubenet.kernel.netfilter.xtables.save import iptables_save
from kubenet.kernel.netns import AF_INET, NetNamespace
from kubenet.kernel.skbuff import ETH_P_IP, SkBuff
from kubenet.kernel.stack import new_namespace
from kubenet.sim.clock import EventLoop
from kubenet.units import MSEC, SEC
from kubenet.wire.addr import ip4, mac

RECORDED = json.loads((Path(__file__).parent / "recordings" / "flows.json").read_text())["flows"]


def build() -> tuple[EventLoop, NetNamespace, NetNamespace]:
    """Client, router and a web-0 that answers nothing, as record_flows.py builds them."""
    loop = EventLoop()
    host = Host(loop, "node-1")
    router, client, web = (new_namespace(host, name) for name in ("router", "client", "web-0"))
    for net, side, addr, gateway in ((client, "c", CLIENT, "10.48.1.1"), (web, "w", WEB, "10.48.2.1")):
        pod, port = create_veth_pair(net, "eth0", router, f"veth{side}")
        if side == "c":
            dev_set_addr(pod, mac(CLIENT_MAC))
        inet_addr_add(pod, ip4(addr), 24)
        inet_addr_add(port, ip4(gateway), 24)
        dev_change_flags(pod, True)
        dev_change_flags(port, True)
        fib_add(net, 0, 0, gateway=ip4(gateway))
    ip_forward_write(router, 1)
    iptables_command(web, AF_INET, "-A INPUT -j DROP".split())
    return loop, client, router


def send(loop: EventLoop, client: NetNamespace) -> None:
    """All packets, one every 5 ms."""
    for p in PACKETS:
        ip, l4, data = make(p)
        header = 8 if p["l4"] != "tcp" else l4.doff
        skb = SkBuff(client, ETH_P_IP, ip, l4, data, len(data), 20 + header + len(data))
        skb.dst = ip_route_output_key(client, ip4(WEB))
        ip_local_out(skb)
        loop.run(loop.now + 5 * MSEC)
    loop.run(loop.now + SEC)


def lines(text: str) -> list[str]:
    """iptables-save's output without its comments, one chain's policy or rule a line."""
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("armed", [False, True], ids=["compiled", "interpreted"])
@pytest.mark.parametrize("name", RULESETS)
def test_counters(name: str, armed: bool) -> None:
    """`iptables-save -c` after the packets: every rule's and policy's packets and bytes."""
    loop, client, router = build()
    loop.tracer.arm_all = armed
    loop.tracer.rate = 0
    iptables_restore(router, AF_INET, RULESETS[name])
    send(loop, client)
    want, got = lines(RECORDED[name]), lines(iptables_save(router, AF_INET, counters=True))
    # the ping that record_flows.py warms ARP with is the router's own
    own = re.compile(r"^:(INPUT|OUTPUT|POSTROUTING|PREROUTING) ")
    assert [line for line in got if not own.match(line)] == [line for line in want if not own.match(line)]
