"""Blocks as words: a tuple of tokens for each instruction, and numbers for the tokens.

The specification. The tokens of an instruction come in this order; numbers are decimal.

1. `op:NAME.BITS`: the mnemonic in lower case and the width it works on: of its first register
   operand (8 to 64 for general registers, 128 to 512 for vectors, 64 for masks), else of its memory
   operand, else 0.
2. One of each that holds, in this order: `lock`, `rep` (any string prefix), `mask` (a mask register
   other than k0), `zeroing`, `broadcast`, `rounding` (a static rounding mode), `idiom` (the result
   does not depend on the operands).
3. Registers by architectural name (`rax` also for al; `v0` for xmm0, ymm0, zmm0; `k1`), implicit
   ones too. `d:REG` for each that it writes, `p:REG` where it writes 8 or 16 bits and keeps the
   rest; `s:REG` for each whose value it needs, `h:REG` where that involves bits 8 to 15. A register
   that is written in part is needed. An idiom needs none. Both in the order: general registers by
   number, then others by name. The stack pointer of push and pop is left out.
4. `imm:CLASS` for each immediate: `0` or `1` for these values; else `8` or `16` when the code has
   as many bits for it; else the bits that its signed value needs among `8`, `32` and `64`.
5. For lea, and for each access to memory (the written-out operand first, then implicit ones; of an
   operand that is loaded and stored the load first), in this order:
   `load.BYTES`, `store.BYTES` or `lea`; `b:REG` with the base (`b:rip` where it counts from there);
   `i:REG` with the index and `x:SCALE` (`1` or `n`); `o:CLASS`, the displacement: nothing for 0,
   else `8`, `32` (left out when the base is rip) or, when there is neither base nor index, `abs`;
   `odd` when a displacement is no multiple of the access.
   The stack of push and pop has the first token alone; so has the store half of an operand that is
   loaded too, which has none of step 6 either but the split.
6. After each access, what `addresses` says of it: `split:line` or `split:page` when it is known to
   cross one; then `st:SHAPE.GAP` for the last store to any of its bytes (a store has it only when
   that was in this repetition of the block); where there is none, `again` for a load from an
   address that this repetition has loaded from. SHAPE is `same`, `within` or `across`, with a `c`
   before it (`csame`) when the store was in the previous repetition; GAP is how many accesses ago
   it was: 1, 2, 3, `few` (to 8) or `many`.

Tokens fall back. `FALLBACKS` in words: from `op:NAME.BITS` to `op:NAME`, then to `class:KIND.BITS`,
`class:KIND`; from `d:r12` to `d:gpr`, from `d:v3` to `d:vector`, from `d:k1` to `d:mask`; from
anything else with a dot to what is before it, then with a colon to what is before that; at last
to `unknown`. KIND is `integer`, `vector` or `float` by the sets and operands of the mnemonic.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from iced_x86 import (
    Code,
    Instruction,
    MemorySize,
    MemorySizeExt,
    Mnemonic,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
    RegisterExt,
    RoundingControl,
)

from gonzo.ithemal.addresses import Touch, touches
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.usage import Access, Usage, register_name, usages

__all__ = ["UNKNOWN", "Vocabulary", "fallbacks", "tokenize"]

UNKNOWN = "unknown"

Words = tuple[str, ...]


class _Static(NamedTuple):
    """The tokens of an instruction that its bytes alone decide."""

    before: Words
    """Steps 1 to 4, and a lea."""
    accesses: tuple[tuple[Words, Words], ...]
    """Step 5: for each access its tokens as a load and as a store."""
    updates: tuple[bool, ...]
    """For each access whether it is a load and a store."""


_NAMES = {value: name.lower() for name, value in vars(Mnemonic).items() if isinstance(value, int)}
_IMPLICIT_STACK = {Mnemonic.PUSH, Mnemonic.POP}
_IMMEDIATES = {
    value: int(re.findall(r"\d+", name)[0])
    for name, value in vars(OpKind).items()
    if name.startswith("IMMEDIATE")
}
"""Bits that each kind of immediate has in the code."""

_SIZES = {value: name for name, value in vars(MemorySize).items() if isinstance(value, int)}
_OPERANDS = {
    value: name for name, value in vars(OpCodeOperandKind).items() if isinstance(value, int)
}
_VECTORS = ("XMM", "YMM", "ZMM", "K_", "KP1", "MEM_VSIB")
_MOST = 1 << 17
_known: dict[Usage, _Static] = {}


def tokenize(block: BasicBlock) -> list[Words]:
    """Return the tokens of each instruction of a block.

    Args:
        block: any block; an instruction that was never seen has tokens too.

    Returns:
        One tuple of tokens for each instruction, never empty.
    """
    statics = []
    for index, usage in enumerate(usages(block)):
        static = _known.get(usage)
        if static is None:
            if len(_known) >= _MOST:
                _known.clear()
            static = _known[usage] = _static(block.instructions[index], usage)
        statics.append(static)
    found = [static.before for static in statics]
    for touch in touches(block):
        index = touch.instruction
        found[index] += _touched(statics[index], touch)
    return found


def _touched(static: _Static, touch: Touch) -> Words:
    words = static.accesses[touch.place][touch.writes]
    if touch.split:
        words += (f"split:{touch.split}",)
    if touch.writes and static.updates[touch.place]:  # the load half has said it
        return words
    link = touch.store
    if link is None or (touch.writes and link.carried):
        return (*words, "again") if touch.again and link is None else words
    shape = f"c{link.shape}" if link.carried else link.shape
    gap = str(link.gap) if link.gap < 4 else "few" if link.gap <= 8 else "many"
    return (*words, f"st:{shape}.{gap}")


def _static(instruction: Instruction, usage: Usage) -> _Static:
    words = [f"op:{_NAMES[instruction.mnemonic]}.{_bits(instruction)}"]
    words += _modifiers(instruction, usage)
    hidden = {"rsp"} if instruction.mnemonic in _IMPLICIT_STACK else set()
    words += [
        f"{'p' if name in usage.partial else 'd'}:{name}"
        for name in usage.writes
        if name not in hidden
    ]
    words += [
        f"{'h' if name in usage.high else 's'}:{name}" for name in usage.reads if name not in hidden
    ]
    words += _immediates(instruction)
    if instruction.mnemonic == Mnemonic.LEA:
        words += ["lea", *_lea(instruction)]
    accesses = []
    for access in usage.memory:
        own = hidden and access is usage.memory[-1]
        structure = () if own else tuple(_structure(access))
        tail = () if access.reads else structure
        accesses.append(((f"load.{access.size}", *structure), (f"store.{access.size}", *tail)))
    return _Static(
        tuple(words),
        tuple(accesses),
        tuple(access.reads and access.writes for access in usage.memory),
    )


def _bits(instruction: Instruction) -> int:
    for k in range(instruction.op_count):
        if instruction.op_kind(k) == OpKind.REGISTER:
            return RegisterExt.size(instruction.op_register(k)) * 8
    return MemorySizeExt.size(instruction.memory_size) * 8


def _modifiers(instruction: Instruction, usage: Usage) -> list[str]:
    holds = {
        "lock": instruction.has_lock_prefix,
        "rep": instruction.has_rep_prefix or instruction.has_repne_prefix,
        "mask": instruction.op_mask != Register.NONE,
        "zeroing": instruction.zeroing_masking,
        "broadcast": instruction.is_broadcast,
        "rounding": instruction.rounding_control != RoundingControl.NONE,
        "idiom": usage.idiom,
    }
    return [name for name, true in holds.items() if true]


def _immediates(instruction: Instruction) -> list[str]:
    found = []
    for k in range(instruction.op_count):
        kind = instruction.op_kind(k)
        if kind not in _IMMEDIATES:
            continue
        bits = _IMMEDIATES[kind]
        value = instruction.immediate(k) & (1 << bits) - 1
        if value in (0, 1):
            name = str(value)
        elif bits in (8, 16):
            name = str(bits)
        else:
            signed = value - (value >> bits - 1 << bits)
            name = next(str(n) for n in (8, 32, 64) if -1 << n - 1 <= signed < 1 << n - 1)
        found.append(f"imm:{name}")
    return found


def _structure(access: Access) -> list[str]:
    words = []
    if access.base:
        words.append(f"b:{access.base}")
    if access.index:
        words += [f"i:{access.index}", f"x:{'1' if access.scale == 1 else 'n'}"]
    words += _displacement(access.base, access.index, access.displacement)
    if access.size and access.displacement % access.size and access.base != "rip":
        words.append("odd")
    return words


def _displacement(base: str, index: str, displacement: int) -> list[str]:
    if not base and not index:
        return ["o:abs"]
    if not displacement or base == "rip":
        return []
    return ["o:8" if -128 <= displacement < 128 else "o:32"]


def _lea(instruction: Instruction) -> list[str]:
    if instruction.is_ip_rel_memory_operand:
        return ["b:rip"]
    words = []
    base, index = instruction.memory_base, instruction.memory_index
    names = ["", ""]
    for place, register in enumerate((base, index)):
        if register != Register.NONE:
            names[place] = register_name(register)
    if names[0]:
        words.append(f"b:{names[0]}")
    if names[1]:
        words += [f"i:{names[1]}", f"x:{'1' if instruction.memory_index_scale == 1 else 'n'}"]
    displacement = instruction.memory_displacement
    signed = displacement - (1 << 64) if displacement >> 63 else displacement
    return words + _displacement(names[0], names[1], signed)


def fallbacks(token: str) -> list[str]:
    """Return what a token falls back to, the nearest first; the last is always `unknown`."""
    found = []
    head, _, tail = token.partition(":")
    if head == "op":
        name, _, bits = tail.partition(".")
        if bits:
            found.append(f"op:{name}")
        kind = _kinds().get(name)
        if kind:
            found += [f"class:{kind}.{bits}"] if bits else []
            found.append(f"class:{kind}")
    elif head in ("d", "s", "p", "h", "b", "i"):
        kind = "vector" if tail[:1] == "v" else "mask" if tail[:1] == "k" else "gpr"
        if tail not in ("vector", "mask", "gpr"):
            found.append(f"{head}:{kind}")
    else:
        if "." in token:
            found.append(token.rpartition(".")[0])
        if ":" in token:
            found.append(head)
    return [*found, UNKNOWN]


@cache
def _kinds() -> dict[str, str]:
    """Say of each mnemonic whether it works on integers, vectors, or vectors of floats."""
    found: dict[str, str] = {}
    for code in [value for value in vars(Code).values() if isinstance(value, int)]:
        info = OpCodeInfo(code)
        name = _NAMES[info.mnemonic]
        kind = "integer"
        if any(_OPERANDS[operand].startswith(_VECTORS) for operand in info.op_kinds()):
            kind = "float" if "FLOAT" in _SIZES[info.memory_size] else "vector"
        if found.get(name, "integer") == "integer" or kind == "float":
            found[name] = kind
    return found


class Vocabulary:
    """Numbers for tokens. `unknown` is 0.

    Args:
        tokens: the tokens in the order of their numbers; the first must be `unknown`.

    Raises:
        ValueError: the first token is another one, or a token comes twice.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        if self.tokens[:1] != (UNKNOWN,):
            raise ValueError(f"expected {UNKNOWN!r} as the first token, got {self.tokens[:1]}")
        if len(self._numbers) < len(self.tokens):
            twice = Counter(self.tokens).most_common(1)[0][0]
            raise ValueError(f"expected each token once, got {twice!r} more than once")
        self._encoded = dict(self._numbers)

    @classmethod
    def build(cls, blocks: Iterable[Sequence[Words]], *, min_count: int = 5) -> Vocabulary:
        """Collect the tokens of blocks.

        A token that is rarer than `min_count` counts as its fallback instead, so the fallbacks are
        learnt from rare tokens. More frequent tokens come first; equally frequent ones, by name.

        Args:
            blocks: what `tokenize` returned for each.
            min_count: how often a token must occur to have a number of its own.
        """
        counts = Counter(
            word for instructions in blocks for words in instructions for word in words
        )
        chains = {token: [token, *fallbacks(token)] for token in counts}
        while True:
            total: Counter[str] = Counter()
            for token, chain in chains.items():
                total[chain[0]] += counts[token]
            rare = [chain for chain in chains.values() if total[chain[0]] < min_count]
            rare = [chain for chain in rare if chain[0] != UNKNOWN]
            if not rare:
                break
            for chain in rare:
                del chain[0]
        del total[UNKNOWN]
        return cls([UNKNOWN, *sorted(total, key=lambda token: (-total[token], token))])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def encode(self, token: str) -> int:
        """Return a token's number, or that of the first of its `fallbacks` which has one."""
        number = self._encoded.get(token)
        if number is None:
            if len(self._encoded) >= _MOST:
                self._encoded = dict(self._numbers)
            known = (one for one in fallbacks(token) if one in self._numbers)
            number = self._encoded[token] = self._numbers[next(known)]
        return number

    def to_json(self) -> str:
        """Return the tokens as a JSON list."""
        return json.dumps(self.tokens)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no JSON list of different strings that begins with "unknown".
        """
        try:
            tokens = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected a vocabulary as a JSON list of tokens: {error}") from None
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"expected a vocabulary as a JSON list of tokens, got {text[:40]}")
        return cls(tokens)
