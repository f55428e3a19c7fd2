"""`kubenet apply` and `kubenet delete`.

apply reads all files first and checks them without a cluster (file and line are known there), then sends each document as a
server-side apply, in order, and lets virtual time pass until what was applied runs. Mistakes that are legal, such as a Service
whose targetPort no pod has, are said afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kubenet.cli.command import Cmd, State, namespace_option, state_of
from kubenet.cli.completion import complete_kinds_and_names
from kubenet.cli.get import Wanted, full_name, parse_words
from kubenet.cli.kube import MANAGER, Kube, path_of, status_error
from kubenet.cli.render import seconds
from kubenet.cluster.api.kinds import KINDS, KindInfo
from kubenet.errors import KubenetError, UsageError, WrongMomentError
from kubenet.units import SEC, parse_duration

if TYPE_CHECKING:
    from kubenet.cli.client import Client
    from kubenet.cluster.api.decode import Manifest

Obj = dict[str, Any]
APPLY = "application/apply-patch+yaml"
WORKLOADS = ("Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job")


@click.command(
    "apply", cls=Cmd, usage=["apply -f PATH [-f PATH ...] [-R] [-n NS] [--no-wait]"],
    examples=[("kubenet apply -f manifests/shop", "all manifests of a directory"), ("kubenet apply -f web.yaml --no-wait", ""),
              ("kubenet apply -f - < web.yaml", "from standard input"),
              ("kubenet apply -f manifests/shop --dry-run", "check, change nothing")],
    exits="0 applied, 2 usage, 3 no such path, 4 invalid, 6 other topology",
)
@click.option("-f", "--filename", "paths", multiple=True, required=True, metavar="PATH",
              help="file, directory or - for stdin; may repeat")
@click.option("-R", "--recursive", is_flag=True, help="directories below, too")
@namespace_option
@click.option("--no-wait", is_flag=True, help="do not let time pass until it runs")
@click.option("--timeout", default="60s", metavar="TIME", help="how much virtual time to wait at most; default 60s")
@click.option("--force-conflicts", is_flag=True, help="take over fields that others own")
@click.option("--dry-run", is_flag=True, help="let the server check, change nothing")
@click.pass_context
def apply(ctx: click.Context, paths: tuple[str, ...], recursive: bool, namespace: str, no_wait: bool, timeout: str,
          force_conflicts: bool, dry_run: bool) -> int:
    """Create what the manifests describe, or change it to that. Then virtual time
    passes until it runs; what does not is said, with the reason. A Topology among
    them starts the session, or must be the session's own.
    """
    state = state_of(ctx)
    limit = duration(timeout)
    manifests = _load(paths, recursive)
    with _connect(state, manifests) as client:
        kube = Kube(client, state.talk)
        objects = [m for m in manifests if m.kind != "Topology"]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "force": str(force_conflicts).lower()}
        if dry_run:
            query["dryRun"] = "All"
        code = 0
        for manifest in objects:
            try:
                click.echo(_apply_one(kube, manifest, namespace, query) + (" (dry run)" if dry_run else ""))
            except KubenetError as error:
                click.echo("\n".join(error.lines()), err=True)
                code = error.exit_code
        if not dry_run:
            _say_lint(kube, objects, state)
            if not no_wait:
                settle(client, kube, state, limit)
    return code


def _load(paths: tuple[str, ...], recursive: bool) -> list[Manifest]:
    """All documents, checked. Raises ManifestError, UsageError."""
    from kubenet.cluster.api import decode

    manifests = decode.load_paths(list(paths), recursive)
    for manifest in manifests:
        decode.check(manifest)
    if not manifests:
        raise UsageError(f"there is nothing in {', '.join(paths)}")
    return manifests


def _connect(state: State, manifests: list[Manifest]) -> Client:
    """The session: started with the manifests' Topology if it is new. Raises WrongMomentError if it has another one."""
    from kubenet.cli import client, profiles
    from kubenet.cli.up import must_match

    topologies = [m for m in manifests if m.kind == "Topology"]
    if len(topologies) > 1:
        raise topologies[1].error("two Topology documents", why=f"the first is in {topologies[0].file}; a cluster has one")
    topology = topologies[0].obj if topologies else None
    if topology is not None and state.session().exists():
        must_match(state, topology, None)
    return client.connect(state, settings=profiles.settings_for(topology, None))


def _apply_one(kube: Kube, manifest: Manifest, namespace: str, query: dict[str, str]) -> str:
    """One document applied: `service/web created`. Raises ManifestError with the line."""
    info = KINDS[manifest.kind]
    meta = manifest.obj.get("metadata") or {}
    place = (meta.get("namespace") or namespace) if info.namespaced else ""
    if not meta.get("name"):
        code, stored = kube.request("POST", path_of(info, place), {k: v for k, v in query.items() if k != "force"}, manifest.obj)
        before: Obj | None = None
    else:
        before = kube.find(info, place, meta["name"])
        code, stored = kube.request("PATCH", path_of(info, place, meta["name"]), query, manifest.obj, APPLY)
    if code >= 400:
        raise _refusal(manifest, code, stored)
    same = before is not None and before["metadata"].get("resourceVersion") == stored["metadata"].get("resourceVersion")
    verb = "unchanged" if same else "created" if before is None else "configured"
    return f"{full_name(info, stored['metadata']['name'])} {verb}"


def _refusal(manifest: Manifest, code: int, status: Any) -> KubenetError:
    """The API's no, with file and line."""
    from kubenet.cluster.api import decode
    from kubenet.cluster.api.status import ApiError

    status = status if isinstance(status, dict) else {}
    if status.get("reason") == "Conflict":
        return status_error(code, status, manifest.label, f"{manifest.file}:{manifest.start}")
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    return decode.explain(manifest, ApiError(code, reason, message, status.get("details")))


def _say_lint(kube: Kube, manifests: list[Manifest], state: State) -> None:
    """Legal mistakes, on stderr."""
    from kubenet.cluster.api import decode

    if state.quiet or not any(m.kind == "Service" for m in manifests):
        return
    others = [{"kind": kind, **obj} for kind in WORKLOADS for obj in kube.list(KINDS[kind], "")["items"]]
    for finding in [*decode.lint(manifests, others), *decode.remarks(manifests, others)]:
        click.echo("\n".join(["note: " + finding.what, *finding.lines()[1:]]), err=True)


def settle(client: Client, kube: Kube, state: State, limit: int) -> None:
    """Let time pass until everything runs that can; say on stderr what does not and why. Not being ready is no failure."""
    answer = client.call("settle", max_ns=limit)[0]
    waiting = answer.get("waiting") or []
    stuck = [line for pod in kube.list(KINDS["Pod"], "")["items"] if (line := not_running(pod))]
    if not waiting and not stuck:
        state.talk(f"settled at {seconds(answer['now'])}")
        return
    click.echo(f"not everything runs at {seconds(answer['now'])}:", err=True)
    said = dict.fromkeys([*stuck, *(w for w in waiting if not any(s.startswith(w.partition(":")[0] + ":") for s in stuck))])
    for line in said:
        click.echo(f"  {line}", err=True)
    first = next(iter(said)).partition(":")[0]
    if first.startswith("pod/"):
        click.echo(f"try: kubenet describe {first}", err=True)


def not_running(pod: Obj) -> str:
    """`pod/x: ImagePullBackOff: ...` if something keeps the pod from running, else ""."""
    name, status = f"pod/{pod['metadata']['name']}", pod.get("status") or {}
    for c in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (c.get("state") or {}).get("waiting") or {}
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return f"{name}: {waiting.get('reason', 'waiting')}" + (f": {waiting['message']}" if waiting.get("message") else "")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{name}: {condition.get('reason')}: {condition.get('message', '')}"
    return ""


def duration(text: str) -> int:
    """ns of a time given on the command line. Raises UsageError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


# -- delete -----------------------------------------------------------------------------------------------------------------


@click.command(
    "delete", cls=Cmd, usage=["delete KIND NAME... [-n NS]", "delete KIND -l SELECTOR | --all", "delete -f PATH"],
    examples=[("kubenet delete pod web-0", ""), ("kubenet delete pod,svc -l app=web", ""),
              ("kubenet delete -f manifests/shop", "")],
    exits="0 deleted, 3 not found, 2 wrong usage",
)
@click.argument("words", nargs=-1, metavar="[KIND [NAME...]]", shell_complete=complete_kinds_and_names)
@click.option("-f", "--filename", "paths", multiple=True, metavar="PATH", help="what these manifests name; may repeat")
@click.option("-R", "--recursive", is_flag=True, help="directories below, too")
@namespace_option
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="all with these labels")
@click.option("--all", "everything", is_flag=True, help="all of the kind in the namespace")
@click.option("--grace-period", type=int, default=None, metavar="SECONDS", help="time for a pod to end; 0 kills it at once")
@click.option("--ignore-not-found", is_flag=True, help="what is not there is fine")
@click.option("--no-wait", is_flag=True, help="do not let time pass until it is gone")
@click.pass_context
def delete(ctx: click.Context, words: tuple[str, ...], paths: tuple[str, ...], recursive: bool, namespace: str, selector: str,
           everything: bool, grace_period: int | None, ignore_not_found: bool, no_wait: bool) -> int:
    """Delete objects by name, by label or by manifest."""
    state = state_of(ctx)
    if bool(paths) == bool(words):
        raise UsageError("say what to delete: a kind and names, or -f", try_="kubenet delete pod web-0")
    by_name = _of_files(paths, recursive, namespace) if paths else []
    wanted = parse_words(words) if words else []
    if any(not name for _, name in wanted) and not (selector or everything):
        raise UsageError("which ones? A name, -l SELECTOR or --all is missing", try_=f"kubenet delete {words[0]} NAME")
    if not state.session().exists():
        raise WrongMomentError("there is no session, so there is nothing to delete", try_="kubenet up")
    options: Obj = {"propagationPolicy": "Background"}
    if grace_period is not None:
        options["gracePeriodSeconds"] = grace_period
    with state.client(start=False) as client:
        kube = Kube(client, state.talk)
        code = 0
        for info, place, name in by_name or _chosen(kube, wanted, namespace, selector):
            code = _delete_one(kube, info, place, name, options, ignore_not_found) or code
        if not no_wait:
            client.call("settle", max_ns=120 * SEC)
    return code


def _of_files(paths: tuple[str, ...], recursive: bool, namespace: str) -> list[tuple[KindInfo, str, str]]:
    """(kind, namespace, name) of every document but Topologies."""
    from kubenet.cluster.api import decode

    out = []
    for manifest in decode.load_paths(list(paths), recursive):
        info = KINDS.get(manifest.kind)
        if info is None:
            decode.check(manifest)
        elif info.served:
            meta = manifest.obj.get("metadata") or {}
            out.append((info, (meta.get("namespace") or namespace) if info.namespaced else "", str(meta.get("name", ""))))
    return out


def _chosen(kube: Kube, wanted: Wanted, namespace: str, selector: str) -> list[tuple[KindInfo, str, str]]:
    out: list[tuple[KindInfo, str, str]] = []
    for info, name in wanted:
        place = namespace if info.namespaced else ""
        names = [name] if name else [o["metadata"]["name"] for o in kube.list(info, place, labels=selector)["items"]]
        out += [(info, place, each) for each in names]
    if not out:
        kube.talk("No resources found.")
    return out


def _delete_one(kube: Kube, info: KindInfo, namespace: str, name: str, options: Obj, ignore: bool) -> int:
    """Delete one object and say so; its exit code. Errors are said, and do not keep the others from being deleted."""
    code, answer = kube.request("DELETE", path_of(info, namespace, name), body=options)
    if code == 404 and ignore:
        return 0
    if code >= 400:
        what = f'{info.singular} "{name}" not deleted'
        error = kube.not_found(info, namespace, name) if code == 404 else status_error(code, answer, what)
        click.echo("\n".join(error.lines()), err=True)
        return error.exit_code
    resource = f"{info.singular}.{info.group}" if info.group else info.singular
    click.echo(f'{resource} "{name}" {"force deleted" if options.get("gracePeriodSeconds") == 0 else "deleted"}')
    return 0
