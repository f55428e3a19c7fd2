"""Status errors: what the API server says when it says no, word for word.

`ApiError` is raised anywhere below the API and turned into a `Status` body by it. The constructors carry the texts that
clients match on: kubectl relies on `reason` NotFound, AlreadyExists and Conflict, and prints
`Error from server (Reason): message`. For Invalid, `details.kind` is the Kind; for all others the plural resource name.

`FieldErrors` collects what validation finds, in the wording of apimachinery's field errors:

    spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive
"""

from __future__ import annotations

import json
from typing import Any

from kubenet.cluster.api.kinds import KindInfo
from kubenet.errors import KubenetError

Obj = dict[str, Any]


class ApiError(KubenetError):
    """The API server refuses. `code` is the HTTP status, `reason` the machine's word, `causes` one per finding."""

    def __init__(
        self, code: int, reason: str, message: str, details: Obj | None = None, headers: list[tuple[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or []

    @property
    def causes(self) -> list[Obj]:
        return list((self.details or {}).get("causes", []))

    def status(self) -> Obj:
        """The Status object of the response body."""
        out: Obj = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        }
        if self.details:
            out["details"] = self.details
        out["code"] = self.code
        return out


def _details(info: KindInfo, name: str) -> Obj:
    out: Obj = {"name": name} if name else {}
    if info.group:
        out["group"] = info.group
    out["kind"] = info.plural
    return out


def not_found(info: KindInfo, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{info.resource} "{name}" not found', _details(info, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(info: KindInfo, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{info.resource} "{name}" already exists', _details(info, name))


def conflict(info: KindInfo, name: str, why: str = "") -> ApiError:
    text = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {info.resource} "{name}": {text}'
    return ApiError(409, "Conflict", message, _details(info, name))


def forbidden(info: KindInfo, name: str, why: str, cause: str = "", field: str = "") -> ApiError:
    details = _details(info, name)
    if cause:
        details["causes"] = [{"reason": cause, "message": why, **({"field": field} if field else {})}]
    return ApiError(403, "Forbidden", f'{info.resource} "{name}" is forbidden: {why}', details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    text = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", text, {})


def unsupported_media(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def unprocessable(message: str) -> ApiError:
    """422 without details, as a patch that cannot be applied gives; kubectl prints "The request is invalid: ..."."""
    return ApiError(422, "Invalid", message)


def invalid(info: KindInfo, name: str, errors: FieldErrors) -> ApiError:
    """422 with one cause per finding."""
    texts = list(dict.fromkeys(f"{field}: {message}" for _, field, message in errors.found))
    body = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: Obj = {"name": name} if name else {}
    if info.group:
        details["group"] = info.group
    details["kind"] = info.kind
    details["causes"] = [{"reason": r, "message": m, "field": f} for r, f, m in errors.found]
    return ApiError(422, "Invalid", f'{info.qualified_kind} "{name}" is invalid: {body}', details)


class GoText(str):
    """A value that is already in the form Go's %#v gives it."""

    __slots__ = ()


def show(value: Any) -> str:
    """A value as field errors print it: strings quoted, numbers plain, maps and lists as Go's %#v."""
    if isinstance(value, GoText):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(x, str) for x in value):
        return "[]string{" + ", ".join(show(x) for x in value) + "}"
    if isinstance(value, dict) and all(isinstance(x, str) for x in value.values()):
        return "map[string]string{" + ", ".join(f"{show(k)}:{show(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


class FieldErrors:
    """Findings of one validation: (reason, field, message). Truthy when there are any."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []

    def __bool__(self) -> bool:
        return bool(self.found)

    def invalid(self, field: str, value: Any, detail: str) -> None:
        self.found.append(("FieldValueInvalid", field, f"Invalid value: {show(value)}: {detail}"))

    def required(self, field: str, detail: str = "") -> None:
        self.found.append(("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value"))

    def duplicate(self, field: str, value: Any) -> None:
        self.found.append(("FieldValueDuplicate", field, f"Duplicate value: {show(value)}"))

    def unsupported(self, field: str, value: Any, allowed: list[str]) -> None:
        names = ", ".join(show(a) for a in sorted(allowed))
        text = f"Unsupported value: {show(value)}: supported values: {names}"
        self.found.append(("FieldValueNotSupported", field, text))

    def not_found(self, field: str, value: Any) -> None:
        self.found.append(("FieldValueNotFound", field, f"Not found: {show(value)}"))

    def forbidden(self, field: str, detail: str) -> None:
        self.found.append(("FieldValueForbidden", field, f"Forbidden: {detail}"))

    def immutable(self, field: str, value: Any) -> None:
        self.invalid(field, value, "field is immutable")
