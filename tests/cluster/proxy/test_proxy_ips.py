"""Kubernetes' lenient reading of addresses: leading zeros mean nothing, output is canonical."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.api.ips import AF_INET, AF_INET6, cidrs_of_family, host_port, ips_of_family, parse_cidr, parse_ip


@pytest.mark.parametrize(
    ("text", "canonical", "family"),
    [
        ("172.30.0.041", "172.30.0.41", AF_INET),  # decimal, not octal
        ("010.000.0.1", "10.0.0.1", AF_INET),
        ("FD00:0:0::01", "fd00::1", AF_INET6),
        ("fd00::10.0.0.010", "fd00::a00:a", AF_INET6),
        ("::ffff:10.0.0.1", "10.0.0.1", AF_INET),  # Go keeps a mapped address as IPv4
    ],
)
def test_address(text, canonical, family):
    ip = parse_ip(text)
    assert (ip.text, ip.family) == (canonical, family)
    assert ip.value == int(ipaddress.ip_address(canonical))


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.256", "10.0.0.1.1", "10.0.0.x", "10.0.0.-1", "fe80::1%eth0", ":"]
)
def test_no_address(text):
    with pytest.raises(ValueError, match="not an"):
        parse_ip(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.1.2.3/025", "10.1.2.0/25"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("010.1.2.3/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00:1::5/32", "fd00:1::/32"),
    ],
)
def test_prefix_is_masked(text, canonical):
    assert parse_cidr(text).text == canonical


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "fd00::/129", "10.0.0.0/8/8"])
def test_no_prefix(text):
    with pytest.raises(ValueError, match="not a"):
        parse_cidr(text)


def test_contains_and_overlaps():
    ten = parse_cidr("10.0.0.0/8")
    assert ten.contains(parse_ip("10.255.255.255"))
    assert not ten.contains(parse_ip("11.0.0.0"))
    assert not ten.contains(parse_ip("::a00:1"))  # another family, whatever the number
    assert ten.overlaps(parse_cidr("10.48.0.0/16"))
    assert parse_cidr("10.48.0.0/16").overlaps(ten)
    assert not ten.overlaps(parse_cidr("12.0.0.0/8"))


def test_lists_pass_over_nonsense_and_the_other_family():
    assert [ip.text for ip in ips_of_family(["10.0.0.01", "fd00::1", "web"], AF_INET)] == ["10.0.0.1"]
    assert [cidr.text for cidr in cidrs_of_family([" 10.0.0.0/8 ", "x", "fd00::/8"], AF_INET)] == ["10.0.0.0/8"]


def test_host_port():
    assert host_port(parse_ip("10.48.2.7"), 8080) == "10.48.2.7:8080"
    assert host_port(parse_ip("fd00::7"), 8080) == "[fd00::7]:8080"


@given(st.one_of(st.text(), st.text("0123456789abcdef.:/%", max_size=40)))
def test_any_text_is_read_or_refused_with_value_error(text):
    for parse in (parse_ip, parse_cidr):
        try:
            found = parse(text)
        except ValueError:
            continue
        assert parse(found.text) == found  # what is printed reads back as the same


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_agrees_with_the_standard_library(address):
    ip = parse_ip(str(address))
    mapped = getattr(address, "ipv4_mapped", None)
    assert ip.text == str(mapped or address)
    assert ip.value == int(mapped or address)
