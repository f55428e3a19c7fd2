"""May this exec, log or port-forward begin? What the API server and the kubelet look at before they open a stream to a pod.

    request = prepare(cluster, "exec", "default", "web-0", {"command": ["ls"], "stdout": ["true"]})
    cluster.start_exec(request["target"], request["argv"], ...)

Looking changes nothing, so a client may ask twice: kubectl takes any refusal of its WebSocket as a reason to try SPDY on the same
path, and shows what that second answer says. Two parties refuse, in two forms: the API server with a Status (ApiError), the kubelet
with a line of text (KubeletError), which kubectl shows as `unable to upgrade connection: ...`.

Source: pkg/registry/core/pod/strategy.go LogLocation(), streamLocation(), validateContainer(); pkg/apis/core/validation
ValidatePodLogOptions(); pkg/kubelet/kubelet_pods.go GetExec(), validateContainerLogStatus().
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from kubenet.cluster.api.codec import truth
from kubenet.cluster.api.kinds import KindInfo
from kubenet.cluster.api.status import ApiError, FieldErrors, bad_request, invalid
from kubenet.cluster.resolve import pod_container, running_container
from kubenet.errors import KubenetError, NotFoundError, WrongMomentError
from kubenet.units import SEC

if TYPE_CHECKING:
    from kubenet.cluster.cluster import Cluster

Obj = dict[str, Any]
Query = dict[str, list[str]]

LOG_OPTIONS = KindInfo("PodLogOptions", "", "podlogoptions")


class KubeletError(KubenetError):
    """The kubelet refuses: an HTTP status and a line of text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def prepare(cluster: Cluster, verb: str, namespace: str, name: str, query: Query) -> Obj:
    """What the engine is to be asked for, for `verb` exec, log or portforward. Raises ApiError, KubeletError."""
    pod = cluster.store.must_get("Pod", (namespace, name))
    if verb == "log":
        return _log(cluster, pod, query)
    if verb == "exec":
        return _exec(cluster, pod, query)
    if verb == "portforward":
        return _forward(cluster, pod)
    raise ApiError(501, "NotImplemented", f"kubenet does not serve {verb}: use exec, logs or port-forward")


def _first(query: Query, name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def _container_of(pod: Obj, wanted: str) -> str:
    """The name of the container that is meant. validateContainer()."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    names = [c["name"] for c in spec["containers"]]
    inits = [c["name"] for c in spec.get("initContainers") or []]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or []]
    if not wanted:
        if len(names) == 1:
            return str(names[0])
        also = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]{also}")
    if wanted not in (*names, *inits, *ephemeral):
        raise bad_request(f"container {wanted} is not valid for pod {name}")
    return wanted


def _target(pod: Obj, container: str) -> Obj:
    return {"target": f"pod/{pod['metadata']['name']}", "namespace": pod["metadata"]["namespace"], "container": container}


def _exec(cluster: Cluster, pod: Obj, query: Query) -> Obj:
    container = _container_of(pod, _first(query, "container"))
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    streams = {name: truth(_first(query, name)) for name in ("stdin", "stdout", "stderr", "tty")}
    if not (streams["stdin"] or streams["stdout"] or streams["stderr"]):
        raise KubeletError(400, "you must specify at least 1 of stdin, stdout, stderr")
    if not query.get("command"):
        raise bad_request("you must specify at least one command for the container")
    try:
        pod_container(cluster, pod, container)
    except (NotFoundError, WrongMomentError):
        raise KubeletError(500, f'container not found ("{container}")') from None
    return {**_target(pod, container), "argv": query["command"], **streams}


def _forward(cluster: Cluster, pod: Obj) -> Obj:
    meta = pod["metadata"]
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {meta['name']} does not have a host assigned")
    try:
        running_container(cluster, meta["name"], meta["namespace"])
    except WrongMomentError as error:
        raise bad_request(error.what) from None
    return _target(pod, "")


def _log(cluster: Cluster, pod: Obj, query: Query) -> Obj:
    name = pod["metadata"]["name"]
    numbers = _log_numbers(name, query)
    container = _container_of(pod, _first(query, "container"))
    if not pod["spec"].get("nodeName"):
        return {"empty": True}  # "If pod has not been assigned a host, return an empty location"
    since = numbers.get("sinceSeconds")
    since_ns = since * SEC if since is not None else None
    if _first(query, "sinceTime"):
        since_ns = _age(cluster, _first(query, "sinceTime"))
    request = {**_target(pod, container), "previous": truth(_first(query, "previous")), "tail": numbers.get("tailLines"),
               "timestamps": truth(_first(query, "timestamps")), "since_ns": since_ns}
    try:
        cluster.logs(**request)
    except KubenetError as error:
        raise bad_request(error.what) from None
    return {**request, "follow": truth(_first(query, "follow")), "limit": numbers.get("limitBytes")}


def _log_numbers(name: str, query: Query) -> dict[str, int]:
    """tailLines, sinceSeconds and limitBytes, where given. ValidatePodLogOptions()."""
    out: dict[str, int] = {}
    errors = FieldErrors()
    for field, least, words in (("tailLines", 0, "must be greater than or equal to 0"), ("limitBytes", 1, "must be greater than 0"),
                                ("sinceSeconds", 1, "must be greater than 0")):
        text = _first(query, field)
        if not text:
            continue
        if not text.removeprefix("-").isdecimal():
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        out[field] = int(text)
        if out[field] < least:
            errors.invalid(field, out[field], words)
    if "sinceSeconds" in out and _first(query, "sinceTime"):
        errors.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified")
    if errors:
        raise invalid(LOG_OPTIONS, name, errors)
    return out


def _age(cluster: Cluster, text: str) -> int:
    """How many ns of virtual time ago an RFC 3339 time was."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise bad_request(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"') from None
    if when.tzinfo is None:
        raise bad_request(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"')
    return cluster.loop.now - (int(when.timestamp() * 1000) * (SEC // 1000) - cluster.epoch * SEC)
