"""getaddrinfo through /etc/hosts and DNS (resolv.conf(5), getaddrinfo(3)), against a name server written in Python in a pod."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kubenet.userland.resolver import ResolvConf, candidates

# Answers for web.default.svc.cluster.local (A only), big.default... (truncated over UDP), alias; all else NXDOMAIN. Logs questions.
DNS_SERVER = r'''
import socket, struct, threading, sys
ZONE = {"web.default.svc.cluster.local": ["10.96.0.1"], "big.default.svc.cluster.local": ["10.0.0.%d" % n for n in range(1, 60)],
        "example.com": ["93.184.215.14"]}
def answer(query, limit):
    name, at = [], 12
    while query[at]:
        name.append(query[at + 1 : at + 1 + query[at]].decode()); at += query[at] + 1
    kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
    text = ".".join(name).lower()
    print(text, {1: "A", 28: "AAAA", 12: "PTR"}.get(kind, kind), flush=True)
    if text == "slow.default.svc.cluster.local":
        return None
    found = ZONE.get(text)
    records = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + socket.inet_aton(a) for a in found or []] if kind == 1 else []
    flags = 0x8580 | (0 if found is not None else 3)
    body = query[12 : at + 5]
    full = struct.pack("!2sHHHHH", query[:2], flags, 1, len(records), 0, 0) + body + b"".join(records)
    if len(full) > limit:
        return struct.pack("!2sHHHHH", query[:2], flags | 0x200, 1, 0, 0, 0) + body
    return full
def tcp():
    s = socket.create_server(("", 53))
    while True:
        c, _ = s.accept()
        try:
            while size := c.recv(2):
                data = answer(c.recv(struct.unpack("!H", size)[0]), 65535); c.sendall(struct.pack("!H", len(data)) + data)
        except OSError: pass
        c.close()
threading.Thread(target=tcp, daemon=True).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 53))
while True:
    data, peer = u.recvfrom(4096)
    reply = answer(data, 512)
    if reply: u.sendto(reply, peer)
'''
RESOLV = "nameserver 10.48.1.2\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"


@pytest.fixture
def dns(lab: Any) -> Any:
    made = lab.pod("dns", "10.48.1.2", "python:3.12", command=["python3", "-u", "-c", DNS_SERVER])
    assert made.running, made.log_text()
    return made


@pytest.fixture
def client(lab: Any, dns: Any) -> Any:
    return lab.pod("client", "10.48.1.5", "netshoot", resolv_conf=RESOLV)


def questions(dns: Any) -> list[str]:
    text = dns.log_text().splitlines()
    dns.log.clear()
    return text


def test_candidates_follow_ndots() -> None:
    """resolv.conf(5): fewer dots than ndots: the search list first; a final dot: the name alone."""
    conf = ResolvConf(search=["a.", "b"], ndots=2)
    assert candidates(conf, "x") == ["x.a.", "x.b.", "x."]
    assert candidates(conf, "x.y.z") == ["x.y.z.", "x.y.z.a.", "x.y.z.b."]
    assert candidates(conf, "x.") == ["x."]


def test_short_name_takes_the_first_search_domain_with_both_questions(lab: Any, client: Any, dns: Any) -> None:
    out = lab.python(client, "import socket; print(socket.getaddrinfo('web', 80, type=socket.SOCK_STREAM))").out
    assert out == "[(<AddressFamily.AF_INET: 2>, <SocketKind.SOCK_STREAM: 1>, 6, '', ('10.96.0.1', 80))]\n"
    assert questions(dns) == ["web.default.svc.cluster.local A", "web.default.svc.cluster.local AAAA"]


def test_outside_name_pays_for_ndots(lab: Any, client: Any, dns: Any) -> None:
    """The famous cost: three useless pairs of questions before the real one."""
    assert lab.run(client, "getent hosts example.com").out == "93.184.215.14   example.com\n"
    assert questions(dns) == ["example.com.default.svc.cluster.local A", "example.com.svc.cluster.local A", "example.com.cluster.local A",
                              "example.com A"]
    lab.run(client, "getent hosts example.com.")
    assert questions(dns) == ["example.com A"]


def test_unknown_name_no_address_and_no_answer_are_different_errors(lab: Any, client: Any) -> None:
    """EAI_NONAME -2, EAI_NODATA -5, EAI_AGAIN -3; the last after 2 attempts of 5 s."""
    source = """
import socket, time
for name, family in (("nosuch", 0), ("web", socket.AF_INET6), ("slow", 0)):
    t = time.monotonic()
    try: socket.getaddrinfo(name, 80, family)
    except socket.gaierror as e: print(e, round(time.monotonic() - t))
"""
    assert lab.python(client, source).out == ("[Errno -2] Name or service not known 0\n[Errno -5] No address associated with hostname 0\n"
                                              "[Errno -3] Temporary failure in name resolution 10\n")


def test_truncated_answer_is_asked_again_over_tcp(lab: Any, client: Any) -> None:
    assert lab.python(client, "import socket; print(len(socket.gethostbyname_ex('big')[2]))").out == "59\n"


def test_hosts_file_comes_first(lab: Any, client: Any, dns: Any) -> None:
    assert lab.run(client, "echo '1.2.3.4 web' >> /etc/hosts; getent hosts web").out == "1.2.3.4         web\n"
    assert questions(dns) == []


def test_nobody_listening_fails_at_once(lab: Any, client: Any) -> None:
    """An ICMP port-unreachable ends the wait (res_send.c)."""
    client.set_resolv_conf("nameserver 10.48.1.1\n")
    source = """
import socket, time
t = time.monotonic()
try: socket.gethostbyname("x")
except socket.gaierror as e: print(e.errno, time.monotonic() - t < 0.1)"""
    assert lab.python(client, source).out == "-3 True\n"


def test_dig_prints_binds_sections(lab: Any, client: Any) -> None:
    out = lab.run(client, "dig web.default.svc.cluster.local").out
    assert re.fullmatch(
        r"\n; <<>> DiG 9\.18\.33 <<>> web\.default\.svc\.cluster\.local\n;; global options: \+cmd\n;; Got answer:\n"
        r";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: \d+\n;; flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, "
        r"ADDITIONAL: 0\n\n"
        r";; QUESTION SECTION:\n;web\.default\.svc\.cluster\.local\.\tIN\tA\n\n;; ANSWER SECTION:\n"
        r"web\.default\.svc\.cluster\.local\. 30 IN\tA\t10\.96\.0\.1\n\n;; Query time: \d+ msec\n"
        r";; SERVER: 10\.48\.1\.2#53\(10\.48\.1\.2\) \(UDP\)\n"
        r";; WHEN: Thu Jan 01 00:00:\d\d UTC 2026\n;; MSG SIZE  rcvd: \d+\n\n", out), out
    assert lab.run(client, "dig +short +search web").out == "10.96.0.1\n"
    assert lab.run(client, "dig +short nosuch.").out == ""


def test_dig_without_a_server_is_9(lab: Any, client: Any) -> None:
    result = lab.run(client, "dig @10.48.1.1 +tries=1 web.")
    assert result.code == 9
    assert ";; communications error to 10.48.1.1#53: connection refused\n;; no servers could be reached\n" in result.out


def test_nslookup_texts(lab: Any, client: Any) -> None:
    assert lab.run(client, "nslookup web").out == (
        "Server:\t\t10.48.1.2\nAddress:\t10.48.1.2#53\n\nName:\tweb.default.svc.cluster.local\nAddress: 10.96.0.1\n\n")
    result = lab.run(client, "nslookup nosuch")
    assert (result.code, result.out.splitlines()[3]) == (1, "** server can't find nosuch: NXDOMAIN")


@pytest.mark.parametrize("fields, line", [
    (["example.com.", "86400", "IN", "A", "93.184.215.14"], "example.com.\t\t86400\tIN\tA\t93.184.215.14"),
    (["kubernetes.default.svc.cluster.local.", "30", "IN", "A", "10.96.0.1"],
     "kubernetes.default.svc.cluster.local. 30 IN A\t10.96.0.1"),
])
def test_dig_aligns_as_bind(fields: list[str], line: str) -> None:
    """Lines that BIND's dig printed."""
    from kubenet.userland.tools.dig import COLUMNS, aligned

    assert aligned(fields, COLUMNS) == line
