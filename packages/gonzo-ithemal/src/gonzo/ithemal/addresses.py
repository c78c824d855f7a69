"""Where a block's memory accesses fall, and which earlier store wrote the same bytes.

A block is measured with every general register, and every word of memory, holding one and the same
pointer; `rsp` and `rbp` point half a page further. So most addresses can be worked out beforehand:
this walks over two repetitions of the block with these values, following moves, sums and stores.
What it cannot follow (a quotient, say) becomes a new origin, of which it knows only that sums with
constants keep it. Two accesses with one origin are known to overlap or not; others count as apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gonzo.ithemal.block import BLOCK_BASE, BasicBlock
from gonzo.ithemal.effects import GENERAL, Value, joined
from gonzo.ithemal.usage import Access, Usage, usages

__all__ = ["POINTER", "REACH", "STACK", "Link", "Touch", "touches"]

POINTER = 0x0232_4000
"""What general registers and words of memory hold at first."""

STACK = POINTER + 0x800
"""What rsp and rbp hold at first."""

REACH = 64
"""How many accesses it looks back: about what a store buffer holds."""

_LINE, _PAGE = 64, 4096
_PATTERN = POINTER.to_bytes(8, "little") * 2
_NUMBERS = {name: number for number, name in enumerate(GENERAL)}

_Store = tuple[int, int, int, Value, int, int]  # order, start, end, value, instruction, repetition


class Link(NamedTuple):
    """An earlier store to some of the same bytes."""

    producer: int
    """Which instruction of the block made it."""
    carried: bool
    """Whether it did so in the previous repetition."""
    shape: str
    """How this access lies to it: "same" bytes, "within" it, or only partly: "across"."""
    gap: int
    """How many accesses ago, from 1."""


class Touch(NamedTuple):
    """One access of a repetition of the block."""

    instruction: int
    place: int
    """Which of the instruction's accesses, as `usage.Usage.memory` counts them."""
    writes: bool
    split: str
    """What its bytes cross, as far as it is known: "" nothing, "line", "page"."""
    store: Link | None
    """The last earlier store to any of its bytes."""
    again: bool
    """Whether this repetition has loaded from the address before."""


@lru_cache(maxsize=8)  # tokens and dependencies ask one after the other
def touches(block: BasicBlock) -> tuple[Touch, ...]:
    """Return the accesses of a block in order; of an instruction's own, loads first.

    The block is taken to be in its second repetition.
    """
    uses = usages(block)
    for usage in uses:
        if usage.memory:
            break
    else:
        return ()
    walk = _Walk()
    walk.repeat(uses)
    walk.repeat(uses)
    return tuple(walk.found)


class _Walk:
    """The state of registers and memory."""

    def __init__(self) -> None:
        self.registers: list[Value] = [POINTER] * 16
        self.registers[_NUMBERS["rsp"]] = self.registers[_NUMBERS["rbp"]] = STACK
        self.origins: dict[tuple[int, int, int], int] = {}
        self.fresh = 0
        self.repetition = -1
        self.end = BLOCK_BASE
        self.order = 0
        self.places: list[Value] = []
        self.stores: dict[int | tuple[int, int], list[_Store]] = {}  # by words of eight bytes
        self.loaded: set[Value] = set()
        self.found: list[Touch] = []

    def unknown(self) -> Value:
        self.fresh += 1
        return self.fresh, 0

    def load(self, place: int, size: int) -> Value:
        """Return what an access finds: all of a store, or untouched memory."""
        at = self.places[place]
        store = self.last_store(at, size)
        start = at if isinstance(at, int) else at[1]
        if store is None:
            if size > 8:
                return self.unknown()
            shift = start % 8 if at is start else 0
            return int.from_bytes(_PATTERN[shift : shift + size], "little")
        _, first, end, value, _, _ = store
        if isinstance(value, int):
            if first <= start and start + size <= end and end - first <= 8:
                return value >> (start - first) * 8 & (1 << size * 8) - 1
        elif first == start and end == start + size:
            return value
        return self.unknown()

    def last_store(self, at: Value, size: int) -> _Store | None:
        origin, start = (0, at) if isinstance(at, int) else at
        end = start + (size or 1)
        found = None
        for word in range(start >> 3, (end - 1 >> 3) + 1):
            for store in reversed(self.stores.get((origin, word) if origin else word, ())):
                if store[1] < end and store[2] > start:
                    if found is None or store[0] > found[0]:
                        found = store
                    break
        return found

    def note_store(self, at: Value, size: int, value: Value, index: int) -> None:
        origin, start = (0, at) if isinstance(at, int) else at
        end = start + (size or 1)
        store = (self.order, start, end, value, index, self.repetition)
        for word in range(start >> 3, (end - 1 >> 3) + 1):
            earlier = self.stores.setdefault((origin, word) if origin else word, [])
            if earlier and earlier[-1][1] >= start and earlier[-1][2] <= end:
                earlier[-1] = store  # nobody can see it any more
            else:
                earlier.append(store)

    def repeat(self, uses: tuple[Usage, ...]) -> None:
        """Run the block once, noting its accesses in the second repetition."""
        self.repetition += 1
        describe = self.repetition > 0
        self.end = BLOCK_BASE
        for index, usage in enumerate(uses):
            self.end += usage.length
            memory, step = usage.memory, usage.step
            if not memory:
                if step is not None:
                    step(self)
                continue
            places = self.places = [self.place(access) for access in memory]
            writes = False
            for number, access in enumerate(memory):
                if access.reads:
                    self.order += 1
                    if describe:
                        self.describe(index, number, access, places[number], False)
                writes = writes or access.writes
            stored = None if step is None else step(self)
            if writes:
                for number, access in enumerate(memory):
                    if access.writes:
                        self.order += 1
                        if describe:
                            self.describe(index, number, access, places[number], True)
                        value = self.unknown() if stored is None else stored
                        self.note_store(places[number], access.size, value, index)

    def place(self, access: Access) -> Value:
        base, index, scale, displacement, _, _, _ = access
        if base == "rip":
            return self.end + displacement
        if not index:
            return joined(self, self.registers[_NUMBERS[base]] if base else 0, 0, 1, displacement)
        if index not in _NUMBERS:  # one address for each lane
            return self.unknown()
        return joined(
            self,
            self.registers[_NUMBERS[base]] if base else 0,
            self.registers[_NUMBERS[index]],
            scale,
            displacement,
        )

    def describe(self, index: int, number: int, access: Access, at: Value, writes: bool) -> None:
        size = access.size or 1
        split = ""
        if isinstance(at, int) and at // _LINE != (at + size - 1) // _LINE:
            split = "page" if at // _PAGE != (at + size - 1) // _PAGE else "line"
        store, link = self.last_store(at, size), None
        if store is not None and self.order - store[0] <= REACH:
            order, first, end, _, producer, repetition = store
            start = at if isinstance(at, int) else at[1]
            if first == start and end == start + size:
                shape = "same"
            else:
                shape = "within" if first <= start and start + size <= end else "across"
            link = Link(producer, repetition < self.repetition, shape, self.order - order)
        again = not writes and at in self.loaded
        if not writes:
            self.loaded.add(at)
        self.found.append(Touch(index, number, writes, split, link, again))
