"""DNS messages: round trips, dpkt, the compression of RFC 1035, and hostile bytes."""

from __future__ import annotations

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_cast import NAME, dns_messages

from kubenet.wire import dns
from kubenet.wire.addr import ip4, ip6
from kubenet.wire.dns import DnsMessage, Question, Record, build_dns, name_labels, parse_dns, read_name
from kubenet.wire.errors import WireError

U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
LABELS = st.lists(st.binary(min_size=1, max_size=12), max_size=5)
NAMES = LABELS.map(dns.labels_name)
KNOWN = {dns.A, dns.NS, dns.CNAME, dns.SOA, dns.PTR, dns.MX, dns.TXT, dns.AAAA, dns.SRV, dns.OPT}


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind = draw(st.sampled_from([*sorted(KNOWN - {dns.OPT}), 65, 257, 999]))
    data = {
        dns.A: U32,
        dns.AAAA: st.integers(0, 2**128 - 1),
        dns.SOA: st.tuples(NAMES, NAMES, U32, U32, U32, U32, U32),
        dns.MX: st.tuples(U16, NAMES),
        dns.SRV: st.tuples(U16, U16, U16, NAMES),
        dns.TXT: st.lists(st.binary(max_size=255), max_size=3).map(tuple),
    }.get(kind, NAMES if kind in KNOWN else st.binary(max_size=40))
    return Record(draw(NAMES), kind, draw(U32), draw(data), draw(st.sampled_from([1, 3, 255])))


FLAG = st.booleans()
SECTION = st.lists(records(), max_size=3)
MESSAGES = st.builds(
    DnsMessage, U16, FLAG, st.integers(0, 15), FLAG, FLAG, FLAG, FLAG, FLAG, FLAG, st.integers(0, 15),
    st.lists(st.builds(Question, NAMES, U16, U16), max_size=2), SECTION, SECTION, SECTION,
)  # fmt: skip


@given(MESSAGES)
def test_messages_come_back(msg):
    assert parse_dns(build_dns(msg)) == msg


@given(MESSAGES, st.integers(512, 65535), FLAG, st.binary(max_size=20), st.integers(0, 4095))
def test_messages_with_edns_come_back(msg, size, do, options, rcode):
    """RFC 6891 6.1.3: the upper eight bits of the response code travel in OPT."""
    msg.edns_size, msg.edns_do, msg.edns_options, msg.rcode = size, do, options, rcode
    assert parse_dns(build_dns(msg)) == msg


@pytest.mark.parametrize("number", range(len(dns_messages())))
def test_the_cast_comes_back(number):
    msg, _ = dns_messages()[number]
    assert parse_dns(build_dns(msg)) == msg


def test_a_query_byte_by_byte():
    """RFC 1035 4.1: id, RD, one question, labels, type A, class IN."""
    msg = DnsMessage(0x1234, rd=True, question=[Question("web.", dns.A)])
    assert build_dns(msg).hex() == "1234" + "0100" + "0001000000000000" + "0377656200" + "00010001"


def test_the_compression_example_of_rfc_1035():
    """RFC 1035 4.1.4: F.ISI.ARPA, FOO.F.ISI.ARPA, ARPA and the root in one message, at 20, 40, 64 and 92."""
    data = bytearray(100)
    data[20:32] = b"\1F\3ISI\4ARPA\0"
    data[40:46] = b"\3FOO\xc0\x14"
    data[64:66] = b"\xc0\x1a"
    assert [read_name(bytes(data), at) for at in (20, 40, 64, 92)] == [
        ("F.ISI.ARPA.", 32),
        ("FOO.F.ISI.ARPA.", 46),
        ("ARPA.", 66),
        (".", 93),
    ]


def test_building_compresses_but_not_srv_targets():
    """RFC 2782: "name compression is not to be used for this field"."""
    srv = Record(NAME, dns.SRV, 5, (0, 100, 80, NAME))
    raw = build_dns(DnsMessage(1, qr=True, question=[Question(NAME, dns.SRV)], answer=[srv]))
    assert raw.count(b"\xc0\x0c") == 1 and raw.count(b"\7cluster\5local") == 2
    cname = Record(NAME, dns.CNAME, 5, "other." + NAME)
    raw = build_dns(DnsMessage(1, qr=True, question=[Question(NAME, dns.A)], answer=[cname]))
    assert raw.endswith(b"\0\x08\5other\xc0\x0c")


def test_dpkt_reads_an_answer():
    answer = [
        Record(NAME, dns.A, 5, ip4("10.96.0.1")),
        Record(NAME, dns.AAAA, 6, ip6("fd00::1")),
        Record(NAME, dns.CNAME, 7, "a.b."),
        Record(NAME, dns.SRV, 8, (1, 2, 80, "c.d.")),
        Record(NAME, dns.PTR, 9, "e.f."),
    ]
    soa = [Record("local.", dns.SOA, 5, ("ns.", "host.", 1, 2, 3, 4, 5))]
    msg = DnsMessage(7, qr=True, aa=True, rd=True, ra=True, question=[Question(NAME, dns.ANY)], answer=answer, authority=soa)
    theirs = dpkt.dns.DNS(build_dns(msg))
    assert (theirs.id, theirs.qr, theirs.aa, theirs.rd, theirs.ra, theirs.rcode) == (7, 1, 1, 1, 1, 0)
    assert [(q.name, q.type) for q in theirs.qd] == [(NAME[:-1], 255)]
    a, aaaa, cname, srv, ptr = theirs.an
    assert [r.name for r in theirs.an] == [NAME[:-1]] * 5
    assert [r.ttl for r in theirs.an] == [5, 6, 7, 8, 9]
    assert a.ip == bytes((10, 96, 0, 1)) and aaaa.ip6 == ip6("fd00::1").to_bytes(16, "big")
    assert (cname.cname, ptr.ptrname) == ("a.b", "e.f")
    assert (srv.priority, srv.weight, srv.port, srv.srvname) == (1, 2, 80, "c.d")
    assert (theirs.ns[0].mname, theirs.ns[0].serial, theirs.ns[0].minimum) == ("ns", 1, 5)


def test_we_read_what_dpkt_writes():
    theirs = dpkt.dns.DNS(id=9, qd=[dpkt.dns.DNS.Q(name="web.default", type=1)])
    msg = parse_dns(bytes(theirs))
    assert (msg.id, msg.rd, msg.question) == (9, True, [Question("web.default.", 1)])


@pytest.mark.parametrize("limit", range(60, 600, 20))
def test_truncation_leaves_whole_records_and_sets_tc(limit):
    """RFC 2181 9: TC is set when a required RRset does not fit; what is sent still parses."""
    answer = [Record(NAME, dns.A, 5, i) for i in range(20)]
    msg = DnsMessage(1, qr=True, question=[Question(NAME, dns.A)], answer=answer, edns_size=1232)
    raw = build_dns(msg, limit)
    got = parse_dns(raw)
    assert len(raw) <= limit and got.edns_size == 1232
    assert got.answer == answer[: len(got.answer)]
    assert got.tc is (len(got.answer) < 20)
    assert len(got.answer) == min(20, (limit - (12 + len(NAME) + 1 + 4) - 11) // 16), "as many as fit"


def test_a_dropped_additional_record_is_no_truncation():
    extra = [Record("w.", dns.TXT, 5, (b"x" * 200,))]
    msg = DnsMessage(1, qr=True, question=[Question(NAME, dns.A)], additional=extra)
    got = parse_dns(build_dns(msg, 100))
    assert (got.additional, got.tc) == ([], False)


def test_labels_and_their_text():
    """RFC 1035 5.1: `\\.` is a dot inside a label, `\\DDD` a byte."""
    assert name_labels("a\\.b.c.") == [b"a.b", b"c"]
    assert name_labels("a\\032b") == [b"a b"]
    assert name_labels(".") == name_labels("") == []
    assert dns.labels_name([b"_http", b"_tcp", b"web-0"]) == "_http._tcp.web-0."
    assert dns.labels_name([b"a.b", b"\xff "]) == "a\\.b.\\255\\032."


@given(LABELS)
def test_labels_survive_their_text(labels):
    assert name_labels(dns.labels_name(labels)) == labels


@pytest.mark.parametrize("name", ["..", "a..b", ".a", "x" * 64, "a\\", "a\\25", "é.", ".".join(["abcdefg"] * 33)])
def test_bad_names_are_refused(name):
    with pytest.raises(ValueError):
        name_labels(name)


def test_the_longest_name_is_255_bytes():
    """RFC 1035 2.3.4, counting length bytes and the root."""
    name = ".".join(["x" * 63] * 3 + ["y" * 61]) + "."
    assert sum(len(label) + 1 for label in name_labels(name)) + 1 == 255
    with pytest.raises(ValueError):
        name_labels("z" + name)


@pytest.mark.parametrize(
    "name, why",
    [
        (b"\xc0\x0c", "backwards"),  # points at itself
        (b"\xc0\x20", "backwards"),  # points forward
        (b"\1a\xc0\x0c", "backwards"),  # a loop over a label
        (b"\x80\0", "label type"),
        (b"\5ab", "ends inside"),
        (b"\xc0", "ends inside"),
        (b"\1a" * 130 + b"\0", "longer than 255"),
    ],
)
def test_hostile_names(name, why):
    with pytest.raises(WireError, match=why):
        read_name(bytes(12) + name, 12)


def test_a_cut_message_is_refused():
    raw = build_dns(dns_messages()[-1][0])
    for size in range(len(raw)):
        with pytest.raises(WireError):
            parse_dns(raw[:size])


@settings(max_examples=300)
@given(st.binary(max_size=80), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_random_bytes_raise_only_wire_error(data, qd, an, ns, ar):
    header = bytes(4) + b"".join(n.to_bytes(2, "big") for n in (qd, an, ns, ar))
    for raw in (data, header + data):
        try:
            parse_dns(raw)
        except WireError:
            pass


@settings(max_examples=300)
@given(st.sampled_from([build_dns(msg) for msg, _ in dns_messages()]), st.data())
def test_flipped_bytes_raise_only_wire_error_and_what_parses_can_be_built(raw, data):
    flipped = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 5))):
        flipped[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        msg = parse_dns(bytes(flipped))
    except WireError:
        return
    assert parse_dns(build_dns(msg)) == msg
