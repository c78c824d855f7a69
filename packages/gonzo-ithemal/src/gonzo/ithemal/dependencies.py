"""Which instruction of a block waits for which: data dependences, in it and around its repetition.

Registers count whole: an instruction that writes 8 or 16 bits of one needs the rest of it, one that
writes 32 does not. Flags are renamed in three groups: carry, overflow, and the other four together.
A load waits for the last store to any of its bytes, as far as `addresses` can tell that there is
one. An instruction that needs no operand, such as `xor eax, eax`, waits for none.
"""

from __future__ import annotations

from typing import NamedTuple

from gonzo.ithemal.addresses import touches
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.usage import usages

__all__ = ["Edge", "dependencies"]


class Edge(NamedTuple):
    """One instruction needs what another one produced."""

    producer: int
    """Position in the block."""
    consumer: int
    """Position in the block; at most the producer's when carried, later otherwise."""
    kind: str
    """"register", "flags", "memory", or "address": a register that makes an address."""
    carried: bool
    """Whether the previous repetition of the block produced it."""


def dependencies(block: BasicBlock) -> list[Edge]:
    """Return the data dependences of a block that is repeated back to back, each once.

    They come in the order of their consumers. What nothing in the block writes has no producer.
    """
    uses = usages(block)
    last: dict[str, int] = {}
    for index, usage in enumerate(uses):
        for name in usage.writes:
            last[name] = index
        for name in usage.flags_written:
            last[name] = index
    edges: dict[Edge, None] = {}
    loads: dict[int, list[Edge]] = {}
    for touch in touches(block):
        index, store = touch.instruction, touch.store
        if store is not None and not touch.writes:
            edge = Edge(store.producer, index, "memory", store.carried)
            loads.setdefault(index, []).append(edge)
    since: set[str] = set()  # written in this repetition
    for index, usage in enumerate(uses):
        for kind, names in (
            ("address", usage.addresses),
            ("register", usage.reads),
            ("flags", usage.flags_read),
        ):
            for name in names:
                producer = last.get(name)
                if producer is not None:
                    edges[Edge(producer, index, kind, name not in since)] = None
        if index in loads:
            edges.update(dict.fromkeys(loads[index]))
        for names in (usage.writes, usage.flags_written):
            for name in names:
                last[name] = index
                since.add(name)
    return list(edges)
