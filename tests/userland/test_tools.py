"""Network tools against the emulated stack, and against recordings of the real ones (golden/)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.userland.tools.ss import Table
from kubenet.userland.tools.tcpdump import FilterError, FilterParser, Packet
from kubenet.wire.packet import bytes_to_frame

GOLDEN = Path(__file__).parent / "golden"


def recorded(command: str) -> str:
    """What the real tool printed."""
    text = (GOLDEN / "ss.txt").read_text()
    found = re.search(rf"^\$ {re.escape(command)}\n(.*?)^exit 0$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def tcp(state: str, recv: int, send: int, local: str, peer: str, users: str = "", netid: str = "tcp") -> list[str]:
    (la, lp), (pa, pp) = local.rsplit(":", 1), peer.rsplit(":", 1)
    return [netid, state, str(recv), str(send), la + ":", lp, pa + ":", pp, users, ""]


NGINX = ' users:(("python3",pid=28411,fd={}))'
LISTENERS = [("0.0.0.0:8082", 128, 6), ("0.0.0.0:8080", 5, 3), ("0.0.0.0:8081", 128, 4)]


@pytest.mark.parametrize("command, disabled, header, rows", [
    ("ss -ltnp", [0], True, [tcp("LISTEN", 0, n, a, "0.0.0.0:*", NGINX.format(fd)) for a, n, fd in LISTENERS]),
    ("ss -tlnH", [0], False, [tcp("LISTEN", 0, n, a, "0.0.0.0:*") for a, n, _ in LISTENERS]),
    ("ss -tulpn", [], True, [tcp("UNCONN", 3328, 0, "0.0.0.0:5353", "0.0.0.0:*", NGINX.format(7), "udp"),
                             *(tcp("LISTEN", 0, n, a, "0.0.0.0:*", NGINX.format(fd)) for a, n, fd in LISTENERS)]),
    ("ss -tn state established", [0, 1], True, [tcp("ESTAB", 0, 0, "10.48.1.5:46128", "10.48.1.6:8080")]),
])
def test_ss_columns_are_those_of_the_real_one(command: str, disabled: list[int], header: bool, rows: list[list[str]]) -> None:
    table = Table(disabled, header, 0)
    table.rows += rows
    assert table.text() == recorded(command)


def test_ss_shows_listeners_connections_and_owners(lab: Any, box: Any, web: Any) -> None:
    shell = lab.pod("tools", "10.48.1.9")
    lab.start(box, "sleep 5 | nc 10.48.1.6 80")
    lab.wait(1)
    out = lab.run(box, "ss -tnp").out
    assert re.search(r'^ESTAB 0      0          10\.48\.1\.5:\d+    10\.48\.1\.6:80 +users:\(\("nc",pid=\d+,fd=3\)\)$', out, re.MULTILINE)
    assert lab.run(box, "ss -Htan state established '( dport = :80 and dst 10.48.1.0/24 )' | wc -l").out == "1\n"
    assert lab.run(box, "ss -Htan dport = :81 | wc -l").out == "0\n"
    assert "rto:201" in lab.run(box, "ss -ti").out
    assert lab.run(box, "ss -t state nonsense").code == 255
    assert lab.run(shell, "nc -zv 10.48.1.6 80").err == "Connection to 10.48.1.6 80 port [tcp/http] succeeded!\n"


CURL = [
    ("curl -s http://10.48.1.6/ | head -n 1", 0, "<!DOCTYPE html>\n", ""),
    ("curl -sS http://10.48.1.6:81/", 7, "", "curl: (7) Failed to connect to 10.48.1.6 port 81 after 0 ms: Couldn't connect to server\n"),
    ("curl -sS http://nosuch.host/", 6, "", "curl: (6) Could not resolve host: nosuch.host\n"),
    ("curl -sS --connect-timeout 1 http://192.0.2.1/", 28, "",
     "curl: (28) Failed to connect to 192.0.2.1 port 80 after 1000 ms: Timeout was reached\n"),
    ("curl -sS -m 1 http://192.0.2.1/", 28, "", "curl: (28) Connection timed out after 1000 milliseconds\n"),
    ("curl -fsS http://10.48.1.6/nope", 22, "", "curl: (22) The requested URL returned error: 404\n"),
    ("curl -s -o /dev/null -w '%{http_code} %{size_download} %{remote_ip}:%{remote_port}' http://10.48.1.6", 0, "200 289 10.48.1.6:80", ""),
    ("curl -sI http://10.48.1.6/ | head -n 2", 0, "HTTP/1.1 200 OK\r\nServer: nginx/1.27.4\r\n", ""),
    ("curl -s --resolve web:80:10.48.1.6 http://web/ -o /tmp/x; grep -c nginx /tmp/x", 0, "4\n", ""),
    ("curl", 2, "", "curl: try 'curl --help' or 'curl --manual' for more information\n"),
    ("curl -sS https://10.48.1.6/", 1, "", 'curl: (1) Protocol "https" not supported or disabled in libcurl\n'),
    ("wget -qO- http://10.48.1.6 | head -n 1", 0, "<!DOCTYPE html>\n", ""),
]


@pytest.mark.parametrize("command, code, out, err", CURL)
def test_curl_and_wget(lab: Any, box: Any, web: Any, command: str, code: int, out: str, err: str) -> None:
    """Texts and exit codes of curl 7.88.1, times rounded to what virtual time gives."""
    blackhole(lab)
    result = lab.run(box, command)
    assert (result.code, result.out, result.err) == (code, out, err)


def blackhole(lab: Any) -> None:
    """The node swallows 192.0.2.0/24."""
    lab.run(lab.node, "sysctl -w net.ipv4.ip_forward=1; ip route add blackhole 192.0.2.0/24")


def test_curl_verbose_is_curls(lab: Any, box: Any, web: Any) -> None:
    err = lab.run(box, "curl -sv http://10.48.1.6/ >/dev/null").err
    assert err.startswith("*   Trying 10.48.1.6:80...\n* Connected to 10.48.1.6 (10.48.1.6) port 80 (#0)\n> GET / HTTP/1.1\n"
                          "> Host: 10.48.1.6\n> User-Agent: curl/7.88.1\n> Accept: */*\n> \n< HTTP/1.1 200 OK\n< Server: nginx/1.27.4\n")
    assert err.endswith("< \n{ [289 bytes data]\n* Connection #0 to host 10.48.1.6 left intact\n")


SERVER_SENDS = [
    ("nothing", "c.recv(999)", 52, "curl: (52) Empty reply from server\n"),
    ("a reset", "c.recv(999); c.setsockopt(1, 13, b'\\1\\0\\0\\0\\0\\0\\0\\0')", 56, "curl: (56) Recv failure: Connection reset by peer\n"),
    ("too little", "c.recv(999); c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nabc')", 18,
     "curl: (18) transfer closed with 6 bytes remaining to read\n"),
    ("nonsense", "c.recv(999); c.sendall(b'hello\\n')", 1, "curl: (1) Received HTTP/0.9 when not allowed\n"),
    ("chunks", "c.recv(999); c.sendall(b'HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
     "3\\r\\nabc\\r\\n0\\r\\n\\r\\n')", 0, ""),
]


@pytest.mark.parametrize("what, action, code, err", SERVER_SENDS, ids=[s[0] for s in SERVER_SENDS])
def test_curl_with_odd_servers(lab: Any, box: Any, what: str, action: str, code: int, err: str) -> None:
    server = lab.pod("server", "10.48.1.7")
    lab.start(server, ["python3", "-c", f"import socket\ns = socket.create_server(('', 80))\nc, _ = s.accept()\n{action}\nc.close()"])
    lab.wait(0.5)
    result = lab.run(box, "curl -sS http://10.48.1.7/")
    assert (result.code, result.err) == (code, err)


def test_ping_texts(lab: Any, box: Any, web: Any) -> None:
    """iputils: lines, statistics, exit codes 0, 1, 2."""
    result = lab.run(box, "ping -c 2 10.48.1.6")
    assert re.fullmatch(
        r"PING 10\.48\.1\.6 \(10\.48\.1\.6\) 56\(84\) bytes of data\.\n"
        r"64 bytes from 10\.48\.1\.6: icmp_seq=1 ttl=64 time=0\.0\d\d ms\n"
        r"64 bytes from 10\.48\.1\.6: icmp_seq=2 ttl=64 time=0\.0\d\d ms\n\n"
        r"--- 10\.48\.1\.6 ping statistics ---\n2 packets transmitted, 2 received, 0% packet loss, time 1000ms\n"
        r"rtt min/avg/max/mdev = 0\.0\d\d/0\.0\d\d/0\.0\d\d/0\.0\d\d ms\n", result.out)
    unreachable = lab.run(box, "ping -c 1 10.48.1.77")
    assert "From 10.48.1.5 icmp_seq=1 Destination Host Unreachable\n" in unreachable.out
    assert "1 packets transmitted, 0 received, +1 errors, 100% packet loss" in unreachable.out
    assert unreachable.code == 1
    unknown = lab.run(box, "ping -c 1 nosuch.host")
    assert (unknown.code, unknown.err) == (2, "ping: nosuch.host: Temporary failure in name resolution\n")


def test_traceroute_counts_hops(lab: Any, box: Any) -> None:
    lab.run(lab.node, "sysctl -w net.ipv4.ip_forward=1")
    out = lab.run(box, "traceroute -n -q 1 10.48.1.1").out
    assert re.fullmatch(r"traceroute to 10\.48\.1\.1 .*\n 1  10\.48\.1\.1  0\.\d{3} ms\n", out)


IP = [
    ("ip route", 0, "default via 10.48.1.1 dev eth0 \n10.48.1.0/24 dev eth0 proto kernel scope link src 10.48.1.5 \n", ""),
    ("ip route get 10.48.1.6", 0, "10.48.1.6 dev eth0 src 10.48.1.5 uid 0 \n    cache \n", ""),
    ("ip route get 8.8.8.8", 0, "8.8.8.8 via 10.48.1.1 dev eth0 src 10.48.1.5 uid 0 \n    cache \n", ""),
    ("ip route add 1.2.3.0/24 via 9.9.9.9", 2, "", "Error: Nexthop has invalid gateway.\n"),
    ("ip route del 1.2.3.0/24", 2, "", "RTNETLINK answers: No such process\n"),
    ("ip addr add 10.48.1.5/24 dev eth0", 2, "", "Error: ipv4: Address already assigned.\n"),
    ("ip link set foo up", 1, "", 'Cannot find device "foo"\n'),
    ("ip addr show dev foo", 1, "", 'Device "foo" does not exist.\n'),
    ("ip foo", 1, "", 'Object "foo" is unknown, try "ip help".\n'),
    ("ip r add 10.5.0.0/16 dev eth0; ip r add blackhole 10.6.0.0/16; ip r", 0,
     "default via 10.48.1.1 dev eth0 \n10.5.0.0/16 dev eth0 scope link \nblackhole 10.6.0.0/16 \n"
     "10.48.1.0/24 dev eth0 proto kernel scope link src 10.48.1.5 \n", ""),
    ("ip rule", 0, "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n", ""),
    ("ip -o -4 addr show dev eth0", 0,
     "2: eth0    inet 10.48.1.5/24 scope global eth0\\       valid_lft forever preferred_lft forever\n", ""),
    ("ip -br addr show lo", 0, "lo               UNKNOWN        127.0.0.1/8 \n", ""),
    ("ip link show lo", 0, "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n"
     "    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n", ""),
    ("ip link set eth0 mtu 1400; cat /sys/class/net/eth0/mtu; ip link set eth0 down; ip route", 0, "1400\n", ""),
    ("sysctl net.foo", 1, "", "sysctl: cannot stat /proc/sys/net/foo: No such file or directory\n"),
    ("sysctl -w net.ipv4.ip_forward=x", 1, "", 'sysctl: setting key "net.ipv4.ip_forward": Invalid argument\n'),
    ("nstat -az TcpExtListenOverflows", 0, "#kernel\nTcpExtListenOverflows           0                  0.0\n", ""),
]


@pytest.mark.parametrize("command, code, out, err", IP)
def test_ip_sysctl_nstat(lab: Any, box: Any, command: str, code: int, out: str, err: str) -> None:
    """As iproute2 6.1 and procps printed in a network namespace."""
    result = lab.run(box, command)
    assert (result.code, result.out, result.err) == (code, out, err)


def test_neighbours_appear_and_can_be_set(lab: Any, box: Any, web: Any) -> None:
    lab.run(box, "ping -c 1 10.48.1.6")
    assert re.fullmatch(r"10\.48\.1\.6 dev eth0 lladdr [0-9a-f:]{17} REACHABLE \n", lab.run(box, "ip neigh").out)
    lab.run(box, "ip neigh replace 10.48.1.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent")
    assert "10.48.1.9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT \n" in lab.run(box, "ip neigh").out


def test_tcpdump_shows_a_handshake(lab: Any, box: Any, web: Any) -> None:
    dump = lab.start(box, "tcpdump -n -i eth0 -c 3 tcp port 80")
    lab.wait(0.1)
    lab.run(box, "curl -s http://10.48.1.6/ > /dev/null")
    lines = dump.stdout_bytes().decode().splitlines()
    assert re.search(r"IP 10\.48\.1\.5\.\d+ > 10\.48\.1\.6\.80: Flags \[S\], seq \d+, win 64240, options \[mss 1460,"
                     r"sackOK,TS val \d+ ecr 0,"
                     r"nop,wscale 10\], length 0$", lines[0])
    assert "Flags [S.]" in lines[1] and "win 65160" in lines[1]
    assert re.search(r"Flags \[\.\], ack 1, win 63, options", lines[2])
    assert "3 packets captured\n" in dump.stderr_bytes().decode()


def test_tcpdump_file_can_be_read_back(lab: Any, box: Any, web: Any) -> None:
    dump = lab.start(box, "timeout -s INT 2 tcpdump -w /tmp/a.pcap 'icmp or arp'")
    lab.wait(0.1)
    lab.run(box, "ping -c 1 10.48.1.6")
    lab.wait(3)
    assert dump.exit_code == 124
    out = lab.run(box, "tcpdump -nt -r /tmp/a.pcap icmp").out
    assert re.fullmatch(r"IP 10\.48\.1\.5 > 10\.48\.1\.6: ICMP echo request, id \d+, seq 1, length 64\n"
                        r"IP 10\.48\.1\.6 > 10\.48\.1\.5: ICMP echo reply, id \d+, seq 1, length 64\n", out)


def test_watching_changes_nothing(lab: Any) -> None:
    """A capture neither delays nor reorders: the ledger's frames are the same with and without."""
    from pod_lab import Lab

    def frames(watch: bool) -> list[Any]:
        here = Lab()
        client, _ = here.pod("client", "10.48.1.5"), here.pod("web", "10.48.1.6", "nginx:1.27")
        if watch:
            here.node.exec(["tcpdump", "-ni", "any"])
        here.wait(1)
        here.loop.ledger.keep = []
        here.run(client, "curl -s http://10.48.1.6/")
        here.wait(2)
        return [line for line in here.loop.ledger.recent() if line[1] not in ("sys", "drop") and line[0] > 3_000_000_000]

    assert frames(False) == frames(True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("tcp udp icmp arp host port net src dst and or not ( ) 10.0.0.1 80 10/8 [ tcp[13] & = 2 !=".split()),
                max_size=9))
def test_any_filter_parses_or_is_a_syntax_error(words: list[str]) -> None:
    class Nobody:
        class vfs:  # noqa: N801
            @staticmethod
            def read(_path: str) -> bytes:
                return b""

        @staticmethod
        def nothing() -> None: ...

    try:
        FilterParser(" ".join(words), Nobody()).parse()  # type: ignore[arg-type]
    except FilterError:
        pass


def filters() -> tuple[list[bytes], list[tuple[str, str]]]:
    """The packets of golden/tcpdump-filters.txt, and each filter with what the real tcpdump made of it."""
    lines = (GOLDEN / "tcpdump-filters.txt").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines if not line.startswith("packet ")]
    return [bytes.fromhex(line[7:]) for line in lines if line.startswith("packet ")], [(a, b) for a, b in rows]


@pytest.mark.parametrize("words, expected", filters()[1], ids=[a for a, _ in filters()[1]])
def test_filters_choose_what_the_real_tcpdump_chose(box: Any, words: str, expected: str) -> None:
    def chosen() -> str:
        test = FilterParser(words, box.exec(["true"])).parse()
        frames = [(number, bytes_to_frame(raw), len(raw)) for number, raw in enumerate(filters()[0])]
        return " ".join(str(number) for number, f, size in frames
                        if test(Packet(f.eth, f.l3, f.l4, f.inner, f.payload, f.eth.proto, size)))

    if expected.startswith("! "):
        with pytest.raises(FilterError) as caught:
            chosen()
        assert "tcpdump: " + (f"can't parse filter expression: {caught.value}" if str(caught.value) == "syntax error"
                              else str(caught.value)) == expected[2:]
    else:
        assert chosen() == expected


def test_ip_statistics_are_laid_out_as_recorded(lab: Any, box: Any) -> None:
    """golden/ip.txt: the numbers of the recording, in our device."""
    from kubenet.userland.tools.ip.link import stats_lines

    dev = box.net.devs["eth0"]
    dev.rx_bytes, dev.rx_packets, dev.tx_bytes, dev.tx_packets = 180, 2, 266, 3
    dev.rx_errors = dev.rx_dropped = dev.tx_errors = dev.tx_dropped = dev.rx_multicast = 0
    recording = (GOLDEN / "ip.txt").read_text().split("$ ip -s link show eth0\n")[1].splitlines()[2:6]
    assert stats_lines(dev) == recording


def test_brief_links_are_as_recorded(lab: Any, box: Any) -> None:
    mac = lab.run(box, ["cat", "/sys/class/net/eth0/address"]).out.strip()
    recording = (GOLDEN / "ip.txt").read_text().split("$ ip -br link\n")[1].splitlines()[:2]
    ours = lab.run(box, "ip -br link").out.replace(mac, "1e:ed:40:f1:44:ac")
    assert re.sub(r"@if\d+ ", "@if2 ", ours).splitlines() == recording


@pytest.mark.parametrize("command, code, out, err", [
    ("ethtool", 1, "", "ethtool: bad command line argument(s)\nFor more information run ethtool -h\n"),
    ("ethtool -K eth0 foo off", 92, "", "netlink error: bit name not found (offset 56)\nnetlink error: Operation not supported\n"),
    ("ethtool -K eth0 tso off; ethtool -k eth0 | grep ^tcp", 0, "tcp-segmentation-offload: off\n", ""),
    ("ethtool -S lo", 94, "", "no stats available\n"),
    ("ethtool -S eth0 | head -n 2", 0, "NIC statistics:\n     peer_ifindex: 3\n", ""),
])
def test_ethtool_says_what_it_cannot_do(lab: Any, box: Any, command: str, code: int, out: str, err: str) -> None:
    """ethtool 6.1 on Linux 6.18."""
    result = lab.run(box, command)
    assert (result.code, result.out, result.err) == (code, out, err)


def test_proc_net_has_the_columns_of_the_kernel(lab: Any, box: Any) -> None:
    """Linux: snmp_seq_show(), udp4_seq_show()."""
    assert lab.run(box, "head -n 2 /proc/net/snmp | cut -d' ' -f 1-3").out == "Ip: Forwarding DefaultTTL\nIp: 2 64\n"
    tcp_rows = lab.run(box, "grep ^Tcp /proc/net/snmp | cut -d' ' -f 2-5").out
    assert tcp_rows == "RtoAlgorithm RtoMin RtoMax MaxConn\n1 200 120000 -1\n"
    lab.start(box, "nc -lu -p 53")
    lab.wait(1)
    head, row = lab.run(box, "cat /proc/net/udp").out.splitlines()
    assert head == ("   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
                    .ljust(127))
    assert len(row) == 127 and row[5:25] == ": 00000000:0035 0000"


@pytest.mark.parametrize("command, code, out, err", [
    ("getent services http", 0, "http                  80/tcp\n", ""),
    ("getent services 53/udp", 0, "domain                53/udp\n", ""),
    ("getent services ssh 22", 0, "ssh                   22/tcp\nssh                   22/tcp\n", ""),
    ("getent services nosuch", 2, "", ""),
    ("getent passwd 0 | cut -d: -f 1", 0, "root\n", ""),
    ("getent hosts | head -n 1", 0, "127.0.0.1       localhost\n", ""),
    ("getent", 1, "", "getent: wrong number of arguments\nTry `getent --help' or `getent --usage' for more information.\n"),
    ("getent foo", 1, "", "Unknown database: foo\nTry `getent --help' or `getent --usage' for more information.\n"),
])
def test_getent_is_glibcs(lab: Any, box: Any, command: str, code: int, out: str, err: str) -> None:
    """getent of glibc 2.36; our /etc/services has no aliases."""
    result = lab.run(box, command)
    assert (result.code, result.out, result.err) == (code, out, err)


def test_the_canonical_name_is_the_first_of_the_line_in_etc_hosts(lab: Any) -> None:
    """hosts(5), glibc nss_files: name and aliases; hostname -f asks the resolver (hostname 3.23, hostname.c)."""
    hosts = "127.0.0.1 localhost\n10.48.1.5\tdb-0.db.default.svc.cluster.local\tdb-0\n"
    box = lab.pod("db-0", "10.48.1.5", hosts=hosts)
    assert lab.run(box, "getent hosts db-0").out == "10.48.1.5       db-0.db.default.svc.cluster.local db-0\n"
    assert lab.run(box, "hostname; hostname -f; hostname -d").out == "db-0\ndb-0.db.default.svc.cluster.local\ndb.default.svc.cluster.local\n"
