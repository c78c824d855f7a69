"""Which blocks may be measured: an allow-list of instructions that compute and do nothing else.

Integer instructions are named one by one; vector instructions are admitted by instruction set. What
is on neither list is refused, so an instruction that nobody has thought of is never run. Refused on
purpose: everything that leaves the block, talks to the system, reads time or identity, changes a
control register or the direction flag, or has a length in a register (`rep`). x87, MMX and AMX have
state that the measurement does not initialise.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from iced_x86 import (
    Code,
    CpuidFeature,
    EncodingKind,
    FlowControl,
    Instruction,
    Mnemonic,
    OpCodeOperandKind,
    OpKind,
    Register,
)

__all__ = ["locked", "refusal", "vector_width"]


def _named(enumeration: ModuleType, names: str) -> frozenset[int]:
    return frozenset(getattr(enumeration, name) for name in names.split())


_INTEGER = _named(
    Mnemonic,
    """
    MOV MOVSX MOVSXD MOVZX LEA XCHG BSWAP XADD CMPXCHG CMPXCHG8B CMPXCHG16B
    ADD ADC SUB SBB CMP INC DEC NEG AND OR XOR NOT TEST MUL IMUL DIV IDIV
    SAL SAR SHL SHR ROL ROR RCL RCR SHLD SHRD BT BTC BTR BTS BSF BSR
    CBW CWDE CDQE CWD CDQ CQO CLC STC CMC CLD LAHF SAHF
    SETA SETAE SETB SETBE SETE SETG SETGE SETL SETLE SETNE SETNO SETNP SETNS SETO SETP SETS
    PUSH POP LEAVE MOVSB MOVSW MOVSD MOVSQ STOSB STOSW STOSD STOSQ LODSB LODSW LODSD LODSQ
    SCASB SCASW SCASD SCASQ CMPSB CMPSW CMPSD CMPSQ
    NOP PAUSE ENDBR64 PREFETCH PREFETCHW
    """,
)

_INTEGER_SETS = _named(
    CpuidFeature,
    """
    INTEL8086 INTEL186 INTEL286 INTEL386 INTEL486 X64 CX8 CMPXCHG16B MULTIBYTENOP PAUSE CET_IBT
    PREFETCHW
    """,
)

_SETS = _named(
    CpuidFeature,
    """
    CMOV BMI1 BMI2 ADX LZCNT POPCNT MOVBE
    SSE SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 AES PCLMULQDQ GFNI SHA SHA512 SM3 SM4
    AVX AVX2 FMA F16C VAES VPCLMULQDQ AVX_VNNI AVX_VNNI_INT8 AVX_VNNI_INT16 AVX_IFMA AVX_NE_CONVERT
    AVX512F AVX512VL AVX512BW AVX512DQ AVX512CD AVX512_IFMA AVX512_VBMI AVX512_VBMI2 AVX512_VNNI
    AVX512_BITALG AVX512_VPOPCNTDQ AVX512_BF16 AVX512_FP16 AVX512_VP2INTERSECT
    """,
)

# Rounding and exceptions are part of what the measurement fixes.
_CONTROL = _named(Mnemonic, "LDMXCSR STMXCSR VLDMXCSR VSTMXCSR")

_BRANCHES = _named(
    FlowControl,
    """
    UNCONDITIONAL_BRANCH INDIRECT_BRANCH CONDITIONAL_BRANCH RETURN CALL INDIRECT_CALL
    """,
)

_KINDS = {value: name for name, value in vars(OpCodeOperandKind).items() if isinstance(value, int)}
_FEATURES = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
_SEGMENTS = frozenset({"ES", "CS", "SS", "DS", "FS", "GS", "SEG_REG"})

_LOOK = "look"  # admitted if the prefixes of the instruction at hand are harmless
_verdicts: dict[int, str | None] = {}
_widths: dict[int, int] = {}


def refusal(instructions: Sequence[Instruction]) -> str | None:
    """Return why a block of these instructions may not be measured, or None when it may.

    The reason is a short constant, fit for counting: "control flow", "system", "segment",
    "repeated string", "prefix", "control register", "x87", "mmx", "undecodable", or
    "instruction set: NAME". The first instruction that is refused gives it.
    """
    for instruction in instructions:
        code = instruction.code
        try:
            verdict = _verdicts[code]
        except KeyError:
            verdict = _verdicts[code] = _verdict(instruction)
        if verdict is None:
            continue
        if verdict is not _LOOK:
            return verdict
        if instruction.segment_prefix in (Register.FS, Register.GS):
            return "segment"
        if instruction.has_rep_prefix or instruction.has_repne_prefix:
            # On a locked instruction the same bytes begin and end a transaction.
            return "repeated string" if instruction.is_string_instruction else "prefix"
    return None


def locked(instructions: Sequence[Instruction]) -> bool:
    """Whether one of them locks the bus or a line: a `lock` prefix, or `xchg` with memory."""
    return any(
        instruction.has_lock_prefix
        or (
            instruction.mnemonic == Mnemonic.XCHG
            and OpKind.MEMORY in (instruction.op0_kind, instruction.op1_kind)
        )
        for instruction in instructions
    )


def vector_width(instructions: Sequence[Instruction]) -> int:
    """Return the vector state that they need, in bytes of a register.

    Returns:
        0: none; 16: xmm in the legacy encoding alone; 32: some VEX encoding; 64: EVEX or a mask.
    """
    width = 0
    for instruction in instructions:
        code = instruction.code
        if code not in _widths:
            _widths[code] = _width(instruction)
        if _widths[code] > width:
            width = _widths[code]
    return width


def _verdict(example: Instruction) -> str | None:
    """Judge an encoding by an example: a reason, `_LOOK`, or None (fine with any prefix)."""
    if example.code <= Code.DECLAREQWORD:  # INVALID and the assembler's data
        return "undecodable"
    info = example.op_code()
    features = set(example.cpuid_features())
    names = sorted(_FEATURES[feature] for feature in features)
    kinds = [_KINDS[kind] for kind in info.op_kinds()]
    flow = example.flow_control
    if flow in _BRANCHES and features <= _INTEGER_SETS and not example.is_privileged:
        return "control flow"
    if example.is_privileged or flow != FlowControl.NEXT or "SEP" in names:
        return "system"
    if any(name.startswith("FPU") for name in names) or example.mnemonic == Mnemonic.WAIT:
        return "x87"
    if "MMX" in names or any(kind.startswith("MM_") for kind in kinds):
        return "mmx"
    if example.mnemonic in _CONTROL:
        return "control register"
    if _SEGMENTS.intersection(kinds) or any(kind[:3] in ("CR_", "DR_", "TR_") for kind in kinds):
        return "system"
    if features <= _INTEGER_SETS:
        if example.mnemonic not in _INTEGER:
            return "system"
    elif not features <= _SETS | _INTEGER_SETS:
        return f"instruction set: {_FEATURES[min(features - _SETS - _INTEGER_SETS)]}"
    memory = any("MEM" in kind or kind.startswith(("SEG_", "ES_")) for kind in kinds)
    return _LOOK if memory else None


def _width(example: Instruction) -> int:
    info = example.op_code()
    if info.encoding == EncodingKind.EVEX:
        return 64
    kinds = [_KINDS[kind] for kind in info.op_kinds()]
    if any(kind.startswith(("K_", "KP1_")) for kind in kinds):
        return 64
    vector = any(kind.startswith(("XMM_", "YMM_")) for kind in kinds)
    if info.encoding == EncodingKind.VEX:
        return 32 if vector or info.mnemonic in (Mnemonic.VZEROUPPER, Mnemonic.VZEROALL) else 0
    return 16 if vector else 0
