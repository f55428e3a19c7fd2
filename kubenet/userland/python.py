"""python3: runs a Python program of the container in a world of its own.

    python3 [-u] [-c CODE | -m MODULE | FILE | -] [args]

An uncaught exception is a traceback on standard error and exit code 1; SystemExit is its code. At the end threads are joined,
atexit functions run, streams are flushed. Without a program and with a terminal there is a small read-eval-print loop.
"""

from __future__ import annotations

from typing import Any

from kubenet.sim.task import Killed
from kubenet.userland.process import Exit, Process
from kubenet.userland.shell_parse import ShellSyntaxError
from kubenet.userland.syscalls import SignalInterrupt
from kubenet.userland.tools import tool
from kubenet.userland.world import POD_LIB, World, library_dir


@tool("python3", "python")
def main(proc: Process, argv: list[str]) -> int:
    """python3 [-u] [-c CODE | -m MODULE | FILE | -] [args]"""
    if not proc.net.host.extra.get("allow_pod_code", True):
        proc.err(f"{argv[0]}: refused: Python programs of pods run inside kubenet's own process, so they need your consent\n"
                 "  try: kubenet allow pod-code     (once per session), or kubenet up --allow-pod-code\n")
        return 126
    args = argv[1:]
    while args and args[0].startswith("-") and len(args[0]) > 1 and args[0][:2] not in ("-c", "-m"):
        flag = args.pop(0)
        if flag in ("-V", "--version", "-VV"):
            import sys

            proc.out(f"Python {sys.version.split()[0]}\n")
            return 0
        if "u" in flag and not flag.startswith("--"):
            proc.extra["unbuffered"] = True
        elif flag in ("-W", "-X") and args:
            args.pop(0)
        elif set(flag[1:]) - set("uBEIOqsSxi"):
            proc.err(f"Unknown option: {flag}\nusage: python3 [option] ... [-c cmd | -m mod | file | -] [arg] ...\n"
                     "Try `python3 -h' for more information.\n")
            return 2
    if not proc.vfs.exists(POD_LIB):
        proc.vfs.mount(POD_LIB, library_dir())
    world = World(proc)
    from kubenet.userland.shims.signal_ import install_defaults

    install_defaults()
    try:
        code = _run(world, args)
    except (Killed, Exit, SignalInterrupt):
        raise
    except SystemExit as leave:
        code = exit_code(world, leave)
    except KeyboardInterrupt as error:
        proc.err(format_exception(world, error))
        proc.terminate(2)
        code = 130
    except BaseException as error:
        _flush(world)
        hook = world.sys.excepthook
        hook(type(error), error, error.__traceback__)
        code = 1
    return finish(world, code)


def _run(world: World, args: list[str]) -> int:
    proc, sys = world.proc, world.sys
    if args and args[0].startswith("-c"):
        source = args[0][2:] or (args[1] if len(args) > 1 else "")
        rest = args[1:] if args[0][2:] else args[2:]
        sys.argv[:] = ["-c", *rest]
        return _source(world, source, "<string>", "")
    if args and args[0].startswith("-m"):
        name = args[0][2:] or (args[1] if len(args) > 1 else "")
        return _module(world, name, args[1:] if args[0][2:] else args[2:])
    if args and args[0] != "-":
        path = args[0]
        if proc.vfs.exists(path, proc.cwd) and path.endswith("/"):
            path = f"{path}__main__.py"
        try:
            source = proc.read_file(path).decode("utf-8")
        except OSError as error:
            proc.err(f"python3: can't open file '{path if path.startswith('/') else proc.cwd.rstrip('/') + '/' + path}': "
                     f"[Errno {error.errno}] {error.strerror}\n")
            return 2
        sys.argv[:] = args
        sys.path[0] = path.rpartition("/")[0] if "/" in path else proc.cwd
        return _source(world, source, path, path)
    sys.argv[:] = args or [""]
    terminal = proc.fds.files.get(0)
    if terminal is not None and terminal.name == "tty":
        return _interactive(world)
    return _source(world, proc.read_stdin().decode("utf-8"), "<stdin>", "")


def _source(world: World, source: str, filename: str, file: str) -> int:
    code = compile(source, filename, "exec", dont_inherit=True)
    if filename == "<string>" or filename == "<stdin>":
        world.proc.extra["source"] = source
    world.run_main(code, file)
    return 0


def _module(world: World, name: str, rest: list[str]) -> int:
    """python -m name: the module's (or package's __main__'s) code as __main__."""
    from kubenet.userland.world import library_code, library_path

    proc = world.proc
    world.sys.path[0] = proc.cwd
    package = name
    path, is_package = library_path(name)
    for base in [p or proc.cwd for p in world.sys.path if not (p or "/").startswith(POD_LIB)]:
        stem = f"{base}/{name.replace('.', '/')}"
        for candidate in (f"{stem}.py", f"{stem}/__main__.py"):
            if proc.vfs.exists(candidate):
                world.sys.argv[:] = [candidate, *rest]
                return _source(world, proc.vfs.read(candidate).decode(), candidate, candidate)
    if is_package:
        package = name + ".__main__"
        path, _ = library_path(package)
    if not path:
        proc.err(f"/usr/bin/python3: No module named {name}\n")
        return 1
    parent = package.rpartition(".")[0]
    if parent:
        world.load(parent)
    code = library_code(package, path)
    world.sys.argv[:] = [code.co_filename, *rest]
    main_module = _main_with_package(world, parent, code.co_filename)
    exec(code, main_module)
    return 0


def _main_with_package(world: World, parent: str, file: str) -> dict[str, Any]:
    from types import ModuleType

    module = ModuleType("__main__")
    module.__dict__.update({"__builtins__": world.modules["builtins"], "__package__": parent, "__file__": file})
    world.modules["__main__"] = module
    return module.__dict__


def _interactive(world: World) -> int:
    """>>>"""
    from kubenet.userland.shell import read_line

    proc = world.proc
    world.run_main(compile("", "<stdin>", "exec"), "")
    table = world.modules["__main__"].__dict__
    lines = ""
    while True:
        proc.out("... " if lines else ">>> ")
        line = read_line(proc, 0)
        if not line:
            proc.out("\n")
            return 0
        lines += line
        try:
            code = world.load("codeop").compile_command(lines.rstrip("\n") if not lines.endswith("\n\n") else lines, "<stdin>", "single")
            if code is None and line != "\n":
                continue
            lines = ""
            if code is not None:
                exec(code, table)
        except (SystemExit, Killed, Exit, SignalInterrupt, ShellSyntaxError):
            raise
        except BaseException as error:
            lines = ""
            proc.err(format_exception(world, error))
        _flush(world)


def exit_code(world: World, leave: SystemExit) -> int:
    """What sys.exit(x) makes of the process."""
    if leave.code is None:
        return 0
    if isinstance(leave.code, int):
        return leave.code & 0xFF
    world.proc.err(f"{leave.code}\n")
    return 1


def finish(world: World, code: int) -> int:
    """The end of an interpreter: join threads, run atexit, flush. CPython: Py_FinalizeEx()."""
    proc = world.proc
    threading = world.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
        atexit = world.modules.get("atexit")
        if atexit is not None:
            atexit._run_exitfuncs()
        _flush(world)
        _forget_main(world)
    except (Killed, Exit, SignalInterrupt):
        raise
    except SystemExit as leave:
        code = exit_code(world, leave)
    except BaseException as error:
        proc.err(format_exception(world, error))
    return code if _flush(world) else 120


def _forget_main(world: World) -> None:
    """Objects that only the program's names held are gone, their destructors run. CPython: finalize_modules()."""
    main_module = world.modules.get("__main__")
    if main_module is not None:
        table = main_module.__dict__
        names = [name for name in table if name != "__builtins__"]
        for name in sorted(names, key=lambda n: not (n.startswith("_") and not n.startswith("__"))):
            table[name] = None


def _flush(world: World) -> bool:
    """sys.stdout and sys.stderr have written everything; False if they could not."""
    ok = True
    for name in ("stdout", "stderr"):
        stream = getattr(world.sys, name, None)
        if stream is None or getattr(stream, "closed", False):
            continue
        try:
            stream.flush()
        except OSError as error:
            if name == "stdout":
                ok = False
                world.proc.err(f"Exception ignored in: <_io.TextIOWrapper name='<stdout>' mode='w' encoding='utf-8'>\n"
                               f"{type(error).__name__}: {error}\n")
    return ok


def format_exception(world: World, error: BaseException) -> str:
    """The traceback as CPython prints it, without the emulator's frames."""
    traceback = world.load("traceback")
    text: str = "".join(traceback.TracebackException(type(error), error, error.__traceback__).format())
    return text
