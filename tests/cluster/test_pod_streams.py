"""What is refused before a stream to a pod begins, in the API server's and the kubelet's words; and what is asked for then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubenet import Cluster
from kubenet.cluster.api.status import ApiError
from kubenet.cluster.pod_streams import KubeletError, prepare

EXEC = {"command": ["ls", "-l"], "stdout": ["true"]}


def pod(name: str, *containers: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": c, "image": "nginx:1.27"} for c in containers], **spec}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        ends = pod("ends", "once", restartPolicy="Never")
        ends["spec"]["containers"][0]["command"] = ["sh", "-c", "echo done"]
        two = pod("two", "a", "b", initContainers=[{"name": "first", "image": "nginx:1.27", "command": ["true"]}])
        made.apply_documents([pod("web", "nginx"), two, ends, pod("nowhere", "c", nodeSelector={"no": "such"})])
        made.run(5 * 10**9)
        yield made


def refusal(cluster: Cluster, verb: str, name: str, query: dict[str, list[str]]) -> tuple[int, str]:
    with pytest.raises((ApiError, KubeletError)) as caught:
        prepare(cluster, verb, "default", name, query)
    return caught.value.code, caught.value.what


def test_exec_becomes_the_engines_request(cluster: Cluster) -> None:
    assert prepare(cluster, "exec", "default", "web", {**EXEC, "stdin": ["false"], "tty": ["1"]}) == {
        "target": "pod/web", "namespace": "default", "container": "nginx", "argv": ["ls", "-l"],
        "stdin": False, "stdout": True, "stderr": False, "tty": True}


@pytest.mark.parametrize(("name", "query", "code", "text"), [
    ("nope", EXEC, 404, 'pods "nope" not found'),
    ("web", {**EXEC, "container": ["x"]}, 400, "container x is not valid for pod web"),
    ("two", EXEC, 400, "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [first]"),
    ("nowhere", EXEC, 400, "pod nowhere does not have a host assigned"),
    ("ends", EXEC, 500, 'container not found ("once")'),
    ("web", {"command": ["ls"]}, 400, "you must specify at least 1 of stdin, stdout, stderr"),
    ("web", {"stdout": ["true"]}, 400, "you must specify at least one command for the container"),
])
def test_exec_is_refused(cluster: Cluster, name: str, query: dict[str, list[str]], code: int, text: str) -> None:
    assert refusal(cluster, "exec", name, query) == (code, text)


def test_a_refusal_changes_nothing(cluster: Cluster) -> None:
    before = cluster.digest(), cluster.loop.step
    refusal(cluster, "exec", "ends", EXEC)
    prepare(cluster, "log", "default", "web", {})
    assert (cluster.digest(), cluster.loop.step) == before


def test_log_options(cluster: Cluster) -> None:
    asked = prepare(cluster, "log", "default", "two", {"container": ["b"], "tailLines": ["3"], "sinceSeconds": ["2"],
                                                       "timestamps": ["true"], "limitBytes": ["9"], "follow": ["true"]})
    assert asked == {"target": "pod/two", "namespace": "default", "container": "b", "previous": False, "tail": 3, "timestamps": True,
                     "since_ns": 2 * 10**9, "follow": True, "limit": 9}
    then = prepare(cluster, "log", "default", "web", {"sinceTime": ["2026-01-01T00:00:01.5Z"]})
    assert then["since_ns"] == cluster.loop.now - 1_500_000_000
    assert prepare(cluster, "log", "default", "nowhere", {}) == {"empty": True}


@pytest.mark.parametrize(("name", "query", "code", "text"), [
    ("web", {"previous": ["true"]}, 400, 'previous terminated container "nginx" in pod "web" not found'),
    ("web", {"tailLines": ["-1"]}, 422, 'PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0'),
    ("web", {"limitBytes": ["0"]}, 422, 'PodLogOptions "web" is invalid: limitBytes: Invalid value: 0: must be greater than 0'),
    ("web", {"tailLines": ["x"]}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("two", {}, 400, "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [first]"),
])
def test_log_is_refused(cluster: Cluster, name: str, query: dict[str, list[str]], code: int, text: str) -> None:
    assert refusal(cluster, "log", name, query) == (code, text)


def test_an_ended_container_keeps_its_log(cluster: Cluster) -> None:
    asked = prepare(cluster, "log", "default", "ends", {})
    asked.pop("follow"), asked.pop("limit")
    assert cluster.logs(**asked).poll() == b"done\n"


def test_port_forward_needs_a_running_pod(cluster: Cluster) -> None:
    assert prepare(cluster, "portforward", "default", "web", {}) == {"target": "pod/web", "namespace": "default", "container": ""}
    assert refusal(cluster, "portforward", "nowhere", {}) == (400, "pod nowhere does not have a host assigned")
    assert refusal(cluster, "portforward", "ends", {}) == (
        400, "unable to forward port because pod is not running. Current status=Succeeded")


def test_a_forward_carries_bytes_both_ways_and_says_who_does_not_listen(cluster: Cluster) -> None:
    """The half-closed connection still brings the answer; nginx closes after an HTTP/1.0 request."""
    out: list[tuple[int, bytes]] = []
    handle = cluster.start_forward("pod/web", 80, on_output=lambda stream, data: out.append((stream, data)))
    handle.feed_stdin(b"GET / HTTP/1.0\r\n\r\n")
    handle.close_stdin()
    cluster.run_until(lambda: handle.done)
    assert handle.exit_code == 0 and b"".join(data for _, data in out).startswith(b"HTTP/1.1 200 OK")
    assert {stream for stream, _ in out} == {1}
    out.clear()
    handle = cluster.start_forward("pod/web", 81, on_output=lambda stream, data: out.append((stream, data)))
    cluster.run_until(lambda: handle.done)
    assert handle.exit_code == 1 and out[0][0] == 2 and out[0][1].endswith(b"dial tcp4 127.0.0.1:81: connect: connection refused")


def test_attach_is_refused_by_name(cluster: Cluster) -> None:
    assert refusal(cluster, "attach", "web", {})[0] == 501
