"""Tokens of single instructions and of their neighbourhood, and the vocabulary."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iced_x86 import Decoder

from gonzo.ithemal.addresses import REACH, touches
from gonzo.ithemal.block import BasicBlock
from gonzo.ithemal.tokens import UNKNOWN, Vocabulary, fallbacks, tokenize


def words(text):
    return [" ".join(one) for one in tokenize(BasicBlock.from_hex(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4801d8", "op:add.64 d:rax s:rax s:rbx"),
        ("01d8", "op:add.32 d:rax s:rax s:rbx"),
        ("6601d8", "op:add.16 p:rax s:rax s:rbx"),
        ("04ff", "op:add.8 p:rax s:rax imm:8"),
        ("00e0", "op:add.8 p:rax h:rax"),  # add al,ah
        ("b001", "op:mov.8 p:rax s:rax imm:1"),
        ("31c0", "op:xor.32 idiom d:rax"),
        ("660f74c0", "op:pcmpeqb.128 idiom d:v0"),
        ("c5f9efc0", "op:vpxor.128 idiom d:v0"),
        ("660f74c1", "op:pcmpeqb.128 d:v0 s:v0 s:v1"),
        ("b8ffffffff", "op:mov.32 d:rax imm:8"),
        ("b800000000", "op:mov.32 d:rax imm:0"),
        ("66b80010", "op:mov.16 p:rax s:rax imm:16"),
        ("b800000080", "op:mov.32 d:rax imm:32"),
        ("48b80000000001000000", "op:mov.64 d:rax imm:64"),
        ("48c7c0feffffff", "op:mov.64 d:rax imm:8"),
        ("c1e005", "op:shl.32 d:rax s:rax imm:8"),
        ("d1e0", "op:shl.32 d:rax s:rax imm:1"),
        ("488b4308", "op:mov.64 d:rax load.8 b:rbx o:8"),
        ("488b4309", "op:mov.64 d:rax load.8 b:rbx o:8 odd"),
        ("488b8300010000", "op:mov.64 d:rax load.8 b:rbx o:32"),
        ("488b0510000000", "op:mov.64 d:rax load.8 b:rip"),
        ("8b0425 00100000", "op:mov.32 d:rax load.4 o:abs"),
        ("488b044b", "op:mov.64 d:rax load.8 b:rbx i:rcx x:n"),
        ("488b040b", "op:mov.64 d:rax load.8 b:rbx i:rcx x:1"),
        ("488903", "op:mov.64 s:rax store.8 b:rbx"),
        ("480103", "op:add.64 s:rax load.8 b:rbx st:csame.1 store.8"),
        ("f0480103", "op:add.64 lock s:rax load.8 b:rbx st:csame.1 store.8"),
        ("50", "op:push.64 s:rax store.8"),
        ("58", "op:pop.64 d:rax load.8"),
        ("ff30", "op:push.64 load.8 b:rax store.8"),
        ("488d0448", "op:lea.64 d:rax s:rax s:rcx lea b:rax i:rcx x:n"),
        ("488d0510000000", "op:lea.64 d:rax lea b:rip"),
        ("488d4424f8", "op:lea.64 d:rax s:rsp lea b:rsp o:8"),
        ("a4", "op:movsb.8 d:rsi d:rdi s:rsi s:rdi load.1 b:rsi store.1 b:rdi"),
        ("62f17cd958c1", "op:vaddps.512 mask zeroing rounding d:v0 s:k1 s:v0 s:v1"),
        ("62f1745858 00".replace(" ", ""), "op:vaddps.512 broadcast d:v0 s:v1 load.4 b:rax"),
        ("660fefc1", "op:pxor.128 d:v0 s:v0 s:v1"),
        ("f20f10433c", "op:movsd.128 d:v0 load.8 b:rbx o:8 odd split:line"),
    ],
)
def test_single_instructions(text, expected):
    assert words(text) == [expected]


def test_memory_that_depends_on_what_came_before():
    assert words("48890348038b08000000 488b0b") == [
        "op:mov.64 s:rax store.8 b:rbx",
        "op:add.64 d:rcx s:rcx load.8 b:rbx o:8",
        "op:mov.64 d:rcx load.8 b:rbx st:same.2",
    ]
    # push and pop agree on where the stack is, and so does an operand that counts from rsp
    assert words("505b50 48890424")[1:] == [
        "op:pop.64 d:rbx load.8 st:same.1",
        "op:push.64 s:rax store.8 st:same.2",
        "op:mov.64 s:rax store.8 b:rsp st:same.1",
    ]
    # half of what was stored; more than was stored
    assert words("488903 8b4b04")[1] == "op:mov.32 d:rcx load.4 b:rbx o:8 st:within.1"
    assert words("8903 488b0b")[1] == "op:mov.64 d:rcx load.8 b:rbx st:across.1"
    # the second load of one address
    assert words("488b03 488b0b")[1] == "op:mov.64 d:rcx load.8 b:rbx again"


def test_unknown_instructions_and_rare_tokens_fall_back():
    assert fallbacks("op:vpmulhrsw.256") == [
        "op:vpmulhrsw",
        "class:vector.256",
        "class:vector",
        UNKNOWN,
    ]
    assert fallbacks("op:vaddps.256")[1] == "class:float.256"
    assert fallbacks("op:add.64")[1] == "class:integer.64"
    assert fallbacks("op:no-such-thing.64") == ["op:no-such-thing", UNKNOWN]
    assert fallbacks("d:r12") == ["d:gpr", UNKNOWN]
    assert fallbacks("s:v3") == ["s:vector", UNKNOWN]
    assert fallbacks("s:k3") == ["s:mask", UNKNOWN]
    assert fallbacks("st:csame.few") == ["st:csame", "st", UNKNOWN]
    assert fallbacks("load.48") == ["load", UNKNOWN]
    assert fallbacks("") == [UNKNOWN]


@given(st.text(max_size=20))
def test_fallbacks_end_and_a_vocabulary_never_raises(token):
    seen = [token]
    while seen[-1] != UNKNOWN:
        seen.append(fallbacks(seen[-1])[0])
        assert len(seen) < 10
    assert Vocabulary([UNKNOWN, "op:add.64"]).encode(token) in (0, 1)


def test_a_vocabulary_gives_rare_tokens_their_class():
    common, rare = ("op:add.64", "d:rax"), ("op:vpmulhrsw.256", "d:v3")
    vocabulary = Vocabulary.build(
        [[common]] * 5 + [[rare], [("op:vpabsb.256", "d:v4")]], min_count=2
    )
    assert vocabulary.tokens == (UNKNOWN, "d:rax", "op:add.64", "class:vector.256", "d:vector")
    assert vocabulary.encode("op:vpsignb.256") == vocabulary.encode("class:vector.256") == 3
    assert vocabulary.encode("d:v9") == 4
    assert vocabulary.encode("op:vpsignb.128") == 0
    assert vocabulary.encode("d:rax") == 1
    assert len(vocabulary) == 5
    assert "d:rax" in vocabulary
    assert "d:v9" not in vocabulary


def test_every_token_of_a_vocabulary_encodes_to_its_place():
    blocks = [tokenize(BasicBlock.from_hex(text)) for text in ("4801d8488b03", "505b", "0f58c1")]
    vocabulary = Vocabulary.build(blocks, min_count=1)
    assert [vocabulary.encode(token) for token in vocabulary.tokens] == list(range(len(vocabulary)))
    assert all(vocabulary.encode(word) for block in blocks for one in block for word in one)
    assert vocabulary == Vocabulary.build(reversed(blocks), min_count=1)


def test_a_vocabulary_survives_json():
    vocabulary = Vocabulary([UNKNOWN, "a", "b:c.1"])
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again != Vocabulary([UNKNOWN])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "expected a vocabulary as a JSON list of tokens: "),
        ('{"a": 1}', r"expected a vocabulary as a JSON list of tokens, got \{"),
        ("[1]", r"expected a vocabulary as a JSON list of tokens, got \[1\]"),
        ('["a"]', r"expected 'unknown' as the first token, got \('a',\)"),
        ("[]", r"expected 'unknown' as the first token, got \(\)"),
        ('["unknown", "a", "a"]', "expected each token once, got 'a' more than once"),
    ],
)
def test_what_is_no_vocabulary_says_so(text, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_json(text)


def random_block(seed):
    """Return a block of whatever random bytes decode to."""
    draw, code = random.Random(seed), b""
    while len(code) < 40:
        one = draw.randbytes(15)
        instruction = next(iter(Decoder(64, one)))
        if not instruction.is_invalid:
            code += one[: len(instruction)]
    return BasicBlock.from_bytes(code)


@pytest.mark.parametrize("seed", range(300))
def test_any_instruction_has_tokens(seed):
    block = random_block(seed)
    found = tokenize(block)
    assert len(found) == len(block)
    assert all(one[0].startswith("op:") for one in found)
    assert found == tokenize(BasicBlock(block.code))
    for touch in touches(block):
        assert touch.store is None or 1 <= touch.store.gap <= REACH


def test_where_data_lie_does_not_matter():
    code = bytes.fromhex("488b0510000000488b0d10000000")
    one, two = BasicBlock.from_bytes(code, 0x400000), BasicBlock.from_bytes(code, 0x7F0000400000)
    assert tokenize(one) == tokenize(two)
