"""The pod world: a private import system, so that unmodified Python runs on the emulated kernel and the host never notices.

A pod program's modules are executed with a `__builtins__` whose `__import__` is World.import_. A name is looked for

    1. among the emulated modules (shims/): sys, posix, time, _socket, select, _thread, _signal, io ...
    2. on sys.path in the container's file system: the program's own modules
    3. among the host's modules that are pure computation: C ones (math, _struct ...) and Python ones (re, json ...)
    4. in the standard library's source: re-executed here, over 1. So socket.py, threading.py, selectors.py, subprocess.py,
       asyncio, http.server, logging ... are CPython's own files, on virtual time

and C modules that would reach the host are refused with an ImportError that carries ENOSYS. Modules without state of their own
(SHARED) are executed once, in BASE, where every emulated or stateful module is a Proxy that looks itself up in the world of
the process that runs. All others are executed once per process. Code objects are unmarshalled once.

One process has one world; its threads are tasks of the process. Shims find the process through current().ctx. Programs are
kept apart by names, this is not a sandbox: an attribute walk from a host module can leave it.

Sources: the import system reference of the Python manual; importlib._bootstrap for the order of steps.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from kubenet.sim.task import current_or_none
from kubenet.userland.vfs import Dir, DynamicDir, Node, RegFile

if TYPE_CHECKING:
    from kubenet.userland.process import Process

HOST_LIB = os.path.dirname(os.__file__)
POD_LIB = f"/usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
KUBENET = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# C modules of the host that only compute.
C_MODULES = frozenset(
    "_abc _ast _bisect _blake2 _bz2 _codecs _collections _contextvars _csv _decimal _functools _hashlib _heapq _json _lzma _md5 "
    "_multibytecodec _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _opcode _operator _sha1 _sha256 _sha2 "
    "_sha512 _sha3 _sre _stat _statistics _string _struct _symtable _typing _weakref array audioop binascii cmath errno itertools "
    "marshal math pyexpat unicodedata zlib".split()
)
# Python modules of the host that only compute and hold nothing.
HOST_MODULES = frozenset(
    "__future__ re re._casefix re._compiler re._constants re._parser sre_compile sre_constants sre_parse types functools collections "
    "collections.abc _collections_abc operator keyword heapq bisect copyreg copy abc reprlib string struct textwrap json json.decoder "
    "json.encoder json.scanner base64 html html.entities _markupbase html.parser numbers fractions decimal weakref _weakrefset "
    "contextvars ipaddress graphlib colorsys quopri token _compat_pickle".split()
)
# Executed once for all worlds: no state of their own, and what they use of the process they reach through proxies.
SHARED = frozenset(
    "enum contextlib typing dataclasses inspect ast dis opcode tokenize codecs stat posixpath genericpath datetime _strptime calendar "
    "urllib urllib.parse pprint difflib argparse getopt shlex csv configparser hashlib hmac string.templatelib encodings "
    "encodings.aliases encodings.utf_8 encodings.idna encodings.ascii encodings.latin_1 stringprep bz2 lzma gzip _compression zipfile "
    "_pydecimal http.cookies statistics textwrap sched".split()
)
# Names in CPython's binary: nothing on sys.path can shadow them.
BUILTIN_SHIMS = frozenset("sys builtins posix time _thread _signal _io io gc atexit marshal errno itertools _imp".split())
REFUSED = frozenset(
    "ctypes _ctypes mmap multiprocessing _multiprocessing _posixshmem ssl _ssl _asyncio _queue _pickle _datetime _uuid _locale "
    "_warnings _tracemalloc _imp imp _frozen_importlib _frozen_importlib_external _xxsubinterpreters _interpreters cffi _cffi_backend "
    "greenlet readline termios tty pty curses _curses sqlite3 _sqlite3 dbm _dbm _gdbm tkinter _tkinter syslog nis spwd crypt _crypt "
    "faulthandler _lsprof _testcapi zipimport _elementtree _zoneinfo ensurepip venv idlelib lib2to3 test kubenet".split()
)

_code: dict[str, CodeType] = {}


class World:
    """The modules of one process."""

    __slots__ = ("proc", "modules", "builtins", "sys", "future_count", "lock_count")

    def __init__(self, proc: Process) -> None:
        from kubenet.userland.shims import pod_builtins
        from kubenet.userland.shims.pod_sys import make_sys

        self.proc = proc
        self.modules: dict[str, ModuleType] = {}
        self.builtins: dict[str, Any] = {}
        self.future_count = 0
        self.lock_count = 0
        proc.world = self
        module = ModuleType("builtins")
        module.__dict__.update(pod_builtins.table())
        self.builtins = module.__dict__
        self.modules["builtins"] = module
        self.sys = make_sys(self)
        self.modules["sys"] = self.sys

    # ---- importing --------------------------------------------------------------------------------------------------

    def import_(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """__import__. Raises ImportError, ModuleNotFoundError."""
        if level:
            name = absolute(name, globals or {}, level)
        module = self.load(name)
        if not fromlist:
            return module if level else self.load(name.partition(".")[0])
        if hasattr(module, "__path__"):
            self._submodules(module, name, fromlist)
        return module

    def _submodules(self, module: ModuleType, name: str, fromlist: Any) -> None:
        """`from package import name` may mean a module in it."""
        for attribute in fromlist:
            if attribute == "*":
                self._submodules(module, name, [a for a in getattr(module, "__all__", ()) if a != "*"])
            elif not hasattr(module, attribute):
                try:
                    self.load(f"{name}.{attribute}")
                except ModuleNotFoundError as error:
                    if error.name != f"{name}.{attribute}":
                        raise

    def load(self, name: str) -> ModuleType:
        """The module, imported if it was not yet. Raises ImportError."""
        found = self.modules.get(name)
        if found is not None:
            return found
        if name in self.modules:
            raise ModuleNotFoundError(f"import of {name} halted; None in sys.modules", name=name)
        parent, _, leaf = name.rpartition(".")
        if parent:
            package = self.load(parent)
            if name in self.modules:  # importing the parent imported it
                return self.modules[name]
            if not hasattr(package, "__path__") and not self._known(name):
                raise ModuleNotFoundError(f"No module named {name!r}; {parent!r} is not a package", name=name)
        module = self._find(name, parent)
        self.modules.setdefault(name, module)
        if parent:
            setattr(self.modules[parent], leaf, module)
        return self.modules[name]

    def _known(self, name: str) -> bool:
        from kubenet.userland.shims import SHIMS

        return name in SHIMS or name in HOST_MODULES or name in SHARED

    def _find(self, name: str, parent: str) -> ModuleType:
        from kubenet.userland.shims import SHIMS

        if name in REFUSED or name.partition(".")[0] in REFUSED:
            raise refuse(name)
        if name not in BUILTIN_SHIMS:
            module = self._from_container(name, parent)
            if module is not None:
                return module
        if name in SHIMS:
            return SHIMS[name](self)
        if name in C_MODULES or name in HOST_MODULES:
            return import_module(name)
        if name in SHARED:
            return BASE.load(name)
        return self._from_library(name)

    def _from_library(self, name: str) -> ModuleType:
        """A module of the standard library, executed here."""
        path, is_package = library_path(name)
        if not path:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = new_module(name, POD_LIB + path[len(HOST_LIB) :], is_package, self.builtins)
        return self._execute(module, library_code(name, path))

    def _execute(self, module: ModuleType, code: CodeType) -> ModuleType:
        name = module.__name__
        self.modules[name] = module
        try:
            exec(code, module.__dict__)
        except BaseException:
            self.modules.pop(name, None)
            raise
        patch = _AFTER.get(name)
        if patch is not None:
            patch(self, module)
        return module

    def _from_container(self, name: str, parent: str) -> ModuleType | None:
        """A module on sys.path (or the package's path), in the container's files."""
        vfs = self.proc.vfs
        paths = self.modules[parent].__path__ if parent else self.sys.path
        leaf = name.rpartition(".")[2]
        for base in list(paths):
            base = base or self.proc.cwd
            if base.startswith(POD_LIB) and not base.startswith(POD_LIB + "/site-packages"):
                if parent or library_path(name)[0]:
                    return None
                continue
            for path, is_package in ((f"{base}/{leaf}/__init__.py", True), (f"{base}/{leaf}.py", False)):
                if vfs.exists(path, self.proc.cwd):
                    code = compile(vfs.read(path, self.proc.cwd), path, "exec", dont_inherit=True)
                    return self._execute(new_module(name, path, is_package, self.builtins), code)
            if vfs.exists(f"{base}/{leaf}", self.proc.cwd) and isinstance(vfs.lookup(f"{base}/{leaf}", self.proc.cwd), Dir):
                if not library_path(name)[0] and name not in C_MODULES | HOST_MODULES:
                    module = new_module(name, "", True, self.builtins)  # a namespace package
                    module.__path__ = [f"{base}/{leaf}"]
                    return module
        return None

    def run_main(self, code: CodeType, file: str) -> None:
        """Execute `code` as __main__."""
        main = ModuleType("__main__")
        main.__dict__["__builtins__"] = self.modules["builtins"]
        if file:
            main.__dict__["__file__"] = file
        self.modules["__main__"] = main
        exec(code, main.__dict__)


def new_module(name: str, file: str, is_package: bool, table: dict[str, Any]) -> ModuleType:
    """An empty module with its import-related attributes."""
    from importlib.machinery import ModuleSpec

    module = ModuleType(name)
    spec = ModuleSpec(name, None, origin=file or None, is_package=is_package)
    module.__dict__.update({"__builtins__": table, "__spec__": spec, "__package__": name if is_package else name.rpartition(".")[0]})
    if file:
        module.__file__ = file
    if is_package:
        module.__path__ = [file.rpartition("/")[0]]
        spec.submodule_search_locations = module.__path__
    return module


def absolute(name: str, globals: dict[str, Any], level: int) -> str:
    """The name that a relative import means. Raises ImportError."""
    package = globals.get("__package__")
    if package is None:
        package = globals.get("__name__", "")
        if "__path__" not in globals:
            package = package.rpartition(".")[0]
    if not package:
        raise ImportError("attempted relative import with no known parent package")
    parts = package.split(".")
    if level > len(parts):
        raise ImportError("attempted relative import beyond top-level package")
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{name}" if name else base


def refuse(name: str) -> ImportError:
    """The error for a module that would leave the emulation; `errno` is ENOSYS."""
    why = {"ssl": "TLS", "_ssl": "TLS", "ctypes": "calling C code", "multiprocessing": "fork()", "mmap": "shared memory"}
    error = ImportError(f"{name}: Function not implemented ({why.get(name.partition('.')[0], 'it')} is not available in a kubenet pod)",
                        name=name)
    error.errno = errno.ENOSYS  # type: ignore[attr-defined]
    return error


# ---- the standard library's code ------------------------------------------------------------------------------------


def library_path(name: str) -> tuple[str, bool]:
    """(source file on the host, is it a package) of a standard library module; ("", False) if there is none."""
    base = f"{HOST_LIB}/{name.replace('.', '/')}"
    if os.path.exists(base + ".py"):
        return base + ".py", False
    if os.path.exists(base + "/__init__.py"):
        return base + "/__init__.py", True
    return "", False


def library_code(name: str, path: str) -> CodeType:
    """The module's code, with the file name that a pod sees."""
    code = _code.get(name)
    if code is None:
        loaded = SourceFileLoader(name, path).get_code(name)
        assert loaded is not None
        code = _code[name] = renamed(loaded, POD_LIB + path[len(HOST_LIB) :])
    return code


def renamed(code: CodeType, filename: str) -> CodeType:
    """The same code with another file name in it and in the functions it defines."""
    constants = tuple(renamed(c, filename) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_filename=filename, co_consts=constants)


def library_dir(path: str = HOST_LIB) -> DynamicDir:
    """The standard library's source as a read-only directory of the container (tracebacks and inspect read it)."""

    def names() -> list[str]:
        return [n for n in os.listdir(path) if n.endswith(".py") or os.path.exists(f"{path}/{n}/__init__.py")]

    def find(name: str) -> Node | None:
        if name in ("site-packages", "dist-packages", "..") or "/" in name:
            return None
        full = f"{path}/{name}"
        if name.endswith(".py") and os.path.isfile(full):
            with open(full, "rb") as file:
                return RegFile(file.read())
        return library_dir(full) if os.path.exists(f"{full}/__init__.py") else None

    return DynamicDir(names, find)


# ---- what all worlds share ------------------------------------------------------------------------------------------


def current_world() -> World:
    """The world of the process that runs."""
    task = current_or_none()
    if task is None or task.ctx is None or task.ctx.world is None:
        raise RuntimeError("no pod program is running")
    world: World = task.ctx.world
    return world


class Proxy(ModuleType):
    """A module of whichever world runs, for modules that are shared by all."""

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__["__name__"]
        module = current_world().load(own)
        try:
            return getattr(module, name)
        except AttributeError:
            if name.startswith("__"):
                raise
            try:
                return current_world().load(f"{own}.{name}")
            except ImportError:
                raise AttributeError(f"module {own!r} has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(current_world().load(self.__dict__["__name__"]), name, value)


class _Base:
    """The modules that all worlds share."""

    def __init__(self) -> None:
        self.modules: dict[str, ModuleType] = {}
        self.proxies: dict[str, ModuleType] = {}
        self.builtins: dict[str, Any] | None = None

    def import_(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        if level:
            name = absolute(name, globals or {}, level)
        module = self.load(name)
        if fromlist:
            for attribute in fromlist:
                if f"{name}.{attribute}" in SHARED and not hasattr(module, attribute):
                    self.load(f"{name}.{attribute}")
            return module
        return module if level else self.load(name.partition(".")[0])

    def load(self, name: str) -> ModuleType:
        """A shared module, a pure one of the host, or the proxy of one that each world has."""
        found = self.modules.get(name)
        if found is not None:
            return found
        if name == "os.path":
            return self.load("posixpath")
        if name in REFUSED:
            raise refuse(name)
        if name in C_MODULES or name in HOST_MODULES:
            return import_module(name)
        if name not in SHARED:
            current_world().load(name)  # ImportError now, if there is no such module
            return self.proxies.setdefault(name, Proxy(name))
        parent, _, leaf = name.rpartition(".")
        if parent:
            self.load(parent)
        path, is_package = library_path(name)
        if not path:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if self.builtins is None:
            from kubenet.userland.shims import pod_builtins

            self.builtins = {**pod_builtins.table(), "__import__": self.import_}
        module = new_module(name, POD_LIB + path[len(HOST_LIB) :], is_package, self.builtins)
        self.modules[name] = module
        try:
            exec(library_code(name, path), module.__dict__)
        except BaseException:
            del self.modules[name]
            raise
        if parent:
            setattr(self.modules[parent], leaf, module)
        return module


BASE = _Base()


# ---- small repairs after a module was executed ----------------------------------------------------------------------


def _future_hash(world: World, module: ModuleType) -> None:
    """Futures hash by a counter, so that sets of them have the same order in every run."""

    def __hash__(self: Any) -> int:
        number: int | None = self.__dict__.get("_kubenet_hash")
        if number is None:
            world.future_count += 1
            number = self.__dict__["_kubenet_hash"] = world.future_count
        return number

    module.Future.__hash__ = __hash__


def _hide_frames(world: World, module: ModuleType) -> None:
    """The emulator's own frames are to a pod what C code is: not in tracebacks."""
    walk_tb, walk_stack = module.walk_tb, module.walk_stack

    def visible(walk: Any) -> Any:
        def walker(start: Any) -> Any:
            return ((f, n) for f, n in walk(start) if not f.f_code.co_filename.startswith(KUBENET))

        return walker

    module.__dict__.update(walk_tb=visible(walk_tb), walk_stack=visible(walk_stack))
    original = module.StackSummary._extract_from_extended_frame_gen.__func__

    def extract(cls: Any, /, frames: Any, **kwargs: Any) -> Any:
        kept = (item for item in frames if not item[0].f_code.co_filename.startswith(KUBENET))
        return original(cls, kept, **kwargs)

    module.StackSummary._extract_from_extended_frame_gen = classmethod(extract)


def _ordered_infos(world: World, module: ModuleType) -> None:
    """create_server() binds a set of addresses; here they keep their order under any hash seed."""
    module.__dict__["set"] = dict.fromkeys


_AFTER = {"asyncio.base_events": _ordered_infos, "asyncio.futures": _future_hash, "traceback": _hide_frames}
