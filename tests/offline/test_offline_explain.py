"""`kubenet explain`: what a real node did with packets (recordings/node.json, made by node_record.py) and what is said of it from
the files its own tools printed; rules with parts that nobody here knows; bad files."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.cli.main import main
from kubenet.errors import KubenetError, ManifestError, UsageError
from kubenet.query.offline.explain import Behind, Explainer, Question
from kubenet.query.offline.inputs import make_flow
from kubenet.query.offline.node import Dumps, build_node
from kubenet.query.offline.unknown import set_aside

sys.path.insert(0, str(Path(__file__).parent))
import node_record  # noqa: E402

RECORDED = json.loads(node_record.RECORDING.read_text())
CASES = list(zip(node_record.PACKETS, RECORDED["observed"], strict=True))


def dumps(files: dict[str, str]) -> Dumps:
    return Dumps(("rules", files["rules"]), ("", ""), ("routes", files["routes"]), ("addr", files["addr"]), ("sysctl", files["sysctl"]))


def ask(recorded: dict[str, Any], packet: tuple[str, int, str, int]) -> dict[str, Any]:
    who, sport, host, port = packet
    files = recorded["files"]
    explainer = Explainer(build_node(dumps(files)), Behind(), files["rules"])
    return explainer.answer(Question(make_flow(node_record.ADDRESS[who], host, port), sport))


def check(recorded: dict[str, Any], packet: tuple[str, int, str, int], observed: dict[str, str]) -> None:
    """The connection table tells where the packet went; what connect() said, if it went nowhere.

    To the node itself over lo there is an entry even if INPUT drops: it was confirmed at POSTROUTING already.
    """
    answer = ask(recorded, packet)
    ends = answer["ends"]
    replies = re.findall(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", observed["entry"])
    if observed["entry"]:
        went_to, as_source = f"{replies[1][0]}:{replies[1][2]}", replies[1][1]
        assert (went_to, as_source) in [(end["to"], end["source"].partition(":")[0]) for end in ends], ends
        to_itself = replies[1][0] in (node_record.ADDRESS["node"], node_record.ADDRESS["lo"])
        assert answer["outcome"] == ("leaves" if not to_itself else "delivered" if observed["said"] == "connected" else "dropped")
        chosen = replies[0][2] != replies[1][3]  # masqueraded, with --random-fully
        assert all((end["source"].partition(":")[2] == "*") == chosen for end in ends if end["to"] == went_to)
    elif observed["said"] == "OSError 113":  # EHOSTUNREACH: an unreachable route
        assert [e["outcome"] for e in ends] in (["no route"], ["dropped"])
    elif observed["said"] == "ConnectionRefusedError 111":
        assert answer["outcome"] == ("delivered" if packet[3] == node_record.CLOSED else "rejected")
    else:
        assert {end["outcome"] for end in ends} == {"dropped"}
    assert answer["unknown"] == []


@pytest.mark.parametrize("packet, observed", CASES, ids=[f"{p[0]}-{p[2]}:{p[3]}" for p, _ in CASES])
def test_what_the_kernel_did(packet: tuple[str, int, str, int], observed: dict[str, str]) -> None:
    check(RECORDED, packet, observed)


@pytest.mark.kernel
def test_a_node_built_now() -> None:
    """The same with the kernel that runs here."""
    missing = [tool for tool in ("unshare", "nsenter", "ip", "iptables", "conntrack") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {' '.join(missing) or 'namespaces'}")
    recorded = node_record.record()
    for packet, observed in zip(node_record.PACKETS, recorded["observed"], strict=True):  # type: ignore[arg-type,call-overload]
        check(recorded, packet, observed)


def test_both_endpoints_are_named_when_the_dice_decide() -> None:
    ends = ask(RECORDED, node_record.PACKETS[0])["ends"]
    assert [(e["to"], e["dev"], e["via"]) for e in ends] == [("10.48.1.7:8080", "vp7", ""), ("172.18.0.9:8080", "eth0", "")]


def test_a_connection_of_the_files_is_gone_on_with() -> None:
    """The reply of an entry whose DNAT is known only to the connection table: the source is put back."""
    files = RECORDED["files"]
    all_files = dumps(files)
    all_files.conntrack = ("conntrack", files["conntrack"])
    explainer = Explainer(build_node(all_files), Behind(), files["rules"])
    answer = explainer.answer(Question(make_flow("10.48.1.7", "10.48.1.5", 41001), 8080))
    assert answer["outcome"] == "leaves" and answer["ends"][0]["source"] == "10.96.0.1:80"
    line = int(re.fullmatch(r"line (\d+)", answer["conntrack"]["entry"]).group(1))  # type: ignore[union-attr]
    assert "sport=41001" in files["conntrack"].splitlines()[line - 1]


# ---- what is not known

UNKNOWN = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [10:20]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p tcp -m tcp --dport 81 -j ACCEPT
[3:180] -A FORWARD -p tcp -m tcp --dport 80 -m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0" -m comment --comment "default/web a b" -j DROP
-A FORWARD -p tcp -m tcp --dport 82 -j NFQUEUE --queue-num 3
-A FORWARD -p tcp -m tcp --dport 83 -j DROP
COMMIT
"""
ROUTES = ("routes", "default via 172.18.0.1 dev eth0 \n10.48.1.0/24 dev cni0 proto kernel scope link src 10.48.1.1 \n"
                    "172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.2 \n")


def unknown_answer(port: int) -> dict[str, Any]:
    node = build_node(Dumps(("rules", UNKNOWN), routes=ROUTES))
    return Explainer(node, Behind(), UNKNOWN).answer(Question(make_flow("10.48.1.5", "203.0.113.5", port)))


def test_a_rule_that_cannot_be_evaluated_makes_the_answer_unknown() -> None:
    answer = unknown_answer(80)
    assert answer["outcome"] == "unknown" and answer["ends"][0]["otherwise"] == "leaves"
    assert [(u["line"], u["chain"], u["number"], u["is_target"]) for u in answer["unknown"]] == [(6, "FORWARD", 2, False)]
    assert answer["unknown"][0]["part"].startswith("-m bpf --bytecode")
    answer = unknown_answer(82)
    assert answer["outcome"] == "unknown" and answer["unknown"][0]["part"] == "-j NFQUEUE --queue-num 3"


@pytest.mark.parametrize("port, outcome", [(81, "leaves"), (83, "dropped"), (84, "leaves")])
def test_a_packet_that_does_not_come_to_it_is_answered(port: int, outcome: str) -> None:
    """The known part of the rule (its port) is evaluated, and the rules behind it keep their numbers."""
    answer = unknown_answer(port)
    assert answer["outcome"] == outcome and answer["unknown"] == []
    if port == 83:
        assert answer["ends"][0]["rule"] == "filter FORWARD #4 DROP"
        assert answer["rules"][-1]["line"] == 8


def test_what_no_file_says_is_assumed_aloud() -> None:
    text = RECORDED["files"]["rules"]
    answer = Explainer(build_node(Dumps(("rules", text))), Behind(), text).answer(Question(make_flow("10.48.1.5", "10.96.0.1", 80)))
    assert all(end["dev"] == "unknown" for end in answer["ends"])
    assert "10.96.0.1 is taken for an address of another machine" in answer["assumed"]
    assert [a for a in answer["assumed"] if a.startswith("no --routes")] and [a for a in answer["assumed"] if a.startswith("no --ip-addr")]


def explain(dumped: Dumps, source: str, to: str, port: int, dev: str = "") -> dict[str, Any]:
    text = dumped.rules[1]
    return Explainer(build_node(dumped), Behind(), text).answer(Question(make_flow(source, to, port, "tcp", dev)))


@pytest.mark.parametrize("routes, sources", [
    ("", ["(an address of the node):*"]),
    ("10.48.1.7 dev vp7 scope link\ndefault via 172.18.0.1 dev eth0\n", ["(an address of vp7):*", "(an address of eth0):*"]),
    ("10.48.1.7 dev vp7 scope link\ndefault via 172.18.0.1 dev eth0 src 172.18.0.2\n", ["(an address of vp7):*", "172.18.0.2:*"]),
])
def test_a_masqueraded_packet_leaves_although_no_file_shows_an_address(routes: str, sources: list[str]) -> None:
    """MASQUERADE drops where a device has no address; that no file shows one does not mean that it has none."""
    files = Dumps(("rules", RECORDED["files"]["rules"]), routes=("routes" if routes else "", routes))
    answer = explain(files, "172.18.0.1", "10.96.0.1", 80)
    assert answer["outcome"] == "leaves"
    assert list(dict.fromkeys(end["source"] for end in answer["ends"])) == sources


BRIDGED = "10.48.1.9 is behind cni0"


@pytest.mark.parametrize("sysctl, said", [("", True), ("net.ipv4.ip_forward = 1\n", True), ("net.bridge.bridge-nf-call-iptables = 0\n", True),
                                          ("net.bridge.bridge-nf-call-iptables = 1\n", False)])
def test_between_two_ports_of_a_bridge(sysctl: str, said: bool) -> None:
    """Without br_netfilter such a packet never comes to the rules; whether cni0 is a bridge is in no file."""
    files = Dumps(("rules", UNKNOWN), routes=ROUTES, sysctls=("sysctl" if sysctl else "", sysctl))
    assert any(a.startswith(BRIDGED) for a in explain(files, "10.48.1.5", "10.48.1.9", 84)["assumed"]) is said
    assert not any("behind" in a for a in explain(files, "10.48.1.5", "203.0.113.9", 84)["assumed"])


IPVS = """\
3: eth0: <UP> mtu 1500
    inet 172.18.0.2/16 scope global eth0
9: kube-ipvs0: <BROADCAST,NOARP> mtu 1500
    inet 10.96.0.1/32 scope global kube-ipvs0
"""


def test_what_ipvs_takes_is_not_known() -> None:
    """kube-proxy's ipvs mode gives the node every clusterIP: by its addresses alone the packet would be the node's own."""
    files = Dumps(("rules", UNKNOWN), addresses=("addr", IPVS))
    answer = explain(files, "172.18.0.7", "10.96.0.1", 80, "eth0")
    assert answer["outcome"] == "unknown" and [u["part"] for u in answer["unknown"]] == ["IPVS"]
    assert explain(files, "172.18.0.7", "172.18.0.2", 80, "eth0")["outcome"] == "delivered"


@pytest.mark.parametrize("remark", ["# Warning: iptables-legacy tables present, use iptables-legacy-save to see them",
                                    "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them."])
def test_what_iptables_save_does_not_show(remark: str) -> None:
    """Both lines as a Linux 6.18 with iptables 1.8.9 (nf_tables) prints them; the first on stderr."""
    answer = explain(Dumps(("rules", remark + "\n" + UNKNOWN), routes=ROUTES), "10.48.1.5", "203.0.113.5", 84)
    assert any(a.startswith("rules:1 says") for a in answer["assumed"])


def test_settings_of_devices_hold_without_ip_addr() -> None:
    """rp_filter of a device that only --routes shows."""
    files = Dumps(("rules", UNKNOWN), routes=ROUTES, sysctls=("sysctl", "net.ipv4.conf.eth0.rp_filter = 1\nnet.ipv4.ip_forward = 1\n"))
    assert explain(files, "10.48.1.5", "203.0.113.5", 84, "cni0")["outcome"] == "leaves"
    end = explain(files, "10.48.1.5", "203.0.113.5", 84, "eth0")["ends"][0]
    assert end["outcome"] == "dropped" and "everse path filter" in end["rule"]


def test_whose_rule_it_is(tmp_path: Path) -> None:
    """kube-proxy's comments name the Service; the dump says where it stands."""
    from kubenet.cluster.api.yamldoc import load_paths

    dump = tmp_path / "svc.yaml"
    dump.write_text("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web, namespace: default}\n"
                    "  spec: {clusterIP: 10.96.0.1}\n")
    behind = Behind(load_paths([str(dump)]))
    assert behind.object_of("default/web:http cluster IP") == f"Service default/web, port http ({dump}:4)"
    assert behind.object_of("default/web has no endpoints") == f"Service default/web ({dump}:4)"
    assert behind.object_of("kubernetes service portals") == ""
    assert behind.name(0x0A600001) == "web"
    dump.write_text("kind: Service\nmetadata: {name: x}\nspec: [3]\nstatus: 3\n---\nkind: List\nitems: 7\n---\nkind: Pod\nmetadata: [1]\n")
    assert Behind(load_paths([str(dump)])).services == {}
    dump.write_text("kind: Service\nmetadata: {name: x}\nspec: {clusterIP: 300.1.1.1}\n")
    with pytest.raises(ManifestError, match="address"):
        Behind(load_paths([str(dump)]))


# ---- bad files


@pytest.mark.parametrize("text, line", [
    ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport\nCOMMIT\n", 3), ("-A INPUT -j DROP\n", 1), ("*nonsense\nCOMMIT\n", 1), ("", 1),
    ("*filter\n:INPUT ACCEPT [0:0]\nhello\nCOMMIT\n", 3),
])
def test_rules_that_are_no_rules(text: str, line: int) -> None:
    with pytest.raises(ManifestError) as caught:
        build_node(Dumps(("rules", text)))
    assert caught.value.line == line


def test_questions_that_cannot_be_asked() -> None:
    node = build_node(Dumps(("rules", UNKNOWN), routes=("routes", "10.48.1.0/24 dev cni0 scope link\n")))
    with pytest.raises(UsageError, match="by which device"):
        Explainer(node, Behind()).answer(Question(make_flow("192.0.2.1", "10.48.1.5", 80)))
    with pytest.raises(UsageError, match="no device eth7"):
        Explainer(node, Behind()).answer(Question(make_flow("10.48.1.5", "10.48.1.6", 80, "tcp", "eth7")))
    with pytest.raises(UsageError, match="come in by lo"):
        Explainer(node, Behind()).answer(Question(make_flow("127.0.0.1", "10.48.1.6", 80, "tcp", "lo")))
    with pytest.raises(UsageError, match="cannot be a device"):
        Explainer(build_node(Dumps(("rules", UNKNOWN))), Behind()).answer(Question(make_flow("10.0.0.1", "10.0.0.2", 80, "tcp", "x" * 20)))
    with pytest.raises(UsageError, match="IPv4"):
        Explainer(node, Behind()).answer(Question(make_flow("fd00::1", "fd00::2", 80)))


def test_a_sysctl_that_is_no_number() -> None:
    with pytest.raises(ManifestError, match="rp_filter") as caught:
        build_node(Dumps(("rules", UNKNOWN), routes=ROUTES, sysctls=("sysctl", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.eth0.rp_filter = on\n")))
    assert caught.value.line == 2


LINE = st.sampled_from(UNKNOWN.splitlines() + RECORDED["files"]["rules"].splitlines() + RECORDED["files"]["routes"].splitlines())
MANGLED = st.lists(LINE | st.text(max_size=20) | st.tuples(LINE, st.integers(0, 60)).map(lambda t: t[0][: t[1]]), max_size=12).map("\n".join)


@settings(max_examples=60, deadline=None)
@given(MANGLED, MANGLED)
def test_any_text_is_read_or_refused(rules: str, routes: str) -> None:
    try:
        build_node(Dumps(("rules", rules), routes=("routes", routes)))
    except KubenetError:
        pass


@settings(max_examples=60, deadline=None)
@given(MANGLED)
def test_setting_aside_keeps_every_line(text: str) -> None:
    """Nothing is lost: as many rules after it as before, and each unknown part is of the line it is said to be of."""
    try:
        out, unknown = set_aside(text, "rules")
    except ManifestError:
        return
    rules = [line for line in text.splitlines() if line.strip() and line[0] not in "#*:" and line != "COMMIT"]
    assert len([line for line in out.splitlines() if line.strip() and line[0] not in "#*:" and line != "COMMIT"]) == len(rules)
    for one in unknown.values():
        assert one.part.split()[1] in text.splitlines()[one.line - 1]


# ---- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in RECORDED["files"].items():
        (tmp_path / name).write_text(text)
    files = ["--iptables-save", str(tmp_path / "rules"), "--routes", str(tmp_path / "routes"), "--ip-addr", str(tmp_path / "addr")]
    assert main(["explain", *files, "--from", "10.48.1.5", "--to", "10.96.0.1:80"]) == 0
    out = capsys.readouterr().out
    assert "leaves by vp7: 10.48.1.5:41000 > 10.48.1.7:8080" in out and "Service default/web" in out
    assert max(len(line) for line in out.splitlines() if "RULES" not in out[: out.index(line)]) <= 80
    assert main(["explain", *files, "--from", "10.48.1.5:41004", "--to", "203.0.113.66:80", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["ends"][0]["rule"].startswith("filter FORWARD #")
    assert main(["explain", "--iptables-save", str(tmp_path / "none"), "--from", "10.48.1.5", "--to", "10.96.0.1:80"]) == 3
    assert main(["explain", *files, "--from", "10.48.1.5", "--to", "10.96.0.1:80", "--dump", str(tmp_path / "none")]) == 3
    (tmp_path / "bad").write_text("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p\nCOMMIT\n")
    assert main(["explain", "--iptables-save", str(tmp_path / "bad"), "--from", "10.48.1.5", "--to", "10.96.0.1:80"]) == 4
    assert "bad:3" in capsys.readouterr().err


SET_RULES = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -j SET --add-set seen src
-A FORWARD -m set --match-set bad src -j DROP
COMMIT
"""


@pytest.mark.parametrize(("sets", "outcome"), [
    ("create bad hash:net family inet hashsize 1024 maxelem 65536\nadd bad 10.48.1.0/24\n", "dropped"),
    ("create bad hash:net\nadd bad 10.48.3.0/24\n", "leaves"), ("", "unknown"),
])
def test_sets_come_from_ipset_save(sets: str, outcome: str) -> None:
    """With `ipset save` a rule with -m set is asked; without it the answer is that the set is in no file. -j SET decides nothing."""
    node = build_node(Dumps(("rules", SET_RULES), sets=("sets", sets) if sets else ("", "")))
    answer = Explainer(node, Behind(), SET_RULES).answer(Question(make_flow("10.48.1.5", "10.48.2.7", 80), 40000))
    assert answer["outcome"] == outcome or outcome in answer["outcome"]
    if outcome == "unknown":
        assert "the set bad is in no file" in json.dumps(answer)


@pytest.mark.parametrize("text", ["add a 10.0.0.1", "create a hash:foo", "create a hash:ip\nadd a x", "flush", "create 'a", "create a hash:ip\nadd a"])
def test_sets_that_are_none(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        build_node(Dumps(("rules", SET_RULES), sets=("sets", text)))
    assert caught.value.line == len(text.splitlines())


@given(st.text(alphabet="create add hash:ip,net-/0123456789. abc\n\"", max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_text_of_sets_breaks_anything(text: str) -> None:
    try:
        build_node(Dumps(("rules", SET_RULES), sets=("sets", "create a hash:ip\n" + text)))
    except ManifestError:
        pass
