"""YAML and JSON texts into manifests: plain data that remembers on which line each field stands.

YAML is read as Kubernetes reads it (sigs.k8s.io/yaml): keys become strings, `yes` is true, dates and 22:22 stay text,
duplicate keys are errors, anchors and merge keys work, 010 is eight. The document is composed to nodes, which have
marks, and built here; nothing is ever constructed from a tag. Documents that expand without end ("billion laughs") are
refused. Only ManifestError leaves this module, whatever the bytes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from kubenet.errors import ManifestError, NotFoundError

Obj = dict[str, Any]

MAX_NODES = 200_000
MAX_DEPTH = 100
EXTENSIONS = (".yaml", ".yml", ".json")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


class Manifest:
    """One document: the object, its file, and the line of every field by its path ("spec.ports[0].port")."""

    __slots__ = ("obj", "file", "lines", "source", "start")

    def __init__(self, obj: Obj, file: str, lines: dict[str, int], source: list[str], start: int) -> None:
        self.obj = obj
        self.file = file
        self.lines = lines
        self.source = source
        self.start = start

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind", ""))

    @property
    def name(self) -> str:
        meta = self.obj.get("metadata")
        return str(meta.get("name", "")) if isinstance(meta, dict) else ""

    @property
    def label(self) -> str:
        """Service "web"."""
        return f'{self.kind or "object"} "{self.name}"' if self.name else self.kind or "object"

    def line(self, path: str) -> int:
        """The line of a field, or of the nearest field around it that is written down."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.start

    def error(self, what: str, path: str = "", why: str = "", try_: str = "") -> ManifestError:
        """A ManifestError at a field, with the line quoted."""
        line = self.line(path)
        return _error(what, self.file, line, path, why, try_, self.source)


def _error(
    what: str, file: str, line: int, field: str, why: str, try_: str, source: list[str] | None = None
) -> ManifestError:
    at = ""
    if file and line:
        at = f"{file}:{line}"
        if source and 0 < line <= len(source) and source[line - 1].strip():
            at += f"\n{line} | {source[line - 1].rstrip()[:100]}"
    return ManifestError(what, file=file, line=line, field=field, why=why, try_=try_, at=at)


# -- files ------------------------------------------------------------------------------------------------------------


def load_paths(paths: list[str], recursive: bool = False) -> list[Manifest]:
    """The manifests of files, directories (their .yaml, .yml, .json files in order of name) and "-" (stdin)."""
    out: list[Manifest] = []
    for path in paths:
        if path == "-":
            out += load_text(sys.stdin.buffer.read(), "<stdin>")
            continue
        for file in _files(path, recursive):
            try:
                with open(file, "rb") as stream:
                    data = stream.read()
            except OSError as error:
                raise ManifestError(f"cannot read {file}: {error.strerror}", file=file) from None
            out += load_text(data, file)
    return out


def _files(path: str, recursive: bool) -> Iterator[str]:
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise NotFoundError(f'the path "{path}" does not exist', at=path)
        yield path
        return
    found = False
    for folder, subfolders, names in os.walk(path):
        subfolders.sort()
        for name in sorted(names):
            if name.endswith(EXTENSIONS):
                found = True
                yield os.path.join(folder, name)
        if not recursive:
            break
    if not found:
        hint = "" if recursive else "kubenet apply -R -f " + path
        raise ManifestError(f'no manifests in "{path}"', file=path, why=f"none of its files ends in {', '.join(EXTENSIONS)}",
                            try_=hint)


def load_text(text: str | bytes, file: str = "<text>") -> list[Manifest]:
    """The manifests of one text; empty documents are passed over. ManifestError."""
    if isinstance(text, bytes):
        data = text
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise ManifestError(f"{file} is not UTF-8 text", file=file, line=line, why=str(error.reason)) from None
    source = text.split("\n")
    out: list[Manifest] = []
    try:
        for node in yaml.compose_all(text, Loader=_LOADER):
            if node is not None:
                out += _document(node, file, source)
    except yaml.MarkedYAMLError as error:
        as_json = _json_document(text, file)
        if as_json is not None:
            return as_json
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _error(f"{file} is not valid YAML: {error.problem or error.context or 'syntax error'}", file, line, "",
                     error.context or "", "", source) from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        first = (str(error).splitlines() or ["nested too deeply"])[0]
        raise ManifestError(f"{file} is not valid YAML: {first}", file=file) from None
    return out


def _json_document(text: str, file: str) -> list[Manifest] | None:
    """JSON that YAML does not take (tabs); without line numbers."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        obj = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return list(_split(Manifest(obj, file, {}, [], 1))) if isinstance(obj, dict) else None


def _document(node: Any, file: str, source: list[str]) -> list[Manifest]:
    builder = _Builder(file, source)
    value = builder.build(node, "", 0)
    start = node.start_mark.line + 1
    if value is None:
        return []
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "plain text" if isinstance(value, str) else "a single value"
        raise _error(f"{file} holds {what}, not an object", file, start, "", "a manifest starts with apiVersion and kind", "",
                     source)
    return list(_split(Manifest(value, file, builder.lines, source, start)))


def _split(manifest: Manifest) -> Iterator[Manifest]:
    """The manifest itself, or, for a List, each of its items."""
    items = manifest.obj.get("items")
    if not manifest.kind.endswith("List") or not isinstance(items, list):
        yield manifest
        return
    for at, item in enumerate(items):
        prefix = f"items[{at}]"
        if not isinstance(item, dict):
            raise manifest.error(f"{prefix} of the List is not an object", prefix)
        lines = {p[len(prefix) + 1:]: line for p, line in manifest.lines.items() if p.startswith(prefix + ".")}
        yield Manifest(item, manifest.file, lines, manifest.source, manifest.line(prefix))


class _Builder:
    """Turns YAML nodes into plain data and notes the line of every field."""

    def __init__(self, file: str, source: list[str]) -> None:
        self.file = file
        self.source = source
        self.lines: dict[str, int] = {}
        self._count = 0
        self._open: list[Any] = []                       # nodes being built: an alias to one of them has no end

    def build(self, node: Any, path: str, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_NODES or depth > MAX_DEPTH or any(n is node for n in self._open):
            raise self._fail(node, "the document expands without end" if depth <= MAX_DEPTH else "nested too deeply")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.append(node)
        if isinstance(node, yaml.SequenceNode):
            out: Any = [self._item(child, f"{path}[{i}]", depth) for i, child in enumerate(node.value)]
        else:
            out = self._mapping(node, path, depth)
        self._open.pop()
        return out

    def _item(self, node: Any, path: str, depth: int) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path, depth + 1)

    def _mapping(self, node: Any, path: str, depth: int) -> Obj:
        out: Obj = {}
        merged: Obj = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._fail(key_node, "a key must be plain text")
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = {**self._merge(value_node, path, depth), **merged}
                continue
            key = self._key(key_node)
            here = f"{path}.{key}" if path else key
            if key in out:
                first = self.lines.get(here, 0)
                raise _error(f'key "{key}" is given twice', self.file, key_node.start_mark.line + 1, here,
                             f"the first one is on line {first}" if first else "", "", self.source)
            self.lines[here] = key_node.start_mark.line + 1
            out[key] = self.build(value_node, here, depth + 1)
        return {**merged, **out} if merged else out

    def _merge(self, node: Any, path: str, depth: int) -> Obj:
        """The value of `<<`: a mapping, or a list of them, the first winning."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        out: Obj = {}
        for part in parts:
            value = self.build(part, path, depth + 1)
            if not isinstance(value, dict):
                raise self._fail(part, "<< needs a mapping to merge")
            out = {**value, **out}
        return out

    def _key(self, node: Any) -> str:
        value = self._scalar(node)
        if isinstance(value, bool):
            return "true" if value else "false"
        return "null" if value is None else str(value)

    def _scalar(self, node: Any) -> Any:
        text: str = node.value
        tag = node.tag.rpartition(":")[2]
        if tag in ("str", "timestamp"):
            if tag == "str" and not node.style and _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit():
                return self._float(node, text)          # 1e3: Go reads a number where PyYAML reads text
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() in _TRUE
        if tag == "int":
            return text if ":" in text else self._int(node, text)
        if tag == "float":
            return text if ":" in text else self._float(node, text)
        if tag == "binary":
            return "".join(text.split())
        raise self._fail(node, f"the tag {node.tag} means nothing in a manifest")

    def _int(self, node: Any, text: str) -> Any:
        plain = text.replace("_", "")
        sign = -1 if plain.startswith("-") else 1
        digits = plain.lstrip("+-")
        try:
            if digits[:2] in ("0x", "0b"):
                return sign * int(digits, 0)
            return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)
        except ValueError:
            raise self._fail(node, f"{text} is not a number") from None

    def _float(self, node: Any, text: str) -> Any:
        try:
            value = float(text.replace("_", ""))
        except ValueError:
            raise self._fail(node, f"{text} cannot be written in JSON") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise self._fail(node, f"{text} cannot be written in JSON")
        return int(value) if value.is_integer() and abs(value) < 1 << 53 and "." not in text else value

    def _fail(self, node: Any, what: str) -> ManifestError:
        return _error(what, self.file, node.start_mark.line + 1, "", "", "", self.source)
