"""The file system of a container: a tree of nodes, shared image layers below, private changes above.

    root = Dir(lower=image_layer)          reads fall through, the first write copies up: a pod costs what it changed
    vfs = Vfs(root)
    vfs.lookup("/etc/hosts", cwd)          -> Node; OSError ENOENT, ENOTDIR, ELOOP, as path_resolution(7)
    vfs.open(loop, "/tmp/x", O_WRONLY | O_CREAT) -> OpenFile, a kernel File like sockets and pipes

Node kinds: RegFile (bytes), Dir, Symlink, Program (an executable: the name of a native tool), Device (/dev/null ...), and
Dynamic / DynamicDir, whose content is computed at each open: /proc and /sys (procfs.py). A volume is a Dir put in the tree
by mount(). Nothing here touches the host's file system.

Leaves out: permissions (containers run as root), hard links, inode times other than mtime, quotas.
Sources: path_resolution(7), open(2), overlayfs for the copy-up idea.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kubenet.kernel.socket.file import File, oserror
from kubenet.sim.clock import EventLoop

O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE = 0, 1, 2, 3
O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK = 0o100, 0o200, 0o1000, 0o2000, 0o4000
O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC = 0o200000, 0o400000, 0o2000000

MAX_LINKS = 40


class Node:
    """One inode. `ino` is drawn when first asked for, from the tree's counter."""

    __slots__ = ("mode", "mtime", "ino", "readonly")
    kind = 0

    def __init__(self, perm: int) -> None:
        self.mode = self.kind | perm
        self.mtime: int = 0
        self.ino: int = 0
        self.readonly: bool = False

    def size(self) -> int:
        """st_size."""
        return 0


class RegFile(Node):
    """A regular file."""

    __slots__ = ("data",)
    kind = stat.S_IFREG

    def __init__(self, data: bytes | bytearray = b"", perm: int = 0o644) -> None:
        super().__init__(perm)
        self.data = bytearray(data)

    def size(self) -> int:
        return len(self.data)

    def copy(self) -> RegFile:
        """A private copy (copy-up)."""
        other = RegFile(self.data, self.mode & 0o7777)
        other.mtime = self.mtime
        return other


class Program(RegFile):
    """An executable whose code is a native program, found in the tools' registry by `tool`."""

    __slots__ = ("tool",)

    def __init__(self, tool: str) -> None:
        super().__init__(b"\x7fELF kubenet native program: " + tool.encode() + b"\n", 0o755)
        self.tool = tool

    def copy(self) -> RegFile:
        other = Program(self.tool)
        other.mtime = self.mtime
        return other


class Symlink(Node):
    """A symbolic link."""

    __slots__ = ("target",)
    kind = stat.S_IFLNK

    def __init__(self, target: str) -> None:
        super().__init__(0o777)
        self.target = target

    def size(self) -> int:
        return len(self.target)


class Device(Node):
    """/dev/null, zero, full, urandom, tty: `name` decides what read and write do."""

    __slots__ = ("name",)
    kind = stat.S_IFCHR

    def __init__(self, name: str) -> None:
        super().__init__(0o666)
        self.name = name


class SocketNode(Node):
    """The name of a bound unix socket."""

    __slots__ = ()
    kind = stat.S_IFSOCK

    def __init__(self) -> None:
        super().__init__(0o755)


class Dynamic(Node):
    """A file whose content is computed when it is opened; `write`, if given, gets what a program writes."""

    __slots__ = ("read", "write")
    kind = stat.S_IFREG

    def __init__(self, read: Callable[[], bytes], write: Callable[[bytes], None] | None = None) -> None:
        super().__init__(0o644 if write else 0o444)
        self.read = read
        self.write = write


class Dir(Node):
    """A directory. With `lower`, children come from there until they are changed here."""

    __slots__ = ("children", "lower", "gone")
    kind = stat.S_IFDIR

    def __init__(self, children: Mapping[str, Node] | None = None, lower: Dir | None = None, perm: int = 0o755) -> None:
        super().__init__(perm)
        self.children: dict[str, Node] = dict(children or {})
        self.lower = lower
        self.gone: dict[str, bool] = {}

    def get(self, name: str) -> Node | None:
        """The child, a directory of the lower layer being opened as a layer of its own."""
        node = self.children.get(name)
        if node is None and self.lower is not None and name not in self.gone:
            node = self.lower.get(name)
            if isinstance(node, Dir) and not isinstance(node, DynamicDir):
                layer = Dir(lower=node, perm=node.mode & 0o7777)
                layer.mtime, layer.readonly = node.mtime, node.readonly
                node = self.children[name] = layer
        return node

    def peek(self, name: str) -> Node | None:
        """The child as get() shows it, for looking only: no layer is made for a directory of the lower layer."""
        node = self.children.get(name)
        if node is None and self.lower is not None and name not in self.gone:
            node = self.lower.peek(name)
        return node

    def writable(self, name: str) -> Node | None:
        """The child, copied up if it belongs to a lower layer."""
        node = self.get(name)
        if isinstance(node, RegFile) and name not in self.children:
            node = self.children[name] = node.copy()
        return node

    def names(self) -> list[str]:
        """Every child's name, sorted."""
        found = dict.fromkeys(self.children)
        if self.lower is not None:
            found.update((name, None) for name in self.lower.names() if name not in self.gone)
        return sorted(found)

    def put(self, name: str, node: Node) -> None:
        """The name now means this node."""
        self.children[name] = node
        self.gone.pop(name, None)

    def remove(self, name: str) -> None:
        """The name is free again."""
        self.children.pop(name, None)
        if self.lower is not None and self.lower.get(name) is not None:
            self.gone[name] = True


class DynamicDir(Dir):
    """A directory whose entries are computed at each look: /proc, /sys/class/net."""

    __slots__ = ("list_names", "find")

    def __init__(self, list_names: Callable[[], list[str]], find: Callable[[str], Node | None]) -> None:
        super().__init__(perm=0o555)
        self.list_names = list_names
        self.find = find
        self.readonly = True

    def get(self, name: str) -> Node | None:
        return self.children.get(name) or self.find(name)

    peek = get

    def names(self) -> list[str]:
        return sorted(dict.fromkeys([*self.children, *self.list_names()]))


class LateDir(Dir):
    """A directory some of whose entries are made at the first look: most containers never look into their /proc, /sys, /dev."""

    __slots__ = ("late",)

    def __init__(self, late: Mapping[str, Callable[[], Node]], lower: Dir | None = None) -> None:
        super().__init__(lower=lower)
        self.late = dict(late)

    def _make(self, name: str) -> None:
        if name in self.late:
            self.put(name, self.late[name]())

    def get(self, name: str) -> Node | None:
        self._make(name)
        return super().get(name)

    def peek(self, name: str) -> Node | None:
        self._make(name)
        return super().peek(name)

    def names(self) -> list[str]:
        return sorted(dict.fromkeys([*super().names(), *self.late]))

    def put(self, name: str, node: Node) -> None:
        self.late.pop(name, None)
        super().put(name, node)

    def remove(self, name: str) -> None:
        self.late.pop(name, None)
        super().remove(name)


class ReadOnlyDir(Dir):
    """A directory seen through a read-only mount: what others write there shows, nothing can be written here."""

    __slots__ = ()

    def __init__(self, below: Dir) -> None:
        super().__init__(lower=below, perm=below.mode & 0o7777)
        self.readonly, self.mtime = True, below.mtime

    def get(self, name: str) -> Node | None:
        node = self.children.get(name) or (self.lower.get(name) if self.lower is not None else None)
        return ReadOnlyDir(node) if isinstance(node, Dir) and not isinstance(node, ReadOnlyDir | DynamicDir) else node

    peek = get


def tree(files: Mapping[str, bytes | str | Node]) -> Dir:
    """A directory tree from {"/etc/os-release": b"...", ...}; a key that ends in / is an empty directory."""
    root = Dir()
    for path, content in files.items():
        parts = [part for part in path.split("/") if part]
        at = root
        for part in parts[:-1] if not path.endswith("/") else parts:
            child = at.get(part)
            if not isinstance(child, Dir):
                child = Dir()
                at.put(part, child)
            at = child
        if not path.endswith("/"):
            at.put(parts[-1], content if isinstance(content, Node) else RegFile(_bytes(content)))
    return root


FIRST_STAMP = "2026_01_01_00_00_00.1"


def volume(files: Mapping[str, bytes | str | Node], readonly: bool = True, stamp: str = FIRST_STAMP, mtime: int = 0) -> Dir:
    """A ConfigMap or Secret volume: one file a key, behind the ..data link through which kubelet swaps versions."""
    out = Dir(perm=0o777)
    out.readonly = readonly
    update_volume(out, files, stamp, mtime)
    return out


def update_volume(vol: Dir, files: Mapping[str, bytes | str | Node], stamp: str, mtime: int = 0) -> None:
    """The volume shows `files`, path by path, from now on, swapped in one step. Kubernetes: AtomicWriter.Write()."""
    data = tree(files)
    links: dict[str, Node] = {name: Symlink(f"..data/{name}") for name in data.names()}
    old = [name for name in vol.names() if name.startswith("..2") or not name.startswith("..") and name not in links]
    data.readonly = vol.readonly
    vol.put(f"..{stamp}", data)
    vol.put("..data", Symlink(f"..{stamp}"))
    for name in old:
        vol.remove(name)
    for name, link in links.items():
        vol.put(name, link)
    for node in (vol, data, vol.children["..data"], *links.values()):
        node.mtime = mtime
    _freeze(data)


def _freeze(at: Dir) -> None:
    """The directories below are as writable as this one."""
    for node in at.children.values():
        if isinstance(node, Dir):
            node.readonly, node.mtime = at.readonly, at.mtime
            _freeze(node)


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content)


def normpath(path: str, cwd: str = "/") -> str:
    """An absolute path without . and .. by text alone (what getcwd() prints after chdir)."""
    out: list[str] = []
    for part in (path if path.startswith("/") else f"{cwd}/{path}").split("/"):
        if part == "..":
            if out:
                out.pop()
        elif part not in ("", "."):
            out.append(part)
    return "/" + "/".join(out)


class Vfs:
    """Path operations over one tree."""

    __slots__ = ("root", "_inos", "now")

    def __init__(self, root: Dir, now: Callable[[], int] = lambda: 0) -> None:
        self.root = root
        self.now = now
        self._inos = 1

    def walk(self, path: str, cwd: str = "/", follow: bool = True, looking: bool = False) -> tuple[Dir, str, Node | None, str]:
        """(parent directory, last name, node or None, real path). Raises ENOENT (a missing parent), ENOTDIR, ELOOP.

        `looking`: the nodes may belong to the image, and are not to be changed.
        """
        if path == "":
            raise oserror(errno.ENOENT)
        todo = [p for p in (path if path.startswith("/") else f"{cwd}/{path}").split("/") if p not in ("", ".")][::-1]
        want_dir = path.endswith("/")
        stack: list[tuple[str, Dir]] = [("", self.root)]
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                if len(stack) > 1:
                    stack.pop()
                continue
            here = stack[-1][1]
            node = here.peek(name) if looking else here.get(name)
            if isinstance(node, Symlink) and (todo or follow or want_dir):
                links += 1
                if links > MAX_LINKS:
                    raise oserror(errno.ELOOP)
                if node.target.startswith("/"):
                    del stack[1:]
                todo.extend(p for p in node.target.split("/")[::-1] if p not in ("", "."))
                continue
            if not todo:
                if node is not None and want_dir and not isinstance(node, Dir):
                    raise oserror(errno.ENOTDIR)
                return here, name, node, "/".join([*(n for n, _ in stack), name]) or "/"
            if node is None:
                raise oserror(errno.ENOENT)
            if not isinstance(node, Dir):
                raise oserror(errno.ENOTDIR)
            stack.append((name, node))
        real = "/".join(n for n, _ in stack) or "/"
        parent = stack[-2][1] if len(stack) > 1 else self.root
        return parent, stack[-1][0], stack[-1][1], real

    def lookup(self, path: str, cwd: str = "/", follow: bool = True) -> Node:
        """The node. Raises ENOENT, ENOTDIR, ELOOP."""
        node = self.walk(path, cwd, follow)[2]
        if node is None:
            raise oserror(errno.ENOENT)
        return node

    def peek(self, path: str, cwd: str = "/") -> Node:
        """lookup() for those who only look: the node may be the image's own. Raises ENOENT, ENOTDIR, ELOOP."""
        node = self.walk(path, cwd, looking=True)[2]
        if node is None:
            raise oserror(errno.ENOENT)
        return node

    def realpath(self, path: str, cwd: str = "/") -> str:
        """The absolute path with every link followed."""
        return self.walk(path, cwd)[3]

    def exists(self, path: str, cwd: str = "/") -> bool:
        """True if lookup() would succeed."""
        try:
            self.peek(path, cwd)
        except OSError:
            return False
        return True

    def read(self, path: str, cwd: str = "/") -> bytes:
        """A file's whole content. Raises as open(2) and read(2) do."""
        return content(self.peek(path, cwd))

    def write(self, path: str, data: bytes | str, perm: int = 0o644, cwd: str = "/") -> None:
        """The file has this content; parents are made."""
        parts = normpath(path, cwd).split("/")[1:-1]
        at = ""
        for part in parts:
            at += "/" + part
            if not self.exists(at):
                self.mkdir(at)
        parent, name, _, _ = self.walk(path, cwd)
        node = RegFile(_bytes(data), perm)
        node.mtime = self.now()
        parent.put(name, node)

    def mount(self, path: str, node: Node) -> None:
        """The path shows `node`: a volume, or a single file of one (subPath)."""
        at = self.root
        parts = normpath(path).split("/")[1:]
        if parts == [""]:
            raise oserror(errno.EBUSY)
        for part in parts[:-1]:
            child = at.get(part)
            if not isinstance(child, Dir):
                child = Dir()
                at.put(part, child)
            at = child
        at.put(parts[-1], node)

    def _parent(self, path: str, cwd: str, follow: bool = False) -> tuple[Dir, str, Node | None]:
        parent, name, node, _ = self.walk(path, cwd, follow)
        if parent.readonly:
            raise oserror(errno.EROFS)
        return parent, name, node

    def put(self, path: str, made: Node, cwd: str = "/") -> None:
        """The name, which must be free, means this node: mknod(2), bind(2) of a unix socket."""
        parent, name, node = self._parent(path, cwd)
        if node is not None:
            raise oserror(errno.EEXIST)
        made.mtime = self.now()
        parent.put(name, made)

    def mkdir(self, path: str, cwd: str = "/", perm: int = 0o755) -> None:
        """mkdir(2)."""
        parent, name, node = self._parent(path.rstrip("/") or "/", cwd)
        if node is not None:
            raise oserror(errno.EEXIST)
        made = Dir(perm=perm)
        made.mtime = self.now()
        parent.put(name, made)

    def rmdir(self, path: str, cwd: str = "/") -> None:
        """rmdir(2)."""
        parent, name, node = self._parent(path.rstrip("/"), cwd)
        if node is None:
            raise oserror(errno.ENOENT)
        if not isinstance(node, Dir):
            raise oserror(errno.ENOTDIR)
        if node.names():
            raise oserror(errno.ENOTEMPTY)
        parent.remove(name)

    def unlink(self, path: str, cwd: str = "/") -> None:
        """unlink(2)."""
        parent, name, node = self._parent(path, cwd)
        if node is None:
            raise oserror(errno.ENOENT)
        if isinstance(node, Dir):
            raise oserror(errno.EISDIR)
        parent.remove(name)

    def symlink(self, target: str, path: str, cwd: str = "/") -> None:
        """symlink(2)."""
        parent, name, node = self._parent(path, cwd)
        if node is not None:
            raise oserror(errno.EEXIST)
        parent.put(name, Symlink(target))

    def rename(self, old: str, new: str, cwd: str = "/") -> None:
        """rename(2)."""
        from_dir, from_name, node = self._parent(old, cwd)
        to_dir, to_name, target = self._parent(new, cwd)
        if node is None:
            raise oserror(errno.ENOENT)
        if isinstance(target, Dir) and not isinstance(node, Dir):
            raise oserror(errno.EISDIR)
        if isinstance(target, Dir) and target.names():
            raise oserror(errno.ENOTEMPTY)
        from_dir.remove(from_name)
        to_dir.put(to_name, node)

    def chmod(self, path: str, perm: int, cwd: str = "/") -> None:
        """chmod(2)."""
        parent, name, node, _ = self.walk(path, cwd)
        if node is None:
            raise oserror(errno.ENOENT)
        if parent.readonly:
            raise oserror(errno.EROFS)
        node = parent.writable(name) or node
        node.mode = node.kind | perm & 0o7777

    def utime(self, path: str, when: int, cwd: str = "/") -> None:
        """utimensat(2) of the time of modification, in ns; a file of the image is copied up first (overlayfs: ovl_setattr())."""
        parent, name, node, _ = self.walk(path, cwd)
        if node is None:
            raise oserror(errno.ENOENT)
        if parent.readonly:
            raise oserror(errno.EROFS)
        (parent.writable(name) or node).mtime = when

    def listdir(self, path: str, cwd: str = "/") -> list[str]:
        """The names in a directory, sorted."""
        node = self.peek(path, cwd)
        if not isinstance(node, Dir):
            raise oserror(errno.ENOTDIR)
        return node.names()

    def ino(self, node: Node) -> int:
        """The node's inode number."""
        if node.ino == 0:
            self._inos += 1
            node.ino = self._inos
        return node.ino

    def open(self, loop: EventLoop, path: str, flags: int = O_RDONLY, perm: int = 0o644, cwd: str = "/") -> OpenFile:
        """open(2). Raises ENOENT, EEXIST, EISDIR, ENOTDIR, EROFS, ELOOP."""
        parent, name, node, real = self.walk(path, cwd, not flags & O_NOFOLLOW)
        writing = flags & O_ACCMODE != O_RDONLY
        if node is None:
            if not flags & O_CREAT:
                raise oserror(errno.ENOENT)
            if path.endswith("/"):
                raise oserror(errno.EISDIR)
            if parent.readonly:
                raise oserror(errno.EROFS)
            node = RegFile(b"", perm & 0o7777)
            node.mtime = self.now()
            parent.put(name, node)
        elif flags & O_CREAT and flags & O_EXCL:
            raise oserror(errno.EEXIST)
        if isinstance(node, Symlink):
            raise oserror(errno.ELOOP)
        if isinstance(node, SocketNode):
            raise oserror(errno.ENXIO)
        if isinstance(node, Dir) and writing:
            raise oserror(errno.EISDIR)
        if flags & O_DIRECTORY and not isinstance(node, Dir):
            raise oserror(errno.ENOTDIR)
        if writing and isinstance(node, RegFile):
            if parent.readonly or node.readonly:
                raise oserror(errno.EROFS)
            node = parent.writable(name)
        if writing and isinstance(node, Dynamic) and node.write is None:
            raise oserror(errno.EACCES)
        assert node is not None
        if flags & O_TRUNC and isinstance(node, RegFile):
            node.data = bytearray()
            node.mtime = self.now()
        return OpenFile(loop, real, node, flags, self.now)

    def glob(self, pattern: str, cwd: str = "/") -> list[str]:
        """Paths that match a shell pattern, sorted; as written (relative stays relative). glob(7)."""
        found = [""] if not pattern.startswith("/") else ["/"]
        parts = [part for part in pattern.split("/") if part]
        for at, part in enumerate(parts):
            found = list(self._glob_step(found, part, cwd, at < len(parts) - 1))
        return sorted(found)

    def _glob_step(self, bases: list[str], part: str, cwd: str, more: bool) -> Iterator[str]:
        from fnmatch import fnmatchcase

        literal = not any(c in part for c in "*?[")
        for base in bases:
            if literal:
                if more:
                    yield base + part + "/"  # what comes next finds out whether it is there
                elif self.exists(base + part, cwd):
                    yield base + part
                continue
            try:
                names = self.listdir(base or ".", cwd)
            except OSError:
                continue
            for name in names:
                if fnmatchcase(name, part) and (not name.startswith(".") or part.startswith(".")):
                    yield base + name + ("/" if more else "")


def content(node: Node) -> bytes:
    """What reading the node from its start gives. Raises EISDIR."""
    if isinstance(node, RegFile):
        return bytes(node.data)
    if isinstance(node, Dynamic):
        return node.read()
    if isinstance(node, Dir):
        raise oserror(errno.EISDIR)
    return b""


class OpenFile(File):
    """An open file of the tree: a position, and the content as of open() for computed files."""

    __slots__ = ("node", "pos", "flags", "path", "snapshot", "now", "random")

    def __init__(self, loop: EventLoop, path: str, node: Node, flags: int, now: Callable[[], int]) -> None:
        super().__init__(loop, path)
        self.node = node
        self.flags = flags
        self.path = path
        self.pos = 0
        self.now = now
        self.snapshot: bytes | None = None
        self.random: Callable[[int], bytes] | None = None

    def _data(self) -> bytes | bytearray:
        node = self.node
        if isinstance(node, RegFile):
            return node.data
        if self.snapshot is None:
            self.snapshot = content(node)
        return self.snapshot

    def read(self, size: int) -> bytes:
        if self.flags & O_ACCMODE == O_WRONLY:
            raise oserror(errno.EBADF)
        if isinstance(self.node, Device):
            return self._device_read(size)
        data = self._data()
        out = bytes(data[self.pos : self.pos + size])
        self.pos += len(out)
        return out

    def _device_read(self, size: int) -> bytes:
        name = self.node.name if isinstance(self.node, Device) else ""
        if name in ("zero", "full"):
            return bytes(size)
        if name in ("urandom", "random") and self.random is not None:
            return self.random(size)
        return b""

    def write(self, data: bytes) -> int:
        if self.flags & O_ACCMODE == O_RDONLY:
            raise oserror(errno.EBADF)
        node = self.node
        if isinstance(node, RegFile):
            if self.flags & O_APPEND:
                self.pos = len(node.data)
            if self.pos > len(node.data):
                node.data += bytes(self.pos - len(node.data))
            node.data[self.pos : self.pos + len(data)] = data
            self.pos += len(data)
            node.mtime = self.now()
        elif isinstance(node, Dynamic) and node.write is not None:
            node.write(bytes(data))
        elif isinstance(node, Device) and node.name == "full":
            raise oserror(errno.ENOSPC)
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2)."""
        base = (0, self.pos, len(self._data()) if not isinstance(self.node, (Device, Dir)) else 0)[whence]
        if base + offset < 0:
            raise oserror(errno.EINVAL)
        self.pos = base + offset
        return self.pos

    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        if not isinstance(self.node, RegFile) or self.flags & O_ACCMODE == O_RDONLY:
            raise oserror(errno.EINVAL)
        data = self.node.data
        if size < len(data):
            del data[size:]
        else:
            data += bytes(size - len(data))


def stat_tuple(vfs: Vfs, node: Node) -> tuple[Any, ...]:
    """(st_mode, st_ino, st_dev, st_nlink, st_uid, st_gid, st_size, atime, mtime, ctime in seconds, the three in ns)."""
    seconds = node.mtime // 1_000_000_000
    links = 2 if isinstance(node, Dir) else 1
    return (node.mode, vfs.ino(node), 64, links, 0, 0, node.size(), seconds, seconds, seconds)
