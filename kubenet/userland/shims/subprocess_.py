"""_posixsubprocess: subprocess.py starts processes of the container. Source: CPython Modules/_posixsubprocess.c."""

from __future__ import annotations

from typing import Any

from kubenet.userland.shims import proc


def fork_exec(
    args: Any, executable_list: Any, close_fds: bool, pass_fds: Any, cwd: Any, env: Any, p2cread: int, p2cwrite: int, c2pread: int,
    c2pwrite: int, errread: int, errwrite: int, errpipe_read: int, errpipe_write: int, *rest: Any,
) -> int:
    """Start a child with its standard descriptors; a failure goes to errpipe_write in the form subprocess.py reads."""
    p = proc()
    fds = {n: given if given >= 0 else n for n, given in ((0, p2cread), (1, c2pwrite), (2, errwrite))
           if given >= 0 or n in p.fds.files}
    fds.update({fd: fd for fd in pass_fds if fd != errpipe_write})  # close-on-exec
    if not close_fds:
        fds.update({fd: fd for fd in p.fds.files if fd not in fds and not p.fds.cloexec.get(fd, True)})
    argv = [_text(arg) for arg in args]
    if env is None:
        from kubenet.userland.shims.posix import _env

        table = _env()
    else:
        table = dict(_text(item).partition("=")[::2] for item in env)
    error: OSError | None = None
    where = p.cwd if cwd is None else _text(cwd)
    try:
        p.vfs.listdir(where, p.cwd)
    except OSError as problem:
        return _failed(p, errpipe_write, problem, "noexec:chdir")
    for path in executable_list:
        try:
            child = p.container.spawn_child(p, [_text(path), *argv[1:]], fds, table, where)
            child.argv[0] = argv[0] if child.argv[0] == _text(path) else child.argv[0]
            return child.pid
        except OSError as problem:
            error = error if error is not None and problem.errno == 2 else problem
    assert error is not None
    return _failed(p, errpipe_write, error, "")


def _failed(p: Any, pipe: int, error: OSError, where: str) -> int:
    p.sys.write(pipe, f"OSError:{error.errno:X}:{where}".encode())
    return 1 << 30  # nobody's pid: waitpid() will say ECHILD, which subprocess.py expects


def _text(value: Any) -> str:
    import os

    raw = os.fspath(value)
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw


def exports() -> dict[str, Any]:
    """The names of _posixsubprocess."""
    return {"fork_exec": fork_exec}
