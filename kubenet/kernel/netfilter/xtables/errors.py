"""What iptables says when it refuses: the message, how it is dressed, and the exit status.

The tool has three voices. A wrong argument (status 2) is printed with the program's name and version and ends in "Try
`iptables -h'"; iptables-restore puts the line number in between. A missing table is status 3 (4 in newer tools). What the
kernel refuses comes as an errno and is put into words by libiptc (status 1): iptables prints the words, iptables-restore
only "line N failed".

Sources: iptables 1.8.9 xtables_error() (xtables.c), iptc_strerror() (libiptc.c), exit_tryhelp(); recorded from the tool.
"""

from __future__ import annotations

import errno

VERSION = "1.8.9"
OTHER_PROBLEM, PARAMETER_PROBLEM, VERSION_PROBLEM = 1, 2, 3


class XtablesError(Exception):
    """A refusal. `text` is all that goes to standard error, `status` the exit code."""

    def __init__(self, message: str, status: int = PARAMETER_PROBLEM, plain: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.plain = plain  # printed without the program's name
        self.text = message

    def dress(self, program: str, line: int = 0) -> XtablesError:
        """Set `text` as the program prints it; `line` is the restore input's line, 0 for none."""
        text = self.message if self.plain else f"{program} v{VERSION} (legacy): {self.message}"
        if self.status == PARAMETER_PROBLEM:
            text += "\n" if text else ""
            if line:
                text += f"Error occurred at line: {line}\n"
            text += f"Try `{program} -h' or '{program} --help' for more information.\n"
        elif not text.endswith("\n"):
            text += "\n"
        if self.status == VERSION_PROBLEM:
            text += f"Perhaps {program} or your kernel needs to be upgraded.\n"
        self.text = text
        self.args = (text.rstrip("\n"),)
        return self


class IptcError(OSError):
    """The kernel or libiptc refused; `op` says what was asked, for the words (iptc_strerror)."""

    def __init__(self, number: int, op: str = "") -> None:
        super().__init__(number, iptc_strerror(number, op))
        self.op = op
        self.out = ""  # what was printed before


_WORDS: dict[tuple[str, int], str] = {
    ("insert", errno.E2BIG): "Index of insertion too big",
    ("replace", errno.E2BIG): "Index of replacement too big",
    ("delete_num", errno.E2BIG): "Index of deletion too big",
    ("zero_num", errno.E2BIG): "Index of counter too big",
    ("insert", errno.EINVAL): "Target problem",
    ("create", errno.EEXIST): "Chain already exists",
    ("policy", errno.ENOENT): "Bad built-in chain name",
    ("policy", errno.EINVAL): "Bad policy name",
    ("delete", errno.ENOENT): "Bad rule (does a matching rule exist in that chain?)",
    ("check", errno.ENOENT): "Bad rule (does a matching rule exist in that chain?)",
    ("", errno.ENOENT): "No chain/target/match by that name",
    ("", errno.EEXIST): "File exists",
    ("", errno.EMLINK): "Too many links",
    ("", errno.ELOOP): "Too many levels of symbolic links",
    ("", errno.ENOTEMPTY): "Directory not empty",
    ("", errno.EINVAL): "Invalid argument",
    ("", errno.ERANGE): "Numerical result out of range",
}


def iptc_strerror(number: int, op: str = "") -> str:
    """The words for an errno after operation `op`. iptables: iptc_strerror()."""
    return _WORDS.get((op, number)) or _WORDS.get(("", number)) or f"Unknown error {number}"


def iptc_line(error: IptcError, program: str = "iptables") -> str:
    """What the iptables tool prints for it."""
    more = " Run `dmesg' for more information." if error.errno == errno.EINVAL else ""
    return f"{program}: {error.strerror}.{more}\n"
