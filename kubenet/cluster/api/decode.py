"""Manifests: YAML and JSON files into objects that remember on which line each field stands.

    load_paths(["web.yaml", "dir/", "-"], recursive)   list[Manifest], one per document; List objects are taken apart
    load_text(text, "web.yaml")                        the same of one text
    check(manifest)                                    ManifestError for what the schema and the validation refuse
    explain(manifest, api_error)                       the API's refusal with file, line, why and what to try
    lint(manifests, others)                            a legal mistake to refuse: a targetPort no selected pod has
    remarks(manifests, others)                         legal and perhaps meant: a Service that selects no pod

Only ManifestError leaves this module and yamldoc.py, whatever the bytes (NotFoundError: no such path). YAML is read as Kubernetes reads it
(sigs.k8s.io/yaml): keys become strings, `yes` is true, dates and 22:22 stay text, duplicate keys are errors, anchors
and merge keys work. Documents that expand without end ("billion laughs") are refused.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from kubenet.cluster.api import schema, selectors
from kubenet.cluster.api.defaults import apply_defaults
from kubenet.cluster.api.kinds import KINDS, by_gvk
from kubenet.cluster.api.schema import Issues, Node
from kubenet.cluster.api.status import ApiError
from kubenet.cluster.api.validate import validate
from kubenet.cluster.api.yamldoc import Manifest, load_paths, load_text
from kubenet.errors import ManifestError

__all__ = ["Manifest", "check", "explain", "lint", "load_paths", "load_text", "remarks"]

Obj = dict[str, Any]


# -- checking ---------------------------------------------------------------------------------------------------------


def check(manifest: Manifest) -> None:
    """ManifestError, with the line, for whatever the API server would refuse that can be seen without a cluster."""
    node = _node_of(manifest)
    issues = Issues()
    obj = schema.clean(node, manifest.obj, issues)
    if issues.unknown:
        raise _unknown_field(manifest, node, issues.unknown[0])
    if issues.types:
        raise _wrong_type(manifest, node, issues.types[0][0])
    info = KINDS[manifest.kind]
    meta = obj.setdefault("metadata", {})
    if not meta.get("name") and not meta.get("generateName"):
        raise manifest.error(f"{manifest.kind} has no name", "metadata", "every object has metadata.name",
                             "metadata:\n  name: " + manifest.kind.lower())
    if info.kind == "Topology":
        return
    try:
        apply_defaults(obj)
        errors = validate(info, obj, None, issues.missing)
    except (TypeError, KeyError, AttributeError, ValueError) as error:      # a shape the schema lets through: say so
        raise manifest.error(f"{manifest.label} cannot be read: {error!r}") from None
    if errors:
        _, field, message = errors.found[0]
        raise _refused(manifest, field, message, len(errors.found) - 1)


def check_types(manifest: Manifest) -> None:
    """ManifestError, with the line, for a value of a wrong type; unknown fields and bad values are not looked at."""
    issues = Issues()
    schema.clean(_node_of(manifest), manifest.obj, issues)
    if issues.types:
        raise _wrong_type(manifest, _node_of(manifest), issues.types[0][0])


def _node_of(manifest: Manifest) -> Node:
    """The schema of the manifest's kind. ManifestError with a suggestion if there is none."""
    obj = manifest.obj
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        raise manifest.error("the document has no kind", "kind", "a manifest starts with apiVersion and kind")
    info = KINDS.get(kind)
    if info is None:
        near = difflib.get_close_matches(kind, list(KINDS), 1, 0.6) or [
            k for k in KINDS if k.lower() == kind.lower()]
        raise manifest.error(f'kind "{kind}" is not known here', "kind",
                             f"kubenet serves: {', '.join(k for k in KINDS)}",
                             f"kind: {near[0]}" if near else "")
    if by_gvk(str(version), kind) is None:
        what = f'{kind} has no apiVersion "{version}"' if version else f"{kind} needs an apiVersion"
        raise manifest.error(what, "apiVersion" if version else "kind", f"{kind} is in {info.api_version}",
                             f"apiVersion: {info.api_version}")
    if not isinstance(obj.get("metadata", {}), dict):
        raise manifest.error("metadata is not a mapping", "metadata")
    return schema.schema_of(kind)


def _steps(path: str) -> list[str]:
    return re.sub(r"\[\d+\]", "", path).split(".")


def _unknown_field(manifest: Manifest, node: Node, path: str) -> ManifestError:
    parent, _, name = path.rpartition(".")
    around = schema.node_at(node, _steps(parent)) if parent else node
    while around is not None and around.kind == schema.LIST:
        around = around.item
    known = list(around.fields) if around is not None and around.kind == schema.OBJECT else []
    same = [k for k in known if k.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, known, 1, 0.6)
    place = parent or "the top level"
    if near:
        why = f"{place} has a field {near[0]}" + (" (capitals count)" if same else "")
        return manifest.error(f'{manifest.label}: unknown field "{path}"', path, why, f"did you mean {near[0]}?")
    elsewhere = _where(node, name)
    why = f"the fields of {place} are: {', '.join(sorted(known))}" if known else ""
    try_ = f"{name} belongs in {elsewhere}" if elsewhere else ""
    return manifest.error(f'{manifest.label}: unknown field "{path}"', path, why, try_)


def _where(node: Node, name: str) -> str:
    """The shortest path of a field with this name below the kind, outside status; "" if there is none."""
    level: list[tuple[str, Node]] = [("", node)]
    seen: dict[str, None] = {}
    for _ in range(8):
        below: list[tuple[str, Node]] = []
        for path, here in level:
            suffix = ""
            while here.kind == schema.LIST and here.item is not None:
                here, suffix = here.item, suffix + "[]"
            if here.kind != schema.OBJECT or here.struct in seen:
                continue
            if here.struct:
                seen[here.struct] = None
            for field, sub in here.fields.items():
                full = f"{path}{suffix}.{field}" if path else field
                if field == name and path:
                    return full
                if full != "status":
                    below.append((full, sub))
        level = below
    return ""


_WORDS = {schema.STRING: "text", schema.INT: "a whole number", schema.NUMBER: "a number", schema.BOOL: "true or false",
          schema.OBJECT: "a mapping (key: value)", schema.MAP: "a mapping (key: value)", schema.LIST: "a list (- item)",
          schema.INT_OR_STRING: "a number or a name", schema.QUANTITY: "a quantity (100m, 1Gi)", schema.TIME: "a time"}


def _wrong_type(manifest: Manifest, node: Node, path: str) -> ManifestError:
    value: Any = manifest.obj
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            break
    wanted = schema.node_at(node, _steps(path))
    last = re.sub(r"\[\d+\]$", "", path)
    if wanted is not None and path.endswith("]") and wanted.kind == schema.LIST:
        wanted = wanted.item
    word = _WORDS.get(wanted.kind, "something else") if wanted is not None else "something else"
    try_ = ""
    if wanted is not None and wanted.kind == schema.STRING and isinstance(value, (int, float, bool)):
        shown = ("true" if value else "false") if isinstance(value, bool) else str(value)
        try_ = f'{last.rpartition(".")[2]}: "{shown}"'
    elif wanted is not None and wanted.kind == schema.INT and isinstance(value, str) and value.strip().isdigit():
        try_ = f"{last.rpartition('.')[2]}: {value.strip()}"
    have = json.dumps(value, ensure_ascii=False, default=str)
    return manifest.error(f"{manifest.label}: {path} must be {word}, not {have[:60]}", path, try_=try_)


def _refused(manifest: Manifest, field: str, message: str, more: int) -> ManifestError:
    rest = f" ({more} more)" if more else ""
    line_of = field if not field.startswith("spec.clusterIPs") else "spec.clusterIP"
    return manifest.error(f"{manifest.label} is invalid: {field}: {message}{rest}", line_of)


def explain(manifest: Manifest, error: ApiError) -> ManifestError:
    """The API's refusal as a manifest error: the line of the first cause, or of the document."""
    causes = error.causes
    if error.reason == "Invalid" and causes:
        return _refused(manifest, causes[0].get("field", ""), causes[0].get("message", ""), len(causes) - 1)
    if error.reason == "NotFound" and (error.details or {}).get("kind") == "namespaces":
        name = (error.details or {}).get("name", "")
        return manifest.error(f"{manifest.label} not applied: {error.message}", "metadata.namespace",
                              try_=f"kubenet create namespace {name}")
    return manifest.error(f"{manifest.label} not applied: {error.message}")


# -- lint -------------------------------------------------------------------------------------------------------------


def lint(manifests: list[Manifest], others: list[Obj]) -> list[ManifestError]:
    """Services whose named targetPort none of the pods they select has: they would have no endpoints, silently.

    `others` are objects that exist already (pods and workloads).
    """
    pods = _pods(manifests, others)
    out: list[ManifestError] = []
    for manifest, spec, text in _selecting(manifests):
        chosen = _chosen(manifest, spec, pods)
        if chosen:
            out += _port_lint(manifest, spec, chosen, text)
    return out


def remarks(manifests: list[Manifest], others: list[Obj]) -> list[ManifestError]:
    """Services that select no pod at all, with the labels there are. Worth a word, not a refusal: the pods may come later."""
    pods = _pods(manifests, others)
    out: list[ManifestError] = []
    for manifest, spec, text in _selecting(manifests):
        if not _chosen(manifest, spec, pods):
            namespace = _namespace(manifest.obj)
            seen = list(dict.fromkeys(f"{k}={v}" for ns, labels, _ in pods if ns == namespace for k, v in labels.items()))
            out.append(manifest.error(f"{manifest.label} selects no pod: none has {text}", "spec.selector",
                                      f"labels seen: {', '.join(seen[:8]) or 'none'}"))
    return out


def _selecting(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Obj, str]]:
    """The Services with a selector: (manifest, spec, selector as text)."""
    for manifest in manifests:
        spec = manifest.obj.get("spec")
        if manifest.kind == "Service" and isinstance(spec, dict) and isinstance(spec.get("selector"), dict) and spec["selector"]:
            yield manifest, spec, ",".join(f"{k}={v}" for k, v in spec["selector"].items())


def _pods(manifests: list[Manifest], others: list[Obj]) -> list[tuple[str, Obj, list[Obj]]]:
    return [p for obj in [*others, *(m.obj for m in manifests)] if (p := _pod_of(obj)) is not None]


def _chosen(manifest: Manifest, spec: Obj, pods: list[tuple[str, Obj, list[Obj]]]) -> list[tuple[str, Obj, list[Obj]]]:
    wanted: list[selectors.Requirement] = [(k, "=", (str(v),)) for k, v in spec["selector"].items()]
    namespace = _namespace(manifest.obj)
    return [p for p in pods if p[0] == namespace and selectors.matches(wanted, p[1])]


def _port_lint(manifest: Manifest, spec: Obj, chosen: list[tuple[str, Obj, list[Obj]]], text: str) -> list[ManifestError]:
    out = []
    ports = [p for _, _, found in chosen for p in found]
    for at, port in enumerate(spec.get("ports") or ()):
        target = port.get("targetPort") if isinstance(port, dict) else None
        if not isinstance(target, str) or any(p.get("name") == target for p in ports):
            continue
        named = list(dict.fromkeys(f"{p['name']} ({p.get('containerPort')})" for p in ports if p.get("name")))
        first = next((p for p in ports if p.get("name")), None)
        out.append(manifest.error(
            f"{manifest.label}: spec.ports[{at}].targetPort is \"{target}\", and no container port of the selected pods has "
            "that name", f"spec.ports[{at}].targetPort",
            f"pods with {text} name their ports: {', '.join(named) or 'none'}",
            f"targetPort: {first['name']}      (or the number {first.get('containerPort')})" if first else ""))
    return out


def _namespace(obj: Obj) -> str:
    meta = obj.get("metadata")
    return str(meta.get("namespace") or "default") if isinstance(meta, dict) else "default"


def _pod_of(obj: Obj) -> tuple[str, Obj, list[Obj]] | None:
    """(namespace, labels, container ports) of a pod or of a workload's template."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return None
    source: Any = obj if obj.get("kind") == "Pod" else spec.get("template")
    if not isinstance(source, dict) or not isinstance(source.get("spec"), dict):
        return None
    labels = (source.get("metadata") or {}).get("labels") or {}
    containers = source["spec"].get("containers") or []
    ports = [p for c in containers if isinstance(c, dict) for p in c.get("ports") or () if isinstance(p, dict)]
    return (_namespace(obj), labels, ports) if isinstance(labels, dict) else None
