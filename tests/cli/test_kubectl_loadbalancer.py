"""A real kubectl exposes a Service by the load balancer, and the outside client reaches it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from test_end_to_end import PODS, Shell
from test_kubectl_streams import Kubectl

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    shell = Shell(tmp_path_factory.mktemp("b"), "balancer")
    shell("apply", "-f", PODS)
    yield Kubectl(shell)
    shell("reset", "--yes")


def test_expose_patch_and_delete(kubectl: Kubectl) -> None:
    """EXTERNAL-IP is there at the first `get`; after the change to Local the health checks have found a node, too."""
    shell = kubectl.shell
    assert kubectl("expose", "pod", "web-0", "--name", "lb", "--type", "LoadBalancer", "--port", "80", "--target-port", "8080")[0] == 0
    assert kubectl("get", "svc", "lb", "--no-headers")[1].split()[3] == b"203.0.113.1"
    assert shell("exec", "outside", "--", "curl", "-s", "-m", "3", "http://203.0.113.1/hostname") in ("web-0", "web-1")
    assert kubectl("patch", "svc", "lb", "-p", '{"spec":{"externalTrafficPolicy":"Local"}}')[0] == 0
    address = shell("exec", "outside", "--", "curl", "-s", "-m", "3", "http://203.0.113.1/clientip")
    assert address.partition(":")[0] == "172.18.0.100"
    described = kubectl("describe", "svc", "lb")[1].decode()
    assert "LoadBalancer Ingress:     203.0.113.1 (VIP)" in described and "EnsuredLoadBalancer" in described
    assert kubectl("delete", "svc", "lb")[0] == 0
    shell("exec", "outside", "--", "curl", "-s", "-m", "3", "http://203.0.113.1/", code=28)


def test_the_session_with_a_balancer_replays(kubectl: Kubectl) -> None:
    shell = kubectl.shell
    kubectl("expose", "pod", "web-0", "--name", "again", "--type", "LoadBalancer", "--port", "80", "--target-port", "8080",
            "--overrides", '{"spec":{"externalTrafficPolicy":"Local"}}')
    shell("exec", "outside", "--", "curl", "-s", "-m", "3", "http://203.0.113.1/hostname")
    before = shell.rest()
    shell("down")
    shell("time")
    after = shell.status()
    assert [after[k] for k in ("now", "step", "digest")] == [before[k] for k in ("now", "step", "digest")]
