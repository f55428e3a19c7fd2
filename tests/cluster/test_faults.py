"""Faults on cables, veth pairs, pods, nodes and kube-proxies: what they do, what mending leaves behind, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cluster.cluster import Cluster
from kubenet.errors import KubenetError, NotFoundError, UsageError, WrongMomentError
from kubenet.fabric.link import SETTINGS
from kubenet.fabric.wires import together

PODS = Path(__file__).resolve().parents[2] / "manifests" / "pods"
MSEC, SEC = 1_000_000, 1_000_000_000


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.from_manifests(PODS) as found:
        yield found


def add(cluster: Cluster, kind: str, *values: str, **options: str) -> int:
    """Begin a fault; its number."""
    found: int = cluster.faults.add({"kind": kind, "values": list(values), "options": options})["id"]
    return found


def ping(cluster: Cluster, target: str = "10.48.2.7", *more: str) -> tuple[int, float]:
    """(replies of one ping, its time in ms); the neighbours are known."""
    out = cluster.exec("client", ["ping", "-c", "1", "-W", "1", *more, target]).out
    times = [line for line in out.splitlines() if " time=" in line]
    return len(times), float(times[0].split("time=")[1].split()[0]) if times else 0.0


def curl(cluster: Cluster, url: str = "http://10.48.2.7:8080/hostname", *more: str) -> int:
    return cluster.exec("client", ["curl", "-s", "-o", "/dev/null", "-m", "20", *more, url]).code


def ready(cluster: Cluster, service: str = "web") -> int:
    return sum((e.get("conditions") or {}).get("ready") is not False for s in cluster.store.iter("EndpointSlice", "default")
               if s["metadata"]["labels"]["kubernetes.io/service-name"] == service for e in s["endpoints"])


def _two_queries(cluster: Cluster) -> tuple[str, dict[str, int]]:
    """A and AAAA query from one socket, sent together, to the service's address: how long the pair took, what conntrack counts."""
    script = ("import socket,time\n"
              "from struct import pack\n"
              "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(5); s.connect(('10.96.0.10',53))\n"
              "q=lambda i,t: pack('>HHHHHH',i,256,1,0,0,0)+b'\\3web\\7default\\3svc\\7cluster\\5local\\0'+pack('>HH',t,1)\n"
              "s.send(q(1,1)); s.send(q(2,28)); n=0\n"
              "try:\n  n+=len(s.recv(512))>0; n+=len(s.recv(512))>0\n"
              "except TimeoutError: pass\n"
              "print(n)")
    cluster.allow_pod_code(True)
    out = cluster.exec("client", ["python3", "-c", script]).out.strip()
    return out, dict(cluster.nodes["node-1"].net.ct.stats)


@pytest.mark.parametrize(("kernel", "answers", "failed", "resolved"), [("", "2", 0, 1), ("4.6", "1", 1, 0), ("4.7", "2", 0, 1)])
def test_a_race_loses_the_second_query_of_one_socket(cluster: Cluster, kernel: str, answers: str, failed: int, resolved: int) -> None:
    """The famous 5 s: both datagrams make an entry, the second is dropped at confirmation. Linux 4.7 (71d8c47fc653) joins them; kube-dns
    has one endpoint here, so both entries have the same NAT."""
    before = _two_queries(cluster)
    assert before[0] == "2" and before[1]["insert_failed"] == before[1]["clash_resolve"] == 0
    add(cluster, "race", "node-1", "50us", **({"kernel": kernel} if kernel else {}))
    found, stats = _two_queries(cluster)
    assert (found, stats["insert_failed"], stats["clash_resolve"]) == (answers, failed, resolved)
    assert "insert_failed=%d" % failed in cluster.exec("node-1", ["conntrack", "-S"]).out
    cluster.faults.clear()
    assert _two_queries(cluster)[0] == "2"


@pytest.mark.parametrize("values", [["node-1", "never"], ["node-1", "1us", "2us"], ["client"], []])
def test_a_race_needs_a_node_and_a_time(cluster: Cluster, values: list[str]) -> None:
    with pytest.raises((UsageError, NotFoundError)):
        add(cluster, "race", *values)
    with pytest.raises(UsageError, match="no version of Linux"):
        add(cluster, "race", "node-1", kernel="old")


@pytest.mark.parametrize(("wire", "crossings"), [("node-1", 2), ("node-2", 2), ("node-2:eth0", 2), ("web-0", 2), ("client:eth0", 2)])
def test_a_delay_counts_once_per_crossing(cluster: Cluster, wire: str, crossings: int) -> None:
    """Request and reply cross the wire once each; without the fault the time is what it was."""
    ping(cluster)
    before = ping(cluster)[1]
    number = add(cluster, "delay", wire, "50ms")
    assert ping(cluster)[1] == pytest.approx(before + 50 * crossings, abs=0.6)  # ping prints three digits
    cluster.faults.remove(number)
    assert ping(cluster)[1] == before


def test_delays_add_up_and_end_apart(cluster: Cluster) -> None:
    ping(cluster)
    first = add(cluster, "delay", "web-0", "10ms")
    second = add(cluster, "delay", "web-0", "20ms")
    assert ping(cluster)[1] == pytest.approx(60.1, abs=0.1)
    cluster.faults.remove(first)
    assert ping(cluster)[1] == pytest.approx(40.1, abs=0.1)
    cluster.faults.remove(second)
    assert ping(cluster)[1] < 1
    assert cluster.faults.wires == {}


def test_loss_on_a_veth_is_about_what_was_asked(cluster: Cluster) -> None:
    """100 pings, each crossing twice a wire that loses 20 %: 64 % come back; five standard deviations are 24."""
    ping(cluster)
    add(cluster, "loss", "web-0", "20%")
    out = cluster.exec("client", ["ping", "-c", "100", "-i", "0.2", "-W", "1", "10.48.2.7"]).out
    replies = out.count("icmp_seq=")
    assert 40 <= replies <= 88
    dropped = sum(end.dropped for end in cluster.faults.wires["node-2/default/web-0/eth0"].link.ends)  # type: ignore[union-attr]
    assert dropped >= 100 - replies


def test_duplicates_reach_the_program(cluster: Cluster) -> None:
    ping(cluster)
    add(cluster, "duplicate", "client", "100%")
    lines = cluster.exec("client", ["ping", "-c", "2", "10.48.2.7"]).out.splitlines()
    assert [line.endswith(" (DUP!)") for line in lines if "icmp_seq=1 " in line] == [False, True, True, True][:len(lines)]
    assert "2 packets transmitted, 2 received, +3 duplicates, 0% packet loss" in lines[-2]  # the last answer ends the wait


def test_corrupted_packets_are_refused_by_their_checksum(cluster: Cluster) -> None:
    assert curl(cluster) == 0
    add(cluster, "corrupt", "web-0", "100%")
    assert curl(cluster, "http://10.48.2.7:8080/", "-m", "3") == 28
    net = cluster.container("web-0").net
    assert net.snmp["TcpInCsumErrors"] >= 2


def test_a_small_mtu_swallows_large_packets_only(cluster: Cluster) -> None:
    ping(cluster)
    add(cluster, "mtu", "node-2", "1400")
    assert ping(cluster, "10.48.2.7", "-s", "1372")[0] == 1  # 1372 + 8 + 20 = 1400
    assert ping(cluster, "10.48.2.7", "-s", "1373")[0] == 0


@pytest.mark.parametrize("wire", ["node-2", "web-0"])
def test_a_cut_takes_the_carrier_and_mending_gives_it_back(cluster: Cluster, wire: str) -> None:
    ping(cluster)
    number = add(cluster, "cut", wire)
    assert "NO-CARRIER" in cluster.exec(wire, ["ip", "link", "show", "eth0"]).out
    assert ping(cluster)[0] == 0
    cluster.faults.remove(number)
    cluster.run(SEC)
    assert "LOWER_UP" in cluster.exec(wire, ["ip", "link", "show", "eth0"]).out
    assert ping(cluster)[0] == 1


def test_a_rate_is_kept(cluster: Cluster) -> None:
    """One ping of 1000 bytes over a 1 Mbit/s wire: (1028 + 14 + 24) x 8 us each way."""
    ping(cluster)
    before = ping(cluster, "10.48.2.7", "-s", "1000")[1]
    add(cluster, "rate", "web-0", "1mbit")
    assert ping(cluster, "10.48.2.7", "-s", "1000")[1] == pytest.approx(before + 2 * 1066 * 8 / 1000, abs=0.11)


def test_drop_hits_what_it_describes(cluster: Cluster) -> None:
    """A SYN alone is no SYN-ACK; after two lost ones the third gets through, 2 s later (tcp_syn_linear_timeouts)."""
    number = add(cluster, "drop", to="web-0", flags="S", count="2")
    began = cluster.loop.now
    assert curl(cluster) == 0
    assert 2 * SEC < cluster.loop.now - began < 2 * SEC + 10 * MSEC
    assert cluster.faults.json()[0]["hits"] == 2
    cluster.faults.remove(number)
    add(cluster, "drop", "web-0", flags="SA")
    assert curl(cluster, "http://10.48.2.7:8080/", "-m", "2") == 28
    assert curl(cluster, "http://10.48.1.6:8080/") == 0


def test_a_held_ack_leaves_the_server_in_syn_recv(cluster: Cluster) -> None:
    """Lab L03: the client is connected, the server is not."""
    add(cluster, "drop", "web-0", flags="A", direction="in")
    cluster.start_exec("client", ["nc", "10.48.2.7", "8080"], stdin_open=True)
    cluster.run(100 * MSEC)
    assert "ESTAB" in cluster.exec("client", ["ss", "-tn"]).out
    reqs = [sk.state for sk in cluster.container("web-0").net.socks.dump() if getattr(sk, "listener", None) is not None]
    assert len(reqs) == 1


def test_a_partition_separates_two_sides_only(cluster: Cluster) -> None:
    ping(cluster)
    number = add(cluster, "partition", "node-1", "node-2")
    assert ping(cluster)[0] == 0 and ping(cluster, "10.48.1.6")[0] == 1
    assert cluster.exec("outside", ["ping", "-c", "1", "-W", "1", "172.18.0.3"]).code == 0
    assert cluster.faults.json()[0]["hits"] > 0
    cluster.faults.remove(number)
    cluster.run(2 * SEC)
    assert ping(cluster)[0] == 1


def test_a_frozen_pod_is_accepted_by_its_kernel_and_answers_when_it_thaws(cluster: Cluster) -> None:
    number = add(cluster, "freeze", "web-0")
    process = cluster.start_exec("client", ["curl", "-s", "http://10.48.2.7:8080/hostname"])
    cluster.run(5 * SEC)
    assert not process.done
    assert any(sk.state == 1 for sk in cluster.container("web-0").net.socks.ehash.values())
    late = cluster.start_exec("web-0", ["echo", "late"])
    cluster.run(SEC)
    assert not late.done
    cluster.faults.remove(number)
    cluster.run(10 * MSEC)
    assert process.done and process.exit_code == 0 and late.done


def test_a_killed_pod_is_restarted(cluster: Cluster) -> None:
    add(cluster, "kill", "web-0")
    cluster.run(3 * SEC)
    status = cluster.store.must_get("Pod", ("default", "web-0"))["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1 and status["lastState"]["terminated"]["exitCode"] == 137
    assert cluster.faults.json() == []


def test_a_frozen_pod_can_be_killed(cluster: Cluster) -> None:
    add(cluster, "freeze", "web-0")
    add(cluster, "kill", "web-0")
    cluster.run(3 * SEC)
    assert cluster.store.must_get("Pod", ("default", "web-0"))["status"]["containerStatuses"][0]["restartCount"] == 1
    assert curl(cluster) == 0


def test_a_frozen_node_is_not_ready_after_50_s_and_comes_back(cluster: Cluster) -> None:
    assert ready(cluster) == 2
    number = add(cluster, "freeze", "node-2")
    assert ping(cluster)[0] == 0
    cluster.run(48 * SEC)
    assert ready(cluster) == 2
    cluster.run(5 * SEC)
    assert ready(cluster) == 1
    assert cluster.exec("client", ["curl", "-s", "-m", "3", "http://10.96.0.1/hostname"]).out.strip() == "web-1"
    cluster.faults.remove(number)
    cluster.run(5 * SEC)
    assert ready(cluster) == 2 and ping(cluster)[0] == 1
    cluster.run(120 * SEC)
    assert ready(cluster) == 2
    assert cluster.store.must_get("Node", ("", "node-2"))["spec"].get("taints") is None


def test_a_pod_frozen_twice_thaws_once_both_are_over(cluster: Cluster) -> None:
    pod = add(cluster, "freeze", "web-0")
    node = add(cluster, "freeze", "node-2")
    cluster.run(SEC)
    cluster.faults.remove(node)
    cluster.run(SEC)
    assert curl(cluster, "http://10.48.2.7:8080/", "-m", "2") == 28
    cluster.faults.remove(pod)
    assert curl(cluster) == 0


def test_a_killed_node_stays_dead(cluster: Cluster) -> None:
    number = add(cluster, "kill", "node-2")
    with pytest.raises(WrongMomentError, match="nothing takes that back but `undo`"):
        cluster.faults.remove(number)
    assert cluster.faults.clear() == [] and len(cluster.faults.active) == 1
    with pytest.raises(WrongMomentError, match="stands still already"):
        add(cluster, "freeze", "node-2")


@pytest.mark.parametrize("kind", ["freeze", "kill"])
def test_rules_without_a_kube_proxy_are_stale(cluster: Cluster, kind: str) -> None:
    """A pod that went stays in node-1's rules; node-2 has new ones; after mending node-1 has them too."""

    def endpoints(node: str) -> int:
        return cluster.exec(node, ["iptables-save", "-t", "nat"]).out.count("-j DNAT --to-destination 10.48.1.6:8080")

    assert (endpoints("node-1"), endpoints("node-2")) == (1, 1)
    number = add(cluster, kind, "kube-proxy/node-1")
    cluster.api.request("DELETE", "/api/v1/namespaces/default/pods/web-1", {}, {}, b'{"gracePeriodSeconds": 0}')
    cluster.run(60 * SEC)
    assert (endpoints("node-1"), endpoints("node-2")) == (1, 0)
    cluster.faults.remove(number)
    cluster.run(60 * SEC)
    assert (endpoints("node-1"), endpoints("node-2")) == (0, 0)


def test_a_fault_on_a_pod_that_is_replaced(cluster: Cluster) -> None:
    """The wire went with the pod; a fault for the new one is a new fault."""
    number = add(cluster, "loss", "web-0", "100%")
    cluster.api.request("DELETE", "/api/v1/namespaces/default/pods/web-0", {}, {}, b'{"gracePeriodSeconds": 0}')
    cluster.run(5 * SEC)
    cluster.apply(PODS)
    cluster.settle()
    assert cluster.faults.json()[0]["state"] == "gone with its pod"
    assert ping(cluster)[0] == 1
    again = add(cluster, "loss", "web-0", "100%")
    assert ping(cluster)[0] == 0
    cluster.faults.remove(number)
    assert ping(cluster)[0] == 0
    cluster.faults.remove(again)
    assert ping(cluster)[0] == 1


@pytest.mark.parametrize(("words", "options", "error", "text"), [
    (["los", "node-1", "1%"], {}, UsageError, "no fault is called 'los'"), (["loss", "node-1"], {}, UsageError, "one value"),
    (["loss", "node-1", "200%"], {}, UsageError, "no chance"), (["loss", "nod-1", "1%"], {}, NotFoundError, "Did you mean node-1"),
    (["loss", "node-1:eth7", "1%"], {}, NotFoundError, "no device eth7"), (["loss", "node-1:cni0", "1%"], {}, UsageError, "is a bridge"),
    (["delay", "node-1", "5"], {}, UsageError, "not a duration"), (["delay", "node-1", "5ms"], {"count": "1"}, UsageError, "no meaning"),
    (["rate", "node-1", "0"], {}, UsageError, "lets nothing through"), (["mtu", "node-1", "20"], {}, UsageError, "from 68"),
    (["cut", "node-1", "x"], {}, UsageError, "what is 'x'"), (["drop"], {}, UsageError, "where?"),
    (["drop", "web-0"], {"flags": "X"}, UsageError, "are no flags"), (["drop", "web-0"], {"flags": "S", "proto": "udp"}, UsageError, "only TCP"),
    (["drop", "web-0"], {"to": "nobody"}, NotFoundError, "nobody is called"), (["partition", "node-1"], {}, UsageError, "two sides"),
    (["partition", "node-1", "node-1"], {}, UsageError, "given twice"), (["partition", "node-1", "web-0"], {}, NotFoundError, "no machine"),
    (["freeze", "web"], {}, UsageError, "is a service"), (["kill", "kube-proxy/node-9"], {}, NotFoundError, "no node"),
    (["freeze", "web-0", "5s"], {}, UsageError, "no more than a name"),
])
def test_what_is_refused(words: list[str], options: dict[str, str], error: type[KubenetError], text: str) -> None:
    with Cluster.from_manifests(PODS) as cluster:
        before = cluster.digest()
        with pytest.raises(error, match=text):
            add(cluster, words[0], *words[1:], **options)
        assert cluster.digest() == before and cluster.faults.json() == [] and cluster.faults.last == 0


CHANGES = st.lists(st.dictionaries(st.sampled_from(["loss", "reorder"]), st.floats(0, 1)) | st.dictionaries(
    st.sampled_from(["latency", "jitter"]), st.integers(0, SEC)) | st.dictionaries(st.just("mtu"), st.integers(68, 1500)), max_size=4)
BASE: dict[str, Any] = {**dict.fromkeys(SETTINGS, 0), "up": True, "latency": 25}


@given(CHANGES)
def test_together_is_never_better_than_one_alone(changes: list[dict[str, Any]]) -> None:
    out = together(BASE, changes)
    for change in changes:
        for key, value in change.items():
            assert (0 < out[key] <= value) if key == "mtu" else out[key] >= value - 1e-12
    assert together(BASE, []) == BASE
