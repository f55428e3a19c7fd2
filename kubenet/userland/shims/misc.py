"""Small emulated modules: atexit, gc, fcntl, resource, pwd, grp, importlib and its submodules."""

from __future__ import annotations

import errno
import gc as host_gc
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from kubenet.userland.shims import proc, sys_

if TYPE_CHECKING:
    from kubenet.userland.world import World


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(names)
    return module


def make_empty(world: World) -> ModuleType:
    """A module with nothing in it."""
    return _module("site", ENABLE_USER_SITE=False)


def make_atexit(world: World) -> ModuleType:
    """Functions run when the program ends (python.py calls _run_exitfuncs)."""
    functions: list[tuple[Any, Any, Any]] = []

    def register(func: Any, *args: Any, **kwargs: Any) -> Any:
        functions.append((func, args, kwargs))
        return func

    def unregister(func: Any) -> None:
        functions[:] = [item for item in functions if item[0] != func]

    def run() -> None:
        while functions:
            func, args, kwargs = functions.pop()
            try:
                func(*args, **kwargs)
            except Exception as problem:
                from kubenet.userland.python import format_exception

                world.proc.err(f"Exception ignored in atexit callback: {func!r}\n{format_exception(world, problem)}")

    return _module("atexit", register=register, unregister=unregister, _run_exitfuncs=run, _clear=functions.clear,
                   _ncallbacks=lambda: len(functions))


def make_gc(world: World) -> ModuleType:
    """The collector runs at fixed steps of the emulation, whatever a program asks for."""
    return _module(
        "gc", collect=lambda generation=2: 0, enable=lambda: None, disable=lambda: None, isenabled=lambda: True,
        get_threshold=lambda: (700, 10, 10), set_threshold=lambda *a: None, get_count=lambda: (0, 0, 0), freeze=lambda: None,
        unfreeze=lambda: None, get_objects=lambda generation=None: [], get_stats=list, garbage=[], callbacks=[],
        is_tracked=host_gc.is_tracked, get_referrers=lambda *a: [], get_referents=lambda *a: [], DEBUG_LEAK=38,
    )


def make_fcntl(world: World) -> ModuleType:
    """F_GETFL and F_SETFL know O_NONBLOCK; locks always succeed."""

    def fcntl(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
        number = fd if isinstance(fd, int) else fd.fileno()
        file = sys_().file(number)
        if cmd == 3:
            return 2 | (0o4000 if file.nonblock else 0)
        if cmd == 4:
            file.nonblock = bool(arg & 0o4000)
            return 0
        if cmd in (0, 1030):
            return sys_().dup(number, arg)
        return 0

    def ioctl(fd: Any, request: int, arg: Any = 0, mutate: bool = True, /) -> Any:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    return _module("fcntl", fcntl=fcntl, ioctl=ioctl, flock=lambda fd, op: None, lockf=lambda *a: None, F_DUPFD=0, F_GETFD=1,
                   F_SETFD=2, F_GETFL=3, F_SETFL=4, FD_CLOEXEC=1, F_DUPFD_CLOEXEC=1030, LOCK_SH=1, LOCK_EX=2, LOCK_NB=4, LOCK_UN=8)


def make_resource(world: World) -> ModuleType:
    """RLIMIT_NOFILE is the process's; nothing else is limited."""

    def getrlimit(which: int, /) -> tuple[int, int]:
        return (proc().fds.limit, 524288) if which == 7 else (-1, -1)

    def setrlimit(which: int, limits: Any, /) -> None:
        if which == 7:
            proc().fds.limit = limits[0]

    usage = SimpleNamespace(ru_utime=0.0, ru_stime=0.0, ru_maxrss=10240)
    return _module("resource", getrlimit=getrlimit, setrlimit=setrlimit, getrusage=lambda who: usage, RLIMIT_NOFILE=7, RLIMIT_AS=9,
                   RLIMIT_CPU=0, RLIMIT_CORE=4, RLIMIT_STACK=3, RLIM_INFINITY=-1, RUSAGE_SELF=0, RUSAGE_CHILDREN=-1, error=OSError,
                   getpagesize=lambda: 4096)


class struct_passwd(tuple[Any, ...]):  # noqa: N801
    """pwd.struct_passwd."""

    pw_name = property(lambda self: self[0])
    pw_passwd = property(lambda self: self[1])
    pw_uid = property(lambda self: self[2])
    pw_gid = property(lambda self: self[3])
    pw_gecos = property(lambda self: self[4])
    pw_dir = property(lambda self: self[5])
    pw_shell = property(lambda self: self[6])


def _passwd() -> list[struct_passwd]:
    rows = []
    for line in proc().vfs.read("/etc/passwd").decode().splitlines():
        name, word, uid, gid, gecos, home, shell = line.split(":")
        rows.append(struct_passwd((name, word, int(uid), int(gid), gecos, home, shell)))
    return rows


def make_pwd(world: World) -> ModuleType:
    """/etc/passwd of the container."""

    def getpwnam(name: str, /) -> struct_passwd:
        for row in _passwd():
            if row[0] == name:
                return row
        raise KeyError(f"getpwnam(): name not found: {name!r}")

    def getpwuid(uid: int, /) -> struct_passwd:
        for row in _passwd():
            if row[2] == uid:
                return row
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    return _module("pwd", getpwnam=getpwnam, getpwuid=getpwuid, getpwall=_passwd, struct_passwd=struct_passwd)


def make_grp(world: World) -> ModuleType:
    """/etc/group of the container."""

    def rows() -> list[Any]:
        lines = [line.split(":") for line in proc().vfs.read("/etc/group").decode().splitlines()]
        return [SimpleNamespace(gr_name=n, gr_passwd=p, gr_gid=int(g), gr_mem=[]) for n, p, g, _ in lines]

    def by(key: str, value: Any) -> Any:
        for row in rows():
            if getattr(row, key) == value:
                return row
        raise KeyError(value)

    return _module("grp", getgrnam=lambda name: by("gr_name", name), getgrgid=lambda gid: by("gr_gid", gid), getgrall=rows)


# ---- importlib ------------------------------------------------------------------------------------------------------


def make_importlib(world: World) -> ModuleType:
    """importlib: import_module and reload of the world's own import system."""

    def import_module(name: str, package: str | None = None) -> ModuleType:
        if name.startswith("."):
            level = len(name) - len(name.lstrip("."))
            return world.import_(name[level:], {"__package__": package or ""}, None, ("*",), level)
        return world.load(name)

    def reload(module: ModuleType) -> ModuleType:
        name = module.__name__
        world.modules.pop(name, None)
        fresh = world.load(name)
        module.__dict__.update(fresh.__dict__)
        world.modules[name] = module
        return module

    return _module("importlib", import_module=import_module, reload=reload, invalidate_caches=lambda: None,
                   __import__=world.import_, __path__=[])


class SourceFileLoader:
    """importlib.machinery.SourceFileLoader over the container's files."""

    def __init__(self, fullname: str, path: str) -> None:
        self.name, self.path = fullname, path

    def get_data(self, path: str) -> bytes:
        return proc().read_file(path)

    def get_source(self, fullname: str) -> str:
        return proc().read_file(self.path).decode()

    def get_code(self, fullname: str) -> Any:
        return compile(self.get_source(fullname), self.path, "exec", dont_inherit=True)

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(self.name), module.__dict__)


def make_machinery(world: World) -> ModuleType:
    """importlib.machinery: the names that library code looks at."""
    from importlib.machinery import ModuleSpec

    kinds = {name: type(name, (), {}) for name in (
        "BuiltinImporter", "FrozenImporter", "PathFinder", "FileFinder", "SourcelessFileLoader", "ExtensionFileLoader",
        "WindowsRegistryFinder", "NamespaceLoader")}
    return _module("importlib.machinery", ModuleSpec=ModuleSpec, SourceFileLoader=SourceFileLoader, SOURCE_SUFFIXES=[".py"],
                   BYTECODE_SUFFIXES=[".pyc"], EXTENSION_SUFFIXES=[], DEBUG_BYTECODE_SUFFIXES=[".pyc"],
                   OPTIMIZED_BYTECODE_SUFFIXES=[".pyc"], all_suffixes=lambda: [".py", ".pyc"], **kinds)


def make_importlib_util(world: World) -> ModuleType:
    """importlib.util: find_spec says whether a module could be imported."""
    from importlib.machinery import ModuleSpec

    def find_spec(name: str, package: str | None = None) -> Any:
        if name in world.modules:
            return getattr(world.modules[name], "__spec__", None)
        before = dict(world.modules)
        try:
            module = world.load(name)
        except ImportError:
            return None
        finally:
            for added in [n for n in world.modules if n not in before]:
                del world.modules[added]
        return getattr(module, "__spec__", None) or ModuleSpec(name, None)

    def module_from_spec(spec: Any) -> ModuleType:
        from kubenet.userland.world import new_module

        return new_module(spec.name, spec.origin or "", False, world.builtins)

    def spec_from_file_location(name: str, location: Any = None, **_: Any) -> Any:
        return ModuleSpec(name, cast(Any, SourceFileLoader(name, str(location))), origin=str(location))

    def cache_from_source(path: str, *_: Any, **__: Any) -> str:
        raise NotImplementedError("sys.implementation.cache_tag is None")

    return _module("importlib.util", find_spec=find_spec, module_from_spec=module_from_spec, cache_from_source=cache_from_source,
                   spec_from_file_location=spec_from_file_location, MAGIC_NUMBER=b"\0\0\0\0")


def make_importlib_abc(world: World) -> ModuleType:
    """importlib.abc: empty base classes."""
    kinds = {name: type(name, (), {}) for name in ("Loader", "MetaPathFinder", "PathEntryFinder", "ResourceLoader", "InspectLoader",
                                                   "ExecutionLoader", "FileLoader", "SourceLoader", "Finder")}
    return _module("importlib.abc", **kinds)


def make_bootstrap(world: World) -> ModuleType:
    """importlib._bootstrap and _bootstrap_external, as far as pydoc and pkgutil name them."""
    return _module("importlib._bootstrap", SourceFileLoader=SourceFileLoader, _path_stat=None, _load=None, MAGIC_NUMBER=b"\0\0\0\0",
                   SourcelessFileLoader=type("SourcelessFileLoader", (), {}), cache_from_source=None)
