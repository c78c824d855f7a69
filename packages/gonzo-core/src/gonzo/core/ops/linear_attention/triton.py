"""Linear attention on a GPU: states before segments of time, and chunks of steps that read them.

Time is cut into segments. A first pass walks through them with the state in registers and leaves
what it is before each (`triton_states`). Then every chunk of steps reads the state before its
segment, and the steps of its segment through their weights (`triton_values`); dq and dk are made
in the same way (`triton_gradients`), with R, the state's gradient, found from the end of time for
dk and dv. Features are made where they are used. Segments are so long that states are little of the
traffic, and so short that weights cost about as much as the state. No sum depends on the order in
which programs run: there are no atomics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.backends import triton_is_interpreted
from gonzo.core.triton_kernels import launch

from .features import features, features_backward
from .triton_gradients import differentiate, sum_gradients
from .triton_states import carry, sum_states
from .triton_values import read

_SEGMENT = 512  # steps, a multiple of every chunk
_PROGRAMS = 264  # wanted at least for a walk through time: two for each processor of an H100


def forward(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, lengths: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """See `gonzo.core.ops.linear_attention`; also the divisors (batch, n_head, time)."""
    return _forward(q, k, v, state, lengths, "" if lengths is None else "lengths", *options)


def forward_packed(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, cu_seqlens: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """All sequences between neighbours of `cu_seqlens`, which one launch knows."""
    return _forward(q, k, v, state, cu_seqlens, "packed", *options)


def backward(
    grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, y: Tensor,
    divisor: Tensor, lengths: Tensor | None, *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v and state."""
    tensors = (grad_y, grad_state, q, k, v, state, y, divisor)
    return _backward(*tensors, lengths, "" if lengths is None else "lengths", *options)


def backward_packed(
    grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, y: Tensor,
    divisor: Tensor, cu_seqlens: Tensor, *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v and the states of all sequences."""
    tensors = (grad_y, grad_state, q, k, v, state, y, divisor)
    return _backward(*tensors, cu_seqlens, "packed", *options)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, spans: Tensor | None, kind: str,
    feature_map: str, scale: float, causal: bool, normalize: bool, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    if _made_before(feature_map, q):
        q, k = (features(t.to(state.dtype), feature_map, scale).to(t.dtype) for t in (q, k))
        feature_map = "identity"
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    divisor = state.new_empty(v.shape[:-1] if normalize else (0,))
    if not state.numel():
        return y.zero_(), divisor, state.clone()
    q, k, v, state = _rows(q), _rows(k), _rows(v), state.contiguous()
    attention = _Attention.of(q, v, state, spans, kind, feature_map, scale, causal, normalize)
    states, final = attention.states(k, v, state)
    attention.read(q, k, v, states, y, divisor, EPS=eps)
    return y, divisor, final


def _backward(
    grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, y: Tensor,
    divisor: Tensor, spans: Tensor | None, kind: str,
    feature_map: str, scale: float, causal: bool, normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    if _made_before(feature_map, q):
        wide = [t.to(state.dtype) for t in (q, k)]
        made = [features(t, feature_map, scale).to(q.dtype) for t in wide]
        rest = (v, state, y, divisor, spans, kind, "identity", scale, causal, normalize)
        dq, dk, dv, d_state = _backward(grad_y, grad_state, *made, *rest)
        dq, dk = (
            features_backward(grad.to(state.dtype), x, feature_map, scale).to(q.dtype)
            for grad, x in zip((dq, dk), wide, strict=True)
        )
        return dq, dk, dv, d_state
    dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
    if not state.numel():
        return dq.zero_(), dk.zero_(), dv.zero_(), grad_state.clone()
    q, k, v, grad_y = _rows(q), _rows(k), _rows(v), _rows(grad_y)
    state, grad_state = state.contiguous(), grad_state.contiguous()
    attention = _Attention.of(q, v, state, spans, kind, feature_map, scale, causal, normalize)
    gradients = (divisor, _sum_gradients(grad_y, y, divisor) if normalize else divisor)

    states, _ = attention.states(k, v, state, final=False)
    attention.differentiate(q, k, v, grad_y, states, dq, *gradients)

    states, d_state = attention.states(q, grad_y, grad_state, *gradients, REVERSE=True)
    attention.differentiate(k, q, grad_y, v, states, dk, *gradients, REVERSE=True)
    attention.read(k, q, grad_y, states, dv, divisor, *gradients, REVERSE=True)
    return dq, dk, dv, d_state


@dataclass(frozen=True)
class _Attention:
    """How the programs of a call share the work; a function of shapes and dtypes alone."""

    sequences: int
    heads: int
    time: int
    d: int
    columns: int
    spans: Tensor | None
    causal: bool
    tiles: int
    constants: dict[str, Any]

    @classmethod
    def of(
        cls, q: Tensor, v: Tensor, state: Tensor, spans: Tensor | None, kind: str,
        feature_map: str, scale: float, causal: bool, normalize: bool,
    ) -> _Attention:  # fmt: skip
        """Cut features and columns into tiles."""
        _, heads, time, d = q.shape
        columns = v.shape[-1]
        polynomial = feature_map in ("taylor", "quadratic")
        chunk, rows, wide = _tiles(q.dtype, polynomial)
        padded = max(16, triton.next_power_of_2(d))
        wide = min(wide, max(16, triton.next_power_of_2(columns)))
        if feature_map == "identity":
            rows = min(rows, padded)
            tiles = triton.cdiv(d, rows)
        elif feature_map == "softmax_pair":
            rows, tiles = padded, 2
        else:
            rows = max(rows, padded)
            tiles = triton.cdiv((d + 2 * (feature_map == "taylor")) * padded, rows)
        return cls(
            sequences=len(state),
            heads=heads,
            time=time,
            d=d,
            columns=columns,
            spans=spans,
            causal=causal,
            tiles=tiles,
            constants={
                "SEGMENT": _SEGMENT,
                "CHUNK": chunk,
                "SCALE": scale if polynomial else 1.0,
                "MAP": feature_map,
                "SPANS": kind,
                "NORMALIZE": normalize,
                "ROWS": rows,
                "DP": padded,
                "COLUMNS": wide,
                "EVEN_D": d % (rows if feature_map == "identity" else padded) == 0,
                "EVEN_COLUMNS": columns % wide == 0,
                **_operands(q.dtype),
            },
        )

    @property
    def blocks(self) -> int:
        """Blocks of columns."""
        return triton.cdiv(self.columns, self.constants["COLUMNS"])

    @property
    def chunks(self) -> int:
        """Chunks of time, of all sequences and heads."""
        return self.sequences * self.heads * triton.cdiv(self.time, self.constants["CHUNK"])

    @property
    def segments(self) -> int:
        """Segments of time."""
        return triton.cdiv(self.time, _SEGMENT)

    @property
    def slots(self) -> int:
        """States before segments, of all sequences; see `first_slot`."""
        if self.constants["SPANS"] == "packed":
            return self.segments + self.sequences
        return self.segments * self.sequences

    def states(
        self, z: Tensor, w: Tensor, initial: Tensor, divisor: Tensor | None = None,
        delta: Tensor | None = None, final: bool = True, REVERSE: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The states that steps read, of each segment or one of all; and the last."""
        keep = self.causal and self.segments > 1
        if self.causal and not keep and not final:
            return initial, initial
        programs = self.blocks * self.tiles * self.sequences * self.heads
        walk = self.segments == 1 or programs >= _PROGRAMS
        last = torch.empty_like(initial)
        states = initial
        if keep or not walk:
            states = initial.new_empty(self.slots, *initial.shape[1:])
        constants = {k: v for k, v in self.constants.items() if k != "RAW"}
        constants |= _options(z.dtype, 4 if REVERSE else 2, 1)
        given = (z if t is None else t for t in (divisor, delta, self.spans))
        launch(
            sum_states,
            (programs * (1 if walk else self.segments),),
            *(z, w, *given, initial, states, last),
            *self._sizes(self.segments),
            *_strides(z, w),
            REVERSE=REVERSE,
            GRADIENTS=REVERSE,
            WALK=walk,
            KEEP=keep,
            **constants,
        )
        if not walk:
            size = initial.shape[2] * initial.shape[3]
            spans = initial if self.spans is None else self.spans
            launch(
                carry,
                (self.sequences * self.heads, triton.cdiv(size, 256)),
                *(states, spans, initial, last, size, self.heads, self.time, self.segments),
                SEGMENT=_SEGMENT,
                SPANS=self.constants["SPANS"],
                REVERSE=REVERSE,
                SIZE=256,
            )
        return (states if self.causal else last), last

    def read(
        self, x: Tensor, z: Tensor, w: Tensor, states: Tensor, out: Tensor, out_last: Tensor,
        divisor: Tensor | None = None, delta: Tensor | None = None, EPS: float = 0.0,
        REVERSE: bool = False,
    ) -> None:  # fmt: skip
        """Write y and its divisors; or dv, in REVERSE."""
        given = (x if t is None else t for t in (divisor, delta, self.spans))
        launch(
            read,
            (self.blocks * self.chunks,),
            *(x, z, w, *given, states, out, out_last),
            *self._sizes(self.segments if self.causal else 1),
            *_strides(x, z, w),
            EPS=EPS,
            CAUSAL=self.causal,
            REVERSE=REVERSE,
            GRADIENTS=REVERSE,
            TILES=self.tiles,
            **self.constants,
            **_options(x.dtype, 2 if REVERSE else 3, 1),
        )

    def differentiate(
        self, x: Tensor, z: Tensor, w: Tensor, own: Tensor, states: Tensor, dx: Tensor,
        divisor: Tensor, delta: Tensor, REVERSE: bool = False,
    ) -> None:  # fmt: skip
        """Write dq; or dk, in REVERSE."""
        tiles = self.tiles if self.constants["MAP"] == "identity" else 1
        launch(
            differentiate,
            (tiles * self.chunks,),
            *(x, z, w, own, divisor, delta, x if self.spans is None else self.spans, states, dx),
            *self._sizes(self.segments if self.causal else 1),
            *_strides(x, z, w, own),
            CAUSAL=self.causal,
            REVERSE=REVERSE,
            BLOCKS=self.blocks,
            TILES=1,
            **self.constants,
            **_options(x.dtype, 3, 2),
        )

    def _sizes(self, segments: int) -> tuple[int, ...]:
        return self.d, self.columns, self.heads, self.time, segments, self.tiles


def _made_before(feature_map: str, q: Tensor) -> bool:
    """Whether features are made by torch and go through memory.

    Those of elu are as many as the numbers they are made of; a softmax may not fit on chip.
    """
    return feature_map == "elu" or (feature_map == "softmax_pair" and not _fits(q))


def _fits(q: Tensor) -> bool:
    """Whether both softmaxes of a chunk fit on chip; else features are made in memory."""
    return q.shape[-1] <= (64 if q.dtype.itemsize == 2 else 32)


def _rows(x: Tensor) -> Tensor:
    """Return x, or a copy whose last dimension lies without gaps."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(stride for t in tensors for stride in t.stride()[:3])


def _tiles(dtype: torch.dtype, polynomial: bool) -> tuple[int, int, int]:
    """Steps, features and columns of a tile: with larger ones some GPU or other spills registers.

    Nothing is tuned: few choices are left, and none could be measured.
    """
    if dtype == torch.float64:
        return 16, 16, 16
    if dtype == torch.bfloat16:
        return 64 if polynomial else 32, 64, 64
    return 32, 32, 32  # here numbers in matrix products have 4 bytes


def _options(dtype: torch.dtype, stages: int, stages_wide: int) -> dict[str, int]:
    """Options of the compiler; loads of so many stages are under way at once."""
    wide = dtype in (torch.float32, torch.float64)
    warps = 4 if dtype == torch.float64 else 8
    return {"num_warps": warps, "num_stages": stages_wide if wide else stages}


def _operands(dtype: torch.dtype) -> dict[str, Any]:
    """Types in matrix products: of q·k and of all others.

    Weights and states may exceed what float16 holds: their products are in TF32, which rounds as
    float16 does and has the range of float32.
    """
    if dtype == torch.float64:
        return {"RAW": tl.float64, "OPERAND": tl.float64, "PRECISION": "ieee"}
    if dtype == torch.float32:
        return {"RAW": tl.float32, "OPERAND": tl.float32, "PRECISION": "ieee"}
    if dtype == torch.float16:
        # Not every GPU of AMD has it.
        precision = "ieee" if torch.version.hip else "tf32"
        return {"RAW": tl.float16, "OPERAND": tl.float32, "PRECISION": precision}
    # The interpreter cannot multiply bfloat16.
    half = tl.float16 if triton_is_interpreted() else tl.bfloat16
    return {"RAW": half, "OPERAND": half, "PRECISION": "ieee"}


def _sum_gradients(grad_y: Tensor, y: Tensor, divisor: Tensor) -> Tensor:
    """The gradient of the sum of weights, (batch, n_head, time)."""
    delta = torch.empty_like(divisor)
    _, heads, time, columns = y.shape
    launch(
        sum_gradients,
        (triton.cdiv(divisor.numel(), 16),),
        *(grad_y, y, divisor, delta, divisor.numel(), heads, time, columns),
        *grad_y.stride()[:3],
        ROWS=16,
        COLUMNS=min(128, triton.next_power_of_2(columns)),
    )
    return delta
