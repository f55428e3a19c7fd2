"""A real kubectl's port-forward: host connections into pods, several at once, journaled."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from test_end_to_end import PODS, Shell
from test_kubectl_streams import Kubectl

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    shell = Shell(tmp_path_factory.mktemp("f"), "forward")
    shell("apply", "-f", PODS)
    yield Kubectl(shell)
    shell("reset", "--yes")


@contextlib.contextmanager
def forwarding(kubectl: Kubectl, what: str, port: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """kubectl port-forward at work: the local port it chose."""
    process = kubectl.start("port-forward", what, f":{port}", "--address", "127.0.0.1")
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+", line)
        assert found, (line, process.communicate(timeout=10))
        yield int(found[1]), process
    finally:
        process.kill()
        process.communicate()


def fetch(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    body = connection.getresponse().read().decode()
    connection.close()
    return body


def test_http_through_a_pod_a_service_and_many_connections(kubectl: Kubectl) -> None:
    with forwarding(kubectl, "web-0", "8080") as (port, _):
        assert fetch(port, "/hostname") == "web-0"
        assert fetch(port, "/clientip").startswith("127.0.0.1:")
        answers: list[str] = []
        threads = [threading.Thread(target=lambda: answers.append(fetch(port, "/hostname"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == ["web-0"] * 8
    with forwarding(kubectl, "svc/web", "80") as (port, _):
        assert fetch(port, "/hostname") in ("web-0", "web-1")


def test_a_half_closed_connection_brings_its_answer(kubectl: Kubectl) -> None:
    with forwarding(kubectl, "web-0", "8080") as (port, _), socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
        assert answer.endswith(b"\r\n\r\nweb-0")


def test_nobody_listens(kubectl: Kubectl) -> None:
    """kubectl prints the kubelet's words, and gives up, as it does against any cluster."""
    with forwarding(kubectl, "web-0", "81") as (port, process):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.recv(1)
        assert process.stderr is not None
        text = process.stderr.readline().decode()
        assert "error forwarding port 81 to pod web-0" in text and "connect: connection refused" in text
        assert process.wait(20) == 1


def test_kubectls_end_is_the_connections_end(kubectl: Kubectl) -> None:
    with forwarding(kubectl, "web-0", "8080") as (port, process), socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(b"GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert "kubenet-forward" in kubectl.shell("exec", "web-0", "--", "ps", "-e")
        process.kill()
        for _ in range(100):
            if "kubenet-forward" not in kubectl.shell("exec", "web-0", "--", "ps", "-e"):
                return
            time.sleep(0.05)
    raise AssertionError("the pod's end outlived kubectl")


def test_it_is_journaled(kubectl: Kubectl) -> None:
    """What came over the host's connections is in the journal: a replay comes to the same state."""
    shell = kubectl.shell
    assert "kubectl port-forward pod/web-0 :8080" in shell("history")
    before = shell.rest()
    shell("down")
    shell("time")
    after = shell.status()
    assert [after[k] for k in ("now", "step", "digest")] == [before[k] for k in ("now", "step", "digest")]


def test_other_protocols_are_refused_in_words(kubectl: Kubectl) -> None:
    """SPDY without a WebSocket, as kubectl up to 1.30 asks: the HTTP error says what to do."""
    import ssl

    import yaml

    config = yaml.safe_load((kubectl.shell.dir / "kubeconfig").read_text())
    token = config["users"][0]["user"]["token"]
    host, _, port = config["clusters"][0]["cluster"]["server"].rpartition("/")[2].partition(":")
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    connection.request("POST", "/api/v1/namespaces/default/pods/web-0/portforward", headers={
        "Authorization": f"Bearer {token}", "Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "portforward.k8s.io"})
    answer = connection.getresponse()
    assert answer.status == 501 and b"over WebSocket only, not over SPDY: use kubectl 1.31 or newer" in answer.read()
