"""What a task is given of its dependencies: their results by name, put together from how they are stored, without decoding them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgpack


@dataclass(slots=True)
class Inputs:
    """{id or number: result} in the making. Where two dependencies, of different flows, have the same id, both go by number."""

    size: int = 0  # bytes of the results
    _parts: list[bytes] = field(default_factory=list)
    _names: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> its place among the parts, its number

    def add(self, results: Iterable[tuple[int, str | None, bytes]]) -> None:
        """Results as (number, id, MessagePack)."""
        pack = msgpack.Packer().pack
        for number, name, value in results:
            if name is not None:
                if name in self._names:
                    place, other = self._names[name]
                    self._parts[place] = pack(str(other))
                    name = None
                else:
                    self._names[name] = (len(self._parts), number)
            self._parts += (pack(str(number) if name is None else name), value)
            self.size += len(value)

    def packed(self) -> bytes:
        header: bytes = msgpack.Packer().pack_map_header(len(self._parts) // 2)
        return header + b"".join(self._parts)


@dataclass(slots=True)
class Gathering:
    """A ready task whose inputs are being gathered. It is in no window meanwhile."""

    after: int = 0  # the last dependency that was looked up
    inputs: Inputs = field(default_factory=Inputs)
