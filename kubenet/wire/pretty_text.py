"""Text protocols and hex dumps as tcpdump prints them: HTTP (print-http.c) and RESP.

HTTP is recognised by port only, and shown if the segment begins with a method or a status line: its first line, or with
-v all its lines until a byte that is no text. A segment in the middle of a body is just "HTTP".
"""

from __future__ import annotations

HTTP_PORTS = (80, 8080, 3128)
RESP_PORT = 6379

_MAX_TOKEN = 128
_HTTP_METHODS = (
    "GET", "PUT", "COPY", "HEAD", "LOCK", "MOVE", "POLL", "POST", "BCOPY", "BMOVE", "MKCOL", "TRACE", "LABEL",
    "MERGE", "DELETE", "SEARCH", "UNLOCK", "REPORT", "UPDATE", "NOTIFY", "BDELETE", "CONNECT", "OPTIONS", "CHECKIN",
    "PROPFIND", "CHECKOUT", "CCM_POST", "SUBSCRIBE", "PROPPATCH", "BPROPFIND", "BPROPPATCH", "UNCHECKOUT",
    "MKACTIVITY", "MKWORKSPACE", "UNSUBSCRIBE", "RPC_CONNECT", "VERSION-CONTROL", "BASELINE-CONTROL",
)  # fmt: skip

_SPACE = b" \t\n\v\f\r"


def http_text(data: bytes, length: int, verbose: int) -> str:
    """`HTTP`, and the first line or all lines if it is a request or a response. tcpdump: txtproto_print()."""
    if not _is_request_or_response(data):
        return "HTTP"
    if not verbose:
        return "HTTP" + _line(data, 0, ": ")[0]
    out, at = f"HTTP, length: {length}", 0
    while at < len(data):
        text, at = _line(data, at, "\n\t")
        out += text
        if at == 0:
            break
    return out


def _is_request_or_response(data: bytes) -> bool:
    """It starts with a method, or its second word is a three-digit code."""
    token, at = _token(data, 0)
    if token.upper() in _HTTP_METHODS:
        return True
    if at == 0:
        return False
    code, _ = _token(data, at)
    return len(code) == 3 and code.isdigit()


def _token(data: bytes, at: int) -> tuple[str, int]:
    """The word at `at` and where the next one starts; ("", 0) if there is none. tcpdump: parse_token()."""
    start = at
    while at < len(data) and data[at] not in _SPACE:
        if not 0x20 < data[at] < 0x7F or at - start + 2 > _MAX_TOKEN:
            return "", 0
        at += 1
    if at == start:
        return "", 0
    token = data[start:at].decode("ascii")
    while at < len(data) and data[at] == 0x20:
        at += 1
    return token, at


def _line(data: bytes, start: int, prefix: str) -> tuple[str, int]:
    """(text of the line at `start`, where the next begins or 0 at the end of text). tcpdump: print_txt_line()."""
    at = start
    while at < len(data):
        byte = data[at]
        if byte == 0x0A:
            return prefix + data[start:at].decode("ascii"), at + 1
        if byte == 0x0D:
            if data[at + 1 : at + 2] != b"\n":
                return "", 0
            return prefix + data[start:at].decode("ascii"), at + 2
        if not 0x20 <= byte < 0x7F and byte != 0x09:
            return "", 0
        at += 1
    return prefix + data[start:at].decode("ascii") + " [|http]", 0


def resp_text(data: bytes) -> str:
    """Redis' protocol: each value, strings in quotes. tcpdump: resp_print()."""
    out, at = "", 0
    while at < len(data):
        end = data.find(b"\r\n", at)
        if end < 0:
            return out + " [|resp]"
        kind, text, at = data[at : at + 1], data[at + 1 : end], end + 2
        if text == b"-1" and kind in (b"$", b"*"):
            out += " null"
        elif kind == b"*":
            out += " empty" if text == b"0" else ""
        elif kind == b"$" and text.isascii() and text.isdigit() and len(text) < 10:
            size = int(text)
            if len(data) < at + size:
                return out + " [|resp]"
            out += f' "{safe(data[at : at + size])}"'
            at += size + 2
        else:
            out += f' "{safe(text)}"'
    return out


def safe(data: bytes) -> str:
    """Printable text; other bytes as \\0xNN. tcpdump: fn_print_char()."""
    return "".join(chr(b) if 0x20 <= b < 0x7F else _caret(b) for b in data)


def _caret(byte: int) -> str:
    prefix = "M-" if byte & 0x80 else ""
    byte &= 0x7F
    return prefix + (chr(byte) if 0x20 <= byte < 0x7F else "^" + chr(byte ^ 0x40))


def hex_dump(data: bytes, indent: str = "\n\t", ascii_too: bool = False, offset: int = 0) -> str:
    """Lines of 16 bytes, `0x0000:  4500 003c ...`, as -x and, with `ascii_too`, -X. tcpdump: hex_and_ascii_print()."""
    out = ""
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        out += f"{indent}0x{at + offset:04x}:  "
        if ascii_too:
            text = "".join(chr(b) if 0x20 < b < 0x7F else "." for b in row)
            out += f"{pairs:<39}  {text}"
        else:
            out += pairs
    return out


def dump_text(style: str, data: bytes) -> str:
    """The bytes under a line, for -x, -X or -A and their doubles."""
    if style[1] == "A":
        return "\n" + _ascii(data)
    return hex_dump(data, "\n\t", ascii_too=style[1] == "X")


def _ascii(data: bytes) -> str:
    """-A: text as it is, other bytes as dots, CR before LF or at the end left out. tcpdump: ascii_print()."""
    data = data.removesuffix(b"\r").replace(b"\r\n", b"\n")
    return "".join(chr(b) if 0x20 <= b < 0x7F or b in b"\t\n" else "." for b in data)
