"""Volumes of pods: ConfigMaps, Secrets, the pod's own fields and empty directories, as trees of files that containers mount.

    volumes = PodVolumes()
    volumes.sync(store, pod, now)             -> [(volume, why it cannot be set up), ...]; the same call brings them up to date later
    volumes.mounts(container, env)            -> {mount path: node}, as the runtime mounts them

What is not there holds up the whole pod (FailedMount, the kubelet tries again), unless it is optional. A volume is replaced in one
step, through its ..data link, when its content has changed; what a container mounted by subPath stays as it was.

Leaves out: the owner of files (containers run as root), medium and size of an emptyDir, tokens of service accounts (warned about).
Sources: Kubernetes volume/{configmap,secret,downwardapi,projected}, volume/util/atomic_writer.go, kubelet_pods.go makeMounts().
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubenet.cluster.pod_env import ConfigMissing, config_data, expand_all, field_ref, resource_ref
from kubenet.cluster.store import Store
from kubenet.sim.rng import hash64, keyed
from kubenet.units import SEC
from kubenet.userland.vfs import Dir, Node, ReadOnlyDir, RegFile, Vfs, update_volume, volume

Obj = dict[str, Any]
Payload = dict[str, tuple[bytes, int]]  # path -> content, mode

PLAIN_MODE = 0o644
SOURCES = (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"))


class PodVolumes:
    """The volumes of one pod on its node."""

    __slots__ = ("nodes", "payloads", "versions", "seen")

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.payloads: dict[str, Payload] = {}
        self.versions = 0
        self.seen: tuple[Any, Any] = (None, None)  # labels and annotations of the pod at the last sync()

    def sync(self, store: Store, pod: Obj, now: int) -> list[tuple[str, str]]:
        """Every volume that a container mounts has the content it should have now; else (name, message) of those that cannot."""
        failed = []
        self.seen = labels_of(pod)
        wanted = mounted(pod)
        for spec in pod["spec"].get("volumes") or []:
            name = spec["name"]
            if name not in wanted:
                continue
            try:
                content = payload(store, pod, spec)
            except ConfigMissing as missing:
                failed.append((name, str(missing)))
                continue
            if content is None:
                self.nodes.setdefault(name, Dir(perm=0o777))
            elif name not in self.nodes or self.payloads[name] != content:
                self._write(store, pod, name, content, now)
        return failed

    def _write(self, store: Store, pod: Obj, name: str, content: Payload, now: int) -> None:
        """AtomicWriter.Write(): a new directory named by time and chance, then the link to it."""
        when = store.epoch_s * SEC + now
        files: dict[str, RegFile] = {}
        for path, (data, mode) in content.items():
            files[path] = RegFile(data, mode)
            files[path].mtime = when
        self.versions += 1
        stamp = _stamp(when, hash64(keyed(store.seed, "volume", pod["metadata"]["uid"], name), self.versions) >> 32)
        old = self.nodes.get(name)
        if isinstance(old, Dir):
            update_volume(old, files, stamp, when)
        else:
            self.nodes[name] = volume(files, stamp=stamp, mtime=when)
        self.payloads[name] = content

    def mounts(self, container: Obj, env: Mapping[str, str]) -> dict[str, Node]:
        """Mount path -> node, outer paths first, as containerd orders them. Raises ConfigMissing for a subPathExpr without a value."""
        out: dict[str, Node] = {}
        for mount in sorted(container.get("volumeMounts") or [], key=lambda m: len(m["mountPath"].strip("/").split("/"))):
            node = self.nodes.get(mount["name"], None) or Dir()
            sub = mount.get("subPath") or expand_all(mount.get("subPathExpr", ""), env)
            if sub and isinstance(node, Dir):
                node = _below(node, sub)
            if mount.get("readOnly") and isinstance(node, Dir) and not node.readonly:
                node = ReadOnlyDir(node)
            out[mount["mountPath"]] = node
        return out


def labels_of(pod: Obj) -> tuple[Any, Any]:
    """What of a pod's metadata may change and shows in volumes."""
    return pod["metadata"].get("labels"), pod["metadata"].get("annotations")


def mounted(pod: Obj) -> dict[str, None]:
    """Names of the volumes that a container mounts; others are not set up. Kubernetes: util.GetPodVolumeNames()."""
    spec = pod["spec"]
    return {m["name"]: None for c in [*(spec.get("initContainers") or []), *spec["containers"]] for m in c.get("volumeMounts") or []}


def config_objects(pod: Obj) -> Iterator[tuple[str, str]]:
    """(kind, name) of the ConfigMaps and Secrets that the pod's volumes show."""
    for spec in pod["spec"].get("volumes") or []:
        for source in [spec, *((spec.get("projected") or {}).get("sources") or [])]:
            for field, kind, key in SOURCES:
                if field in source:
                    yield kind, str(source[field].get(key) or source[field].get("name", ""))


def _below(node: Dir, path: str) -> Node:
    """subPath: the file or directory itself, links followed; what is missing becomes a directory. Kubernetes: makeMounts()."""
    vfs = Vfs(node)
    if vfs.exists(path):
        return vfs.lookup(path)
    at = node
    for part in path.strip("/").split("/"):
        child = at.get(part)
        if not isinstance(child, Dir):
            child = Dir()
            at.put(part, child)
        at = child
    return at


def _stamp(ns: int, chance: int) -> str:
    """2026_01_01_00_00_02.1234567890: os.MkdirTemp() of the time and a dot."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ns // SEC, UTC):%Y_%m_%d_%H_%M_%S}.{chance}"


# ---- content


def payload(store: Store, pod: Obj, spec: Obj) -> Payload | None:
    """The files of a volume; None for an empty directory, and for kinds that are warned about when the pod is applied."""
    mode = next((int(spec[field].get("defaultMode", PLAIN_MODE)) for field in ("configMap", "secret", "downwardAPI", "projected")
                 if field in spec), PLAIN_MODE)
    if "projected" in spec:
        out: Payload = {}
        for source in spec["projected"].get("sources") or []:
            out.update(_source(store, pod, source, mode) or {})
        return out
    return _source(store, pod, spec, mode)


def _source(store: Store, pod: Obj, source: Obj, mode: int) -> Payload | None:
    namespace = pod["metadata"].get("namespace", "default")
    for field, kind, key in SOURCES:
        if field in source:
            named = source[field]
            optional = bool(named.get("optional"))
            data = config_data(store, kind, namespace, str(named.get(key) or named.get("name", "")), optional)
            return _items(named.get("items") or [], data, mode, kind, optional)
    if "downwardAPI" in source:
        return {item["path"]: (_downward(store, pod, item).encode(), int(item.get("mode", mode)))
                for item in source["downwardAPI"].get("items") or []}
    return None


def _items(items: list[Obj], data: dict[str, bytes], mode: int, kind: str, optional: bool) -> Payload:
    """All keys, or those that `items` picks, under the paths and modes it gives. Kubernetes: MakePayload() of configmap.go, secret.go."""
    if not items:
        return {key: (content, mode) for key, content in data.items()}
    out: Payload = {}
    for item in items:
        if item["key"] in data:
            out[item["path"]] = data[item["key"]], int(item.get("mode", mode))
        elif not optional:
            raise ConfigMissing(f"configmap references non-existent config key: {item['key']}" if kind == "ConfigMap"
                                else f"references non-existent secret key: {item['key']}")
    return out


def _downward(store: Store, pod: Obj, item: Obj) -> str:
    if "fieldRef" in item:
        return field_ref(pod, item["fieldRef"]["fieldPath"])
    ref = item.get("resourceFieldRef") or {}
    return resource_ref(store, pod, {}, ref)
