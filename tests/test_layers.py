"""The house's floors: a module imports from its left, never from its right, and there are no cycles."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent / "kubenet"
FLOORS = [("errors", "units", "sim"), ("wire",), ("kernel",), ("fabric",), ("userland",), ("cluster",), ("query",),
          ("labs", "engine"), ("server",), ("cli", "web")]
RANK = {name: rank for rank, names in enumerate(FLOORS) for name in names}


def _modules() -> dict[str, Path]:
    out = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("kubenet", *path.relative_to(ROOT).with_suffix("").parts)
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def _imports(name: str, path: Path, modules: dict[str, Path], lazy: bool) -> list[tuple[str, int]]:
    """(module, line) that `name` imports; lazy: also inside functions. Imports for type checkers alone do not count."""
    found: list[tuple[str, int]] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for other in child.orelse:
                    visit(other)
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not lazy:
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                base = child.module or ""
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    found.append((full if full in modules else base, child.lineno))
            visit(child)

    visit(ast.parse(path.read_text()))
    return [(target, line) for target, line in found if target.split(".")[0] == "kubenet"]


MODULES = _modules()


def test_imports_point_left() -> None:
    bad = []
    for name, path in MODULES.items():
        if name == "kubenet":
            continue
        for target, line in _imports(name, path, MODULES, lazy=True):
            if target == "kubenet":
                continue
            mine, theirs = RANK[name.split(".")[1]], RANK[target.split(".")[1]]
            if theirs > mine:
                bad.append(f"{path.relative_to(ROOT.parent)}:{line}: {name} imports {target}")
    assert not bad, "imports upwards:\n" + "\n".join(bad)


def test_no_import_cycles() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, path in MODULES.items():
        for target, _ in _imports(name, path, MODULES, lazy=False):
            if target in MODULES and target != name:
                graph.add_edge(name, target)
    cycles = [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]
    assert not cycles, f"import cycles: {cycles}"


@pytest.mark.parametrize(
    "left, right",
    [("skbuff", "dev"), ("netfilter.core", "dev"), ("dev", "ipv4"), ("socket", "tcp"), ("ipv4", "socket")],
)
def test_the_kernels_own_floors(left: str, right: str) -> None:
    """Inside kernel/: skbuff -> netfilter core -> dev -> ipv4 -> ... -> socket -> tcp; the other way goes through tables."""
    bad = []
    for name, path in MODULES.items():
        if name == f"kubenet.kernel.{left}" or name.startswith(f"kubenet.kernel.{left}."):
            for target, line in _imports(name, path, MODULES, lazy=True):
                if target == f"kubenet.kernel.{right}" or target.startswith(f"kubenet.kernel.{right}."):
                    bad.append(f"{path.relative_to(ROOT.parent)}:{line}: {name} imports {target}")
    assert not bad, "\n".join(bad)


def test_tcp_never_imports_ip() -> None:
    """tcp/ reaches IP through af_ops alone."""
    bad = [
        f"{name}:{line} {target}"
        for name, path in MODULES.items() if name.startswith("kubenet.kernel.tcp")
        for target, line in _imports(name, path, MODULES, lazy=True)
        if target.startswith(("kubenet.kernel.ipv4", "kubenet.kernel.ipv6", "kubenet.kernel.dev"))
    ]
    assert not bad, bad


def test_only_the_task_files_know_greenlet() -> None:
    users = [name for name, path in MODULES.items() if "import greenlet" in path.read_text()]
    assert users == ["kubenet.sim.task"]


def test_the_emulator_reads_no_wall_clock_and_no_shared_dice() -> None:
    """Below the engine nothing imports time, random, threading, secrets or datetime's now()."""
    bad = []
    for name, path in MODULES.items():
        if name == "kubenet" or RANK[name.split(".")[1]] >= RANK["engine"]:
            continue
        if ".userland.shims" in name or name.endswith("userland.world"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            bad += [f"{name}:{node.lineno} {n}" for n in names if n in ("time", "random", "threading", "secrets", "asyncio")]
            if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today") and "datetime" in ast.unparse(node):
                bad.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert not bad, bad
