"""cniMode vxlan: what flannel's vxlan backend configures (pkg/backend/vxlan), read back with ip(8) and bridge(8), and pods over it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kubenet import Cluster
from kubenet.errors import ManifestError
from kubenet.fabric.graph import from_manifest
from kubenet.query.doctor import findings
from kubenet.query.trace import probe_json
from kubenet.units import SEC
from kubenet.wire.addr import mac_text

Obj = dict[str, Any]


def topology(**spec: Any) -> Obj:
    with open("manifests/pods/topology.yaml") as file:
        found: Obj = yaml.safe_load(file)
    return {**found, "spec": {**found["spec"], "cniMode": "vxlan", **spec}}


def make(**spec: Any) -> Cluster:
    return Cluster.from_manifests("manifests/pods", topology=topology(**spec))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with make() as c:
        yield c


def vtep(c: Cluster, node: str) -> str:
    return mac_text(c.nodes[node].net.devs["flannel.1"].addr)


def test_every_node_has_a_route_a_neighbour_and_an_fdb_entry_for_every_other() -> None:
    """handleSubnetEvents(): NeighSet twice and RouteReplace with FLAG_ONLINK; device: VNI 1, port 8472, learning off, MTU less 50."""
    with make(nodes=[{"name": f"node-{n}"} for n in (1, 2, 3)]) as c:
        assert c.exec("node-1", "ip route | grep 10.48").out.splitlines() == [
            "10.48.1.0/24 dev cni0 proto kernel scope link src 10.48.1.1 ",
            "10.48.2.0/24 via 10.48.2.0 dev flannel.1 onlink ", "10.48.3.0/24 via 10.48.3.0 dev flannel.1 onlink "]
        assert c.exec("node-1", "ip neigh show dev flannel.1 | sort").out.splitlines() == [
            f"10.48.2.0 lladdr {vtep(c, 'node-2')} PERMANENT ", f"10.48.3.0 lladdr {vtep(c, 'node-3')} PERMANENT "]
        assert sorted(c.exec("node-1", "bridge fdb show dev flannel.1").out.splitlines()) == sorted([
            f"{vtep(c, 'node-2')} dst 172.18.0.3 self permanent", f"{vtep(c, 'node-3')} dst 172.18.0.4 self permanent"])
        assert "    inet 10.48.1.0/32 scope global flannel.1\n" in c.exec("node-1", "ip addr show flannel.1").out
        shown = c.exec("node-1", "ip -d link show flannel.1").out
        assert " mtu 1450 " in shown
        assert "vxlan id 1 local 172.18.0.2 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum " in shown
        assert " mtu 1450 " in c.exec("node-1", "ip link show cni0").out and " mtu 1450 " in c.exec("client", "ip link show eth0").out


def test_a_node_that_leaves_and_comes_back(cluster: Cluster) -> None:
    """Its lease goes with the Node (EventRemoved): route, neighbour and FDB entry; the annotations bring them back."""
    stored = cluster.store.must_get("Node", ("", "node-2"))
    notes = stored["metadata"]["annotations"]
    assert notes["flannel.alpha.coreos.com/backend-type"] == "vxlan"
    assert notes["flannel.alpha.coreos.com/backend-data"] == f'{{"VNI":1,"VtepMAC":"{vtep(cluster, "node-2")}"}}'
    cluster.store.delete("Node", ("", "node-2"))
    cluster.run(SEC)
    assert "flannel.1" not in cluster.exec("node-1", "ip route; ip neigh; bridge fdb show dev flannel.1").out
    meta = {key: stored["metadata"][key] for key in ("name", "labels", "annotations")}
    cluster.store.create({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": stored["spec"], "status": stored["status"]})
    cluster.run(SEC)
    out = cluster.exec("node-1", "ip route; ip neigh show dev flannel.1; bridge fdb show dev flannel.1").out
    assert out.count(vtep(cluster, "node-2")) == 2 and "10.48.2.0/24 via 10.48.2.0 dev flannel.1 onlink" in out


def test_a_node_event_meets_a_deleted_device(cluster: Cluster) -> None:
    """flanneld logs an error; nothing falls over."""
    assert cluster.exec("node-1", "ip link del flannel.1").code == 0
    cluster.store.delete("Node", ("", "node-2"))
    cluster.run(SEC)
    assert cluster.exec("node-1", "ss -luna | grep -c 8472").out == "0\n"


RECORDED = """\
IP 172.18.0.2.P > 172.18.0.3.8472: OTV, flags [I] (0x08), overlay 0, instance 1
IP 10.48.1.0 > 10.48.2.7: ICMP echo request, id N, seq 1, length 64
IP 172.18.0.3.P > 172.18.0.2.8472: OTV, flags [I] (0x08), overlay 0, instance 1
IP 10.48.2.7 > 10.48.1.0: ICMP echo reply, id N, seq 1, length 64
IP 172.18.0.2.P > 172.18.0.3.8472: OTV, flags [I] (0x08), overlay 0, instance 1
IP 10.48.1.0.P > 10.48.2.7.8080: Flags [S], seq N, win 64860, options [mss 1410,sackOK,TS val N ecr 0,nop,wscale 10], length 0
IP 172.18.0.3.P > 172.18.0.2.8472: OTV, flags [I] (0x08), overlay 0, instance 1
IP 10.48.2.7.8080 > 10.48.1.0.P: Flags [S.], seq N, ack N, win 64308, options [mss 1410,sackOK,TS val N ecr N,nop,wscale 10], length 0
IP 172.18.0.2.P > 172.18.0.3.8472: OTV, flags [I] (0x08), overlay 0, instance 1
IP 10.48.1.0.P > 10.48.2.7.8080: Flags [.], ack 1, win 64, options [nop,nop,TS val N ecr N], length 0
"""


def test_tcpdump_on_the_wire_shows_both_packets(cluster: Cluster) -> None:
    """tcpdump 4.99 on Linux 6.18's eth0, a ping and a connect from one node to the other side: 8472 is OTV to it, the inner frame
    follows on a line of its own, MSS and windows are those of an MTU of 1450."""
    out = cluster.exec("node-1", "tcpdump -c 5 -nn -i eth0 'udp port 8472 and (greater 148 or (greater 116 and less 128))' & sleep 1; "
                       "ping -c 1 10.48.2.7 >/dev/null; curl -s http://10.48.2.7:8080/ >/dev/null; wait").out
    text = "".join(f"{line}\n" for line in out.splitlines() if "10.48." in line or "OTV" in line)
    text = re.sub(r"^\S+ IP 172", "IP 172", text, flags=re.MULTILINE)
    text = re.sub(r"(172\.18\.0\.\d|10\.48\.1\.0)\.(?!8472)\d+", r"\1.P", text)
    text = re.sub(r"(?<=id |eq |al |cr )\d\d+|(?<=ack )\d\d+", "N", text)
    assert text.splitlines()[:8] == RECORDED.splitlines()[:8]


def test_the_outer_packet(cluster: Cluster) -> None:
    """Recorded on 6.18: DF off and TTL 64 outside; the inner packet was forwarded once, by its own node."""
    handle = cluster.start_exec("client", ["sh", "-c", "sleep 2; ping -c 1 10.48.2.7"])
    out = cluster.exec("node-1", "tcpdump -c 1 -nn -v -i eth0 'udp port 8472 and greater 148'").out.splitlines()
    assert out[0].endswith("offset 0, flags [none], proto UDP (17), length 134)") and "(tos 0x0, ttl 64, id " in out[0]
    assert out[2].startswith("IP (tos 0x0, ttl 63, id ") and out[2].endswith("flags [DF], proto ICMP (1), length 84)")
    assert out[3].startswith("    10.48.1.5 > 10.48.2.7: ICMP echo request, id ")
    cluster.run_until(lambda: handle.done)


def test_conntrack_on_the_nodes_follows_the_outer_flows(cluster: Cluster) -> None:
    """Observed on 6.18: two UDP entries a conversation, one each way, UNREPLIED, since the source ports differ."""
    cluster.exec("client", "curl -s http://web")
    for node in ("node-1", "node-2"):
        lines = [line for line in cluster.exec(node, "conntrack -L -p udp").out.splitlines() if "dport=8472 [UNREPLIED]" in line]
        assert lines and all("sport=8472" in line for line in lines)


def test_too_large_for_the_tunnel_is_told_and_too_large_for_the_wire_is_not(cluster: Cluster) -> None:
    """The pod knows 1450. A pod that believes in 1500 is told by its node. But where the underlay carries less than the nodes
    believe, outer packets vanish without a word: the handshake works, large segments do not."""
    assert "message too long, mtu=1450" in cluster.exec("client", "ping -c 1 -M do -s 1472 10.48.2.7 2>&1").out
    cluster.exec("client", "ip link set eth0 mtu 1500")
    cluster.exec("node-1", "for v in $(ls /sys/class/net | grep veth); do ip link set $v mtu 1500; done; ip link set cni0 mtu 1500")
    out = cluster.exec("client", "ping -c 1 -W 1 -M do -s 1472 10.48.2.7").out
    assert "From 10.48.1.1 icmp_seq=1 Frag needed and DF set (mtu = 1450)" in out
    cluster.exec("node-2", "ip link set eth0 mtu 1400")  # the far end's card: frames above 1404 vanish
    assert "1 received" in cluster.exec("client", "ping -c 1 -W 1 -s 1000 10.48.2.7").out
    before = cluster.nodes["node-2"].net.devs["eth0"].rx_errors
    out = cluster.exec("client", "ping -c 1 -W 1 -M do -s 1400 10.48.2.7").out
    assert "0 received" in out and "From" not in out
    assert cluster.nodes["node-2"].net.devs["eth0"].rx_errors == before + 1


def test_the_same_run_has_the_same_digest_and_another_one_than_host_gw() -> None:
    digests = []
    for mode in ("vxlan", "vxlan", "host-gw"):
        with make(cniMode=mode) as c:
            assert c.exec("client", "curl -s http://web").code == 0
            digests.append(c.digest())
    assert digests[0] == digests[1] != digests[2]


def test_other_modes_are_refused() -> None:
    with pytest.raises(ManifestError, match="spec.cniMode is 'ipip'"):
        from_manifest(topology(cniMode="ipip"))


def test_a_trace_knows_where_the_packet_is_inside_another(cluster: Cluster) -> None:
    """From vxlan_xmit_one() on node-1 to vxlan_rcv() on node-2 the stations' addresses are the nodes'; the wire carries both packets."""
    probe = cluster.trace_probe("client", "10.48.2.7:8080")
    cluster.run_until(lambda: probe.done)
    story = probe_json(cluster, probe)
    inside = [(step["node"], step["func"]) for step in story["steps"] if step.get("tunnel")]
    assert inside[0] == ("node-1", "vxlan_xmit_one") and inside[-1][0] == "node-2"
    assert all("172.18.0.3:8472" in step["after"] for step in story["steps"] if step.get("tunnel"))
    assert story["wire"]["dst"] == "10.48.2.7:8080" and story["wire"]["tunnel"]["dst"] == "172.18.0.3:8472"
    assert story["wire"]["length"] == 74 + 50
    assert [step["hook"] for step in story["steps"] if step["func"] == "nf_conntrack_in" and step.get("tunnel")] == ["OUTPUT", "PREROUTING"]


@pytest.mark.parametrize(("command", "what"), [
    ("ip route del 10.48.2.0/24", "node-1 has no route to the pods of node-2"),
    ("ip neigh del 10.48.2.0 dev flannel.1", "flannel.1 of node-1 has no neighbour entry for the VTEP of node-2"),
    ("bridge fdb del {vtep} dev flannel.1", "flannel.1 of node-1 does not know that the VTEP of node-2 is at 172.18.0.3"),
    ("bridge fdb replace {vtep} dev flannel.1 dst 172.18.0.9", "flannel.1 of node-1 does not know that the VTEP of node-2 is at 172.18.0.3"),
])
def test_the_doctor_finds_what_the_tunnel_lacks_and_its_words_mend_it(cluster: Cluster, command: str, what: str) -> None:
    """Each of the three entries is needed for a pod on the other node; with the command under `try` it is reached again."""
    assert cluster.exec("client", "ping -c 1 -W 1 10.48.2.7").code == 0
    assert cluster.exec("node-1", command.format(vtep=vtep(cluster, "node-2"))).code == 0
    assert cluster.exec("client", "ping -c 1 -W 1 10.48.2.7").code == 1
    (found,) = (f for f in findings(cluster) if f.check == "routes")
    assert found.what == what
    place, _, fix = found.try_.removeprefix("kubenet exec ").partition(" -- ")
    assert cluster.exec(place, fix).code == 0
    assert cluster.exec("client", "ping -c 1 -W 1 10.48.2.7").code == 0
    assert not [f for f in findings(cluster) if f.check == "routes"]


def test_the_doctor_finds_an_underlay_that_is_too_narrow(cluster: Cluster) -> None:
    cluster.exec("node-2", "ip link set eth0 mtu 1470")
    (found,) = (f for f in findings(cluster) if f.check == "routes")
    assert found.what == "on node-2 flannel.1 makes packets of 1500, eth0 takes 1470"
