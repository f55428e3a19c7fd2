"""An environment in layers: what an image sets, what Services put there, what the manifest says; later layers win.

    env = Layers({"PATH": ...}, service_links, {"COLOR": "blue"})
    env["COLOR"]; dict(env)                      reads as the one dict it stands for, in the order a merge would have

In a namespace with 500 Services every container is given some 3,500 variables that hardly any program reads. The containers
share that layer; a dict of its own belongs only to a process that looks at its environment (Process.env).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Layers(Mapping[str, str]):
    """Several mappings read as one. The layers must not change."""

    __slots__ = ("layers",)

    def __init__(self, *layers: Mapping[str, str]) -> None:
        self.layers = layers

    def merged(self) -> dict[str, str]:
        """One dict of its own: keys stand where they were first named, with the value named last."""
        out: dict[str, str] = {}
        for layer in self.layers:
            out.update(layer.merged() if isinstance(layer, Layers) else layer)
        return out

    def __getitem__(self, key: str) -> str:
        for layer in reversed(self.layers):
            if key in layer:
                return layer[key]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(key in layer for layer in self.layers)

    def __iter__(self) -> Iterator[str]:
        return iter(self.merged())

    def __len__(self) -> int:
        return len(self.merged())

    def __repr__(self) -> str:
        return f"Layers({self.merged()!r})"
