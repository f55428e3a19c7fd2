"""`kubenet get`: lists and objects, printed as kubectl prints them.

The server renders the table's cells; here they are chosen (wide columns), labelled (-A, --show-labels, several kinds) and
aligned. Other formats take the plain objects.
"""

from __future__ import annotations

from typing import Any

import click

from kubenet.cli.command import Cmd, State, namespace_option, state_of
from kubenet.cli.completion import complete_kinds_and_names
from kubenet.cli.kube import Kube, kinds
from kubenet.cli.render import table as aligned
from kubenet.cluster.api.kinds import KindInfo
from kubenet.errors import UsageError

Obj = dict[str, Any]
Wanted = list[tuple[KindInfo, str]]  # kind and name; name "" means all of the kind


class Options:
    """How to print."""

    def __init__(self, output: str, namespace: str, labels: str, fields: str, sort_by: str, no_headers: bool, show_labels: bool,
                 columns: str) -> None:
        self.format, equals, self.argument = output.partition("=")
        self.namespace = namespace
        self.labels = labels
        self.fields = fields
        self.sort_by = sort_by.strip()
        self.no_headers = no_headers
        self.show_labels = show_labels
        self.label_columns = [c for c in columns.split(",") if c]
        if self.format not in FORMATS or bool(equals) != (self.format in ("jsonpath", "custom-columns")):
            raise UsageError(f"no output format {output!r}", why=f"formats: {', '.join(FORMATS)} (the last two with =EXPR)",
                             try_="kubenet get pods -o wide")

    @property
    def is_table(self) -> bool:
        return self.format in ("table", "wide")

    @property
    def include(self) -> str:
        return "Object" if self.sort_by else ""


FORMATS = ("table", "wide", "json", "yaml", "name", "jsonpath", "custom-columns")


@click.command(
    "get", cls=Cmd,
    usage=["get KIND[,KIND] [NAME...] [-n NS | -A] [-o FORMAT] [--watch]", "get KIND/NAME ..."],
    examples=[("kubenet get pods", "those of namespace default"), ("kubenet get po,svc -A", "of all namespaces"),
              ("kubenet get svc web -o yaml", "one, in full"),
              ("kubenet get pods -l app=web -o wide", "with addresses and nodes"),
              ("kubenet get pods --sort-by .metadata.name", ""), ("kubenet get pods --watch", "changes, until Ctrl-C"),
              ("kubenet get pods -o jsonpath='{.items[*].status.podIP}'", "")],
    exits="0 found, 3 not found, 2 wrong usage",
)
@click.argument("words", nargs=-1, required=True, metavar="KIND [NAME...]", shell_complete=complete_kinds_and_names)
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="all namespaces")
@click.option("-o", "--output", default="table", metavar="FORMAT",
              help="table, wide, json, yaml, name, jsonpath=EXPR, custom-columns=HEAD:PATH,...")
@click.option("-w", "--watch", is_flag=True, help="print changes until Ctrl-C; virtual time runs along")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="labels: app=web, 'tier in (a,b)', !old")
@click.option("--field-selector", default="", metavar="SELECTOR", help="fields: status.phase=Running")
@click.option("--sort-by", default="", metavar="PATH", help="sort by a field: .metadata.name")
@click.option("--no-headers", is_flag=True, help="rows only")
@click.option("--show-labels", is_flag=True, help="a column with all labels")
@click.option("-L", "--label-columns", default="", metavar="KEYS", help="a column for each of these labels")
@click.pass_context
def get(ctx: click.Context, words: tuple[str, ...], namespace: str, all_namespaces: bool, output: str, watch: bool, selector: str,
        field_selector: str, sort_by: str, no_headers: bool, show_labels: bool, label_columns: str) -> int:
    """List things. Kinds, with short names:
      pods po           services svc      endpointslices eps   endpoints ep
      nodes no          deployments deploy  replicasets rs     statefulsets sts
      daemonsets ds     jobs              configmaps cm        secrets
      namespaces ns     events ev         networkpolicies netpol   ingresses ing
      all               pods, services and workloads
    """
    options = Options(output, "" if all_namespaces else namespace, selector, field_selector, sort_by, no_headers, show_labels,
                      label_columns)
    wanted = parse_words(words)
    if any(name for _, name in wanted) and (all_namespaces or selector):
        raise UsageError("a name together with -A or -l makes no sense", try_="kubenet get pod web-0 -n default")
    state = state_of(ctx)
    with state.client() as client:
        kube = Kube(client, state.talk)
        if watch:
            from kubenet.cli.get_watch import follow

            return follow(kube, wanted, options, state)
        if options.is_table:
            return _tables(kube, wanted, options, state)
        return _objects(kube, wanted, options)


def parse_words(words: tuple[str, ...]) -> Wanted:
    """`pods`, `po,svc`, `pod web-0 web-1` or `pod/web-0 svc/web`. Raises UsageError."""
    if any("/" in word for word in words):
        out: Wanted = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash or not name:
                raise UsageError(f"{word!r} is not KIND/NAME, as the others are", try_="kubenet get pod/web-0 svc/web")
            out += [(info, name) for info in kinds(kind)]
        return out
    named = words[1:] or ("",)
    return [(info, name) for info in kinds(words[0]) for name in named]


# -- tables -----------------------------------------------------------------------------------------------------------------


def _tables(kube: Kube, wanted: Wanted, options: Options, state: State) -> int:
    """One block for each kind; 3 if a name was not found."""
    infos = list(dict.fromkeys(info for info, _ in wanted))
    blocks: list[str] = []
    error: Exception | None = None
    for info in infos:
        names = [name for i, name in wanted if i is info]
        try:
            tables = [_fetch(kube, info, name, options) for name in names]
        except Exception as failed:
            if len(infos) == 1:
                raise
            error = error or failed
            continue
        if any(t["rows"] for t in tables):
            blocks.append(block(tables, info, options, prefix=len(infos) > 1))
    click.echo("\n".join(blocks), nl=False)
    if error is not None:
        raise error
    if not blocks:
        place = f" in {options.namespace} namespace" if options.namespace and any(i.namespaced for i in infos) else ""
        state.talk(f"No resources found{place}.")
    return 0


def _fetch(kube: Kube, info: KindInfo, name: str, options: Options) -> Obj:
    if name:
        return kube.get(info, options.namespace, name, table=True, include=options.include)
    return kube.list(info, options.namespace, table=True, labels=options.labels, fields=options.fields, include=options.include)


def block(tables: list[Obj], info: KindInfo, options: Options, prefix: bool) -> str:
    """Some Tables of one kind as text, with a heading."""
    columns = tables[0]["columnDefinitions"]
    rows = [row for t in tables for row in t["rows"]]
    if options.sort_by:
        rows = sorted(rows, key=lambda row: _sort_key(row["object"], options.sort_by))
    lines = [heading(columns, info, options)] if not options.no_headers else []
    return aligned(lines + [cells(row, columns, info, options, prefix) for row in rows])


def heading(columns: list[Obj], info: KindInfo, options: Options) -> list[str]:
    """The heading's cells."""
    names = [c["name"].upper() for c in columns if options.format == "wide" or not c.get("priority")]
    if not options.namespace and info.namespaced:
        names.insert(0, "NAMESPACE")
    names += [key.rpartition("/")[2].upper() for key in options.label_columns]
    return names + (["LABELS"] if options.show_labels else [])


def cells(row: Obj, columns: list[Obj], info: KindInfo, options: Options, prefix: bool) -> list[Any]:
    """A row's cells, with what this client adds."""
    out = [cell for cell, c in zip(row["cells"], columns, strict=False) if options.format == "wide" or not c.get("priority")]
    meta = (row.get("object") or {}).get("metadata") or {}
    if prefix:
        at = next((i for i, c in enumerate(columns) if c["name"] == "Name"), 0)
        if at < len(out):
            out[at] = full_name(info, str(out[at]))
    if not options.namespace and info.namespaced:
        out.insert(0, meta.get("namespace", ""))
    labels = meta.get("labels") or {}
    out += [labels.get(key, "") for key in options.label_columns]
    if options.show_labels:
        out.append(",".join(f"{k}={v}" for k, v in sorted(labels.items())) or "<none>")
    return out


def full_name(info: KindInfo, name: str) -> str:
    """`pod/web-0`, `deployment.apps/web`."""
    return f"{info.singular}{'.' + info.group if info.group else ''}/{name}"


def _sort_key(obj: Obj, path: str) -> tuple[int, Any]:
    """Numbers before texts, what is missing first."""
    from kubenet.query.jsonpath import evaluate

    found = evaluate("{" + path + "}" if not path.startswith("{") else path, obj)
    if not found:
        return (0, "")
    value = found[0]
    return (1, value) if isinstance(value, (int, float)) else (2, str(value))


# -- objects ----------------------------------------------------------------------------------------------------------------


def _objects(kube: Kube, wanted: Wanted, options: Options) -> int:
    """The objects in a format for programs: one as itself, several as a List."""
    items: list[Obj] = []
    for info, name in wanted:
        if name:
            items.append(kube.get(info, options.namespace, name))
        else:
            found = kube.list(info, options.namespace, labels=options.labels, fields=options.fields)["items"]
            items += [{"apiVersion": info.api_version, "kind": info.kind, **item} for item in found]
    if options.sort_by:
        items.sort(key=lambda item: _sort_key(item, options.sort_by))
    single = len(wanted) == 1 and bool(wanted[0][1])
    click.echo(render_objects(items, single, options), nl=False)
    return 0


def render_objects(items: list[Obj], single: bool, options: Options) -> str:
    """The text of the objects in the chosen format."""
    if options.format == "name":
        from kubenet.cluster.api.kinds import KINDS

        return "".join(full_name(KINDS[item["kind"]], item["metadata"]["name"]) + "\n" for item in items)
    if options.format == "custom-columns":
        return _custom_columns(items, options)
    whole = items[0] if single else {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
    for item in items:
        item.get("metadata", {}).pop("managedFields", None)
    if options.format == "jsonpath":
        from kubenet.query.jsonpath import render

        return render(options.argument, whole)
    from kubenet.cli.render import json_text, yaml_text

    return json_text(whole) + "\n" if options.format == "json" else yaml_text(whole)


def _custom_columns(items: list[Obj], options: Options) -> str:
    from kubenet.query.jsonpath import render

    pairs = [part.partition(":") for part in options.argument.split(",")]
    if not options.argument or any(not path for _, _, path in pairs):
        raise UsageError("custom-columns is HEAD:PATH,HEAD:PATH", try_="kubenet get pods -o custom-columns=NAME:.metadata.name")
    rows = [] if options.no_headers else [[head for head, _, _ in pairs]]
    for item in items:
        rows.append([render("{" + path.strip("{}") + "}", item) or "<none>" for _, _, path in pairs])
    return aligned(rows)
