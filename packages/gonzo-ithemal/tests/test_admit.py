"""What may be measured and what may not, instruction by instruction and encoding by encoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iced_x86 import Code, Decoder, Instruction, Mnemonic, OpCodeInfo

from gonzo.ithemal.admit import locked, refusal, vector_width

NAMES = {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}


def decode(text):
    return list(Decoder(64, bytes.fromhex(text)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4801d8", None),  # add rax,rbx
        ("488b03", None),  # mov rax,[rbx]
        ("488b0510000000", None),  # mov rax,[rip+16]
        ("50", None),  # push rax
        ("5b", None),  # pop rbx
        ("6a01", None),  # push 1
        ("ff30", None),  # push qword [rax]
        ("c9", None),  # leave
        ("f00fb10b", None),  # lock cmpxchg [rbx],ecx
        ("4883ec20", None),  # sub rsp,32
        ("488d6424f8", None),  # lea rsp,[rsp-8]
        ("a4", None),  # movsb
        ("f390", None),  # pause
        ("f30f1efa", None),  # endbr64
        ("0f1f440000", None),  # nop [rax+rax]
        ("662e0f1f840000000000", None),  # nop cs:[rax+rax]
        ("0f1808", None),  # prefetcht0
        ("0faee8", None),  # lfence
        ("f20f58c1", None),  # addsd
        ("c5f458c1", None),  # vaddps ymm
        ("62f17448 58c1".replace(" ", ""), None),  # vaddps zmm
        ("c4e2f1f7c2", None),  # shlx
        ("c5f877", None),  # vzeroupper
        ("660f38dcc1", None),  # aesenc
        ("c5f892c0", None),  # kmovw k0,eax
        ("f348a5", "repeated string"),  # rep movsq
        ("f2ae", "repeated string"),  # repne scasb
        ("64488b0425 28000000".replace(" ", ""), "segment"),  # mov rax,fs:[40]
        ("65488b00", "segment"),  # mov rax,gs:[rax]
        ("64a4", "segment"),  # movsb from fs:[rsi]
        ("660ff7c1", None),  # maskmovdqu
        ("64660ff7c1", "segment"),  # maskmovdqu to fs:[rdi]
        ("f2f00fb10b", "prefix"),  # xacquire lock cmpxchg
        ("ebfe", "control flow"),
        ("75fe", "control flow"),
        ("e8 00000000".replace(" ", ""), "control flow"),
        ("c3", "control flow"),
        ("cb", "control flow"),  # far return
        ("ffe0", "control flow"),
        ("48cf", "control flow"),  # iretq
        ("e2fe", "control flow"),  # loop
        ("0f05", "system"),  # syscall
        ("0f34", "system"),  # sysenter
        ("0f35", "system"),  # sysexit
        ("cd80", "system"),  # int 0x80
        ("cc", "system"),  # int3
        ("f1", "system"),  # int1
        ("0f0b", "system"),  # ud2
        ("f4", "system"),  # hlt
        ("e460", "system"),  # in
        ("0f01c1", "system"),  # vmcall
        ("9c", "system"),  # pushf
        ("9d", "system"),  # popf
        ("fd", "system"),  # std
        ("d7", "system"),  # xlat
        ("c8000000", "system"),  # enter
        ("8ed8", "system"),  # mov ds,eax
        ("8cd8", "system"),  # mov eax,ds
        ("0fa0", "system"),  # push fs
        ("0f20c0", "system"),  # mov rax,cr0
        ("0f21c0", "system"),  # mov rax,dr0
        ("0f0100", "system"),  # sgdt
        ("c7f800000000", "system"),  # xbegin
        ("0fa2", "instruction set: CPUID"),
        ("0f31", "instruction set: TSC"),
        ("0f01f9", "instruction set: RDTSCP"),
        ("0f33", "instruction set: RDPMC"),
        ("0fc7f0", "instruction set: RDRAND"),
        ("0fc7f8", "instruction set: RDSEED"),
        ("0f01d0", "instruction set: XSAVE"),  # xgetbv
        ("f3480faed0", "instruction set: FSGSBASE"),  # wrfsbase rax
        ("0f01ef", "instruction set: PKU"),  # wrpkru
        ("0fae38", "instruction set: CLFSH"),  # clflush
        ("0f01c8", "instruction set: MONITOR"),
        ("c4e27b49c0", "instruction set: AMX_TILE"),  # tilezero
        ("0fae10", "control register"),  # ldmxcsr
        ("c5f8ae18", "control register"),  # vstmxcsr
        ("d8c1", "x87"),
        ("9b", "x87"),  # wait
        ("0ffcc1", "mmx"),  # paddb mm0,mm1
        ("0f77", "mmx"),  # emms
        ("f20fd6c1", "mmx"),  # movdq2q
        ("06", "undecodable"),
    ],
)
def test_verdicts(text, reason):
    assert refusal(decode(text)) == reason


def test_the_first_refused_instruction_gives_the_reason_wherever_it_is():
    assert refusal(decode("4801d80f05c3")) == "system"
    assert refusal(decode("4801d8c30f05")) == "control flow"
    assert refusal([]) is None


def _encodings():
    for code in (value for value in vars(Code).values() if isinstance(value, int)):
        if OpCodeInfo(code).mode64 or code == Code.INVALID:
            instruction = Instruction()
            instruction.code = code
            yield instruction


def test_no_encoding_that_could_do_harm_is_admitted():
    """Every encoding that iced knows, judged by what iced itself says of it."""
    words = ("SAVE", "XRSTOR", "RDT", "RDRAND", "RDSEED", "FSBASE", "GSBASE", "SYS", "CLFLUSH")
    words += ("CLWB", "XSTORE", "XCRYPT", "TILE", "WAIT", "MONITOR", "MXCSR", "POPF", "PUSHF")
    admitted = 0
    for instruction in _encodings():
        if refusal([instruction]) is not None:
            continue
        admitted += 1
        info, name = OpCodeInfo(instruction.code), NAMES[instruction.mnemonic]
        assert not instruction.is_privileged, name
        assert instruction.flow_control == 0, name
        assert not info.is_input_output, name
        assert not info.is_save_restore, name
        assert info.cpl3, name
        assert not info.intel_vm_exit, name
        assert not any(word in name for word in words), name
    assert admitted > 3000  # the vector sets are there


def test_every_ordinary_integer_instruction_is_admitted():
    seen = {NAMES[i.mnemonic] for i in _encodings() if refusal([i]) is None}
    wanted = "ADD ADC SUB IMUL MUL DIV IDIV SHL SHLD BT BSF TZCNT LZCNT POPCNT CMOVE SETE XADD CQO"
    assert seen.issuperset(wanted.split())


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_get_a_verdict(code):
    instructions = list(Decoder(64, code))
    reason = refusal(instructions)
    if any(instruction.is_invalid for instruction in instructions):
        assert reason is not None
    assert reason is None or 0 < len(reason) < 50
    assert vector_width(instructions) in (0, 16, 32, 64)


def test_locked():
    assert locked(decode("f048ff03"))  # lock inc
    assert locked(decode("4801d8488703"))  # xchg [rbx],rax
    assert not locked(decode("4887d8"))  # xchg rax,rbx
    assert not locked(decode("480fc103"))  # xadd without lock
    assert not locked([])


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("4801d8", 0),
        ("c4e2f1f7c2", 0),  # shlx: VEX, but no vector
        ("0fc303", 0),  # movnti
        ("f20f58c1", 16),
        ("660f6ec0", 16),  # movd
        ("c5f358c1", 32),  # vaddsd
        ("c5f877", 32),  # vzeroupper
        ("62f1740858c1", 64),  # vaddps xmm in EVEX
        ("c5f892c0", 64),  # kmovw
        ("f20f58c1c5f358c1", 32),
        ("c5f358c1f20f58c1", 32),
    ],
)
def test_vector_width(text, width):
    assert vector_width(decode(text)) == width
