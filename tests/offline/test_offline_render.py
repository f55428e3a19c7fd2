"""`kubenet proxy render`: the bytes kube-proxy writes, and what a real iptables-save made of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from kubenet.cli.main import main

PROXY = Path(__file__).parent.parent / "cluster" / "proxy"
sys.path.insert(0, str(PROXY))
from proxy_cases import cases, everything  # noqa: E402

NODE = {"nodeName": "node-1", "nodeIP": "172.18.0.2", "detectLocal": {"mode": "ClusterCIDR", "value": "10.0.0.0/8"}}
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {namespace: ns1, name: svc1}
spec:
  clusterIP: 172.30.0.41
  ports: [{name: p80, port: 80, protocol: TCP}]
"""
SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ns1, name: svc1-a, labels: {kubernetes.io/service-name: svc1}}
addressType: IPv4
ports: [{name: p80, port: 80, protocol: TCP}]
endpoints: [{addresses: [10.180.0.1], conditions: {ready: true}}]
"""


@pytest.fixture
def files(tmp_path):
    """Writes files and returns their paths; texts as they are, anything else as JSON."""

    def write(**contents):
        paths = []
        for name, content in contents.items():
            path = tmp_path / name.replace("_", ".")
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            paths.append(str(path))
        return paths

    return write


def out(capsys, *words):
    """What the command prints; it succeeds."""
    code = main(["proxy", "render", *words])
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def test_the_worked_example(files, capsys):
    """One Service, one endpoint: the rules kube-proxy is known to write for it, in place."""
    node, svc, eps = files(node_yaml=NODE, svc_yaml=SERVICE, eps_yaml=SLICE)
    lines = out(capsys, "--node", node, "-f", svc, "-f", eps).splitlines()
    wanted = """\
-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j KUBE-MARK-MASQ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80""".splitlines()  # noqa: E501
    at = lines.index(wanted[0])
    assert lines[at : at + 5] == wanted
    assert lines[at + 5].startswith('-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE:')
    assert lines[0] == "*filter" and lines[-1] == "COMMIT" and lines.count("COMMIT") == 2


def test_directories_and_lists_and_other_kinds(files, capsys, tmp_path):
    """A directory is read file by file; a List is its items; Pods mean nothing to kube-proxy."""
    node, svc, eps = files(node_yaml=NODE, svc_yaml=SERVICE, eps_yaml=SLICE)
    one_by_one = out(capsys, "--node", node, "-f", svc, "-f", eps)
    folder = tmp_path / "objects"
    folder.mkdir()
    items = [yaml.safe_load(SERVICE), yaml.safe_load(SLICE), {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}]
    (folder / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    assert out(capsys, "--node", node, "-f", str(folder)) == one_by_one
    assert out(capsys, "--node", node, str(folder)) == one_by_one


RECORDED = json.loads((PROXY / "recordings" / "saves.json").read_text())["saves"]


def test_kernel_prints_what_a_real_one_printed(files, capsys):
    """Jumps ensured, text restored, tables saved: as recorded from iptables 1.8.9 on Linux 6.18; nat was touched last."""
    options = {**NODE, "detectLocal": {"mode": "ClusterCIDR", "value": "10.48.0.0/16"}}
    node, objects = files(node_yaml=options, objects_json={"apiVersion": "v1", "kind": "List", "items": everything()})
    printed = out(capsys, "--node", node, "-f", objects, "--kernel")
    tables = RECORDED["everything"]
    assert printed == "".join(f"*{name}\n" + "\n".join(tables[name]) + "\nCOMMIT\n" for name in ("nat", "filter"))


def test_ipv6_kernel_text(files, capsys):
    version, _ = cases()["ipv6"]
    assert version == 6
    node, svc, eps = files(
        node_yaml={**NODE, "ipFamily": "IPv6", "nodeIP": "2001:db8::1", "detectLocal": None},
        svc_yaml=SERVICE.replace("172.30.0.41", '"fd00:10:96::1"'),
        eps_yaml=SLICE.replace("10.180.0.1", '"fd00:10:48::7"').replace("IPv4", "IPv6"),
    )
    lines = out(capsys, "--node", node, "-f", svc, "-f", eps, "--kernel").splitlines()
    assert any(line.endswith("-j DNAT --to-destination [fd00:10:48::7]:80") for line in lines)
    assert any(line.startswith("-A KUBE-SERVICES ! -d ::1/128 -m comment") for line in lines)
    assert ":KUBE-FIREWALL - [0:0]" in lines, "its jumps exist even without a rule in it"


def test_steps_are_partial_from_the_second_on(files, capsys):
    """A change rewrites the shared chains and the changed Service's own; others stay in the kernel."""
    other = yaml.safe_load(SERVICE)
    other["metadata"]["name"], other["spec"]["clusterIP"] = "svc2", "172.30.0.42"
    other_eps = yaml.safe_load(SLICE)
    other_eps["metadata"].update(name="svc2-a", labels={"kubernetes.io/service-name": "svc2"})
    first = [{"op": "add", "object": obj} for obj in (yaml.safe_load(SERVICE), yaml.safe_load(SLICE), other, other_eps)]
    node, steps = files(node_yaml=NODE, steps_json=[{"events": first}, {"events": [{"op": "delete", "object": other_eps}]}])
    texts = json.loads(out(capsys, "--node", node, "--steps", steps))
    assert len(texts) == 2
    assert "-A KUBE-SVC-XPGD46QRK7WJZT7O" in texts[0] and "-A KUBE-SVC-XPGD46QRK7WJZT7O" not in texts[1]
    assert '"ns1/svc2:p80 has no endpoints"' in texts[1], "the slice of a live Service is gone"
    assert texts[1].count("-X KUBE-") == 2, "its SVC and SEP chains are stale"
    assert '"ns1/svc1:p80 cluster IP"' in texts[1], "KUBE-SERVICES is complete"
    saves = json.loads(out(capsys, "--node", node, "--steps", steps, "--kernel"))
    assert "KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]" in saves[1] and saves[1].count(":KUBE-SVC-") == 1


def test_topology_labels_that_change_force_a_full_sync(files, capsys):
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "b"}}}
    first = [{"op": "add", "object": yaml.safe_load(text)} for text in (SERVICE, SLICE)]
    node, steps = files(node_yaml=NODE, steps_json=[{"events": first}, {"events": [{"op": "update", "object": made}]}])
    texts = json.loads(out(capsys, "--node", node, "--steps", steps))
    assert texts[1] == texts[0]


@pytest.mark.parametrize(
    "name, content, at, words",
    [
        ("svc_yaml", SERVICE.replace("port: 80,", "port: 99999,"), "svc.yaml:6", "99999"),
        ("svc_yaml", SERVICE.replace("port: 80,", "port: http,"), "svc.yaml:6", "must be a whole number"),
        ("svc_yaml", SERVICE.replace("name: svc1", "labels: {}"), "svc.yaml:3", "has no name"),
        ("svc_yaml", "apiVersion: v1\nkind: Service\n  spec: {", "svc.yaml:3", "not valid YAML"),
        ("svc_yaml", "apiVersion: v1\nmetadata: {name: x}\n", "svc.yaml:1", "no kind"),
        ("node_yaml", "nodeName: node-1\nnodeIp: 1.2.3.4\n", "node.yaml:2", "nodeIp"),
        ("node_yaml", "nodeName: node-1\nmasqueradeBit: 99\n", "node.yaml:2", "masqueradeBit"),
        ("node_yaml", "nodeName: n\ndetectLocal:\n  mode: ClusterCIDR\n  value: 10.0.0.0/99\n", "node.yaml:4", "detectLocal.value"),
        ("node_yaml", SERVICE, "node.yaml:2", "no description of a node"),
        ("steps_json", '[\n {"events": [\n  {"op": "change", "object": {}}]}]', "steps.json:3", "has no op"),
        ("steps_json", '{"events": []}', "steps.json", "no list of steps"),
    ],
)
def test_mistakes_have_a_place(files, capsys, name, content, at, words):
    """Exit code 4, and file:line of the mistake."""
    texts = {"node_yaml": NODE, "svc_yaml": SERVICE, **({"steps_json": []} if name == "steps_json" else {}), name: content}
    node, svc, *steps = files(**texts)
    code = main(["proxy", "render", "--node", node, "-f", svc, *(["--steps", steps[0]] if steps else [])])
    captured = capsys.readouterr()
    assert (code, captured.out) == (4, "")
    assert words in captured.err and at in captured.err


def test_wrong_usage(files, capsys):
    node, svc = files(node_yaml=NODE, svc_yaml=SERVICE)
    assert main(["proxy", "render", "--node", node]) == 2
    assert main(["proxy", "render", "-f", svc]) == 2
    assert main(["proxy", "render", "--node", node, "-f", svc, "--mode", "telepathy"]) == 3
    assert "telepathy" in capsys.readouterr().err
    assert main(["proxy", "rendr"]) == 2
