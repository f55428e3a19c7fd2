"""Words and numbers: the small rules that every kind's validation is made of, with apimachinery's sentences.

Names (RFC 1123, DNS-1035, qualified), labels, ports, port names (RFC 6335), addresses. Each check_ function adds what
it finds to a FieldErrors; the texts are kept word for word, since kubectl prints them and people search for them.
Source: apimachinery pkg/util/validation.
"""

from __future__ import annotations

import re
from typing import Any

from kubenet.cluster.api.status import FieldErrors
from kubenet.wire.addr import ip4, ip6

Obj = dict[str, Any]

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = LABEL + r"(\." + LABEL + ")*"
DNS1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
VALUE = "(" + QUALIFIED + ")?"
CONFIG_KEY = r"[-._a-zA-Z0-9]+"
ENV_NAME = r"[-._a-zA-Z][-._a-zA-Z0-9]*"

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')")
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')")
DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    f"with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{DNS1035}')")
QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED}')")
VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '({VALUE[1:]}')")
CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{CONFIG_KEY}')")
ENV_TEXT = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start "
    f"with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '{ENV_NAME}')")
FINALIZER_TEXT = "name is neither a standard finalizer name nor is it fully qualified"
PORT_TEXT = "must be between 1 and 65535, inclusive"
NEGATIVE_TEXT = "must be greater than or equal to 0"
LONG_63, LONG_253 = "must be no more than 63 characters", "must be no more than 253 characters"
POD_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")
STS_UPDATE_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")

_RE = {p: re.compile(p) for p in (LABEL, SUBDOMAIN, DNS1035, QUALIFIED, VALUE, CONFIG_KEY, ENV_NAME)}
DNS1035_KINDS = ("Service",)
LABEL_KINDS = ("Namespace",)


def name_errors(value: Any, pattern: str, text: str, limit: int = 63) -> list[str]:
    """What is wrong with a name, as sentences."""
    out = []
    if len(str(value)) > limit:
        out.append(f"must be no more than {limit} characters")
    if not _RE[pattern].fullmatch(str(value)):
        out.append(text)
    return out


def check_name(errs: FieldErrors, field: str, value: Any, pattern: str, text: str, limit: int = 63) -> None:
    for sentence in name_errors(value, pattern, text, limit):
        errs.invalid(field, value, sentence)


def qualified_name(errs: FieldErrors, field: str, key: str) -> None:
    """A label or annotation key: [prefix/]name."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        if not prefix:
            errs.invalid(field, key, "prefix part must be non-empty")
        elif not _RE[SUBDOMAIN].fullmatch(prefix):
            errs.invalid(field, key, "prefix part " + SUBDOMAIN_TEXT)
    if not name:
        errs.invalid(field, key, "name part must be non-empty")
    if len(name) > 63:
        errs.invalid(field, key, "name part " + LONG_63)
    if not _RE[QUALIFIED].fullmatch(name):
        errs.invalid(field, key, QUALIFIED_TEXT)


def labels(errs: FieldErrors, field: str, values: dict[str, str] | None) -> None:
    for key, value in (values or {}).items():
        qualified_name(errs, field, key)
        check_name(errs, field, value, VALUE, VALUE_TEXT)


def port(errs: FieldErrors, field: str, value: Any, zero_ok: bool = False) -> None:
    if value is None or zero_ok and value == 0:
        return
    if not 1 <= value <= 65535:
        errs.invalid(field, value, PORT_TEXT)


def port_name(errs: FieldErrors, field: str, value: str) -> None:
    """A port name of a container: IANA_SVC_NAME (RFC 6335 5.1)."""
    if len(value) > 15:
        errs.invalid(field, value, "must be no more than 15 characters")
    if not re.fullmatch(r"[a-z0-9-]*", value):
        errs.invalid(field, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", value):
        errs.invalid(field, value, "must contain at least one letter (a-z)")
    if "--" in value:
        errs.invalid(field, value, "must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        errs.invalid(field, value, "must not begin or end with a hyphen")


def int_or_name(errs: FieldErrors, field: str, value: Any) -> None:
    if isinstance(value, str):
        port_name(errs, field, value)
    else:
        port(errs, field, value)


def one_of(errs: FieldErrors, field: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        errs.unsupported(field, value, list(allowed))


def at_least_zero(errs: FieldErrors, field: str, value: Any) -> None:
    if isinstance(value, int) and value < 0:
        errs.invalid(field, value, NEGATIVE_TEXT)


def is_ip(text: Any) -> bool:
    """True for an IPv4 or IPv6 address."""
    for parse in (ip4, ip6):
        try:
            parse(str(text))
            return True
        except ValueError:
            continue
    return False


IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
