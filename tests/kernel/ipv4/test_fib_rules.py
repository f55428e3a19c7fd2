"""Policy rules: which packets each selector means. Linux: net/core/fib_rules.c, net/ipv4/fib_rules.c, ip-rule(8)."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from netlab import Lab

from kubenet.kernel.dev.device import dev_change_name, unregister_netdevice
from kubenet.kernel.ipv4.fib import Flow, fib_add, fib_lookup
from kubenet.kernel.ipv4.fib_rules import (
    DETACHED,
    FR_ACT_GOTO,
    FR_ACT_PROHIBIT,
    FibRule,
    fib_rule_add,
    fib_rule_default_pref,
    fib_rule_del,
)
from kubenet.kernel.ipv4.route import ip_route_output_key
from kubenet.wire.addr import ip4

EIGHT = ip4("8.8.8.8")


@pytest.fixture
def lab() -> Lab:
    """a: default via .2 in main, via .3 in table 100."""
    lab = Lab()
    lab.a, lab.b = lab.ns("a"), lab.ns("b")
    lab.eth0, _ = lab.cable(lab.a, "eth0", "10.9.0.1/24", lab.b, "eth0", "10.9.0.2/24")
    fib_add(lab.a, 0, 0, gateway=ip4("10.9.0.2"))
    fib_add(lab.a, 0, 0, gateway=ip4("10.9.0.3"), table=100)
    return lab


def error_of(code: int, fn: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(OSError) as caught:
        fn(*args, **kwargs)
    assert caught.value.errno == code


def rule(lab: Lab, pref: int = 100, table: int = 100, **fields: Any) -> FibRule:
    made = FibRule(pref, table)
    for name, value in fields.items():
        setattr(made, name, value)
    fib_rule_add(lab.a, made)
    return made


def via(lab: Lab, *args: Any, **fields: Any) -> int:
    return ip_route_output_key(lab.a, EIGHT, *args, **fields).gateway & 0xFF


@pytest.mark.parametrize("fields, flow, hit", [
    ({"iifname": "eth0"}, {"iif": 2}, True),
    ({"iifname": "eth0"}, {"iif": 3}, False),
    ({"iifname": "eth0"}, {}, False),  # made here: comes from lo
    ({"iifname": "lo"}, {}, True),
    ({"iifname": "eth7"}, {"iif": 2}, False),
    ({"oifname": "eth0"}, {"oif": 2}, True),
    ({"oifname": "eth0"}, {}, False),
    ({"src": ip4("10.0.0.0"), "src_len": 8}, {"saddr": ip4("10.9.0.1")}, True),
    ({"src": ip4("10.0.0.0"), "src_len": 8, "invert": True}, {"saddr": ip4("10.9.0.1")}, False),
    ({"src": ip4("10.0.0.0"), "src_len": 8, "invert": True}, {"saddr": ip4("11.9.0.1")}, True),
    ({"mark": 2, "mask": 0xFF}, {"mark": 0x102}, True),
    ({"mark": 2, "mask": 0xFFFFFFFF}, {"mark": 0x102}, False),
    ({"mark": 5, "mask": 0}, {"mark": 9}, True),
    ({"tos": 0x10}, {"tos": 0x10}, True),
    ({"tos": 0x10}, {"tos": 0x30}, True),  # the precedence bits do not count: IPTOS_RT_MASK
    ({"ip_proto": 17, "dports": (53, 53)}, {"ports": (17, 4000, 53)}, True),
    ({"ip_proto": 17, "dports": (53, 53)}, {"ports": (6, 4000, 53)}, False),
    ({"sports": (80, 90)}, {"ports": (6, 85, 53)}, True),
    ({"sports": (80, 90)}, {"ports": (6, 91, 53)}, False),
])
def test_selectors(lab: Lab, fields: dict[str, Any], flow: dict[str, Any], hit: bool) -> None:
    rule(lab, **fields)
    assert lab.eth0.ifindex == 2
    found = fib_lookup(lab.a, Flow(EIGHT, **flow))
    assert found is not None and (found.table == 100) is hit


def test_a_rule_by_device_follows_the_name(lab: Lab) -> None:
    """fib_rules_event(): attached when the device comes, detached when it goes or is called something else."""
    made = rule(lab, iifname="eth0")
    assert made.iif == 2
    dev_change_name(lab.eth0, "eth9")
    assert made.iif == DETACHED
    dev_change_name(lab.eth0, "eth0")
    assert made.iif == 2
    unregister_netdevice(lab.eth0)
    assert made.iif == DETACHED


def test_deleting_asks_for_what_is_given_only(lab: Lab) -> None:
    """rule_find(): the preference counts, an unset selector does not, and nobody asks for `not`."""
    for pref in (60, 70):
        rule(lab, pref, mark=1, mask=0xFFFFFFFF, invert=pref == 60)
    error_of(errno.ENOENT, fib_rule_del, lab.a, FibRule(999, 0))
    given = FibRule(0, 0)
    given.action, given.mark, given.mask = 0, 2, 0xFFFFFFFF
    error_of(errno.ENOENT, fib_rule_del, lab.a, given, True)
    given.mark = 1
    assert fib_rule_del(lab.a, given, True).pref == 60
    assert [r.pref for r in lab.a.fib[2].rules] == [0, 70, 32766, 32767]
    assert fib_rule_default_pref(lab.a.fib[2]) == 69


def test_goto_goes_on_at_its_target_and_only_forward(lab: Lab) -> None:
    jump = rule(lab, 10, 0, action=FR_ACT_GOTO, target=32766)
    rule(lab, 20, 100)
    assert via(lab) == 2 and jump.resolved
    error_of(errno.EINVAL, rule, lab, 30, 0, action=FR_ACT_GOTO, target=20)
    main = next(r for r in lab.a.fib[2].rules if r.pref == 32766)
    fib_rule_del(lab.a, main)
    assert via(lab) == 3 and not jump.resolved


def test_suppress_prefixlength_passes_over_the_default_route(lab: Lab) -> None:
    """The rule of wg-quick(8): main, but for its default route."""
    rule(lab, 10, 254, suppress_prefixlen=0)
    rule(lab, 20, 100)
    assert via(lab) == 3
    fib_add(lab.a, ip4("8.0.0.0"), 8, gateway=ip4("10.9.0.2"))
    assert via(lab) == 2


def test_prohibit_is_eacces(lab: Lab) -> None:
    rule(lab, 10, 0, action=FR_ACT_PROHIBIT, dst=EIGHT, dst_len=32)
    error_of(errno.EACCES, ip_route_output_key, lab.a, EIGHT)


def test_ports_are_asked_for_packet_by_packet(lab: Lab) -> None:
    """While a rule needs ports, no answer is reused for another port; without such a rule answers are."""
    made = rule(lab, 10, 100, ip_proto=6, dports=(80, 80))
    assert via(lab, proto=6, dport=80) == 3
    assert via(lab, proto=6, dport=81) == 2
    assert via(lab, proto=17, dport=80) == 2
    assert not lab.a.dst_cache
    fib_rule_del(lab.a, made)
    assert via(lab, proto=6, dport=80) == 2 and lab.a.dst_cache
