"""What one instruction does to the values of general registers, as a function that does it.

A value is an int when it is known, else (origin, offset): an unknown origin and a known distance
from it. What cannot be followed gives a new origin.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Protocol

from iced_x86 import Instruction, MemorySizeExt, Mnemonic, OpKind, Register, RegisterExt

__all__ = ["GENERAL", "MASK", "State", "Step", "Value", "joined", "step"]

_LEGACY = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
GENERAL = (*_LEGACY, *(f"r{number}" for number in range(8, 16)))
"""The general registers, in the order of their numbers."""

MASK = (1 << 64) - 1
Value = int | tuple[int, int]


class State(Protocol):
    """What a step reads and changes."""

    registers: list[Value]
    """Sixteen values."""
    end: int
    """The address of the next instruction."""
    origins: dict[tuple[int, int, int], int]
    """The origins of sums of two unknown values."""

    def unknown(self) -> Value:
        """Return a value with a new origin."""
        ...

    def load(self, place: int, size: int) -> Value:
        """Return what the instruction's access number `place` finds in `size` bytes."""
        ...


Step = Callable[[State], Value | None]
"""Do it, and return the value that is stored, or None when nothing is or it is not known."""

Get = Callable[[State], Value]
Put = Callable[[State, Value], Value | None]

_RSP, _RBP = GENERAL.index("rsp"), GENERAL.index("rbp")
_HIGH = {Register.AH, Register.BH, Register.CH, Register.DH}


def _sar(one: int, two: int, bits: int) -> int:
    return (one - (one >> bits - 1 << bits)) >> two % max(bits, 32)


_BINARY: dict[int, Callable[[int, int, int], int]] = {
    Mnemonic.ADD: lambda one, two, bits: one + two,
    Mnemonic.SUB: lambda one, two, bits: one - two,
    Mnemonic.AND: lambda one, two, bits: one & two,
    Mnemonic.OR: lambda one, two, bits: one | two,
    Mnemonic.XOR: lambda one, two, bits: one ^ two,
    Mnemonic.IMUL: lambda one, two, bits: one * two,
    Mnemonic.SHL: lambda one, two, bits: one << two % max(bits, 32),
    Mnemonic.SHR: lambda one, two, bits: one >> two % max(bits, 32),
    Mnemonic.SAR: _sar,
}
_UNARY: dict[int, Callable[[int], int]] = {
    Mnemonic.INC: lambda one: one + 1,
    Mnemonic.DEC: lambda one: one - 1,
    Mnemonic.NEG: operator.neg,
    Mnemonic.NOT: operator.invert,
}
_COPIES = {Mnemonic.MOV, Mnemonic.MOVZX, Mnemonic.MOVSX, Mnemonic.MOVSXD}
_SIGNED = {Mnemonic.MOVSX, Mnemonic.MOVSXD}
_CMOV = {value for name, value in vars(Mnemonic).items() if name.startswith("CMOV")}


def step(instruction: Instruction, changed: Sequence[int], accesses: Sequence[int]) -> Step | None:
    """Return the effect of an instruction, or None when it changes no general register.

    Args:
        instruction: any.
        changed: the numbers of the general registers that it writes.
        accesses: bytes of each of its accesses to memory.
    """
    mnemonic = instruction.mnemonic
    if instruction.has_rep_prefix or instruction.has_repne_prefix:
        return _forget(changed)
    if instruction.is_string_instruction:
        return _string(changed, accesses[0])
    if mnemonic == Mnemonic.LEA:
        return _lea(instruction)
    if mnemonic == Mnemonic.LEAVE:
        return _leave
    operands = [_operand(instruction, k) for k in range(instruction.op_count)]
    known = [operand for operand in operands if operand]
    if len(known) < len(operands) or not known:
        return _forget(changed)
    gets = [get for get, _, _ in known]
    _, put, bits = known[0]
    if mnemonic == Mnemonic.PUSH:
        return _push(gets[0], accesses[-1])
    if mnemonic == Mnemonic.POP:
        return _pop(put, len(accesses) - 1, accesses[-1])
    if mnemonic == Mnemonic.XCHG:
        return _exchange(gets, put, known[1][1])
    if mnemonic in _COPIES:
        return _copy(gets[1], put, bits, known[1][2] if mnemonic in _SIGNED else 0)
    if mnemonic in _CMOV:
        return _choose(gets, put)
    if mnemonic in _UNARY:
        return _unary(gets[0], put, bits, _UNARY[mnemonic])
    if mnemonic in _BINARY and len(gets) > 1:  # imul with one operand writes two registers
        register = instruction.op0_kind == instruction.op1_kind == OpKind.REGISTER
        same = register and instruction.op0_register == instruction.op1_register
        if same and mnemonic in (Mnemonic.XOR, Mnemonic.SUB):
            return lambda state: put(state, 0)
        sign = {Mnemonic.ADD: 1, Mnemonic.SUB: -1}.get(mnemonic, 0) if bits == 64 else 0
        return _binary(gets[-2], gets[-1], put, bits, _BINARY[mnemonic], sign)
    return _forget(changed)


def joined(state: State, base: Value, index: Value, scale: int, displacement: int) -> Value:
    """Add base, scaled index and displacement; equal unknown parts give an equal origin."""
    if base.__class__ is int and index.__class__ is int:
        return base + index * scale + displacement & MASK
    one, first = (0, base) if isinstance(base, int) else base
    two, second = (0, index) if isinstance(index, int) else index
    number = first + second * scale + displacement & MASK
    if not two or (not one and scale == 1):
        return one or two, number
    origin = state.origins.get((one, two, scale))
    if origin is None:
        fresh = state.unknown()
        assert isinstance(fresh, tuple)
        origin = state.origins[one, two, scale] = fresh[0]
    return origin, number


def _operand(instruction: Instruction, k: int) -> tuple[Get, Put, int] | None:
    """Return how to read an operand, how to write it, and its bits."""
    kind = instruction.op_kind(k)
    if kind == OpKind.REGISTER:
        register = instruction.op_register(k)
        if not RegisterExt.is_gpr(register) or register in _HIGH:
            return None
        number = RegisterExt.number(RegisterExt.full_register(register))
        bits = RegisterExt.size(register) * 8
        return _get_register(number, bits), _put_register(number, bits), bits
    if kind == OpKind.MEMORY:
        size = MemorySizeExt.size(instruction.memory_size)
        return (lambda state: state.load(0, size)), (lambda state, value: value), size * 8
    try:
        number = instruction.immediate(k)
    except ValueError:
        return None
    return (lambda state: number), (lambda state, value: None), 64


def _get_register(number: int, bits: int) -> Get:
    if bits == 64:
        return lambda state: state.registers[number]
    low = (1 << bits) - 1

    def get(state: State) -> Value:
        value = state.registers[number]
        return value & low if isinstance(value, int) else state.unknown()

    return get


def _put_register(number: int, bits: int) -> Put:
    low = (1 << bits) - 1

    def put(state: State, value: Value) -> None:
        if isinstance(value, int):
            value &= low
            if bits < 32:
                old = state.registers[number]
                value = value | old & ~low if isinstance(old, int) else state.unknown()
        elif bits < 64:
            value = state.unknown()
        state.registers[number] = value

    return put


def _forget(changed: Sequence[int]) -> Step | None:
    if not changed:
        return None

    def forget(state: State) -> None:
        for number in changed:
            state.registers[number] = state.unknown()

    return forget


def _string(changed: Sequence[int], size: int) -> Step:
    def string(state: State) -> None:
        for number in changed:
            known = number >= 6  # rsi and rdi; lods changes rax too
            old = state.registers[number]
            state.registers[number] = joined(state, old, 0, 1, size) if known else state.unknown()

    return string


def _lea(instruction: Instruction) -> Step | None:
    operand = _operand(instruction, 0)
    assert operand is not None
    _, put, _ = operand
    displacement, scale = instruction.memory_displacement, instruction.memory_index_scale
    if instruction.is_ip_rel_memory_operand:
        distance = displacement - instruction.next_ip
        return lambda state: put(state, state.end + distance)
    base, index = (
        RegisterExt.number(RegisterExt.full_register(register))
        if register != Register.NONE
        else None
        for register in (instruction.memory_base, instruction.memory_index)
    )

    def lea(state: State) -> None:
        registers = state.registers
        first = 0 if base is None else registers[base]
        second = 0 if index is None else registers[index]
        put(state, joined(state, first, second, scale, displacement))

    return lea


def _leave(state: State) -> None:
    state.registers[_RSP] = joined(state, state.registers[_RBP], 0, 1, 8)
    state.registers[_RBP] = state.load(0, 8)


def _push(get: Get, size: int) -> Step:
    def push(state: State) -> Value:
        value = get(state)
        state.registers[_RSP] = joined(state, state.registers[_RSP], 0, 1, -size)
        return value

    return push


def _pop(put: Put, place: int, size: int) -> Step:
    def pop(state: State) -> Value | None:
        value = state.load(place, size)
        state.registers[_RSP] = joined(state, state.registers[_RSP], 0, 1, size)
        return put(state, value)

    return pop


def _exchange(gets: Sequence[Get], put: Put, other: Put) -> Step:
    def exchange(state: State) -> Value | None:
        one, two = gets[0](state), gets[1](state)
        first, second = put(state, two), other(state, one)
        return second if first is None else first

    return exchange


def _copy(get: Get, put: Put, bits: int, signed: int) -> Step:
    if not signed:
        return lambda state: put(state, get(state))
    sign = 1 << signed - 1

    def extend(state: State) -> Value | None:
        value = get(state)
        if isinstance(value, int):
            return put(state, (value ^ sign) - sign & (1 << bits) - 1)
        return put(state, state.unknown())

    return extend


def _choose(gets: Sequence[Get], put: Put) -> Step:
    def choose(state: State) -> Value | None:
        one, two = gets[0](state), gets[1](state)
        return put(state, one if one == two else state.unknown())

    return choose


def _unary(get: Get, put: Put, bits: int, compute: Callable[[int], int]) -> Step:
    mask = (1 << bits) - 1

    def unary(state: State) -> Value | None:
        value = get(state)
        if isinstance(value, int):
            return put(state, compute(value) & mask)
        if bits == 64 and compute(0) in (1, -1) and compute(1) != -2:  # inc and dec keep the origin
            return put(state, joined(state, value, 0, 1, compute(0)))
        return put(state, state.unknown())

    return unary


def _binary(
    one: Get, two: Get, put: Put, bits: int, compute: Callable[[int, int, int], int], sign: int
) -> Step:
    mask = (1 << bits) - 1

    def binary(state: State) -> Value | None:
        first, second = one(state), two(state)
        if isinstance(first, int) and isinstance(second, int):
            return put(state, compute(first, second & mask, bits) & mask)
        if sign > 0:
            return put(state, joined(state, first, second, 1, 0))
        if sign and isinstance(second, int):
            return put(state, joined(state, first, 0, 1, -second))
        return put(state, state.unknown())

    return binary
