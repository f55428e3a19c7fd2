"""`kubenet proxy flow`: who reaches what through kube-proxy's rules. The expectations are kube-proxy's documented behaviour
(the matrix of its masquerade test) and the paths that Linux's hooks give a packet."""

from __future__ import annotations

import json

import pytest

from kubenet.cli.main import main
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.query.offline.flow import FlowTracer
from kubenet.query.offline.inputs import make_flow
from kubenet.query.offline.render import kernel_text, restore_text

NODE = {
    "nodeName": "node-1",
    "nodeIP": "172.18.0.2",
    "nodeIPs": ["172.18.0.2", "127.0.0.1"],
    "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16"},
}
POD, HOST, OUTSIDE, LO = "10.48.1.5", "172.18.0.2", "203.0.113.9", "127.0.0.1"
VIP, EXTERNAL, LB, NP = "10.96.0.1", "192.0.2.9", "198.51.100.1", 30080
HERE, THERE = "10.48.1.6:8080", "10.48.2.7:8080"
BOTH = [HERE, THERE]


def service(name="web", ip=VIP, **spec):
    spec = {"type": "LoadBalancer", "externalIPs": [EXTERNAL], "nodePort": NP, **spec}
    port = {"port": spec.pop("port", 80), "nodePort": spec.pop("nodePort"), "protocol": spec.pop("protocol", "TCP")}
    ingress = spec.pop("ingress", [{"ip": LB}])
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": ip, "ports": [port], **spec}, "status": {"loadBalancer": {"ingress": ingress}},
    }


def endpoints(*ips, name="web", port=8080, protocol="TCP", family="IPv4"):
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"port": port, "protocol": protocol}],
        "endpoints": [{"addresses": [ip], "nodeName": node} for ip, node in ips],
    }


ENDPOINTS = endpoints(("10.48.1.6", "node-1"), ("10.48.2.7", "node-2"))


def tracer(*objects, **options):
    made = ProxyOptions.parse({**NODE, **options})
    return FlowTracer(made, [restore_text(objects, made)])


def ask(one, source, dest, port=80, protocol="tcp", dev=""):
    answer = one.answer(make_flow(source, dest, port, protocol, dev))
    return answer["outcome"], answer["masquerade"]


@pytest.mark.parametrize(
    "policy, source, dest, port, expected",
    [
        ("Cluster", POD, VIP, 80, (BOTH, False)),
        ("Cluster", HOST, VIP, 80, (BOTH, True)),
        ("Cluster", OUTSIDE, VIP, 80, (BOTH, True)),
        ("Cluster", POD, HOST, NP, (BOTH, True)),
        ("Cluster", HOST, HOST, NP, (BOTH, True)),
        ("Cluster", LO, LO, NP, (BOTH, True)),
        ("Cluster", OUTSIDE, HOST, NP, (BOTH, True)),
        ("Cluster", OUTSIDE, LB, 80, (BOTH, True)),
        ("Cluster", OUTSIDE, EXTERNAL, 80, (BOTH, True)),
        ("Local", POD, VIP, 80, (BOTH, False)),
        ("Local", HOST, VIP, 80, (BOTH, True)),
        ("Local", POD, HOST, NP, (BOTH, False)),
        ("Local", POD, LB, 80, (BOTH, False)),
        ("Local", HOST, HOST, NP, (BOTH, True)),
        ("Local", HOST, LB, 80, (BOTH, True)),
        ("Local", OUTSIDE, HOST, NP, ([HERE], False)),
        ("Local", OUTSIDE, LB, 80, ([HERE], False)),
        ("Local", OUTSIDE, EXTERNAL, 80, ([HERE], False)),
        ("Cluster", OUTSIDE, VIP, 81, ([], False)),
        ("Cluster", POD, "8.8.8.8", 53, ([], False)),
    ],
)
def test_behaviour_matrix(policy, source, dest, port, expected):
    """Who is masqueraded, and who gets only the endpoints of this node."""
    assert ask(tracer(service(externalTrafficPolicy=policy), ENDPOINTS), source, dest, port) == expected


def test_masquerade_all_and_no_detector():
    """masqueradeAll spares nobody; without a detector nobody is spared or singled out."""
    assert ask(tracer(service(), ENDPOINTS, masqueradeAll=True), POD, VIP) == (BOTH, True)
    alone = tracer(service(externalTrafficPolicy="Local"), ENDPOINTS, detectLocal=None)
    assert ask(alone, OUTSIDE, VIP) == (BOTH, False)
    assert ask(alone, POD, LB) == ([HERE], False)


def test_hairpin_depends_on_the_endpoint():
    """A pod that asks for its own Service is masqueraded only where it meets itself."""
    assert ask(tracer(service(), ENDPOINTS), "10.48.1.6", VIP) == (BOTH, None)
    assert ask(tracer(service(), endpoints(("10.48.1.6", "node-1"))), "10.48.1.6", VIP) == ([HERE], True)


@pytest.mark.parametrize("dest, port", [(VIP, 80), (EXTERNAL, 80), (LB, 80), (HOST, NP)])
def test_no_endpoints_at_all_is_refused(dest, port):
    assert ask(tracer(service()), OUTSIDE, dest, port) == ("REJECT", False)


@pytest.mark.parametrize("dest, port", [(VIP, 80), (EXTERNAL, 80), (LB, 80), (HOST, NP)])
def test_the_nodes_own_connections_are_masqueraded_without_random_ports_too(dest, port):
    """MASQUERADE to the address and port it has already changes nothing (nf_nat_setup_info: equal tuples), but is done."""
    assert ask(tracer(service(), ENDPOINTS, randomFully=False), HOST, dest, port) == (BOTH, True)


def test_no_endpoints_asked_from_the_node():
    """OUTPUT asks KUBE-SERVICES only: a clusterIP is refused there, a NodePort when it comes in again on lo, and what is
    for an address elsewhere leaves."""
    one = tracer(service())
    assert ask(one, HOST, VIP) == ("REJECT", False)
    assert ask(one, HOST, HOST, NP) == ("REJECT", False)
    assert ask(one, HOST, EXTERNAL) == ([], False)


def test_local_policy_without_a_local_endpoint_drops():
    """Silence, so that a load balancer tries another node; those inside the cluster are served all the same."""
    one = tracer(service(externalTrafficPolicy="Local"), endpoints(("10.48.2.7", "node-2")))
    assert ask(one, OUTSIDE, HOST, NP) == ("DROP", False)
    assert ask(one, OUTSIDE, LB) == ("DROP", False)
    assert ask(one, POD, LB) == ([THERE], False)
    assert ask(one, HOST, LB) == ([THERE], True)
    internal = tracer(service(internalTrafficPolicy="Local"), endpoints(("10.48.2.7", "node-2")))
    assert ask(internal, POD, VIP) == ("DROP", False)
    assert ask(internal, OUTSIDE, HOST, NP) == ([THERE], True)


def test_source_ranges():
    """Only loadBalancer addresses are guarded, by a rule that sees what no range let through."""
    one = tracer(service(loadBalancerSourceRanges=["203.0.113.0/24"]), ENDPOINTS)
    assert ask(one, OUTSIDE, LB) == (BOTH, True)
    assert ask(one, "198.51.100.200", LB) == ("DROP", False)
    assert ask(one, "198.51.100.200", HOST, NP) == (BOTH, True)


def test_health_check_port_is_accepted():
    one = tracer(service(externalTrafficPolicy="Local", healthCheckNodePort=32000), ENDPOINTS)
    assert ask(one, OUTSIDE, HOST, 32000) == ("ACCEPT", False)
    assert ask(one, OUTSIDE, HOST, 32001) == ([], False)


def test_affinity_starts_empty_every_time():
    """The list that remembers clients is as new for each question and each throw of the dice."""
    one = tracer(service(sessionAffinity="ClientIP"), ENDPOINTS)
    assert ask(one, POD, VIP) == ask(one, POD, VIP) == (BOTH, False)


@pytest.mark.parametrize(
    "mode, value, dev, expected",
    [
        ("BridgeInterface", "cni0", "cni0", False),
        ("BridgeInterface", "cni0", "eth0", True),
        ("BridgeInterface", "cni0", "", True),
        ("InterfaceNamePrefix", "veth", "veth12ab", False),
        ("InterfaceNamePrefix", "veth", "eth0", True),
    ],
)
def test_pods_known_by_their_device(mode, value, dev, expected):
    one = tracer(service(), ENDPOINTS, detectLocal={"mode": mode, "value": value})
    assert ask(one, POD, VIP, dev=dev) == (BOTH, expected)


def test_localhost_node_ports():
    """127.0.0.1 serves NodePorts unless it is switched off; then the packet stays what it was."""
    assert ask(tracer(service(), ENDPOINTS, localhostNodePorts=False), LO, LO, NP) == ([], False)
    assert ask(tracer(service(), ENDPOINTS, nodePortAddresses=["172.18.0.0/16"]), LO, LO, NP) == ([], False)
    assert ask(tracer(service(), ENDPOINTS, nodePortAddresses=["172.18.0.0/16"]), OUTSIDE, HOST, NP) == (BOTH, True)


def test_martian_from_outside():
    """kube-proxy's own guard: nobody outside may speak to 127/8."""
    assert ask(tracer(service(), ENDPOINTS), OUTSIDE, LO, 9999) == ("DROP", False)


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_other_protocols(protocol):
    objects = service("dns", "10.96.0.10", port=53, protocol=protocol, nodePort=30053)
    one = tracer(objects, endpoints(("10.48.2.2", "node-2"), name="dns", port=5353, protocol=protocol))
    assert ask(one, POD, "10.96.0.10", 53, protocol) == (["10.48.2.2:5353"], False)
    assert ask(one, OUTSIDE, HOST, 30053, protocol) == (["10.48.2.2:5353"], True)
    assert ask(one, POD, "10.96.0.10", 53, "tcp") == ([], False)


def test_every_endpoint_is_found_in_order():
    """n endpoints, n ways for the dice to fall; the order is that of the rules, which is that of the texts."""
    ips = [f"10.48.2.{n}" for n in range(1, 31)]
    found, masquerade = ask(tracer(service(), endpoints(*[(ip, "node-2") for ip in ips])), POD, VIP)
    assert found == sorted(f"{ip}:8080" for ip in ips)
    assert masquerade is False


def test_ipv6():
    """The same rules over IPv6's hooks."""
    local = {"mode": "ClusterCIDR", "value": "fd00:10:48::/48"}
    options = {"ipFamily": "IPv6", "nodeIP": "2001:db8::2", "nodeIPs": [], "detectLocal": local}
    web = service(ip="fd00:10:96::1", externalIPs=["2001:db8:9::9"], ingress=[])
    one = tracer(web, endpoints(("fd00:10:48::6", "node-1"), ("fd00:10:48::7", "node-2"), family="IPv6"), **options)
    both = ["[fd00:10:48::6]:8080", "[fd00:10:48::7]:8080"]
    assert ask(one, "fd00:10:48::5", "fd00:10:96::1") == (both, False)
    assert ask(one, "fd00:10:48::6", "fd00:10:96::1") == (both, None)
    assert ask(one, "2001:db8::2", "fd00:10:96::1") == (both, True)
    assert ask(one, "2001:db8:5::5", "2001:db8::2", NP) == (both, True)
    assert ask(one, "::1", "::1", NP) == ([], False), "IPv6 has no localhost NodePorts"
    assert ask(tracer(web, **options), "2001:db8:5::5", "2001:db8:9::9") == ("REJECT", False)


def test_the_path_names_the_rules():
    """Rule numbers are those of --line-numbers, rules as iptables-save prints them."""
    answer = tracer(service(), ENDPOINTS).answer(make_flow(POD, VIP, 80))
    nat = [(step["hook"], step["chain"], step["number"]) for step in answer["path"] if step["table"] == "nat"]
    assert nat[0] == ("PREROUTING", "PREROUTING", 1)
    assert answer["path"][1]["rule"].startswith(f'-A KUBE-SERVICES -d {VIP}/32 -p tcp -m comment --comment "default/web cluster IP"')
    assert [step["rule"] for step in answer["path"] if "DNAT" in step["rule"]][0].endswith(f"-j DNAT --to-destination {HERE}")


# ---- the command


@pytest.fixture
def node_and_objects(tmp_path):
    (tmp_path / "node.yaml").write_text(json.dumps(NODE))
    (tmp_path / "web.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [service(), ENDPOINTS]}))
    return ["--node", str(tmp_path / "node.yaml"), "-f", str(tmp_path / "web.json")]


def test_one_packet(node_and_objects, capsys):
    assert main(["proxy", "flow", *node_and_objects, "--from", POD, "--to", f"{VIP}:80", "--protocol", "tcp", "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["outcome"], answer["masquerade"]) == (BOTH, False)
    assert main(["proxy", "flow", *node_and_objects, "--from", POD, "--to", f"{VIP}:80"]) == 0
    assert f"{HERE}, {THERE}  (source kept)" in capsys.readouterr().out


def test_many_packets(node_and_objects, tmp_path, capsys):
    flows = [
        {"name": "pod", "sourceIP": POD, "destIP": VIP, "destPort": 80, "protocol": "TCP"},
        {"name": "far", "sourceIP": OUTSIDE, "destIP": HOST, "destPort": NP, "protocol": "tcp", "inInterface": "eth0"},
    ]
    (tmp_path / "flows.json").write_text(json.dumps(flows))
    assert main(["proxy", "flow", *node_and_objects, "--flows", str(tmp_path / "flows.json"), "-o", "json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [(a["name"], a["outcome"], a["masquerade"]) for a in answers] == [("pod", BOTH, False), ("far", BOTH, True)]


def test_rules_of_a_dump(node_and_objects, tmp_path, capsys):
    """--rules takes what iptables-save printed, jumps included, or restore input without them."""
    options = ProxyOptions.parse(NODE)
    text = restore_text([service(), ENDPOINTS], options)
    for number, rules in enumerate((text, kernel_text([text], options))):
        path = tmp_path / f"{number}.rules"
        path.write_text(rules)
        assert main(["proxy", "flow", *node_and_objects[:2], "--rules", str(path), "--from", POD, "--to", f"{VIP}:80", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["outcome"] == BOTH


@pytest.mark.parametrize(
    "words, code, text",
    [
        (["--from", POD], 2, "--to"),
        (["--from", POD, "--to", VIP], 2, "no destination"),
        (["--from", "pod", "--to", f"{VIP}:80"], 2, "not an IPv4 address"),
        (["--from", "fd00::1", "--to", f"{VIP}:80"], 2, "cannot send"),
        (["--from", POD, "--to", f"{VIP}:80", "--protocol", "icmp"], 2, "protocol"),
        ([], 2, "--flows"),
    ],
)
def test_wrong_usage(node_and_objects, capsys, words, code, text):
    assert main(["proxy", "flow", *node_and_objects, *words]) == code
    assert text in capsys.readouterr().err


def test_a_bad_flow_has_a_line(node_and_objects, tmp_path, capsys):
    path = tmp_path / "flows.json"
    path.write_text(f'[\n {{"sourceIP": "{POD}", "destIP": "{VIP}",\n  "destPort": 0}}\n]')
    assert main(["proxy", "flow", *node_and_objects, "--flows", str(path)]) == 4
    assert "flows.json:3" in capsys.readouterr().err
