"""builtins of a pod program: print, input, open, __import__, exit go to the process; all else is the host's."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from kubenet.userland.shims.io_ import open as pod_open
from kubenet.userland.world import current_world

PyCF_ALLOW_INCOMPLETE = 0x4000  # codeop's flag; it makes no sense for a tree


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    return current_world().import_(name, globals, locals, fromlist, level)


def _print(*values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False) -> None:
    """print()."""
    if file is None:
        file = current_world().sys.stdout
        if file is None:
            return
    builtins.print(*values, sep=sep, end=end, file=file, flush=flush)


def _input(prompt: object = "", /) -> str:
    """input()."""
    sys = current_world().sys
    if prompt != "":
        sys.stdout.write(str(prompt))
    sys.stdout.flush()
    line: str = sys.stdin.readline()
    if not line:
        raise EOFError("EOF when reading a line")
    return line[:-1] if line.endswith("\n") else line


def _exit(code: Any = None) -> None:
    raise SystemExit(code)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _compile(source: Any, filename: Any, mode: str, flags: int = 0, dont_inherit: bool = False, optimize: int = -1, **more: Any) -> Any:
    """compile(). In mode "single" the interpreter would show values through the host's sys.displayhook; here through the pod's."""
    if mode == "single" and not flags & ast.PyCF_ONLY_AST:
        tree: Any = source if isinstance(source, ast.AST) else builtins.compile(source, filename, mode, flags | ast.PyCF_ONLY_AST, True)
        for number, statement in enumerate(tree.body):
            if isinstance(statement, ast.Expr):
                shown = ast.Call(ast.Name("__displayhook__", ast.Load()), [statement.value], [])
                tree.body[number] = ast.copy_location(ast.Assign([ast.Name("__", ast.Store())], shown), statement)
        source = ast.fix_missing_locations(tree)
        flags &= ~PyCF_ALLOW_INCOMPLETE
    return builtins.compile(source, filename, mode, flags, True, optimize, **more)


def _display(value: Any) -> None:
    current_world().sys.displayhook(value)


def table() -> dict[str, Any]:
    """A new dict of builtins."""
    out = {name: value for name, value in vars(builtins).items() if name not in _SITE}
    out.update(_OURS)
    return out


for _function, _name in ((_compile, "compile"), (_import, "__import__"), (_print, "print"), (_input, "input"), (_exit, "exit")):
    _function.__name__ = _function.__qualname__ = _name

_SITE = ("exit", "quit", "copyright", "credits", "license", "help", "_", "breakpoint", "__IPYTHON__", "reveal_type")
_OURS: dict[str, Any] = {
    "__import__": _import, "print": _print, "input": _input, "open": pod_open, "exit": _exit, "quit": _exit, "compile": _compile,
    "__displayhook__": _display, "help": _nothing,
    "breakpoint": _nothing, "__name__": "builtins", "__spec__": None, "__loader__": None,
}
