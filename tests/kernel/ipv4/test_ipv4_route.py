"""The FIB, source addresses, rules, martians. Texts and errnos are rtnetlink's, as Linux 6.18 answered."""

from __future__ import annotations

import errno

import pytest
from netlab import Lab

from kubenet.kernel.dev.device import dev_change_flags
from kubenet.kernel.ipv4.devinet import inet_addr_add, inet_addr_del, inet_conf_write
from kubenet.kernel.ipv4.fib import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_UNREACHABLE,
    fib_add,
    fib_del,
    fib_dump,
)
from kubenet.kernel.ipv4.fib_rules import FibRule, fib_rule_add
from kubenet.kernel.ipv4.route import dst_valid, fib_validate_source, inet_addr_type, ip_route_output_key
from kubenet.wire.addr import cidr_text, ip4, ip4_text

KINDS = {1: "", RTN_LOCAL: "local ", RTN_BROADCAST: "broadcast "}


def table(net, number: int = 254) -> list[str]:
    return [f"{KINDS[r.type]}{cidr_text(r.prefix, r.plen)} dev {r.dev.name}" for r in fib_dump(net, number)]


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.a, lab.b = lab.ns("a"), lab.ns("b")
    lab.eth0, _ = lab.cable(lab.a, "eth0", "10.9.0.1/24", lab.b, "eth0", "10.9.0.2/24")
    return lab


def error_of(code: int, call, *args, **kw) -> str:
    with pytest.raises(OSError) as caught:
        call(*args, **kw)
    assert caught.value.errno == code
    return caught.value.strerror


def test_an_address_brings_its_routes_and_down_takes_all_but_the_local_one(lab: Lab) -> None:
    local = ["local 10.9.0.1/32 dev eth0", "broadcast 10.9.0.255/32 dev eth0", "local 127.0.0.0/8 dev lo",
             "local 127.0.0.1/32 dev lo", "broadcast 127.255.255.255/32 dev lo"]
    assert table(lab.a) == ["10.9.0.0/24 dev eth0"]
    assert table(lab.a, RT_TABLE_LOCAL) == local
    fib_add(lab.a, 0, 0, gateway=ip4("10.9.0.2"))
    dev_change_flags(lab.eth0, False)
    assert table(lab.a) == []
    assert table(lab.a, RT_TABLE_LOCAL) == [local[0], *local[2:]]
    dev_change_flags(lab.eth0, True)
    assert table(lab.a) == ["10.9.0.0/24 dev eth0"]  # the default route does not come back
    assert table(lab.a, RT_TABLE_LOCAL) == local


def test_scopes_and_sources_of_kernel_routes(lab: Lab) -> None:
    connected = fib_dump(lab.a)[0]
    assert (connected.scope, connected.prefsrc, connected.protocol) == (RT_SCOPE_LINK, ip4("10.9.0.1"), 2)
    assert fib_dump(lab.a, RT_TABLE_LOCAL)[0].scope == RT_SCOPE_HOST


def test_secondary_addresses_go_with_the_first_one(lab: Lab) -> None:
    assert error_of(errno.EEXIST, inet_addr_add, lab.eth0, ip4("10.9.0.1"), 24) == "ipv4: Address already assigned."
    second = inet_addr_add(lab.eth0, ip4("10.9.0.7"), 24)
    assert second.secondary
    inet_addr_del(lab.eth0, ip4("10.9.0.1"), 24)
    assert lab.eth0.ifaddrs == []
    assert table(lab.a) == []
    error_of(errno.EADDRNOTAVAIL, inet_addr_del, lab.eth0, ip4("10.9.0.1"), 24)


def test_errors_of_ip_route(lab: Lab) -> None:
    a = lab.a
    invalid = "Nexthop has invalid gateway."
    assert error_of(errno.ENETUNREACH, fib_add, a, ip4("10.10.0.0"), 16, gateway=ip4("10.99.0.1")) == invalid
    assert error_of(errno.EINVAL, fib_add, a, ip4("10.10.0.1"), 16, gateway=ip4("10.9.0.2")) == (
        "Invalid prefix for given prefix length.")
    assert error_of(errno.ENETUNREACH, fib_add, a, ip4("10.10.0.0"), 16, gateway=ip4("10.9.0.2"), dev=a.lo) == invalid
    fib_add(a, ip4("10.10.0.0"), 16, gateway=ip4("10.9.0.2"))
    error_of(errno.EEXIST, fib_add, a, ip4("10.10.0.0"), 16, gateway=ip4("10.9.0.3"))
    fib_add(a, ip4("10.10.0.0"), 16, gateway=ip4("10.9.0.3"), metric=10)
    fib_add(a, ip4("10.10.0.0"), 16, gateway=ip4("10.9.0.4"), replace=True)
    assert [ip4_text(r.gateway) for r in fib_dump(a)[1:]] == ["10.9.0.4", "10.9.0.3"]
    error_of(errno.ESRCH, fib_del, a, ip4("10.11.0.0"), 16)
    fib_del(a, ip4("10.10.0.0"), 16, gateway=ip4("10.9.0.3"))
    assert len(fib_dump(a)) == 2


def test_longest_prefix_then_lowest_metric(lab: Lab) -> None:
    a = lab.a
    fib_add(a, 0, 0, gateway=ip4("10.9.0.10"))
    fib_add(a, ip4("10.96.0.0"), 16, gateway=ip4("10.9.0.11"), metric=5)
    fib_add(a, ip4("10.96.0.0"), 16, gateway=ip4("10.9.0.12"), metric=3)
    fib_add(a, ip4("10.96.7.0"), 24, gateway=ip4("10.9.0.13"))
    hop = {d: ip4_text(ip_route_output_key(a, ip4(d)).nexthop) for d in ("8.8.8.8", "10.96.0.1", "10.96.7.1", "10.9.0.77")}
    assert hop == {"8.8.8.8": "10.9.0.10", "10.96.0.1": "10.9.0.12", "10.96.7.1": "10.9.0.13", "10.9.0.77": "10.9.0.77"}


@pytest.mark.parametrize("kind, code", [
    (RTN_BLACKHOLE, errno.EINVAL), (RTN_UNREACHABLE, errno.EHOSTUNREACH), (RTN_PROHIBIT, errno.EACCES)])
def test_what_connect_gets_from_routes_that_refuse(lab: Lab, kind: int, code: int) -> None:
    """route(8): blackhole EINVAL, unreachable EHOSTUNREACH, prohibit EACCES."""
    fib_add(lab.a, ip4("10.66.0.0"), 16, type=kind)
    error_of(code, ip_route_output_key, lab.a, ip4("10.66.0.1"))
    error_of(errno.ENETUNREACH, ip_route_output_key, lab.a, ip4("10.67.0.1"))


def test_source_address_of_a_route_of_a_subnet_and_of_ourselves(lab: Lab) -> None:
    a = lab.a
    inet_addr_add(lab.eth0, ip4("192.168.1.1"), 24)
    fib_add(a, ip4("10.96.0.0"), 16, gateway=ip4("10.9.0.2"))
    fib_add(a, ip4("10.97.0.0"), 16, gateway=ip4("10.9.0.2"), prefsrc=ip4("192.168.1.1"))
    source = {d: ip4_text(ip_route_output_key(a, ip4(d)).prefsrc)
              for d in ("10.9.0.9", "192.168.1.9", "10.96.0.1", "10.97.0.1", "10.9.0.1", "127.0.0.5")}
    assert source == {"10.9.0.9": "10.9.0.1", "192.168.1.9": "192.168.1.1", "10.96.0.1": "10.9.0.1", "10.97.0.1": "192.168.1.1",
                      "10.9.0.1": "10.9.0.1", "127.0.0.5": "127.0.0.1"}
    assert error_of(errno.EINVAL, fib_add, a, ip4("10.98.0.0"), 16, gateway=ip4("10.9.0.2"), prefsrc=ip4("10.1.1.1")) == (
        "Invalid prefsrc address.")
    error_of(errno.ENETUNREACH, ip_route_output_key, a, ip4("10.96.0.1"), ip4("10.1.1.1"))


def test_a_cached_route_is_void_after_any_change(lab: Lab) -> None:
    a = lab.a
    fib_add(a, 0, 0, gateway=ip4("10.9.0.2"))
    dst = ip_route_output_key(a, ip4("8.8.8.8"))
    assert ip_route_output_key(a, ip4("8.8.8.8")) is dst and dst_valid(a, dst)
    fib_add(a, ip4("8.0.0.0"), 8, gateway=ip4("10.9.0.3"))
    assert not dst_valid(a, dst)
    assert ip_route_output_key(a, ip4("8.8.8.8")).gateway == ip4("10.9.0.3")


def test_rules_choose_the_table(lab: Lab) -> None:
    """ip rule: by preference; a mark sends to another table, what is not there falls through."""
    a = lab.a
    fib_add(a, 0, 0, gateway=ip4("10.9.0.2"))
    fib_add(a, 0, 0, gateway=ip4("10.9.0.3"), table=100)
    rule = FibRule(1000, 100)
    rule.mark, rule.mask = 0x4000, 0x4000
    fib_rule_add(a, rule)
    assert ip_route_output_key(a, ip4("8.8.8.8")).gateway == ip4("10.9.0.2")
    assert ip_route_output_key(a, ip4("8.8.8.8"), mark=0x4001).gateway == ip4("10.9.0.3")
    error_of(errno.EEXIST, fib_rule_add, a, rule)


def test_address_types(lab: Lab) -> None:
    kinds = {d: inet_addr_type(lab.a, ip4(d)) for d in ("10.9.0.1", "127.3.3.3", "10.9.0.255", "255.255.255.255", "224.0.0.1",
                                                        "10.9.0.2")}
    assert list(kinds.values()) == [2, 2, 3, 3, 5, 1]


def test_loopback_addresses_stay_home_unless_route_localnet() -> None:
    """127/8 from or to the outside is a martian; kube-proxy sets route_localnet for NodePorts on localhost."""
    lab = Lab()
    client, router, server = lab.routed()
    inet_addr_add(client.lo, ip4("127.0.0.9"), 32)
    error_of(errno.EINVAL, ip_route_output_key, client, ip4("10.2.0.2"), ip4("127.0.0.9"))
    inet_conf_write(client, "eth0", "route_localnet", 1)
    lab.warm(client, "10.2.0.2")
    assert lab.ping(client, "10.2.0.2", source="127.0.0.9") == []
    assert lab.moved(router) == {"IpInReceives": 1}
    inet_conf_write(router, "all", "log_martians", 1)
    lab.ping(client, "10.2.0.2", source="127.0.0.9")
    assert lab.host.dmesg[-1][1] == "IPv4: martian source 10.2.0.2 from 127.0.0.9, on dev c0"


@pytest.mark.parametrize("value, passes", [(0, True), (1, False), (2, True)])
def test_rp_filter_strict_and_loose(value: int, passes: bool) -> None:
    """RFC 3704 2.2 and 2.4: strict wants the way back on the same device, loose any way back.

    The larger of the settings for all devices and for this one holds.
    """
    lab = Lab()
    client, router, server = lab.routed()
    inet_addr_add(client.lo, ip4("10.2.0.50"), 32)  # an address whose way back is the server's link
    inet_conf_write(router, "all", "rp_filter", value)
    lab.warm(client, "10.2.0.2")
    lab.ping(client, "10.2.0.2", source="10.2.0.50", wait=0.5)
    assert ("TcpExtIPReversePathFilter" in lab.moved(router)) is not passes
    assert ("IcmpInEchos" in lab.moved(server)) is passes


@pytest.mark.parametrize("where", ["all", "eth0", ""])
def test_src_valid_mark_on_all_or_on_the_device(lab: Lab, where: str) -> None:
    """ip-sysctl.rst src_valid_mark: the packet's mark takes part in the way back. Linux: IN_DEV_SRC_VMARK() is IN_DEV_ORCONF()."""
    a, eth0 = lab.a, lab.eth0
    source = ip4("192.0.2.1")
    fib_add(a, source, 32, dev=eth0, table=100)
    rule = FibRule(100, 100)
    rule.mark, rule.mask = 7, 0xFFFFFFFF
    fib_rule_add(a, rule)
    inet_conf_write(a, "all", "rp_filter", 1)
    if where:
        inet_conf_write(a, where, "src_valid_mark", 1)
    assert (fib_validate_source(a, source, ip4("10.9.0.1"), 0, eth0, mark=7) >= 0) is bool(where)
    assert fib_validate_source(a, source, ip4("10.9.0.1"), 0, eth0) < 0
