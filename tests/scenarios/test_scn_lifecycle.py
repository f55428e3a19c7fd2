"""What happens to connections when pods, endpoints and Services come and go; names; what agents set on nodes.

Sources: kube-proxy's conntrack reconciler (UDP entries whose answer would come from no serving endpoint are deleted after a
sync; TCP is never touched; Services with zero endpoints are skipped in 1.32 to 1.36), measurements, the DNS specification
for Services, resolv.conf(5), ip-sysctl, the crash loop of the kubelet.
"""

from __future__ import annotations

from typing import Any

import pytest

from kubenet.errors import KubenetError
from kubenet.units import MSEC, SEC
from tests.scenarios.world import (
    AF_INET,
    CLIENT,
    DGRAM,
    ECONNREFUSED,
    ECONNRESET,
    STREAM,
    World,
    connect,
    deployment,
    listener,
    netexec,
    pod,
    read_all,
    service,
    udp_ask,
)

UDP_VIP = "10.96.0.60"
UDP_PORT = {"name": "u", "port": 81, "targetPort": 8081, "protocol": "UDP"}
TCP_PORT = {"name": "http", "port": 80, "targetPort": 8080}


def steady_sender(sys: Any, addr: tuple[str, int], count: int, answers: list[str]) -> int:
    """One socket, one datagram a second: what came back each time, or the errno."""
    fd = sys.socket(AF_INET, DGRAM)
    sys.connect(fd, addr)
    for _ in range(count):
        try:
            sys.send(fd, b"hostname")
            answers.append(sys.recv(fd, 100, 0, 500 * MSEC).decode())
        except OSError as error:
            answers.append(str(error.errno))
        sys.sleep(SEC)
    return 0


def two(make: Any, **spec: Any) -> World:
    w: World = make(docs=[netexec("u-0", "node-2", "10.48.2.30", "u"), service("u", UDP_VIP, {"app": "u"}, [UDP_PORT, TCP_PORT])], **spec)
    return w


# ---- UDP and TCP when an endpoint goes


def test_udp_flow_moves_to_the_other_endpoint_when_its_own_goes(make: Any) -> None:
    """The reconciler deletes the entry whose reply source serves no more; the next datagram is balanced anew."""
    w = two(make)
    answers: list[str] = []
    w.go("client", steady_sender, (UDP_VIP, 81), 12, answers)
    w.run(2.5)
    w.apply(netexec("u-1", "node-1", "10.48.1.30", "u"))
    w.delete("Pod", "u-0")
    w.run(12)
    assert answers[0] == "u-0" and answers[-1] == "u-1"
    assert answers[answers.index("u-1"):].count("u-0") == 0


def test_udp_flow_to_a_service_scaled_to_zero_stays(make: Any) -> None:
    """1.32 to 1.36 skip Services with no serving endpoint: an entry keeps sending to the old address as long as the client
    does, even when a REJECT rule is installed meanwhile; new source ports see the rule."""
    w = two(make)
    answers: list[str] = []
    w.go("client", steady_sender, (UDP_VIP, 81), 8, answers)
    w.run(1.5)
    w.delete("Pod", "u-0")
    w.run(4)
    assert "no endpoints" in w.sh("node-1", "iptables-save")
    entries = w.entries("node-1", proto=17, dport=81)
    assert len(entries) == 1 and entries[0].reply[0] == 0x0A30021E
    assert w.errno("client", udp_ask, (UDP_VIP, 81)) == ECONNREFUSED
    w.sh("node-1", f"conntrack -D -p udp --orig-dst {UDP_VIP}")
    w.run(4)
    assert answers[-1] == str(ECONNREFUSED)  # after conntrack -D the flow meets the rule, too


def test_udp_port_closed_behind_a_living_pod(make: Any) -> None:
    """Measured: old pod alive but its port closed: ECONNREFUSED each time, the entry stays."""
    w = two(make)

    def server(sys: Any) -> int:
        fd = sys.socket(AF_INET, DGRAM)
        sys.bind(fd, ("", 9999))
        for _ in range(2):
            data, peer = sys.recvfrom(fd, 100)
            sys.sendto(fd, b"served", peer)
        sys.close(fd)
        return 0

    w.apply(service("v", "10.96.0.61", {"app": "u"}, [{"name": "v", "port": 82, "targetPort": 9999, "protocol": "UDP"}]))
    w.go("u-0", server)
    answers: list[str] = []
    w.go("client", steady_sender, ("10.96.0.61", 82), 5, answers)
    w.run(6)
    assert answers == ["served", "served", *[str(ECONNREFUSED)] * 3]


def test_tcp_connection_keeps_its_endpoint_when_the_service_loses_it(make: Any) -> None:
    """The NAT decision is made once: a pod that is no endpoint any more (its label is gone) keeps its connections, new ones
    are refused."""
    w = two(make)

    def server(sys: Any) -> int:
        fd, _ = sys.accept(listener(sys, 7000))
        while data := sys.recv(fd, 100):
            sys.send_all(fd, data)
        return 0

    def client(sys: Any, log: list[bytes]) -> int:
        fd = connect(sys, (UDP_VIP, 7000))
        for _ in range(6):
            sys.send_all(fd, b"x")
            log.append(sys.recv(fd, 10))
            sys.sleep(SEC)
        return 0

    w.apply(service("u", UDP_VIP, {"app": "u"}, [UDP_PORT, {"name": "raw", "port": 7000, "targetPort": 7000}]))
    w.go("u-0", server)
    w.run(0.1)
    log: list[bytes] = []
    job = w.go("client", client, log)
    w.run(1)
    w.cluster.api.request("PATCH", "/api/v1/namespaces/default/pods/u-0", {}, {"content-type": "application/merge-patch+json"},
                          b'{"metadata": {"labels": {"app": "other"}}}')
    w.run(2)
    assert w.errno("client", connect, (UDP_VIP, 7000)) == ECONNREFUSED
    w.wait(job)
    assert log == [b"x"] * 6


def test_tcp_connection_to_a_pod_that_is_gone_hangs(make: Any) -> None:
    """kube-proxy never touches TCP entries. The address answers nobody: ICMP host unreachable is a soft error for an
    established connection, so the sender retransmits (tcp_retries2), and nothing tells the program."""
    w = two(make)

    def client(sys: Any, log: list[str]) -> int:
        fd = connect(sys, (UDP_VIP, 80))
        sys.sleep(10 * SEC)
        sys.send_all(fd, b"GET /hostname HTTP/1.0\r\n\r\n")
        log.append(sys.recv(fd, 100, 0, 60 * SEC).decode())
        return 0

    log: list[str] = []
    job = w.go("client", client, log)
    w.run(1)
    from kubenet.kernel.dev.device import dev_change_flags

    dev_change_flags(w.net("u-0").devs["eth0"], False)  # unplugged first, as a lost node would be: no FIN, no RST leaves
    w.delete("Pod", "u-0")
    w.run(40)
    assert log == [] and not job.done
    assert w.entries("node-1", proto=6, dport=80)


def test_a_deleted_pod_closes_its_connections(make: Any) -> None:
    """SIGTERM ends the server, its kernel closes the socket: the client sees the end, or a reset when data was unread."""
    w = two(make)

    def client(sys: Any) -> bytes:
        fd = connect(sys, (UDP_VIP, 80))
        return bytes(sys.recv(fd, 100, 0, 60 * SEC))

    job = w.go("client", client)
    w.run(1)
    w.delete("Pod", "u-0", grace=5)
    try:
        assert w.wait(job, 30) == b""
    except OSError as error:
        assert error.errno == ECONNRESET


# ---- workloads


def test_rolling_update_loses_only_what_meets_a_dying_pod(make: Any) -> None:
    """A server that ends at SIGTERM is refused, or silent, until kube-proxy has synced (minSyncPeriod 1 s): the reason for
    preStop sleeps. Ready pods are behind the Service at every moment (maxUnavailable 25 %), so all else is answered: old
    pods first, new ones in the end."""
    w: World = make(docs=[deployment("roll", 4), service("roll", "10.96.0.70")], cast=True)
    names: list[tuple[int, str]] = []
    failures: list[int] = []

    def ask(sys: Any) -> int:
        for _ in range(300):
            fd = sys.socket(AF_INET, STREAM)
            try:
                sys.connect(fd, ("10.96.0.70", 80), SEC)
                sys.send_all(fd, b"GET /hostname HTTP/1.0\r\n\r\n")
                answer = read_all(sys, fd, SEC)
                names.append((sys.loop.now, answer.rpartition(b"\n")[2].decode()))
            except OSError:
                failures.append(sys.loop.now)
            sys.close(fd)
            sys.sleep(50 * MSEC)
        return 0

    def pods() -> set[str]:
        return {p["metadata"]["name"] for p in w.cluster.store.iter("Pod") if p["metadata"]["name"].startswith("roll")}

    job = w.go("client", ask)
    w.run(1)
    before = pods()
    began = w.loop.now
    w.cluster.apply_documents([deployment("roll", 4, args=["netexec", "--udp-port=9000"])])
    w.cluster.settle()
    settled = w.loop.now + 2 * SEC
    w.wait(job, 60)
    assert not before & pods() and len(pods()) == 4
    assert names[0][1] in before and names[-1][1] in pods()
    assert all(began < t < settled for t in failures), failures
    assert {n for t, n in names if t > settled} <= pods()
    assert len(names) > 200


def test_scale_to_zero_and_back(make: Any) -> None:
    """No endpoints: refused at once. Back: answered again, by another pod."""
    w: World = make(docs=[deployment("s", 1), service("s", "10.96.0.71")])
    first = w.get("client", ("10.96.0.71", 80), "/hostname")
    w.apply(deployment("s", 0))
    w.run(40)
    assert w.errno("client", connect, ("10.96.0.71", 80)) == ECONNREFUSED
    w.apply(deployment("s", 1))
    w.run(2)
    assert w.get("client", ("10.96.0.71", 80), "/hostname") not in ("", first)


# ---- names


DNS = [service("web", "10.96.0.1", {"app": "web"}), service("direct", "", {"app": "web"}, clusterIP="None")]


@pytest.fixture(scope="module")
def named() -> Any:
    with World(docs=DNS) as world:
        yield world


def test_resolv_conf_of_a_pod(named: World) -> None:
    """ClusterFirst: the cluster's DNS, three search domains, ndots 5."""
    text = named.sh("client", "cat /etc/resolv.conf")
    assert "nameserver 10.96.0.10\n" in text and "options ndots:5" in text
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in text


@pytest.mark.parametrize("name, found", [
    ("web", ["10.96.0.1"]), ("web.default", ["10.96.0.1"]), ("web.default.svc", ["10.96.0.1"]),
    ("web.default.svc.cluster.local", ["10.96.0.1"]), ("direct", ["10.48.1.6", "10.48.2.7"]),
    ("kube-dns.kube-system", ["10.96.0.10"]), ("kubernetes", ["10.96.0.2"]),
])
def test_names_a_pod_can_use(named: World, name: str, found: list[str]) -> None:
    """Service names resolve along the search path; a headless Service gives its endpoints."""
    lines = named.sh("client", f"getent ahostsv4 {name}").split("\n")
    assert sorted({line.split()[0] for line in lines if line}) == found


def queries(w: World, name: str) -> list[str]:
    """The A questions that leave the client for `name`, in order."""
    from kubenet.kernel.dev.device import add_tap, remove_tap
    from kubenet.wire.dns import parse_dns

    asked: list[str] = []

    class Questions:
        def capture(self, dev: Any, skb: Any, outgoing: bool) -> None:
            if outgoing and skb.protocol == 0x0800 and skb.ip.proto == 17 and skb.l4.dport == 53:
                question = parse_dns(bytes(skb.payload)).question[0]
                if question.type == 1:
                    asked.append(str(question.name))

    tap = Questions()
    dev = w.net("client").devs["eth0"]
    add_tap(dev, tap)
    w.sh("client", f"getent ahostsv4 {name}")
    remove_tap(dev, tap)
    return [q.rstrip(".") for q in asked]


def test_ndots_five_asks_the_search_list_first(named: World) -> None:
    """resolv.conf(5): fewer than ndots dots: the search list comes first, the name itself last. So a name of the world
    outside costs four lookups."""
    asked = queries(named, "www.example.com")
    assert list(dict.fromkeys(asked)) == [
        "www.example.com.default.svc.cluster.local", "www.example.com.svc.cluster.local", "www.example.com.cluster.local",
        "www.example.com"]
    assert asked.count("www.example.com") <= 2  # twice, if CoreDNS could not ask the world and said SERVFAIL


def test_a_trailing_dot_asks_once(named: World) -> None:
    """An absolute name is taken as it is."""
    assert queries(named, "web.default.svc.cluster.local.") == ["web.default.svc.cluster.local"]


# ---- sysctls


def test_what_kube_proxy_and_the_cni_set_on_a_node(named: World) -> None:
    """kube-proxy: established 86400, close_wait 3600, route_localnet 1; CNI: ip_forward 1, bridge-nf 1. The rest is Linux's."""
    wanted = {"net.netfilter.nf_conntrack_tcp_timeout_established": "86400", "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "3600",
              "net.netfilter.nf_conntrack_max": "262144", "net.ipv4.conf.all.route_localnet": "1", "net.ipv4.ip_forward": "1",
              "net.bridge.bridge-nf-call-iptables": "1", "net.netfilter.nf_conntrack_udp_timeout": "30",
              "net.netfilter.nf_conntrack_tcp_be_liberal": "0", "net.ipv4.tcp_syn_retries": "6", "vm.overcommit_memory": "1"}
    for name, value in wanted.items():
        assert named.sh("node-1", f"sysctl -n {name}").strip() == value, name


def test_what_a_pod_inherits_and_what_not(make: Any) -> None:
    """Copied from the node when the pod is made: conf.all/default, tcp_rmem, tcp_wmem, congestion control. Everything else
    is the kernel's default: a pod's own conntrack timeout is 432000."""
    w: World = make()
    w.sysctl("node-1", "net.ipv4.tcp_rmem", "4096 65536 1000000")
    w.sysctl("node-1", "net.ipv4.tcp_retries2", "8")
    w.apply(pod("late", "node-1"))
    assert w.sh("late", "sysctl -n net.ipv4.tcp_rmem").split() == ["4096", "65536", "1000000"]
    assert w.sh("late", "sysctl -n net.ipv4.tcp_retries2").strip() == "15"
    assert w.sh("client", "sysctl -n net.ipv4.tcp_rmem").split() == ["4096", "131072", "33554432"]
    assert w.sh("late", "sysctl -n net.ipv4.conf.all.route_localnet").strip() == "1"
    assert w.sh("late", "sysctl -n net.netfilter.nf_conntrack_tcp_timeout_established").strip() == "432000"
    assert w.sh("late", "cat /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established").strip() == "432000"


# ---- pods that do not run


def waiting_reason(w: World, name: str) -> str:
    status = w.cluster.store.must_get("Pod", ("default", name)).get("status") or {}
    for c in status.get("containerStatuses") or []:
        if "waiting" in c["state"]:
            return str(c["state"]["waiting"]["reason"])
    return ""


def test_unknown_image_is_pulled_with_back_off(make: Any) -> None:
    """ErrImagePull at the first attempt, ImagePullBackOff while waiting for the next."""
    w: World = make(cast=False)
    w.cluster.apply_documents([pod("typo", "node-1", image="ngnix:1.27")])
    seen: list[str] = []
    for _ in range(400):
        w.run(0.1)
        reason = waiting_reason(w, "typo")
        if reason and (not seen or seen[-1] != reason):
            seen.append(reason)
    assert [r for r in seen if r != "ContainerCreating"][:2] == ["ErrImagePull", "ImagePullBackOff"]


def test_crash_loop_backs_off_ten_twenty_forty(make: Any) -> None:
    """The kubelet restarts at once the first time, then after 10 s, 20 s, 40 s."""
    w: World = make(cast=False)
    w.cluster.apply_documents([pod("crash", "node-1", command=["sh", "-c", "exit 3"])])
    starts: list[int] = []
    count = -1
    for _ in range(1200):
        w.run(0.1)
        statuses = (w.cluster.store.must_get("Pod", ("default", "crash")).get("status") or {}).get("containerStatuses") or []
        if statuses and statuses[0]["restartCount"] != count:
            count = statuses[0]["restartCount"]
            starts.append(w.loop.now)
    gaps = [(b - a) / SEC for a, b in zip(starts, starts[1:], strict=False)]
    assert waiting_reason(w, "crash") == "CrashLoopBackOff"
    assert [round(g / 10) * 10 for g in gaps[1:4]] == [10, 20, 40], gaps


def test_exec_into_what_does_not_exist(make: Any) -> None:
    """A person's mistake is a KubenetError that names what there is."""
    w: World = make()
    with pytest.raises(KubenetError, match="cleint"):
        w.cluster.exec("cleint", "true")


assert CLIENT
