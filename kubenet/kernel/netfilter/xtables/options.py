"""The options of matches and targets: how a value is read, and what is checked about options together.

An extension lists its options (Opt). While the command line is read, Got.put() converts each value at once, so that the
first mistake from the left is the one reported; done() checks the rest: what must be there, what excludes what.

Source: iptables 1.8.9 libxtables/xtoptions.c xtables_option_parse(), xtables_options_fcheck().
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubenet.kernel.netfilter.xtables.errors import XtablesError
from kubenet.kernel.netfilter.xtables.names import SERVICES

Reader = Callable[[str, str, str], Any]  # (text, extension, option) -> value


@dataclass(frozen=True, slots=True)
class Opt:
    """One option of an extension. `read` None: it takes no argument; `args` 2: it takes two words (--tcp-flags)."""

    name: str
    read: Reader | None = None
    invert: bool = False
    mand: bool = False
    excl: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    read6: Reader | None = None  # how ip6tables reads it, if otherwise
    alias: str = ""  # the option this is another spelling of
    args: int = 1


class Got:
    """The options given to one loaded match or target."""

    __slots__ = ("ext", "options", "values", "family")

    def __init__(self, ext: str, options: dict[str, Opt], family: int = 2) -> None:
        self.ext = ext
        self.family = family
        self.options = options
        self.values: dict[str, tuple[Any, bool]] = {}

    def put(self, opt: Opt, text: str, invert: bool) -> None:
        """The option was given. Raises XtablesError as xtables_option_parse() does."""
        name = opt.alias or opt.name
        if name in self.values:
            raise XtablesError(f'{self.ext}: option "--{opt.name}" can only be used once.\n')
        if invert and not opt.invert:
            raise XtablesError(f'{self.ext}: option "--{opt.name}" cannot be inverted.\n')
        read = opt.read6 if self.family == 10 and opt.read6 is not None else opt.read
        value = True if read is None else read(text, self.ext, opt.name)
        self.values[name] = (value, invert)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an option, or the default."""
        found = self.values.get(name)
        return default if found is None else found[0]

    def inv(self, name: str) -> bool:
        """Was `!` written before it?"""
        found = self.values.get(name)
        return found is not None and found[1]

    def done(self) -> None:
        """Options fit together. Raises XtablesError as xtables_options_fcheck() does."""
        for opt in self.options.values():
            if opt.alias:
                continue
            if opt.mand and opt.name not in self.values:
                raise XtablesError(f'{self.ext}: option "--{opt.name}" must be specified\n')
            if opt.name not in self.values:
                continue
            for other in opt.also:
                if other not in self.values:
                    raise XtablesError(f'{self.ext}: option "--{opt.name}" also requires "--{other}".\n')
            for other in opt.excl:
                if other in self.values:
                    raise XtablesError(f'{self.ext}: option "--{opt.name}" cannot be used together with "--{other}".\n')


def options(*opts: Opt) -> dict[str, Opt]:
    """The option table of an extension, by name."""
    return {opt.name: opt for opt in opts}


# --- readers -------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)\Z")


def number(text: str) -> int | None:
    """strtoul() with base 0 over the whole text, or None."""
    if not _NUMBER.match(text):
        return None
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if len(text) > 1 and text[0] == "0":
        return int(text, 8) if all(c in "01234567" for c in text) else None
    return int(text)


def uint(low: int, high: int) -> Reader:
    """Reads an integer of this range (XTTYPE_UINT8/16/32)."""

    def read(text: str, ext: str, opt: str) -> int:
        value = number(text)
        if value is None or not low <= value <= high:
            raise XtablesError(f'{ext}: bad value for option "--{opt}", or out of range ({low}-{high}).\n')
        return value

    return read


def uint_range(high: int) -> Reader:
    """Reads `n`, `n:`, `:m`, `n:m` (XTTYPE_UINT16RC, UINT32RC)."""

    def read(text: str, ext: str, opt: str) -> tuple[int, int]:
        first, colon, second = text.partition(":")
        low = number(first) if first or not colon else 0
        top = (number(second) if second else high) if colon else low
        if low is None or top is None or low > high or top > high:
            raise XtablesError(f'{ext}: bad value for option "--{opt}" near "{text}", or out of range (0-{high}).\n')
        return low, top

    return read


def text_of(limit: int) -> Reader:
    """Reads a string of at most `limit` bytes (XTTYPE_STRING)."""

    def read(text: str, ext: str, opt: str) -> str:
        if len(text) > limit:
            raise XtablesError(f'{ext}: option "--{opt}" accepts only strings up to {limit} characters.\n')
        return text

    return read


def any_text(text: str, ext: str, opt: str) -> str:
    """Reads a string as it is."""
    return text


def mark_mask(text: str, ext: str, opt: str) -> tuple[int, int]:
    """Reads value[/mask] (XTTYPE_MARKMASK32)."""
    first, slash, second = text.partition("/")
    value, mask = number(first), number(second) if slash else 0xFFFFFFFF
    if value is None or mask is None or value > 0xFFFFFFFF or mask > 0xFFFFFFFF:
        raise XtablesError(f'{ext}: bad integer value for option "--{opt}", or out of range.\n')
    return value, mask


def mark_value(text: str, ext: str, opt: str) -> int:
    """Reads a 32-bit mark (XTTYPE_UINT32 of the mark targets)."""
    value = number(text)
    if value is None or value > 0xFFFFFFFF:
        raise XtablesError(f'{ext}: bad value for option "--{opt}", or out of range (0-4294967295).\n')
    return value


def port_number(text: str) -> int:
    """A port by number or service name."""
    value = number(text) if text else None
    if value is not None and value <= 65535:
        return value
    if text in SERVICES:
        return SERVICES[text]
    raise XtablesError(f"invalid port/service `{text}' specified")


def port_range(text: str, ext: str = "", opt: str = "") -> tuple[int, int]:
    """Reads port, port:, :port, port:port."""
    first, colon, second = text.partition(":")
    if not colon:
        port = port_number(text)
        return port, port
    low = port_number(first) if first else 0
    high = port_number(second) if second else 65535
    if low > high:
        raise XtablesError("invalid portrange (min > max)")
    return low, high
