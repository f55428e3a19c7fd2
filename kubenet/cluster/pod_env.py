"""What a container finds around it: environment, resolv.conf, hosts (volumes: pod_volumes.py). Pure functions of API objects.

Environment: service links first (WEB_SERVICE_HOST ...), then `envFrom`, then `env` with $(NAME) references, as the kubelet
orders them. A ConfigMap or Secret that is not there keeps the container waiting (CreateContainerConfigError) unless optional.

Sources: Kubernetes kubelet_pods.go makeEnvironmentVariables(), envvars.FromServices(); fieldpath.go;
dns.go (getDNSOptions: ndots:5); kubelet_pods.go managedHostsFileContent().
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kubenet.cluster.store import Store
from kubenet.userland.environ import Layers

Obj = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class ConfigMissing(Exception):
    """A ConfigMap, Secret or key that the container needs is not there; str() is the kubelet's message."""


class ServiceEnv:
    """service_env() of a store, made anew only after a Service was written: all pods of a namespace share one dict."""

    __slots__ = ("store", "at", "found")

    def __init__(self, store: Store) -> None:
        self.store = store
        self.at = -1  # writes of Services when `found` was made
        self.found: dict[tuple[str, bool], Mapping[str, str]] = {}

    def of(self, namespace: str, links: bool) -> Mapping[str, str]:
        """The variables; not the caller's to change."""
        writes = self.store.log("Service").length
        if writes != self.at:
            self.at = writes
            self.found = {}
        found = self.found.get((namespace, links))
        if found is None:
            found = self.found[(namespace, links)] = service_env(self.store, namespace, links)
        return found


def service_env(store: Store, namespace: str, links: bool) -> dict[str, str]:
    """Docker-link style variables for the Services of the namespace and for default/kubernetes."""
    out: dict[str, str] = {}
    services = list(store.iter("Service", namespace)) if links else []
    master = store.get("Service", ("default", "kubernetes"))
    if master is not None and not any(s is master for s in services):
        services.append(master)
    for service in services:
        spec = service["spec"]
        ip = spec.get("clusterIP")
        ports = spec.get("ports") or []
        if not ip or ip == "None" or not ports:
            continue
        name = service["metadata"]["name"].upper().replace("-", "_")
        out[f"{name}_SERVICE_HOST"] = ip
        out[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                out[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        out[f"{name}_PORT"] = f"{ports[0].get('protocol', 'TCP').lower()}://{ip}:{ports[0]['port']}"
        for port in ports:
            proto = port.get("protocol", "TCP")
            prefix = f"{name}_PORT_{port['port']}_{proto}"
            out[prefix] = f"{proto.lower()}://{ip}:{port['port']}"
            out[f"{prefix}_PROTO"] = proto.lower()
            out[f"{prefix}_PORT"] = str(port["port"])
            out[f"{prefix}_ADDR"] = ip
    return out


def config_data(store: Store, kind: str, namespace: str, name: str, optional: bool) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret. ConfigMissing unless it is there or optional."""
    obj = store.get(kind, (namespace, name))
    if obj is None:
        if optional:
            return {}
        raise ConfigMissing(f'{kind.lower()} "{name}" not found')
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    plain = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


def field_ref(pod: Obj, path: str) -> str:
    """The downward API: a field of the pod by its path. ConfigMissing for one that is not offered."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str((meta.get(keyed[1]) or {}).get(keyed[2], ""))
    simple = {
        "metadata.name": meta["name"], "metadata.namespace": meta.get("namespace", ""), "metadata.uid": meta.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""), "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": status.get("podIP", ""), "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": ",".join(entry["ip"] for entry in status.get("hostIPs") or []),
        "status.podIPs": ",".join(entry["ip"] for entry in status.get("podIPs") or []),
        "metadata.labels": _quoted(meta.get("labels") or {}),
        "metadata.annotations": _quoted(meta.get("annotations") or {}),
    }
    if path not in simple:
        raise ConfigMissing(f"unsupported fieldPath: {path}")
    return str(simple[path])


def _quoted(table: Mapping[str, str]) -> str:
    """key="value" lines, sorted, values as Go's %q writes them. Kubernetes: fieldpath.FormatMap()."""
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(table.items()))


_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def quantity(text: Any) -> tuple[int, int]:
    """A resource quantity as a fraction: "250m" is (250, 1000). ValueError."""
    found = re.fullmatch(r"(\d+)(?:\.(\d+))?(m|[kMGT]|[KMGT]i)?", str(text))
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    scale = 10 ** len(found[2] or "")
    number = int(found[1]) * scale + int(found[2] or 0)
    return (number, scale * 1000) if found[3] == "m" else (number * _SUFFIXES[found[3] or ""], scale)


def resource_ref(store: Store, pod: Obj, container: Obj, ref: Obj) -> str:
    """limits.cpu, requests.memory ... of a container by its divisor, rounded up; what has no limit is given the node's.

    Kubernetes: resource.ExtractContainerResourceValue(), MergeContainerResourceLimits(). ConfigMissing.
    """
    specs = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    wanted = next((c for c in specs if c["name"] == ref.get("containerName")), container)
    section, _, name = str(ref.get("resource", "")).partition(".")
    if section not in ("limits", "requests") or name not in ("cpu", "memory", "ephemeral-storage"):
        raise ConfigMissing(f"unsupported container resource : {ref.get('resource')}")
    resources = wanted.get("resources") or {}
    value = (resources.get(section) or {}).get(name)
    if value is None and section == "requests":
        value = (resources.get("limits") or {}).get(name, "0")
    if value is None:
        node = store.get("Node", ("", pod["spec"].get("nodeName", ""))) or {}
        value = ((node.get("status") or {}).get("allocatable") or {}).get(name, "0")
    (top, bottom), (by, per) = quantity(value), quantity(ref.get("divisor") or "1")
    return str(-(-top * per // (bottom * (by or per))))


def container_env(services: ServiceEnv, pod: Obj, container: Obj) -> Layers:
    """The environment of a container, in the order in which later entries win. ConfigMissing."""
    store, namespace = services.store, pod["metadata"].get("namespace", "default")
    links = services.of(namespace, pod["spec"].get("enableServiceLinks", True))
    sources = _env_from(store, namespace, container)
    own: dict[str, str] = {}
    for entry in container.get("env") or []:
        value = _env_value(store, pod, container, entry, Layers(links, sources, own))
        if value is not None:
            own[entry["name"]] = value
    return Layers(links, sources, own)


def _env_from(store: Store, namespace: str, container: Obj) -> dict[str, str]:
    """What envFrom names. ConfigMissing."""
    out: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                ref = source[field]
                for key, data in config_data(store, kind, namespace, ref["name"], bool(ref.get("optional"))).items():
                    out[source.get("prefix", "") + key] = data.decode(errors="replace")
    return out


def _env_value(store: Store, pod: Obj, container: Obj, entry: Obj, known: Mapping[str, str]) -> str | None:
    namespace, source = pod["metadata"].get("namespace", "default"), entry.get("valueFrom")
    if not source:
        return expand(str(entry.get("value", "")), known)
    if "fieldRef" in source:
        return field_ref(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_ref(store, pod, container, source["resourceFieldRef"])
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if field in source:
            ref = source[field]
            optional = bool(ref.get("optional"))
            data = config_data(store, kind, namespace, ref["name"], optional)
            if ref["key"] not in data:
                if optional:
                    return None
                raise ConfigMissing(f"couldn't find key {ref['key']} in {kind} {namespace}/{ref['name']}")
            return data[ref["key"]].decode(errors="replace")
    return ""


def expand(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) by its value, $$ by $; unknown references stay. Kubernetes: third_party/forked/golang/expansion."""

    def one(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return env.get(found[1], found[0])

    return _REFERENCE.sub(one, text)


def expand_all(text: str, env: Mapping[str, str]) -> str:
    """expand(), where every reference must have a value. ConfigMissing. Kubernetes: ExpandContainerVolumeMounts()."""
    for found in _REFERENCE.finditer(text):
        if found[1] and found[1] not in env:
            raise ConfigMissing(f'missing value for "{found[1]}"')
    return expand(text, env)


MAX_NAMESERVERS = 3


class DnsConfig(NamedTuple):
    """What resolv.conf is made of: the lists of words of its three kinds of line."""

    servers: list[str]
    searches: list[str]
    options: list[str]


def dns_config(pod: Obj, dns_ip: str, domain: str, node_conf: str) -> DnsConfig:
    """By the pod's dnsPolicy and dnsConfig, before anything is cut. Kubernetes: dns.go GetPodDNS(), appendDNSConfig()."""
    spec, namespace = pod["spec"], pod["metadata"].get("namespace", "default")
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "None":
        found = DnsConfig([], [], [])
    elif policy == "Default" or spec.get("hostNetwork") and policy == "ClusterFirst":
        found = _parsed(node_conf)
    else:
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *_parsed(node_conf).searches]
        found = DnsConfig([dns_ip], searches, ["ndots:5"])
    extra = spec.get("dnsConfig") or {}
    options = {option.partition(":")[0]: option for option in found.options}
    for o in extra.get("options") or []:
        options[o["name"]] = f"{o['name']}:{o['value']}" if o.get("value") else o["name"]
    return DnsConfig(list(dict.fromkeys([*found.servers, *(extra.get("nameservers") or [])])),
                     list(dict.fromkeys([*found.searches, *(extra.get("searches") or [])])), list(options.values()))


def _parsed(conf: str) -> DnsConfig:
    """The last search line, every nameserver and every option. Kubernetes: dns.go parseResolvConf()."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in conf.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word == "search":
            searches = rest
        elif word == "options":
            options = rest
    return DnsConfig(servers, searches, options)


def resolv_conf(config: DnsConfig) -> str:
    """/etc/resolv.conf as containerd writes it, with three nameservers at most. CRI: parseDNSOptions()."""
    lines = [f"search {' '.join(config.searches)}"] if config.searches else []
    lines += [f"nameserver {server}" for server in config.servers[:MAX_NAMESERVERS]]
    lines += [f"options {' '.join(config.options)}"] if config.options else []
    return "".join(line + "\n" for line in lines)


def node_hosts_file(pod: Obj, node_hosts: str) -> str:
    """/etc/hosts of a pod in the node's network: the node's own, and the pod's aliases. Kubernetes: nodeHostsFileContent()."""
    return "\n".join(["# Kubernetes-managed hosts file (host network).\n" + node_hosts.rstrip("\n"), *_aliases(pod)]) + "\n"


def _aliases(pod: Obj) -> list[str]:
    """Kubernetes: hostsEntriesFromHostAliases()."""
    aliases = pod["spec"].get("hostAliases") or []
    rows = [f"{a['ip']}\t" + "\t".join(a.get("hostnames") or []) for a in aliases]
    return ["\n# Entries added by HostAliases.", *rows] if rows else []


def hosts_file(pod: Obj, ip: str, domain: str = "cluster.local") -> str:
    """/etc/hosts of a pod."""
    head = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix", "fe00::1\tip6-allnodes", "fe00::2\tip6-allrouters"]
    spec = pod["spec"]
    name = spec.get("hostname") or pod["metadata"]["name"]
    if spec.get("subdomain"):
        namespace = pod["metadata"].get("namespace", "default")
        head.append(f"{ip}\t{name}.{spec['subdomain']}.{namespace}.svc.{domain}\t{name}")
    else:
        head.append(f"{ip}\t{name}")
    return "\n".join([*head, *_aliases(pod)]) + "\n"
