"""The API server's semantics, without HTTP: kinds, schemas, validation, defaults, patches, tables, errors.

    rest.Api                    one request in, one response out; what the HTTP front and the command line call
    kinds, schema               which kinds exist, and what their fields are
    decode                      manifests with line numbers, for people
    admission, defaults, validate, patch, ssa      what happens to a body on its way to the store
    table, selectors, discovery, openapi, status   what clients read
    views                       small typed views of stored dicts, for the proxy and the controllers

Importing this package costs nothing; `Api` and `Response` are loaded at the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubenet.cluster.api.rest import Api, Response, WatchStream

__all__ = ["Api", "Response", "WatchStream"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for (PEP 562)."""
    if name in __all__:
        from kubenet.cluster.api import rest

        return getattr(rest, name)
    raise AttributeError(name)
