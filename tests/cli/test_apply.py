"""`kubenet apply` and `delete`: what is said, in kubectl's words; which line is wrong; what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubenet.engine.journal import Journal

WEB = """\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
    - port: 80
      targetPort: http
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: nginx
          image: nginx:1.27
          ports: [{name: http, containerPort: 80}]
"""


@pytest.fixture
def web(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    return path


def test_created_unchanged_configured(kubenet: Any, fake: Any, web: Path) -> None:
    assert kubenet("apply", "-f", str(web)).out == "service/web created\ndeployment.apps/web created\n"
    assert kubenet("apply", "-f", str(web)).out == "service/web unchanged\ndeployment.apps/web unchanged\n"
    web.write_text(WEB.replace("nginx:1.27", "nginx:1.28"))
    assert kubenet("apply", "-f", str(web)).out == "service/web unchanged\ndeployment.apps/web configured\n"


def test_it_is_server_side_apply_by_kubenet(kubenet: Any, fake: Any, web: Path) -> None:
    kubenet("apply", "-f", str(web))
    patch = next(r for r in fake.http if r["method"] == "PATCH")
    assert patch["path"] == "/api/v1/namespaces/default/services/web"
    assert patch["headers"]["content-type"] == "application/apply-patch+yaml"
    assert patch["query"]["fieldManager"] == ["kubenet"]
    assert patch["cmd"].startswith("apply -f ") and patch["group"]


def test_all_of_one_command_is_one_group(kubenet: Any, fake: Any, web: Path) -> None:
    """So that undo takes it back as a whole."""
    kubenet("apply", "-f", str(web))
    assert len({r["group"] for r in [*fake.http, *fake.asked]}) == 1


def test_time_passes_until_it_runs(kubenet: Any, fake: Any, web: Path) -> None:
    found = kubenet("apply", "-f", str(web), "--timeout", "5s")
    assert [r["op"] for r in fake.asked] == ["settle"] and fake.asked[0]["max_ns"] == 5_000_000_000
    assert found.err == "settled at t=2.110000s\n"
    fake.asked.clear()
    kubenet("apply", "-f", str(web), "--no-wait")
    assert fake.asked == []


def test_what_does_not_run_is_said_with_the_reason(kubenet: Any, fake: Any, web: Path) -> None:
    fake.pod("web-0", ready=False)
    fake.answers["settle"] = {"ok": False, "now": 5_000_000_000, "waiting": ["pod/slow: ContainerCreating"]}
    found = kubenet("apply", "-f", str(web))
    assert found.code == 0
    assert found.err == (
        "not everything runs at t=5.000000s:\n"
        '  pod/web-0: ImagePullBackOff: Back-off pulling image "nginx:1.27"\n'
        "  pod/slow: ContainerCreating\n"
        "try: kubenet describe pod/web-0\n")


def test_an_invalid_manifest_names_the_line_and_nothing_is_sent(kubenet: Any, fake: Any, web: Path) -> None:
    web.write_text(WEB.replace("port: 80\n", "prot: 80\n"))
    found = kubenet("apply", "-f", str(web))
    assert (found.code, found.out) == (4, "")
    assert f"at:  {web}:8\n" in found.err and "did you mean port?" in found.err
    assert fake.http == []


def test_what_the_server_refuses_names_the_line(kubenet: Any, fake: Any, tmp_path: Path) -> None:
    """A clusterIP outside the service range can only be judged by the server."""
    path = tmp_path / "svc.yaml"
    path.write_text(WEB.split("---")[0].replace("spec:\n", "spec:\n  clusterIP: 192.168.1.1\n"))
    found = kubenet("apply", "-f", str(path))
    assert found.code == 4 and f"at:  {path}:6\n" in found.err


def test_a_legal_mistake_is_noted(kubenet: Any, fake: Any, web: Path) -> None:
    """A targetPort that no selected pod has is legal and does not work."""
    web.write_text(WEB.replace("targetPort: http", "targetPort: htpp"))
    found = kubenet("apply", "-f", str(web))
    assert found.code == 0 and found.out.startswith("service/web created\n")
    assert 'note: Service "web": spec.ports[0].targetPort is "htpp"' in found.err
    assert "why: pods with app=web name their ports: http (80)" in found.err


def test_dry_run_changes_nothing(kubenet: Any, fake: Any, web: Path) -> None:
    assert "service/web created (dry run)\n" in kubenet("apply", "-f", str(web), "--dry-run").out
    assert kubenet("get", "svc", "web").code == 3


def test_a_conflict_says_who_and_how_to_take_over(kubenet: Any, fake: Any, web: Path) -> None:
    import json

    kubenet("apply", "-f", str(web))
    fake.api.request("PATCH", "/api/v1/namespaces/default/services/web", {"fieldManager": ["kubectl"], "force": ["true"]},
                     {"content-type": "application/apply-patch+yaml"},
                     json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                                 "spec": {"selector": {"app": "other"}}}).encode())
    found = kubenet("apply", "-f", str(web))
    assert found.code == 1
    assert 'why: .spec.selector: conflict with "kubectl"' in found.err and "--force-conflicts" in found.err
    assert "service/web configured" in kubenet("apply", "-f", str(web), "--force-conflicts").out


def test_files_directories_and_stdin(kubenet: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(WEB.split("---")[0])
    (tmp_path / "sub" / "b.yaml").write_text(WEB.split("---")[1])
    assert kubenet("apply", "-f", str(tmp_path)).out == "service/web created\n"
    assert kubenet("apply", "-R", "-f", str(tmp_path)).out == "service/web unchanged\ndeployment.apps/web created\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WEB.encode())))
    assert kubenet("apply", "-f", "-").out.startswith("service/web unchanged\n")
    assert kubenet("apply", "-f", str(tmp_path / "nowhere")).code == 3


TOPOLOGY = "apiVersion: kubenet.dev/v1\nkind: Topology\nmetadata: {name: two}\nspec: {nodes: [{name: node-1}, {name: node-2}]}\n---\n"


def test_a_topology_must_be_the_sessions_own(kubenet: Any, fake: Any, web: Path) -> None:
    """Compared are machines and wires; a name does not matter, a node more does."""
    import yaml

    topology = yaml.safe_load(TOPOLOGY.partition("---")[0])
    fake.session.journal.unlink()
    journal = Journal(fake.session.journal)
    journal.open()
    journal.start({"seed": 7, "epoch": 0, "topology": topology})
    journal.close()
    web.write_text(TOPOLOGY.replace("name: two", "name: other") + WEB)
    assert kubenet("apply", "-f", str(web)).code == 0
    web.write_text(TOPOLOGY.replace("{name: node-2}", "{name: node-2}, {name: node-3}") + WEB)
    found = kubenet("apply", "-f", str(web))
    assert (found.code, found.out) == (6, "")
    assert found.err.startswith("error: session default has another topology\n")
    assert kubenet("up", "three-nodes").code == 6 and kubenet("up", "--seed", "8").code == 6


@pytest.mark.parametrize("words, out", [
    (["pod", "web-0"], 'pod "web-0" deleted\n'),
    (["pod/web-0"], 'pod "web-0" deleted\n'),
    (["deploy", "web"], 'deployment.apps "web" deleted\n'),
    (["pods", "-l", "app=web"], 'pod "web-0" deleted\npod "web-1" deleted\n'),
    (["pods", "--all"], 'pod "client" deleted\npod "web-0" deleted\npod "web-1" deleted\n'),
    (["pod", "web-0", "--grace-period", "0"], 'pod "web-0" force deleted\n'),
])
def test_delete(kubenet: Any, fake: Any, web: Path, words: list[str], out: str) -> None:
    fake.pod("client", labels={"app": "client"})
    fake.pod("web-0")
    fake.pod("web-1")
    kubenet("apply", "-f", str(web))
    found = kubenet("delete", *words)
    assert (found.code, found.out) == (0, out)


def test_create_namespace(kubenet: Any, fake: Any) -> None:
    assert kubenet("create", "namespace", "shop").out == "namespace/shop created\n"
    found = kubenet("create", "ns", "shop")
    assert found.code == 1 and found.err == 'error: namespace "shop" not created: namespaces "shop" already exists\n'
    assert kubenet("create", "ns", "No_Name").code == 4
    assert kubenet("create", "pod", "x").code == 2


def test_delete_by_file_and_what_is_not_there(kubenet: Any, fake: Any, web: Path) -> None:
    kubenet("apply", "-f", str(web))
    assert kubenet("delete", "-f", str(web)).out == 'service "web" deleted\ndeployment.apps "web" deleted\n'
    found = kubenet("delete", "-f", str(web))
    assert found.code == 3 and found.err.startswith('error: no service "web" in namespace default.')
    assert kubenet("delete", "-f", str(web), "--ignore-not-found").code == 0


@pytest.mark.parametrize("words", [[], ["pods"], ["pod", "web-0", "-f", "x.yaml"]])
def test_delete_wants_to_know_what(kubenet: Any, fake: Any, words: list[str]) -> None:
    assert kubenet("delete", *words).code == 2


def test_a_path_that_is_not_there_is_not_found_and_not_invalid(kubenet: Any, fake: Any) -> None:
    """README, exit codes: 3 is "no such thing", 4 "a manifest is invalid". The sentence is kubectl's (cli-runtime: visitor.go)."""
    for command in ("apply", "delete"):
        found = kubenet(command, "-f", "/nowhere/web.yaml")
        assert found.code == 3 and found.err.startswith('error: the path "/nowhere/web.yaml" does not exist\n')
