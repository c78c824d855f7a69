"""Emits LLVM's own vectors, since LLVM keeps no array of accumulators in registers.

They are as wide as a tile of the batch: a vector of 256 bytes is 4 registers of AVX-512, 8 of AVX
and 16 of NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

INDEX, _LANE = ir.IntType(64), ir.IntType(32)
_REORDER = ("reassoc", "contract")  # for the sum of a vector's lanes


class Vectors:
    """Emits operations on vectors of `n` numbers of one type.

    Args:
        call: what an intrinsic's code generator is given: context, builder, signature, arguments.
        size: bytes of a vector.
        like: which argument is an array of these numbers.
    """

    def __init__(self, call: tuple[Any, Any, Any, Any], size: int, like: int) -> None:
        self.context, self.builder, self.signature, self.arguments = call
        dtype = self.signature.args[like].dtype
        self.bytes = dtype.bitwidth // 8
        self.n = size // self.bytes
        self.element = self.context.get_value_type(dtype)
        self.type = ir.VectorType(self.element, self.n)
        self.lanes = ir.VectorType(_LANE, self.n)
        self.bits = ir.VectorType(ir.IntType(1), self.n)
        self.name = f"v{self.n}f{dtype.bitwidth}"
        self.zero = ir.Constant(self.type, [0.0] * self.n)

    def pointer(self, argument: int, at: Any = None) -> Any:
        """Where element `at` of an argument is, which is an array or a pointer."""
        kind, data = self.signature.args[argument], self.arguments[argument]
        if isinstance(kind, types.Array):
            data = self.context.make_array(kind)(self.context, self.builder, data).data
        return data if at is None else self.builder.gep(data, [at])

    def splat(self, number: Any) -> Any:
        """A vector of one number; of a lane number where that is a 32-bit integer."""
        kind = ir.VectorType(number.type, self.n)
        empty = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(empty, number, ir.Constant(_LANE, 0))
        return self.builder.shuffle_vector(one, empty, ir.Constant(self.lanes, [0] * self.n))

    def load(self, pointer: Any) -> Any:
        """The vector at a pointer to numbers."""
        to = self.builder.bitcast(pointer, self.type.as_pointer())
        return self.builder.load(to, align=self.bytes)

    def store(self, vector: Any, pointer: Any, width: Any) -> None:
        """Store the first `width` lanes."""
        b = self.builder
        to = b.bitcast(pointer, self.type.as_pointer())
        with b.if_else(b.icmp_signed(">=", width, INDEX(self.n))) as (whole, part):
            with whole:
                b.store(vector, to, align=self.bytes)
            with part:
                kinds = [self.type, to.type, _LANE, self.bits]
                masked = self._function(f"llvm.masked.store.{self.name}.p0", ir.VoidType(), kinds)
                b.call(masked, [vector, to, _LANE(self.bytes), self.below(width)])

    def below(self, width: Any) -> Any:
        """Which lanes are the first `width`."""
        b = self.builder
        lane = ir.Constant(self.lanes, list(range(self.n)))
        return b.icmp_signed("<", lane, self.splat(b.trunc(width, _LANE)))

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """X · y + z."""
        function = self._function(f"llvm.fma.{self.name}", self.type, [self.type] * 3)
        return self.builder.call(function, [x, y, z])

    def total(self, vector: Any) -> Any:
        """The sum of the lanes."""
        kinds = [self.element, self.type]
        function = self._function(f"llvm.vector.reduce.fadd.{self.name}", self.element, kinds)
        return self.builder.call(function, [self.element(0.0), vector], fastmath=_REORDER)

    def gather(self, base: Any, columns: Any, kind: Any, mask: Any = None) -> Any:
        """The numbers at the indices stored at `columns`, which are of an unsigned `kind`."""
        b = self.builder
        stored = ir.VectorType(kind, self.n)
        at = b.load(b.bitcast(columns, stored.as_pointer()), align=kind.width // 8)
        at = at if kind.width == _LANE.width else b.zext(at, self.lanes)
        places = b.gep(base, [at], source_etype=self.element)
        places.type = ir.VectorType(base.type, self.n)  # llvmlite knows no vectors of pointers
        kinds = [places.type, _LANE, self.bits, self.type]
        name = f"llvm.masked.gather.{self.name}.v{self.n}p0"
        mask = ir.Constant(self.bits, [1] * self.n) if mask is None else mask
        return b.call(
            self._function(name, self.type, kinds), [places, _LANE(self.bytes), mask, self.zero]
        )

    def prefetch(self, pointer: Any, write: int = 0) -> None:
        """Ask for the cache line at a pointer, which need not be there."""
        plain = ir.IntType(8).as_pointer()
        function = self._function("llvm.prefetch.p0", ir.VoidType(), [plain, *[_LANE] * 3])
        into_l1 = [_LANE(write), _LANE(3), _LANE(1)]
        self.builder.call(function, [self.builder.bitcast(pointer, plain), *into_l1])

    def loop(
        self, first: Any, last: Any, step: int, sums: list[Any], body: Callable[..., list[Any]]
    ) -> tuple[Any, list[Any]]:
        """Emit ``while k + step <= last: sums = body(k, sums); k += step``; return k and sums."""
        b = self.builder
        before = b.block
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        k = b.phi(INDEX)
        k.add_incoming(first, before)
        now = [b.phi(s.type) for s in sums]
        for phi, start in zip(now, sums, strict=True):
            phi.add_incoming(start, before)
        following = b.add(k, INDEX(step))
        b.cbranch(b.icmp_signed("<=", following, last), inside, after)
        b.position_at_end(inside)
        new = body(k, now)
        k.add_incoming(following, b.block)
        for phi, value in zip(now, new, strict=True):
            phi.add_incoming(value, b.block)
        b.branch(head)
        b.position_at_end(after)
        return k, now

    def _function(self, name: str, returns: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(returns, arguments)
        return cgutils.get_or_insert_function(self.builder.module, kind, name)
