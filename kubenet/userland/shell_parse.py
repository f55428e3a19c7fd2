r"""The grammar of sh: text -> a tree of commands.

A recursive descent over the characters, POSIX.1-2017 XCU 2.10's grammar with the words kept as lists of parts, so that quoting
survives to expansion:

    parse("echo $x | wc -l && ls")   -> List of (and-or, background)

Word parts are tuples: ("lit", text, quoted), ("param", name, op, word or None, quoted), ("cmd", text, quoted),
("arith", text, quoted). Raises ShellSyntaxError, with `incomplete` set when more input could finish the command (that is how
the interactive shell knows to print PS2).

Why not a parser from a package: each was tried against `dash -n` and against this one, and a shell that refuses or misreads what
the real one runs is no lab. bashlex (GPL) takes 90 ms to import and knows neither `case` nor `$((...))`. tree-sitter-bash is an
editor's grammar: it refuses `cat <<A <<B`, `f() echo x`, `for i in; do`, `for i` newline `in`, reads `! a | b` as `(! a) | b`,
hangs the words after a redirection on the redirection, has no node for a here-document's text before its first expansion, takes
`fi`, `do`, `then` and `a ;; b` for commands, and marks `while` (to be continued) and `if ; fi` (wrong) alike, as one error over
the whole text, so that PS2 could not be told from a refusal. libdash is dash's own parser, but has no wheel for Linux on ARM,
keeps its state in globals (it hangs when initialised twice) and prints its errors on the host's stderr.
tests/userland/test_shell_dash.py holds this one against the real dash, script by script; test_shell_tree.py holds its trees
against tree-sitter-bash's where that one is right.
simplified: commands and expansions nest NEST_MAX deep at most (dash: as deep as its C stack), since each level is Python frames.
Leaves out: select, coproc, arrays, process substitution, here-documents inside command substitutions' first line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Part = tuple[Any, ...]
Word = list[Part]

OPERATORS = ("<<-", "<<<", "&&", "||", ";;", ">>", "<<", ">&", "<&", ">|", "<>", "&>", ";", "&", "|", "(", ")", "<", ">", "\n")
REDIRECTS = ("<", ">", ">>", "<<", "<<-", "<<<", ">&", "<&", ">|", "<>", "&>")
RESERVED = ("if", "then", "elif", "else", "fi", "while", "until", "for", "do", "done", "case", "esac", "{", "}", "!", "in")
NEST_MAX = 100
_NAME_START = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_NAME = _NAME_START + "0123456789"
_META = " \t\n;&|<>()"


class ShellSyntaxError(Exception):
    """The text is not a command; `incomplete`: its end is missing."""

    def __init__(self, text: str, incomplete: bool = False) -> None:
        super().__init__(text)
        self.incomplete = incomplete


@dataclass(slots=True)
class Redirect:
    """[fd]op word; a here-document has its text in `word`."""

    fd: int
    op: str
    word: Word


@dataclass(slots=True)
class Simple:
    """name=value ... command words, redirections."""

    assigns: list[tuple[str, Word]]
    words: list[Word]
    redirects: list[Redirect]


@dataclass(slots=True)
class Pipeline:
    """[!] a | b | c"""

    commands: list[Any]
    negate: bool


@dataclass(slots=True)
class AndOr:
    """a && b || c: operators stand before their pipelines, "" before the first."""

    parts: list[tuple[str, Pipeline]]


@dataclass(slots=True)
class List:
    """a; b & c: each with whether it runs in the background."""

    items: list[tuple[AndOr, bool]] = field(default_factory=list)


@dataclass(slots=True)
class If:
    clauses: list[tuple[List, List]]
    otherwise: List | None


@dataclass(slots=True)
class Loop:
    condition: List
    body: List
    until: bool


@dataclass(slots=True)
class For:
    name: str
    words: list[Word] | None
    body: List


@dataclass(slots=True)
class Case:
    word: Word
    items: list[tuple[list[Word], List]]


@dataclass(slots=True)
class Group:
    """{ list; } or, in a process of its own, ( list )."""

    body: List
    subshell: bool


@dataclass(slots=True)
class Function:
    name: str
    body: Any


@dataclass(slots=True)
class Redirected:
    """A compound command with redirections."""

    command: Any
    redirects: list[Redirect]


def parse(text: str) -> List:
    """The whole text as a list of commands. Raises ShellSyntaxError."""
    parser = Parser(text)
    result = parser.list(())
    parser.blank(newlines=True)
    if parser.at < len(parser.text):
        raise parser.unexpected()
    return result


class Parser:
    """A position in a text."""

    def __init__(self, text: str, depth: int = 0) -> None:
        self.text = text
        self.at = 0
        self.depth = depth
        self.heredocs: list[tuple[Redirect, str, bool, bool]] = []

    def deeper(self) -> None:
        """One level of nesting more. Raises ShellSyntaxError when it is one too many."""
        self.depth += 1
        if self.depth > NEST_MAX:
            raise ShellSyntaxError("syntax error: nested too deeply")

    # ---- characters and tokens --------------------------------------------------------------------------------------

    def blank(self, newlines: bool = False) -> None:
        """Skip blanks, comments and continued lines; newlines too if asked, reading pending here-documents."""
        text = self.text
        while self.at < len(text):
            c = text[self.at]
            if c in " \t\r":
                self.at += 1
            elif c == "\\" and text[self.at + 1 : self.at + 2] == "\n":
                self.at += 2
            elif c == "#" and (self.at == 0 or text[self.at - 1] in " \t\n;&|()"):
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif c == "\n" and newlines:
                self.newline()
            else:
                return

    def newline(self) -> None:
        """Past a newline; the here-documents announced on the line follow."""
        self.at += 1
        for redirect, end, strip, quoted in self.heredocs:
            redirect.word = self.heredoc(end, strip, quoted)
        self.heredocs.clear()

    def heredoc(self, end: str, strip: bool, quoted: bool) -> Word:
        lines = []
        while True:
            if self.at >= len(self.text):
                raise ShellSyntaxError(f"here-document at line 1 delimited by end-of-file (wanted `{end}')", True)
            stop = self.text.find("\n", self.at)
            stop = len(self.text) if stop < 0 else stop
            line = self.text[self.at : stop]
            self.at = min(stop + 1, len(self.text))
            if strip:
                line = line.lstrip("\t")
            if line == end:
                break
            lines.append(line + "\n")
        body = "".join(lines)
        return [("lit", body, True)] if quoted else Parser(body, self.depth).double_quoted(None)

    def operator(self) -> str:
        """The operator at this position, "" if none."""
        self.blank()
        for op in OPERATORS:
            if self.text.startswith(op, self.at):
                return op
        return ""

    def take(self, op: str) -> bool:
        """Past `op` if it is here."""
        if self.operator() == op:
            self.at += len(op)
            return True
        return False

    def reserved(self) -> str:
        """The reserved word at this position, "" if none."""
        self.blank()
        end = self.at
        while end < len(self.text) and self.text[end] not in _META:
            end += 1
        word = self.text[self.at : end]
        return word if word in RESERVED else ""

    def expect(self, word: str) -> None:
        """Past the reserved word, which must be here."""
        self.blank(newlines=True)
        if self.reserved() != word:
            raise self.unexpected(f' (expecting "{word}")')
        self.at += len(word)

    def unexpected(self, more: str = "") -> ShellSyntaxError:
        """Syntax error at this position, in dash's words."""
        self.blank()
        if self.at >= len(self.text):
            return ShellSyntaxError(f"syntax error: unexpected end of file{more}", True)
        token = self.operator() or self.reserved()
        if token == "\n":
            return ShellSyntaxError(f"syntax error: unexpected newline{more}")
        if token:
            return ShellSyntaxError(f'syntax error: unexpected "{token}"{more}')
        return ShellSyntaxError(f"syntax error: unexpected word{more}")

    # ---- commands ---------------------------------------------------------------------------------------------------

    def list(self, ends: tuple[str, ...]) -> List:
        """Commands up to one of the reserved words or operators in `ends`."""
        out = List()
        while True:
            self.blank(newlines=True)
            if self.at >= len(self.text) or self.reserved() in ends or self.operator() in ends:
                return out
            if self.operator() in (")", ";;"):
                return out
            item = self.and_or()
            background = False
            if self.operator() == "&":
                self.at += 1
                background = True
            elif self.operator() == ";":
                self.at += 1
            elif self.operator() not in ("\n", ")", ";;") and self.at < len(self.text) and self.reserved() not in ends:
                raise self.unexpected()
            out.items.append((item, background))

    def compound_list(self, ends: tuple[str, ...]) -> List:
        """A list that must not be empty: what stands between `then` and `fi`, in braces, in parentheses (XCU 2.10 compound_list)."""
        out = self.list(ends)
        if not out.items:
            raise self.unexpected()
        return out

    def and_or(self) -> AndOr:
        parts = [("", self.pipeline())]
        while (op := self.operator()) in ("&&", "||"):
            self.at += 2
            self.blank(newlines=True)
            parts.append((op, self.pipeline()))
        return AndOr(parts)

    def pipeline(self) -> Pipeline:
        negate = False
        if self.reserved() == "!":
            self.at += 1
            negate = True
        commands = [self.command()]
        while self.operator() == "|":
            self.at += 1
            self.blank(newlines=True)
            commands.append(self.command())
        return Pipeline(commands, negate)

    def command(self) -> Any:
        self.deeper()
        made = self.command_here()
        self.depth -= 1
        return made

    def command_here(self) -> Any:
        word = self.reserved()
        made: Any
        if word == "if":
            made = self.if_command()
        elif word in ("while", "until"):
            self.at += 5
            condition = self.compound_list(("do",))
            made = Loop(condition, self.do_group(), word == "until")
        elif word == "for":
            made = self.for_command()
        elif word == "case":
            made = self.case_command()
        elif word == "{":
            self.at += 1
            made = Group(self.compound_list(("}",)), False)
            self.expect("}")
        elif word:
            raise self.unexpected()
        elif self.operator() == "(":
            self.at += 1
            made = Group(self.compound_list((")",)), True)
            if not self.take(")"):
                raise self.unexpected(' (expecting ")")')
        else:
            return self.simple()
        redirects = []
        while (redirect := self.redirect()) is not None:
            redirects.append(redirect)
        return Redirected(made, redirects) if redirects else made

    def if_command(self) -> If:
        self.at += 2
        clauses = []
        otherwise = None
        while True:
            condition = self.compound_list(("then",))
            self.expect("then")
            clauses.append((condition, self.compound_list(("elif", "else", "fi"))))
            if self.reserved() != "elif":
                break
            self.at += 4
        if self.reserved() == "else":
            self.at += 4
            otherwise = self.compound_list(("fi",))
        self.expect("fi")
        return If(clauses, otherwise)

    def do_group(self) -> List:
        self.expect("do")
        body = self.compound_list(("done",))
        self.expect("done")
        return body

    def for_command(self) -> For:
        self.at += 3
        self.blank()
        name = self.name()
        if not name:
            raise ShellSyntaxError("syntax error: bad for loop variable", self.at >= len(self.text))
        words: list[Word] | None = None
        self.blank(newlines=True)
        if self.reserved() == "in":
            self.at += 2
            words = []
            self.blank()
            while (word := self.word()) is not None:
                words.append(word)
                self.blank()
        self.take(";")
        return For(name, words, self.do_group())

    def case_command(self) -> Case:
        self.at += 4
        self.blank()
        word = self.word()
        if word is None:
            raise self.unexpected()
        self.expect("in")
        items: list[tuple[list[Word], List]] = []
        while True:
            self.blank(newlines=True)
            if self.reserved() == "esac":
                break
            self.take("(")
            patterns = []
            while True:
                self.blank()
                pattern = self.word()
                if pattern is None:
                    raise self.unexpected()
                patterns.append(pattern)
                if not self.take("|"):
                    break
            if not self.take(")"):
                raise self.unexpected(' (expecting ")")')
            items.append((patterns, self.list(("esac", ";;"))))
            self.blank(newlines=True)
            if not self.take(";;"):
                break
        self.expect("esac")
        return Case(word, items)

    def name(self) -> str:
        end = self.at
        if end < len(self.text) and self.text[end] in _NAME_START:
            while end < len(self.text) and self.text[end] in _NAME:
                end += 1
        found = self.text[self.at : end]
        self.at = end
        return found

    def simple(self) -> Any:
        """A simple command, or the definition of a function."""
        out = Simple([], [], [])
        while True:
            redirect = self.redirect()
            if redirect is not None:
                out.redirects.append(redirect)
                continue
            start = self.at
            if not out.words:
                name = self.name()
                if name and self.text[self.at : self.at + 1] == "=":
                    self.at += 1
                    out.assigns.append((name, self.word() or []))
                    continue
                if name and not out.assigns and not out.redirects and self.text[self.at : self.at + 1] in ("(", " "):
                    if self.function_parens():
                        self.blank(newlines=True)
                        return Function(name, self.command())
                self.at = start
            word = self.word()
            if word is None:
                break
            out.words.append(word)
            if out.words[0] == [("lit", "[[", False)]:
                self.double_bracket(out)
        if not out.words and not out.assigns and not out.redirects:
            raise self.unexpected()
        return out

    def double_bracket(self, out: Simple) -> None:
        """The words of [[ ... ]], in which < > && || ( ) are operands."""
        while True:
            self.blank(newlines=True)
            op = self.operator()
            if op:
                self.at += len(op)
                out.words.append([("lit", op, False)])
                continue
            word = self.word()
            if word is None:
                raise self.unexpected(' (expecting "]]")')
            out.words.append(word)
            if word == [("lit", "]]", False)]:
                return

    def function_parens(self) -> bool:
        start = self.at
        self.blank()
        if self.text.startswith("(", self.at):
            self.at += 1
            self.blank()
            if self.text.startswith(")", self.at):
                self.at += 1
                return True
        self.at = start
        return False

    def redirect(self) -> Redirect | None:
        """A redirection, if one is here."""
        self.blank()
        start, end = self.at, self.at
        while end < len(self.text) and self.text[end].isdigit():
            end += 1
        self.at = end
        op = next((o for o in OPERATORS if o in REDIRECTS and self.text.startswith(o, self.at)), "")
        if not op:
            self.at = start
            return None
        fd = int(self.text[start:end]) if end > start else -1
        self.at += len(op)
        self.blank()
        digits = self.at
        while digits < len(self.text) and self.text[digits].isdigit():
            digits += 1
        word = None if self.text[digits : digits + 1] in ("<", ">") else self.word()  # "> 2>&1": 2 is no file, it is a redirection's number
        if word is None:
            raise self.unexpected()
        if fd < 0:
            fd = 0 if op[0] == "<" else 1
        redirect = Redirect(fd, op, word)
        if op in ("<<", "<<-"):
            quoted = any(part[-1] for part in word)
            self.heredocs.append((redirect, "".join(part[1] for part in word), op == "<<-", quoted))
        return redirect

    # ---- words ------------------------------------------------------------------------------------------------------

    def word(self) -> Word | None:
        """The word here; None if an operator or the end is."""
        text = self.text
        parts: Word = []
        start = self.at
        while self.at < len(text):
            c = text[self.at]
            if c in _META:
                break
            if c == "'":
                end = text.find("'", self.at + 1)
                if end < 0:
                    raise ShellSyntaxError("syntax error: unterminated quoted string", True)
                parts.append(("lit", text[self.at + 1 : end], True))
                self.at = end + 1
            elif c == '"':
                self.at += 1
                parts.append(("lit", "", True))
                parts.extend(self.double_quoted('"'))
            elif c == "\\":
                if self.at + 1 >= len(text):
                    raise ShellSyntaxError("syntax error: unexpected end of file", True)
                if text[self.at + 1] != "\n":
                    parts.append(("lit", text[self.at + 1], True))
                self.at += 2
            elif c == "$" and text[self.at + 1 : self.at + 2] == "'":
                parts.append(("lit", self.ansi_quoted(), True))
            elif c in "$`":
                parts.append(self.dollar(False))
            else:
                end = self.at
                while end < len(text) and text[end] not in _META and text[end] not in "'\"\\$`":
                    end += 1
                parts.append(("lit", text[self.at : end], False))
                self.at = end
        return parts if self.at > start else None

    def ansi_quoted(self) -> str:
        """$'...' with C escapes."""
        end = self.at + 2
        while end < len(self.text) and self.text[end] != "'":
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise ShellSyntaxError("syntax error: unterminated quoted string", True)
        raw = self.text[self.at + 2 : end]
        self.at = end + 1
        return unescape(raw)

    def double_quoted(self, end: str | None) -> Word:
        """Parts up to the closing quote, or of the whole text of a here-document (end None)."""
        text = self.text
        parts: Word = []
        literal: list[str] = []

        def flush() -> None:
            if literal:
                parts.append(("lit", "".join(literal), True))
                literal.clear()

        while True:
            if self.at >= len(text):
                if end is not None:
                    raise ShellSyntaxError("syntax error: unterminated quoted string", True)
                flush()
                return parts
            c = text[self.at]
            if c == end:
                self.at += 1
                flush()
                return parts
            if c == "\\":
                following = text[self.at + 1 : self.at + 2]
                if following == "\n":
                    pass
                elif following in ("$", "`", "\\") or (following == '"' and end is not None):
                    literal.append(following)
                else:
                    literal.append("\\" + following)
                self.at += 2
            elif c in "$`":
                flush()
                parts.append(self.dollar(True))
            else:
                literal.append(c)
                self.at += 1

    def dollar(self, quoted: bool) -> Part:
        """A parameter, command substitution or arithmetic expansion at $ or `."""
        self.deeper()
        part = self.dollar_here(quoted)
        self.depth -= 1
        return part

    def dollar_here(self, quoted: bool) -> Part:
        text = self.text
        if text[self.at] == "`":
            end = self.at + 1
            while end < len(text) and text[end] != "`":
                end += 2 if text[end] == "\\" else 1
            if end >= len(text):
                raise ShellSyntaxError("syntax error: EOF in backquote substitution", True)
            inner = text[self.at + 1 : end].replace("\\`", "`").replace("\\$", "$").replace("\\\\", "\\")
            self.at = end + 1
            return ("cmd", inner, quoted)
        if text.startswith("$((", self.at):
            start = self.at + 3
            end = self._balanced(start, 2)
            if end >= 0:
                self.at = end + 2
                return ("arith", text[start:end], quoted)
        if text.startswith("$(", self.at):
            inner_parser = Parser(text, self.depth)
            inner_parser.at = self.at + 2
            inner_parser.list((")",))
            if not inner_parser.take(")"):
                raise inner_parser.unexpected(' (expecting ")")')
            inner = text[self.at + 2 : inner_parser.at - 1]
            self.at = inner_parser.at
            return ("cmd", inner, quoted)
        if text.startswith("${", self.at):
            self.at += 2
            return self.braced(quoted)
        self.at += 1
        name = self.name()
        if not name and self.at < len(text) and text[self.at] in "?$!#@*-0123456789":
            name = text[self.at]
            self.at += 1
        return ("param", name, "", None, quoted) if name else ("lit", "$", quoted)

    def _balanced(self, start: int, closing: int) -> int:
        """The position of `))` that ends $((, or -1."""
        depth = 0
        for at in range(start, len(self.text)):
            c = self.text[at]
            if c == "(":
                depth += 1
            elif c == ")":
                if depth == 0:
                    return at if self.text.startswith(")" * closing, at) else -1
                depth -= 1
        raise ShellSyntaxError("syntax error: missing '))'", True)

    def braced(self, quoted: bool) -> Part:
        """${...}; self.at is past the brace."""
        text = self.text
        if text.startswith("#", self.at) and text[self.at + 1 : self.at + 2] not in ("}", ""):
            self.at += 1
            name = self.name() or self._special()
            self._close_brace()
            return ("param", name, "len", None, quoted)
        name = self.name() or self._special()
        if not name:
            raise ShellSyntaxError("syntax error: bad substitution", self.at >= len(text))
        if text.startswith("}", self.at):
            self.at += 1
            return ("param", name, "", None, quoted)
        op = next((o for o in (":-", ":=", ":?", ":+", "%%", "##", "//", "-", "=", "?", "+", "%", "#", "/", ":")
                   if text.startswith(o, self.at)), "")
        if not op:
            raise ShellSyntaxError("syntax error: bad substitution", self.at >= len(text))
        self.at += len(op)
        return ("param", name, op, self._brace_word(quoted), quoted)

    def _special(self) -> str:
        end = self.at
        while end < len(self.text) and self.text[end].isdigit():
            end += 1
        if end == self.at and end < len(self.text) and self.text[end] in "?$!#@*-":
            end += 1
        found = self.text[self.at : end]
        self.at = end
        return found

    def _close_brace(self) -> None:
        if not self.text.startswith("}", self.at):
            raise ShellSyntaxError("syntax error: bad substitution", self.at >= len(self.text))
        self.at += 1

    def _brace_word(self, quoted: bool) -> Word:
        """The word inside ${name op word}, up to its closing brace."""
        text = self.text
        parts: Word = []
        while True:
            if self.at >= len(text):
                raise ShellSyntaxError("syntax error: missing '}'", True)
            c = text[self.at]
            if c == "}":
                self.at += 1
                return parts
            if c == "'" and not quoted:
                end = text.find("'", self.at + 1)
                if end < 0:
                    raise ShellSyntaxError("syntax error: unterminated quoted string", True)
                parts.append(("lit", text[self.at + 1 : end], True))
                self.at = end + 1
            elif c == '"':
                self.at += 1
                parts.extend(self.double_quoted('"'))
            elif c == "\\":
                parts.append(("lit", text[self.at + 1 : self.at + 2], True))
                self.at += 2
            elif c in "$`":
                parts.append(self.dollar(quoted))
            else:
                parts.append(("lit", c, quoted))
                self.at += 1


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "\\": "\\", "'": "'", '"': '"'}


def unescape(text: str) -> str:
    r"""C escapes replaced: \n \t \033 \x1b ...; an unknown one stays as it is."""
    out = []
    at = 0
    while at < len(text):
        c = text[at]
        if c != "\\" or at + 1 >= len(text):
            out.append(c)
            at += 1
            continue
        kind = text[at + 1]
        at += 2
        if kind in _ESCAPES:
            out.append(_ESCAPES[kind])
        elif kind in "01234567":
            end = at
            limit = at + (3 if kind == "0" else 2)
            while end < min(limit, len(text)) and text[end] in "01234567":
                end += 1
            out.append(chr(int(kind + text[at:end], 8) & 0xFF))
            at = end
        elif kind == "x" and text[at : at + 1] in tuple("0123456789abcdefABCDEF"):
            end = at + 1
            while end < min(at + 2, len(text)) and text[end] in "0123456789abcdefABCDEF":
                end += 1
            out.append(chr(int(text[at:end], 16)))
            at = end
        else:
            out.append("\\" + kind)
    return "".join(out)
