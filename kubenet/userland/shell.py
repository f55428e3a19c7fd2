"""sh: runs the trees of shell_parse.py as processes of the container.

    sh -c 'curl -s web | wc -c'      sh script.sh args      sh -i (with a terminal: prompts, PS2 for open constructs)

A program is a child process; a pipeline's members, subshells and command substitutions are children that run the shell's own
code with a copy of its state, as after fork(2). Builtins (shell_builtins.py) and functions run inside the shell, with
descriptors saved around redirections. `exec` keeps the pid. The same for sh, ash, dash and, with brace expansion, bash.

Source: POSIX.1-2017 XCU 2. Leaves out: job control, aliases, history, arrays, `select`.
"""

from __future__ import annotations

import errno
from typing import Any

from kubenet.userland import shell_parse as ast
from kubenet.userland.process import IGNORE, Exit, Process
from kubenet.userland.shell_expand import ExpansionError, expand_pattern, expand_text, expand_words
from kubenet.userland.shell_parse import List, Redirect, ShellSyntaxError, Simple, Word, parse
from kubenet.userland.tools import tool
from kubenet.userland.vfs import O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY

SAVE_FROM = 10  # descriptors from here on are the shell's own


class Break(Exception):
    """break n."""

    def __init__(self, levels: int, again: bool) -> None:
        super().__init__(levels)
        self.levels = levels
        self.again = again


class Return(Exception):
    """return n."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


RECURSION = 64


class Shell:
    """The state of one shell process."""

    def __init__(self, proc: Process, name: str, args: list[str]) -> None:
        self.proc = proc
        self.name = name
        self.args = args
        self.vars: dict[str, str] = {**proc.env, "PWD": proc.cwd}
        self.vars.setdefault("IFS", " \t\n")
        self.exported: dict[str, bool] = dict.fromkeys(proc.env, True)
        self.readonly: dict[str, bool] = {}
        self.functions: dict[str, Any] = {}
        self.options: dict[str, bool] = {}
        self.traps: dict[str, str] = {}
        self.locals: list[dict[str, str | None]] = []
        self.status = 0
        self.last_background = 0
        self.bash = name.rpartition("/")[2].lstrip("-") == "bash"
        self.interactive = False
        self.in_condition = 0
        self.substituted = False
        self.nesting = 0  # compound commands under way

    def fork(self, proc: Process) -> Shell:
        """A copy of the state for a child process."""
        child = Shell(proc, self.name, list(self.args))
        child.vars, child.exported, child.functions = dict(self.vars), dict(self.exported), dict(self.functions)
        child.options, child.status, child.bash = dict(self.options), self.status, self.bash
        child.last_background, child.in_condition = self.last_background, self.in_condition
        return child

    # ---- variables --------------------------------------------------------------------------------------------------

    def get(self, name: str, default: str) -> str:
        """A variable's value."""
        return self.vars.get(name, default)

    def set(self, name: str, value: str) -> None:
        """Assign. Raises ExpansionError for a readonly variable."""
        if name in self.readonly:
            raise ExpansionError(f"{name}: is read only")
        self.vars[name] = value

    def lookup(self, name: str) -> str | None:
        """$name, special parameters included."""
        if name in self.vars:
            return self.vars[name]
        if name.isdigit():
            number = int(name)
            if number == 0:
                return self.name
            return self.args[number - 1] if number <= len(self.args) else None
        proc = self.proc
        if name == "RANDOM":
            return str(proc.random.below(32768))
        if name == "SECONDS":
            return str((proc.container.loop.now - proc.started) // 1_000_000_000)
        if name == "!":
            return str(self.last_background) if self.last_background else None
        if name == "#":
            return str(len(self.args))
        if name == "-":
            return "".join(self.options)
        if name in "*@":
            return " ".join(self.args) if self.args else None
        return {"?": str(self.status), "$": str(proc.pid), "PPID": str(proc.ppid)}.get(name)

    def environment(self) -> dict[str, str]:
        """What a child gets as its environment."""
        return {name: self.vars[name] for name in self.exported if name in self.vars}

    # ---- running ----------------------------------------------------------------------------------------------------

    def complain(self, text: str) -> None:
        """A message of the shell's own."""
        self.proc.err(f"{self.name.rpartition('/')[2]}: {text}\n")

    def run_text(self, text: str) -> int:
        """Parse and run; a syntax error is status 2."""
        try:
            program = parse(text)
        except ShellSyntaxError as error:
            self.complain(str(error))
            self.status = 2
            return 2
        return self.run(program)

    def run(self, node: List) -> int:
        """Every command of the list, in order."""
        for item, background in node.items:
            if background:
                self.background(item)
            else:
                self.and_or(item)
            self.run_traps()
        return self.status

    def background(self, item: ast.AndOr) -> None:
        def main(proc: Process, argv: list[str]) -> int:
            proc.handlers.setdefault(2, IGNORE)
            return self.fork(proc).child(lambda shell: shell.and_or(item))

        child = self.spawn_self(main, {0: self._null()} if not self.interactive else {})
        self.last_background = child.pid
        self.status = 0
        if self.interactive:
            self.proc.err(f"[1] {child.pid}\n")

    def _null(self) -> int:
        return self.proc.sys.open("/dev/null")

    def spawn_self(self, main: Any, fds: dict[int, int]) -> Process:
        """A child that runs the shell's own code; `fds` replaces descriptors, and what was opened for it is closed here."""
        proc = self.proc
        table = {fd: fd for fd in proc.fds.files if fd < SAVE_FROM}
        table.update(fds)
        for fd in fds.values():
            if fds.get(fd) != fd:
                table.pop(fd, None) if fd not in fds else None
        child = proc.container.fork(proc, main, proc.argv, table, self.environment(), proc.cwd)
        for fd in dict.fromkeys(fds.values()):
            proc.sys.close(fd)
        return child

    def child(self, body: Any) -> int:
        """In a child process: run `body(self)` to an exit code."""
        self.traps = {}
        try:
            body(self)
        except Return as done:
            return done.status
        except Break:
            pass
        except ExpansionError as error:
            self.complain(str(error))
            return 2
        self.run_exit_trap()
        return self.status

    def and_or(self, node: ast.AndOr) -> int:
        for at, (op, pipeline) in enumerate(node.parts):
            if (op == "&&" and self.status != 0) or (op == "||" and self.status == 0):
                continue
            last = at == len(node.parts) - 1
            if not last:
                self.in_condition += 1
            try:
                self.pipeline(pipeline)
            finally:
                if not last:
                    self.in_condition -= 1
        return self.status

    def pipeline(self, node: ast.Pipeline) -> int:
        if len(node.commands) == 1:
            self.status = self.command(node.commands[0])
        else:
            self.status = self.pipe(node.commands)
        if node.negate:
            self.status = int(not self.status)
        elif self.status and self.options.get("e") and not self.in_condition:
            raise Exit(self.status)
        return self.status

    def pipe(self, commands: list[Any]) -> int:
        """a | b | c: one child each, the status is the last one's."""
        children = []
        source = -1
        for at, command in enumerate(commands):
            fds: dict[int, int] = {}
            reader = -1
            if source >= 0:
                fds[0] = source
            if at < len(commands) - 1:
                reader, writer = (self._high(fd) for fd in self.proc.sys.pipe())
                fds[1] = writer
            children.append(self.spawn_self(self._member(command), fds))
            source = reader
        statuses = [self.wait_for(child) for child in children]
        failed = [status for status in statuses if status]
        return failed[-1] if self.options.get("pipefail") and failed else statuses[-1]

    def _member(self, command: Any) -> Any:
        def main(proc: Process, argv: list[str]) -> int:
            def body(shell: Shell) -> None:
                shell.status = shell.command(command, last=True)

            return self.fork(proc).child(body)

        return main

    def _high(self, fd: int) -> int:
        """The same file on a descriptor that programs do not inherit."""
        new = self.proc.fds.dup(fd, SAVE_FROM)
        self.proc.fds.close(fd)
        return new

    def wait_for(self, child: Process) -> int:
        """The exit code of a child, which is reaped."""
        return self.proc.sys.waitpid(child.pid, False, None)[1]

    def substitute(self, text: str) -> str:
        """$(text)."""
        try:
            program = parse(text)
        except ShellSyntaxError as error:
            raise ExpansionError(str(error)) from None
        reader, writer = (self._high(fd) for fd in self.proc.sys.pipe())

        def main(proc: Process, argv: list[str]) -> int:
            return self.fork(proc).child(lambda shell: shell.run(program))

        child = self.spawn_self(main, {1: writer})
        data = self.proc.sys.read_all(reader)
        self.proc.sys.close(reader)
        self.status = self.wait_for(child)
        self.substituted = True
        return data.replace(b"\0", b"").decode("utf-8", "surrogateescape")

    # ---- commands ---------------------------------------------------------------------------------------------------

    def command(self, node: Any, last: bool = False) -> int:
        """Run one command of any kind; `last`: nothing follows in this process, so a program may replace it."""
        if isinstance(node, Simple):
            return self.simple(node, last)
        self.nesting += 1
        try:
            return self.compound(node)
        finally:
            self.nesting -= 1

    def compound(self, node: Any) -> int:
        """Run a command that has others inside."""
        if isinstance(node, ast.Redirected):
            return self.redirected(node)
        if isinstance(node, ast.If):
            return self.if_command(node)
        if isinstance(node, ast.Loop):
            return self.loop(node)
        if isinstance(node, ast.For):
            return self.for_command(node)
        if isinstance(node, ast.Case):
            return self.case(node)
        if isinstance(node, ast.Function):
            self.functions[node.name] = node.body
            return 0
        if node.subshell:
            return self.wait_for(self.spawn_self(self._subshell(node.body), {}))
        return self.run(node.body) if node.body.items else 0

    def _subshell(self, body: List) -> Any:
        def main(proc: Process, argv: list[str]) -> int:
            return self.fork(proc).child(lambda shell: shell.run(body))

        return main

    def condition(self, node: List) -> bool:
        """Run the list of an if, while or until; -e does not apply."""
        self.in_condition += 1
        try:
            return self.run(node) == 0
        finally:
            self.in_condition -= 1

    def if_command(self, node: ast.If) -> int:
        for test, body in node.clauses:
            if self.condition(test):
                return self.run(body)
        if node.otherwise is not None:
            return self.run(node.otherwise)
        return 0

    def loop(self, node: ast.Loop) -> int:
        status = 0
        while self.condition(node.condition) != node.until:
            try:
                status = self.run(node.body)
            except Break as jump:
                if self._leaves(jump):
                    break
        return status

    def _leaves(self, jump: Break) -> bool:
        """Is the loop over? A jump through several loops goes on outward."""
        if jump.levels > 1:
            raise Break(jump.levels - 1, jump.again)
        self.status = 0
        return not jump.again

    def for_command(self, node: ast.For) -> int:
        status = 0
        for value in self.args[:] if node.words is None else expand_words(self, node.words):
            self.set(node.name, value)
            try:
                status = self.run(node.body)
            except Break as jump:
                if self._leaves(jump):
                    break
        return status

    def case(self, node: ast.Case) -> int:
        text = expand_text(self, node.word)
        for patterns, body in node.items:
            if any(expand_pattern(self, pattern).fullmatch(text) for pattern in patterns):
                self.status = 0
                return self.run(body)
        return 0

    def redirected(self, node: ast.Redirected) -> int:
        saved: list[tuple[int, int]] = []
        try:
            if not self.redirect(node.redirects, saved):
                return 1
            return self.command(node.command)
        finally:
            self.restore(saved)

    def simple(self, node: Simple, last: bool = False) -> int:
        """Assignments, expansion, redirection, then a function, a builtin or a program."""
        from kubenet.userland.shell_builtins import BUILTINS, SPECIAL

        self.substituted = False
        try:
            argv = expand_words(self, node.words)
            if self.options.get("x"):
                shown = [f"{name}={expand_text(self, word)}" for name, word in node.assigns]
                self.proc.err("+ " + " ".join([*shown, *argv]) + "\n")
            if not argv:
                return self.assign_only(node)
            name = argv[0]
            saved: list[tuple[int, int]] = []
            keep = name == "exec" and len(argv) == 1
            try:
                if not self.redirect(node.redirects, [] if keep else saved):
                    return 1
                if name in self.functions:
                    return self.with_assigns(node.assigns, lambda: self.function(name, argv[1:]))
                builtin = BUILTINS.get(name)
                if builtin is not None:
                    if name in SPECIAL:
                        for variable, word in node.assigns:
                            self.set(variable, expand_text(self, word))
                        return builtin(self, argv)
                    return self.with_assigns(node.assigns, lambda: builtin(self, argv))
                extra = {variable: expand_text(self, word) for variable, word in node.assigns}
                return self.program(argv, extra, last)
            finally:
                self.restore(saved)
        except ExpansionError as error:
            self.complain(str(error))
            if not self.interactive:
                raise Exit(2) from None
            return 2

    def assign_only(self, node: Simple) -> int:
        saved: list[tuple[int, int]] = []
        for name, word in node.assigns:
            self.set(name, expand_text(self, word))
        ok = self.redirect(node.redirects, saved)
        self.restore(saved)
        if not ok:
            return 1
        return self.status if self.substituted else 0

    def with_assigns(self, assigns: list[tuple[str, Word]], body: Any) -> int:
        """Run with variables set for the time of the command."""
        before = {name: self.vars.get(name) for name, _ in assigns}
        for name, word in assigns:
            self.set(name, expand_text(self, word))
        try:
            status: int = body()
            return status
        finally:
            for name, value in before.items():
                if value is None:
                    self.vars.pop(name, None)
                else:
                    self.vars[name] = value

    def function(self, name: str, args: list[str]) -> int:
        """Call a function with its own positional parameters. Recursion ends as in dash (evalfun()).

        simplified: dash allows 1000 calls; here it is over with the first call inside RECURSION compound commands, so that the place is
        the same in every run and lies before Python's own limit.
        """
        outer, self.args = self.args, args
        self.locals.append({})
        try:
            if self.nesting >= RECURSION:
                self.complain("1: Maximum function recursion depth (1000) reached")
                raise Exit(2)
            return self.command(self.functions[name])
        except Return as done:
            return done.status
        finally:
            self.args = outer
            for variable, value in self.locals.pop().items():
                if value is None:
                    self.vars.pop(variable, None)
                else:
                    self.vars[variable] = value

    def program(self, argv: list[str], extra: dict[str, str], last: bool = False) -> int:
        """Run a program of the file system and wait for it."""
        proc = self.proc
        env = {**self.environment(), **extra}
        container = proc.container
        try:
            main, real_argv = container.resolve(argv, {"PATH": self.get("PATH", "")}, proc.cwd)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                return self.program([self.name if "/" in self.name else "/bin/sh", *argv], extra, last)
            words = "not found" if error.errno == errno.ENOENT else "Permission denied"
            self.complain(f"{argv[0]}: {words}")
            return 127 if error.errno == errno.ENOENT else 126
        fds = {fd: fd for fd in proc.fds.files if fd < SAVE_FROM}
        if last and not self.traps:
            return self.become(main, real_argv, env)
        return self.wait_for(container.fork(proc, main, real_argv, fds, env, proc.cwd))

    def become(self, main: Any, argv: list[str], env: dict[str, str]) -> int:
        """execve(2): the process goes on as another program."""
        proc = self.proc
        for fd in [fd for fd in proc.fds.files if fd >= SAVE_FROM]:
            proc.fds.close(fd)
        proc.handlers = {n: h for n, h in proc.handlers.items() if h == IGNORE}
        proc.argv, proc.env, proc.main = argv, env, main
        if proc.sys.tracer is not None:
            proc.sys.tracer.exec_line(proc)
        raise Exit(main(proc, argv) or 0)

    # ---- redirection ------------------------------------------------------------------------------------------------

    def redirect(self, redirects: list[Redirect], saved: list[tuple[int, int]]) -> bool:
        """Apply; what was there before is kept in `saved` as (descriptor, copy or -1). False after a message."""
        for item in redirects:
            try:
                self._redirect(item, saved)
            except OSError as error:
                target = expand_text(self, item.word)
                if item.op in (">&", "<&"):
                    self.complain(f"{target}: Bad file descriptor")
                elif error.errno == errno.ENOENT and item.op in (">", ">>", ">|"):
                    self.complain(f"can't create {target}: nonexistent directory")
                else:
                    verb = "open" if item.op == "<" else "create"
                    self.complain(f"can't {verb} {target}: {_words(error)}")
                return False
        return True

    def _redirect(self, item: Redirect, saved: list[tuple[int, int]]) -> None:
        sys, op = self.proc.sys, item.op
        if op in ("<<", "<<-", "<<<"):
            text = expand_text(self, item.word) + ("\n" if op == "<<<" else "")
            new = self._here(text.encode("utf-8", "surrogateescape"))
        elif op in (">&", "<&"):
            target = expand_text(self, item.word)
            if target == "-":
                self._save(item.fd, saved)
                if item.fd in self.proc.fds.files:
                    sys.close(item.fd)
                return
            if not target.isdigit():
                new = sys.open(target, O_WRONLY | O_CREAT | O_TRUNC)
                self._save(2, saved)
                sys.dup2(new, 2)
            else:
                self.proc.fds.get(int(target))
                self._save(item.fd, saved)
                sys.dup2(int(target), item.fd)
                return
        else:
            flags = {"<": O_RDONLY, ">>": O_WRONLY | O_CREAT | O_APPEND, "<>": O_RDWR | O_CREAT}.get(
                op, O_WRONLY | O_CREAT | O_TRUNC)
            new = sys.open(expand_text(self, item.word), flags)
            if op == "&>":
                self._save(2, saved)
                sys.dup2(new, 2)
        if new != item.fd:
            new = self._high(new) if new < SAVE_FROM else new
            self._save(item.fd, saved)
            sys.dup2(new, item.fd)
            sys.close(new)
        else:
            saved.append((item.fd, -1))

    def _here(self, data: bytes) -> int:
        """A descriptor from which the here-document is read."""
        reader, writer = self.proc.sys.pipe()
        pipe = self.proc.fds.get(writer)
        pipe.pipe.capacity = max(len(data), 1)  # type: ignore[attr-defined]
        self.proc.sys.write_all(writer, data)
        self.proc.sys.close(writer)
        return reader

    def _save(self, fd: int, saved: list[tuple[int, int]]) -> None:
        if all(fd != old for old, _ in saved):
            copy = self.proc.fds.dup(fd, SAVE_FROM) if fd in self.proc.fds.files else -1
            saved.append((fd, copy))

    def restore(self, saved: list[tuple[int, int]]) -> None:
        """Undo redirect()."""
        fds = self.proc.fds
        for fd, copy in reversed(saved):
            if self.proc.dead:
                return
            if copy < 0:
                if fd in fds.files:
                    fds.close(fd)
            elif copy in fds.files:
                fds.dup2(copy, fd)
                fds.close(copy)
        saved.clear()

    # ---- traps ------------------------------------------------------------------------------------------------------

    def run_traps(self) -> None:
        """Run the commands of signals that arrived."""
        waiting: list[str] = self.proc.extra.get("traps", [])
        while waiting:
            action = self.traps.get(waiting.pop(0))
            if action:
                status = self.status
                self.run_text(action)
                self.status = status

    def run_exit_trap(self) -> None:
        """trap ... EXIT."""
        self.run_traps()
        action = self.traps.pop("EXIT", None) or self.traps.pop("0", None)
        if action:
            status = self.status
            self.run_text(action)
            self.status = status


def _words(error: OSError) -> str:
    return {errno.ENOENT: "no such file", errno.EISDIR: "Is a directory", errno.EROFS: "Read-only file system"}.get(
        error.errno or 0, error.strerror or str(error))


@tool("sh", "ash", "bash", "dash")
def main(proc: Process, argv: list[str]) -> int:
    """sh [-ceuxil] [-o option] [file | -c command [name]] [args]."""
    name = argv[0]
    args = argv[1:]
    command: str | None = None
    options: dict[str, bool] = {}
    interactive = False
    while args and args[0][:1] in "-+" and len(args[0]) > 1:
        flag = args.pop(0)
        if flag == "--":
            break
        if flag[1:] == "o" and args:
            options[args.pop(0)] = flag[0] == "-"
            continue
        for letter in flag[1:] if not flag.startswith("--") else "":
            if letter == "c":
                command = ""
            elif letter == "i":
                interactive = True
            elif letter not in "ls":
                options[letter] = flag[0] == "-"
    shell = Shell(proc, name, args)
    shell.options = options
    if command is not None:
        if not args:
            shell.complain("-c requires an argument")
            return 2
        command, *rest = args
        if rest:
            shell.name, *rest = rest
        shell.args = rest
        return _whole(shell, command)
    if args:
        return _script(shell, args)
    terminal = proc.fds.files.get(0)
    if interactive or (terminal is not None and terminal.name == "tty"):
        return _interactive(shell)
    return _whole(shell, proc.read_stdin().decode("utf-8", "surrogateescape"))


def _script(shell: Shell, args: list[str]) -> int:
    try:
        text = shell.proc.read_file(args[0])
    except OSError as error:
        shell.complain(f"can't open '{args[0]}': {error.strerror}")
        return 2
    shell.name, shell.args = args[0], args[1:]
    return _whole(shell, text.decode("utf-8", "surrogateescape"))


def _whole(shell: Shell, text: str) -> int:
    """Run a script to its exit code."""
    try:
        program = parse(text)
    except ShellSyntaxError as error:
        shell.complain(str(error))
        return 2
    except RecursionError:
        shell.complain("1: Syntax error: nested too deeply")
        return 2
    try:
        items = program.items
        for at, (item, background) in enumerate(items):
            if at == len(items) - 1 and _only_program(item) and not background and not shell.traps:
                shell.status = shell.command(item.parts[0][1].commands[0], last=True)
            elif background:
                shell.background(item)
            else:
                shell.and_or(item)
            shell.run_traps()
    except Exit as done:
        shell.status = done.code
        shell.run_exit_trap()
        return done.code
    except Return as done:
        shell.status = done.status
    except Break:
        pass
    except ExpansionError as error:
        shell.complain(str(error))
        shell.status = 2
    except RecursionError:
        shell.complain("1: nested too deeply")
        shell.status = 2
    shell.run_exit_trap()
    return shell.status


def _only_program(item: ast.AndOr) -> bool:
    """The last command of a script is a single program: the shell becomes it (as ash, dash and bash do)."""
    return len(item.parts) == 1 and len(item.parts[0][1].commands) == 1 and not item.parts[0][1].negate and isinstance(
        item.parts[0][1].commands[0], Simple)


def _interactive(shell: Shell) -> int:
    """Prompt, read, run, until the end of input or exit."""
    shell.interactive = True
    proc = shell.proc
    text = ""
    proc.handlers.setdefault(2, lambda _number: None)
    while True:
        home = shell.get("HOME", "/root")
        where = "~" if proc.cwd == home else proc.cwd
        prompt = shell.get("PS1", f"{where} # ").replace("\\w", where).replace("\\$", "#").replace("\\h", proc.container.hostname)
        proc.err("> " if text else prompt)
        line = read_line(proc, 0)
        if not line:
            break
        text += line
        try:
            program = parse(text)
        except ShellSyntaxError as error:
            if not error.incomplete:
                shell.complain(str(error))
                text = ""
            continue
        text = ""
        try:
            shell.run(program)
        except Exit as done:
            return done.code
        except (Break, Return):
            pass
        except ExpansionError as error:
            shell.complain(str(error))
    return shell.status


def read_line(proc: Process, fd: int) -> str:
    """One line of a descriptor, byte by byte so that nothing behind it is taken."""
    out = bytearray()
    while (c := proc.sys.read(fd, 1)) and c != b"\n":
        out += c
    return (out + c).decode("utf-8", "surrogateescape")
