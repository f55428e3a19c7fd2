"""Addresses between int and text; the host's ipaddress module is the independent judge."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.wire import addr

U32, U48, U128 = st.integers(0, 2**32 - 1), st.integers(0, 2**48 - 1), st.integers(0, 2**128 - 1)
# Words with many zeros, so that "::" has to be placed; a plain integer hardly ever has a zero group.
GROUPS6 = st.lists(st.sampled_from([0, 0, 0, 1, 0xFF, 0xFFFF, 0x10]), min_size=8, max_size=8)


@given(U32)
def test_ip4_agrees_with_ipaddress(n):
    assert addr.ip4_text(n) == str(ipaddress.IPv4Address(n))
    assert addr.ip4(addr.ip4_text(n)) == n


@given(st.one_of(U128, GROUPS6.map(lambda g: int.from_bytes(b"".join(x.to_bytes(2, "big") for x in g), "big"))))
def test_ip6_agrees_with_ipaddress(n):
    assert addr.ip6(addr.ip6_text(n)) == n
    if n >> 32 != 0xFFFF:
        assert addr.ip6_text(n) == ipaddress.IPv6Address(n).compressed


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("2001:0db8::0001", "2001:db8::1"),  # RFC 5952 4.1
        ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),  # 4.2.1
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),  # 4.2.2: one zero group is not shortened
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),  # 4.2.3: the first of equal runs
        ("2001:DB8::A", "2001:db8::a"),  # 4.3
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),  # 5
        ("::", "::"),
        ("::1", "::1"),
    ],
)
def test_rfc_5952_recommendations(text, canonical):
    assert addr.ip6_text(addr.ip6(text)) == canonical


@given(U48)
def test_mac_round_trip(n):
    assert addr.mac(addr.mac_text(n)) == n


def test_known_values():
    assert addr.ip4("10.48.1.5") == 0x0A300105
    assert addr.mac("02:00:0a:30:01:05") == 0x02000A300105
    assert addr.parse_cidr("10.48.0.0/16") == (0x0A300000, 16)
    assert addr.parse_cidr("10.48.1.5") == (0x0A300105, 32)
    assert addr.parse_cidr("fd00::/8") == (0xFD << 120, 8)
    assert addr.parse_addr("::1") == (addr.AF_INET6, 1)
    assert addr.parse_addr("0.0.0.1") == (addr.AF_INET, 1)
    assert addr.endpoint_text(addr.ip4("10.96.0.1"), 80) == "10.96.0.1:80"
    assert addr.endpoint_text(addr.ip6("fd00::1"), 80, addr.AF_INET6) == "[fd00::1]:80"
    assert addr.cidr_text(addr.ip4("10.48.0.0"), 16) == "10.48.0.0/16"


@pytest.mark.parametrize("plen", range(33))
def test_prefix_mask_agrees_with_ipaddress(plen):
    net = ipaddress.IPv4Network((0x0A300105, plen), strict=False)
    assert addr.prefix_mask(plen) == int(net.netmask)
    assert addr.in_prefix(0x0A300105, int(net.network_address), plen)
    assert addr.in_prefix(0x0A300105 ^ 1, int(net.network_address), plen) is (plen < 32)


def test_kinds_of_address():
    assert addr.is_multicast4(addr.ip4("239.1.2.3")) and not addr.is_multicast4(addr.ip4("240.0.0.1"))
    assert addr.is_loopback4(addr.ip4("127.3.2.1")) and not addr.is_loopback4(addr.ip4("128.0.0.1"))
    assert addr.is_multicast_mac(addr.mac("01:00:5e:00:00:01")) and addr.is_multicast_mac(addr.BROADCAST_MAC)
    assert not addr.is_multicast_mac(addr.mac("02:00:5e:00:00:01"))


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.x", " 1.2.3.4", "1.2.3.4\0"])
def test_bad_ip4_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match="is not an IPv4 address; write"):
        addr.ip4(text)


@pytest.mark.parametrize("text", ["", ":", "1::2::3", "12345::", "fd00::1%eth0", "1:2:3:4:5:6:7:8:9"])
def test_bad_ip6_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match="is not an IPv6 address; write"):
        addr.ip6(text)


@pytest.mark.parametrize("text", ["", "1:2:3:4:5", "00:00:00:00:00:0g", "02-00-00-00-00-01", "002:0:0:0:0:1", "+2:0:0:0:0:0"])
def test_bad_mac_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match="is not a MAC address"):
        addr.mac(text)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8", "fd00::/129", "10.0.0.0/²"])
def test_bad_cidr_is_refused(text):
    with pytest.raises(ValueError):
        addr.parse_cidr(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text):
    for parse in (addr.ip4, addr.ip6, addr.mac, addr.parse_cidr, addr.parse_addr):
        try:
            parse(text)
        except ValueError:
            pass
