"""The Internet checksum against the loop of RFC 1071, and the incremental update against RFC 1624."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.wire.addr import ip4
from kubenet.wire.checksum import (
    csum,
    csum_fold,
    csum_partial,
    csum_update16,
    csum_update32,
    pseudo_header4,
    pseudo_header6,
)  # fmt: skip

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)


def loop_of_rfc_1071(data: bytes) -> int:
    """RFC 1071 4.1, with the words in network order."""
    total = 0
    for i in range(0, len(data) - 1, 2):
        total += data[i] << 8 | data[i + 1]
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071():
    """RFC 1071 3: 0001 f203 f4f5 f6f7 sum to ddf2."""
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert csum_partial(data) == 0xDDF2
    assert csum(data) == 0x220D


@given(st.binary(max_size=200))
def test_partial_sum_equals_the_loop(data):
    assert csum_partial(data) == loop_of_rfc_1071(data)
    assert csum(data) == 0xFFFF - loop_of_rfc_1071(data)
    assert csum(data) == dpkt.in_cksum(data + bytes(len(data) % 2))


@given(st.binary(max_size=100).filter(lambda d: len(d) % 2 == 0), st.binary(max_size=100))
def test_sums_of_parts_add_up(first, second):
    """RFC 1071 2 (A): the sum is associative, if parts but the last are even."""
    assert csum(second, csum_partial(first)) == csum(first + second)
    assert csum_fold(csum_partial(first) + csum_partial(second)) == csum(first + second)


@given(st.binary(min_size=2, max_size=100).filter(lambda d: len(d) % 2 == 0))
def test_data_with_its_checksum_sums_to_zero(data):
    assert csum(data + csum(data).to_bytes(2, "big")) == 0


def test_the_example_of_rfc_1624():
    """RFC 1624 4: HC = dd2f, m = 5555, m' = 3285: HC' = 0000 (eqn. 2 would give ffff)."""
    assert csum_update16(0xDD2F, 0x5555, 0x3285) == 0x0000


@given(st.lists(U16, min_size=4, max_size=20), U16, st.integers(0, 3))
def test_update16_equals_a_new_computation(words, new, at):
    """RFC 1624 eqn. 3 equals RFC 1071 over the changed data, provided not all of it is zero."""
    words = [0x4500, *words]
    old_check = csum(b"".join(w.to_bytes(2, "big") for w in words))
    old, words[at + 1] = words[at + 1], new
    assert csum_update16(old_check, old, new) == csum(b"".join(w.to_bytes(2, "big") for w in words))


@given(U32, U32, st.binary(max_size=40).filter(lambda d: len(d) % 2 == 0))
def test_update32_equals_a_new_computation(old, new, rest):
    before = csum(b"\x45\0" + old.to_bytes(4, "big") + rest)
    assert csum_update32(before, old, new) == csum(b"\x45\0" + new.to_bytes(4, "big") + rest)


@given(U32, U32, st.integers(0, 255), U16)
def test_pseudo_header4_sums_its_twelve_bytes(saddr, daddr, proto, length):
    raw = saddr.to_bytes(4, "big") + daddr.to_bytes(4, "big") + bytes((0, proto)) + length.to_bytes(2, "big")
    assert csum_fold(pseudo_header4(saddr, daddr, proto, length)) == csum(raw)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1), st.integers(0, 255), st.integers(0, 2**20))
def test_pseudo_header6_sums_its_forty_bytes(saddr, daddr, proto, length):
    raw = saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big") + length.to_bytes(4, "big") + bytes((0, 0, 0, proto))
    assert csum_fold(pseudo_header6(saddr, daddr, proto, length)) == csum(raw)


@pytest.mark.parametrize("data, total", [(b"", 0), (b"\0\0", 0), (b"\xff\xff", 0xFFFF), (b"\0\1\xff\xfe", 0xFFFF)])
def test_zero_and_its_other_form(data, total):
    """Only all-zero data sums to 0; any other multiple of 65535 is 0xffff."""
    assert csum_partial(data) == total


def test_an_ip_header_added_by_hand():
    """A SYN's IP header, 10.48.1.5 -> 10.96.0.1, its words added by hand."""
    header = bytes.fromhex("4500003c000040004006") + b"\0\0"
    header += ip4("10.48.1.5").to_bytes(4, "big") + ip4("10.96.0.1").to_bytes(4, "big")
    by_hand = 0x4500 + 0x003C + 0x4000 + 0x4006 + 0x0A30 + 0x0105 + 0x0A60 + 0x0001
    assert csum(header) == 0xFFFF - by_hand % 0xFFFF
