"""The emulated modules: the edge between CPython's own library code and the kernel.

Each file stands for a C module that CPython's Python code is written over: posix, _socket, _thread, time, select, _signal, io.
Their functions find the calling process through current().ctx, so one copy serves all pods; a world gets a module object of
its own around them, so that a program may patch what it imported without touching anyone else's.

SHIMS: name -> function (world) -> module.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kubenet.sim.task import current_or_none

if TYPE_CHECKING:
    from kubenet.userland.process import Process
    from kubenet.userland.syscalls import Sys
    from kubenet.userland.world import World


def proc() -> Process:
    """The calling process. ECHILD outside of any: a finalizer that the collector runs, whose process may be long gone."""
    task = current_or_none()
    if task is None or task.ctx is None:
        raise ChildProcessError(errno.ECHILD, "No child processes")
    found: Process = task.ctx
    return found


def sys_() -> Sys:
    """The calling process's system calls."""
    return proc().sys


def _copy(source: str, name: str) -> Callable[[World], ModuleType]:
    def make(world: World) -> ModuleType:
        module = ModuleType(name)
        shim = import_module(f"kubenet.userland.shims.{source}")
        exports: dict[str, Any] = shim.exports() if hasattr(shim, "exports") else public(shim)
        module.__dict__.update(exports)
        return module

    return make


def public(shim: ModuleType) -> dict[str, Any]:
    """What a shim offers: its EXPORTS, or every name that is not private to it."""
    hidden = ("annotations", "proc", "sys_", "Any", "TYPE_CHECKING", "exports")
    return {k: v for k, v in vars(shim).items() if not (k.startswith(("__", "_kn_")) or k in hidden)}


def _made(source: str, function: str) -> Callable[[World], ModuleType]:
    def make(world: World) -> ModuleType:
        made: ModuleType = getattr(import_module(f"kubenet.userland.shims.{source}"), function)(world)
        return made

    return make


SHIMS: dict[str, Callable[[World], ModuleType]] = {
    "posix": _made("posix", "make_posix"),
    "io": _copy("io_", "io"),
    "_io": _copy("io_", "_io"),
    "time": _copy("time_", "time"),
    "_socket": _copy("socket_", "_socket"),
    "select": _copy("select_", "select"),
    "_thread": _copy("thread_", "_thread"),
    "_signal": _copy("signal_", "_signal"),
    "_random": _copy("random_", "_random"),
    "_posixsubprocess": _copy("subprocess_", "_posixsubprocess"),
    "atexit": _made("misc", "make_atexit"),
    "gc": _made("misc", "make_gc"),
    "fcntl": _made("misc", "make_fcntl"),
    "resource": _made("misc", "make_resource"),
    "pwd": _made("misc", "make_pwd"),
    "grp": _made("misc", "make_grp"),
    "importlib": _made("misc", "make_importlib"),
    "importlib.machinery": _made("misc", "make_machinery"),
    "importlib.util": _made("misc", "make_importlib_util"),
    "importlib.abc": _made("misc", "make_importlib_abc"),
    "importlib._bootstrap": _made("misc", "make_bootstrap"),
    "importlib._bootstrap_external": _made("misc", "make_bootstrap"),
    "site": _made("misc", "make_empty"),
}
