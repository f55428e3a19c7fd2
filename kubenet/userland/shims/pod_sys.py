"""sys of a pod program: argv, standard streams, modules and exit are the process's own; what only informs is the host's."""

from __future__ import annotations

import sys as host
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from kubenet.userland.shims.io_ import open_std

if TYPE_CHECKING:
    from kubenet.userland.world import World

_SAME = (
    "abiflags api_version byteorder copyright float_info float_repr_style hash_info hexversion int_info maxsize maxunicode "
    "platform version version_info thread_info flags implementation getrefcount getsizeof intern exc_info exception "
    "_getframe getdefaultencoding getfilesystemencoding getfilesystemencodeerrors getrecursionlimit getswitchinterval is_finalizing "
    "get_asyncgen_hooks set_asyncgen_hooks get_coroutine_origin_tracking_depth set_coroutine_origin_tracking_depth "
    "get_int_max_str_digits set_int_max_str_digits call_tracing activate_stack_trampoline orig_argv stdlib_module_names"
).split()


def make_sys(world: World) -> ModuleType:
    """A fresh sys for the world's process."""
    from kubenet.userland.world import POD_LIB

    proc = world.proc
    module = ModuleType("sys")
    table = module.__dict__
    for name in _SAME:
        if hasattr(host, name):
            table[name] = getattr(host, name)
    table.update(
        argv=list(proc.argv), path=["", POD_LIB, POD_LIB + "/site-packages"], modules=world.modules, prefix="/usr",
        exec_prefix="/usr", base_prefix="/usr", base_exec_prefix="/usr", platlibdir="lib", executable="/usr/bin/python3",
        _base_executable="/usr/bin/python3", pycache_prefix=None, dont_write_bytecode=True, meta_path=[], path_hooks=[],
        path_importer_cache={}, warnoptions=[], _xoptions={}, ps1=">>> ", ps2="... ", tracebacklimit=1000,
        builtin_module_names=host.builtin_module_names, _git=("CPython", "", ""), _framework="", last_value=None,
    )
    del table["ps1"], table["ps2"], table["tracebacklimit"], table["last_value"]
    table.update(
        exit=_exit, setrecursionlimit=_nothing, setswitchinterval=_nothing, settrace=_nothing, setprofile=_nothing,
        gettrace=_none, getprofile=_none, addaudithook=_nothing, audit=_nothing, excepthook=_excepthook, __excepthook__=_excepthook,
        displayhook=_displayhook, __displayhook__=_displayhook, unraisablehook=_nothing, __unraisablehook__=_nothing,
        _current_frames=dict, _clear_type_cache=_none, breakpointhook=_nothing, _getframemodulename=None,
    )
    del table["_getframemodulename"]
    table["stdin"] = table["__stdin__"] = open_std(proc, 0)
    table["stdout"] = table["__stdout__"] = open_std(proc, 1)
    table["stderr"] = table["__stderr__"] = open_std(proc, 2)
    table["implementation"] = SimpleNamespace(**vars(host.implementation))
    return module


def _exit(status: Any = None, /) -> None:
    raise SystemExit(status)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _none() -> None:
    return None


def _excepthook(kind: Any, value: Any, tb: Any, /) -> None:
    from kubenet.userland.python import format_exception
    from kubenet.userland.world import current_world

    current_world().sys.stderr.write(format_exception(current_world(), value))


def _displayhook(value: Any, /) -> None:
    from kubenet.userland.world import current_world

    if value is not None:
        world = current_world()
        world.builtins["_"] = None
        world.sys.stdout.write(repr(value) + "\n")
        world.builtins["_"] = value
