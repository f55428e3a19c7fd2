"""Files for the offline kube-proxy: a node's options, objects, steps and flows, with the file and line of every mistake.

    node = load_node("node.yaml")                 ProxyOptions of a file with nodeName, nodeIP, detectLocal, ...
    objects = load_objects(["svc.yaml", "dir/"])  Services, EndpointSlices, Nodes; others are passed over
    steps = load_steps("steps.json")              [{"events": [{"op": "add", "object": {...}}]}]
    flows = load_flows("flows.json")              [Flow]

Only ManifestError (exit code 4) leaves this module. Objects need not be complete as the API server wants them (kube-proxy
would take them as they are), but a value of a wrong type is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kubenet.cluster.api.decode import Manifest, check_types, load_paths, load_text
from kubenet.cluster.api.ips import Ip, parse_ip
from kubenet.cluster.proxy.options import ProxyOptions
from kubenet.errors import ManifestError

Obj = dict[str, Any]

VERSIONS = {"Service": "v1", "Node": "v1", "EndpointSlice": "discovery.k8s.io/v1"}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
OPS = ("add", "update", "delete")
FLOW_FIELDS = ("name", "sourceIP", "destIP", "destPort", "protocol", "inInterface")


class Flow(NamedTuple):
    """A packet to be sent: who, where to, and by which device it comes in ("": as its source says)."""

    source: Ip
    dest: Ip
    port: int
    protocol: str = "tcp"
    in_interface: str = ""
    name: str = ""


# ---- the node


def load_node(path: str) -> ProxyOptions:
    """The options in this file. Raises ManifestError at the line that does not fit."""
    manifests = load_paths([path])
    if len(manifests) != 1:
        raise ManifestError(f"{path} is no description of a node", path, why=f"it holds {len(manifests)} documents, not one",
                            try_="nodeName: node-1\nnodeIP: 172.18.0.2")
    return node_options(manifests[0])


def node_options(manifest: Manifest) -> ProxyOptions:
    """The options a document holds."""
    if "kind" in manifest.obj and "nodeName" not in manifest.obj:
        raise manifest.error(f"{manifest.label} is no description of a node", "kind", "the options of kube-proxy on a node are "
                             "nodeName, nodeIP, detectLocal, ...", "nodeName: node-1\nnodeIP: 172.18.0.2")
    try:
        return ProxyOptions.parse(manifest.obj, manifest.file)
    except ManifestError as error:
        raise manifest.error(error.what, error.field, error.why, error.try_) from None


# ---- objects


def load_objects(paths: list[str]) -> list[Obj]:
    """The objects of files and directories that kube-proxy looks at, in order. Raises ManifestError."""
    return [manifest.obj for manifest in load_paths(paths) if is_wanted(manifest)]


def is_wanted(manifest: Manifest) -> bool:
    """Whether kube-proxy looks at it; then it has been checked. Raises ManifestError."""
    obj = manifest.obj
    kind = obj.get("kind")
    if not isinstance(kind, str) or not kind:
        raise manifest.error("the document has no kind", "", "kube-proxy reads Services, EndpointSlices and Nodes", "kind: Service")
    if kind not in VERSIONS:
        return False
    obj.setdefault("apiVersion", VERSIONS[kind])
    check_types(manifest)
    if not manifest.name:
        raise manifest.error(f"{kind} has no name", "metadata", "every object has metadata.name", f"metadata:\n  name: {kind.lower()}")
    _check_ports(manifest)
    return True


def _check_ports(manifest: Manifest) -> None:
    """Ports are port numbers: chains are made of them."""
    spec = manifest.obj.get("spec") if manifest.kind == "Service" else manifest.obj
    prefix = "spec.ports" if manifest.kind == "Service" else "ports"
    if not isinstance(spec, Mapping):
        if manifest.kind == "Service":
            raise manifest.error(f"{manifest.label} has no spec", "", "kube-proxy reads its addresses and ports there")
        return
    for at, port in enumerate(spec.get("ports") or ()):
        for name in ("port", "nodePort"):
            value = port.get(name)
            if value is not None and not 0 <= value <= 65535:
                raise manifest.error(f"{manifest.label}: {prefix}[{at}].{name} is {value}", f"{prefix}[{at}].{name}",
                                     "a port is a number from 1 to 65535")


# ---- steps


def load_steps(path: str) -> list[Obj]:
    """The steps of a file: each a list of events. Raises ManifestError."""
    holder = _load_list(path, "steps", '[{"events": [{"op": "add", "object": {...}}]}]')
    steps: list[Obj] = holder.obj["steps"]
    for number, step in enumerate(steps):
        where = f"steps[{number}]"
        events = step.get("events") if isinstance(step, dict) else None
        if not isinstance(events, list):
            raise holder.error(f"{where} has no list of events", where, 'a step is {"events": [...]}')
        step["events"] = [event for at, event in enumerate(events) if _check_event(holder, event, f"{where}.events[{at}]")]
    return steps


def _check_event(holder: Manifest, event: Any, where: str) -> bool:
    if not isinstance(event, dict) or event.get("op") not in OPS:
        raise holder.error(f"{where} has no op", where, f"op is one of {', '.join(OPS)}")
    if not isinstance(event.get("object"), dict):
        raise holder.error(f"{where} has no object", where)
    prefix = f"{where}.object."
    lines = {path[len(prefix):]: line for path, line in holder.lines.items() if path.startswith(prefix)}
    manifest = Manifest(event["object"], holder.file, lines, holder.source, holder.line(prefix[:-1]))
    if manifest.kind.endswith("List"):
        return True
    return is_wanted(manifest)


def _load_list(path: str, name: str, example: str) -> Manifest:
    """A file that holds a list, as a Manifest with the list under `name`, so that it can tell lines."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else "it is not UTF-8 text") or ""
        raise ManifestError(f"cannot read {path}", path, why=why) from None
    found = load_text(nested(text, name), path)
    if len(found) != 1 or not isinstance(found[0].obj.get(name), list):
        raise ManifestError(f"{path} holds no list of {name}", path, why=f"{name} are a JSON list", try_=example)
    return found[0]


def nested(text: str, name: str) -> str:
    """The document as the value of a key, lines kept: JSON (and YAML's flow style) stays on its line."""
    body = text.lstrip("\ufeff").rstrip()
    if body.lstrip().startswith(("[", "{")):
        return f"{name}: {body.expandtabs(1)}\n"
    return f"{name}:\n{body}\n"


# ---- flows


def load_flows(path: str) -> list[Flow]:
    """The flows of a file. Raises ManifestError."""
    holder = _load_list(path, "flows", '[{"name": "...", "sourceIP": "10.0.0.2", "destIP": "10.96.0.1", "destPort": 80}]')
    return [_flow(holder, item, f"flows[{at}]") for at, item in enumerate(holder.obj["flows"])]


def _flow(holder: Manifest, item: Any, where: str) -> Flow:
    if not isinstance(item, dict):
        raise holder.error(f"{where} is no flow", where, f"a flow is an object with {', '.join(FLOW_FIELDS)}")
    for name in item:
        if name not in FLOW_FIELDS:
            raise holder.error(f"{where} has a field {name}", f"{where}.{name}", f"a flow has {', '.join(FLOW_FIELDS)}")
    try:
        return make_flow(item.get("sourceIP"), item.get("destIP"), item.get("destPort"), item.get("protocol") or "tcp",
                         item.get("inInterface") or "", str(item.get("name") or ""))
    except FlowError as error:
        raise holder.error(f"{where}: {error}", f"{where}.{error.field}") from None


class FlowError(ValueError):
    """A flow that cannot be; `field` says which part."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


def make_flow(source: Any, dest: Any, port: Any, protocol: Any = "tcp", in_interface: Any = "", name: str = "") -> Flow:
    """A Flow of these texts. Raises FlowError."""
    ends = {}
    for field, text in (("sourceIP", source), ("destIP", dest)):
        try:
            ends[field] = parse_ip(str(text))
        except ValueError as error:
            raise FlowError(field, f"{field}: {error}" if text else f"{field} is missing") from None
    if ends["sourceIP"].family != ends["destIP"].family:
        raise FlowError("destIP", f"{ends['sourceIP'].text} cannot send to {ends['destIP'].text}: one is IPv4, one is IPv6")
    if isinstance(port, str) and port.isdigit():
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise FlowError("destPort", f"destPort is {port!r}; a port is a number from 1 to 65535")
    word = str(protocol).lower()
    if word not in PROTOCOLS:
        raise FlowError("protocol", f"protocol is {protocol!r}; known are {', '.join(PROTOCOLS)}")
    if not isinstance(in_interface, str):
        raise FlowError("inInterface", f"inInterface is {in_interface!r}; it is a device's name")
    return Flow(ends["sourceIP"], ends["destIP"], port, word, in_interface, name)
