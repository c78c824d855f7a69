"""Lexicons from files: MUSE's lists, tables, and FreeDict's dictionaries in both their forms."""

import gzip
import logging
import lzma

import pytest

from gonzo.translation.lexicon import read_lexicon, read_lexicon_with_report


@pytest.fixture
def put(tmp_path):
    def write(content, name="x.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "chat cat\nchien dog\n",
        "chat\tcat\nchien\tdog",
        "chat  cat \r\n\r\nchien\tdog\r\n",
        "\ufeffchat cat\nchien dog\n",
        "chat\tcat\tnoun\t0.5\nchien\tdog\n",
    ],
    ids=["spaces", "tabs", "mixed-crlf", "byte-order-mark", "further-columns"],
)
@pytest.mark.parametrize(
    ("name", "pack"), [("x.txt", bytes), ("x.gz", gzip.compress), ("x.tsv.xz", lzma.compress)]
)
def test_lists_and_tables(put, text, name, pack):
    lexicon, report = read_lexicon_with_report(put(pack(text.encode()), name))
    assert lexicon.pairs == (("chat", "cat"), ("chien", "dog"))
    assert report == ("list", 2, 2, 0, 0)


def test_what_is_left_out_is_counted(put, caplog):
    path = put("A\tb\nne pas\tnot\na\tb\nc\tgo on\nA\tb\n")
    lexicon, report = read_lexicon_with_report(path)
    assert lexicon.pairs == (("A", "b"), ("a", "b"))
    assert report == ("list", 5, 2, 2, 1)
    lexicon, report = read_lexicon_with_report(path, lowercase=True)
    assert lexicon.pairs == (("a", "b"),)
    assert report == ("list", 5, 1, 2, 2)
    with caplog.at_level(logging.INFO, "gonzo.translation"):
        read_lexicon(path)
    assert "2 pairs kept of 5; left out: 2 of several words, 1 repeated" in caplog.text


def test_a_no_break_space_makes_several_words(put):
    assert read_lexicon_with_report(put("a\u00a0b c\nd e\n"))[1] == ("list", 2, 1, 1, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a b\nc d e\n",
            r"line 2: expected a source word and a target word, .* got 'c d e'; words",
        ),
        ("a b\n\nalone\n", "line 3: .* got 'alone'"),
        ("a b\nc\t\n", "line 2: "),
        ("\tb\n", "line 1: "),
        ("", "expected pairs of words, found none$"),
        ("a b\tc\n", "found none among 1 entries, all of several words"),
        (
            b"a b\n\xe9t\xe9 summer\n",
            r"line 2: expected UTF-8, found the byte 0xe9; .* iconv -f lat",
        ),
        (gzip.compress(b"a b\n" * 99)[:-12], "compressed data end early: an interrupted download"),
    ],
)
def test_lists_that_are_refused(put, content, message):
    with pytest.raises(ValueError, match=message):
        read_lexicon(put(content))


def base64(number):
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = ""
    while number or not text:
        number, digit = divmod(number, 64)
        text = letters[digit] + text
    return text


ARTICLES = [
    ("00databaseinfo", "made of words, for a test"),
    (
        "hund",
        "Hund /hˈʊnt/ <masc, n, sg>\n [zool.] dog <n>, hound <n> (old)\n   Synonym: {Köter}\n",
    ),
    ("laufen", "laufen /lˈaʊfən/ <v>\n1. run, go on; flow\n2. walk\n see: {gehen}\n"),
    ("hund", 'Hund <n>\ntub <n>,  /tˈab/\n      "ein Hund"  - a dog\n         Note: mine\n'),
    ("auf", "auf, aufs (prep)\non/upon\n"),
]
GERMAN = (
    ("Hund", "dog"), ("Hund", "hound"), ("laufen", "run"), ("laufen", "flow"), ("laufen", "walk"),
    ("Hund", "tub"), ("auf", "on/upon"), ("aufs", "on/upon"),
)  # fmt: skip


@pytest.fixture
def dictd(tmp_path):
    """A dictionary for dictd, whose index is sorted and names one article twice."""
    content, index = b"", []
    for key, article in ARTICLES:
        index.append(f"{key}\t{base64(len(content))}\t{base64(len(article.encode()))}\n")
        content += article.encode()
    index.append(index[1].replace("hund", "köter"))
    (tmp_path / "de-en.index").write_text("".join(sorted(index)), encoding="utf-8")
    (tmp_path / "de-en.dict.dz").write_bytes(gzip.compress(content))
    return tmp_path


def test_a_dictionary_for_dictd(dictd):
    lexicon, report = read_lexicon_with_report(dictd / "de-en.index")
    assert lexicon.pairs == GERMAN
    assert report == ("dictd", 9, 8, 1, 0)
    assert read_lexicon(dictd / "de-en.dict.dz") == lexicon
    packed = dictd / "de-en.dict.dz"
    (dictd / "de-en.dict").write_bytes(gzip.decompress(packed.read_bytes()))
    assert read_lexicon(dictd / "de-en.dict") == lexicon
    packed.unlink()
    assert read_lexicon(dictd / "de-en.index") == lexicon


def test_half_a_dictionary_names_the_other_half(dictd):
    (dictd / "de-en.index").rename(dictd / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"two files, de-en\.index and de-en\.dict\.dz"):
        read_lexicon(dictd / "de-en.dict.dz")
    (dictd / "elsewhere").rename(dictd / "de-en.index")
    (dictd / "de-en.dict.dz").unlink()
    with pytest.raises(FileNotFoundError, match=r"de-en\.dict\.dz: a dictd .* this one is missing"):
        read_lexicon(dictd / "de-en.index")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hund\tA", r"line \d: expected a key, an offset and a length .* got 'hund\\tA'"),
        ("hund\tA\t?", r"line \d: expected a key"),
        ("hund\tA\t", r"line \d: expected a key"),
        (
            "hund\tB\t////",
            r"the article ends at byte [\d,]+, but de-en\.dict\.dz has \d+; it is cut",
        ),
    ],
)
def test_an_index_that_is_damaged(dictd, line, message):
    path = dictd / "de-en.index"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_lexicon(path)


def test_an_index_of_another_dictionary(dictd):
    content = gzip.decompress((dictd / "de-en.dict.dz").read_bytes())
    shifted = content[content.index("ʊ".encode()) + 1 :] + b" " * 99
    (dictd / "de-en.dict.dz").write_bytes(gzip.compress(shifted))
    (dictd / "de-en.index").write_text("x\tA\tE\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"the article at byte 0 is not UTF-8 .* another file"):
        read_lexicon(dictd / "de-en.index")


TEI = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE TEI SYSTEM "freedict-P5.dtd">
<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><p>about <quote>nothing</quote></p></teiHeader>
<text><body>
<entry><form><orth>chien</orth><pron>ʃi</pron>
    <form type="infl"><orth>chiens</orth></form></form>
  <sense><cit type="trans"><quote>dog</quote></cit>
    <cit type="translation"><quote>hunting
      dog</quote></cit>
    <def>a beast; beast</def>
    <cit type="example"><quote>chienne</quote><cit type="trans"><quote>bitch</quote></cit></cit>
  </sense></entry>
<entry><form><orth>clé</orth><orth>clef</orth></form>
  <trans><tr>key &amp; lock</tr><tr>key</tr></trans>
</entry>
<entry><form><orth>angoisse</orth></form>
  <sense><def>agony; anguish</def><def>fear;</def></sense></entry>
<entry><form><orth>vide</orth></form></entry>
</body></text></TEI>
"""
FRENCH = (
    ("chien", "dog"), ("clé", "key"), ("clef", "key"),
    ("angoisse", "agony"), ("angoisse", "anguish"), ("angoisse", "fear"),
)  # fmt: skip


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_a_dictionary_in_tei(put, monkeypatch, block):
    from gonzo.translation import tei_format

    monkeypatch.setattr(tei_format, "_BLOCK", block)
    lexicon, report = read_lexicon_with_report(put(TEI, "fr-en.tei"))
    assert lexicon.pairs == FRENCH
    assert report == ("tei", 9, 6, 3, 0)
    assert read_lexicon(put(lzma.compress(TEI.encode()), "fr-en.tei.xz")) == lexicon


BOMB = """<?xml version="1.0"?>
<!DOCTYPE TEI [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>
<TEI><entry><form><orth>&b;</orth></form></entry></TEI>
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "has the entity 'a', which is refused"),
        (BOMB.replace('a "ha"', 'a SYSTEM "file:///etc/passwd"'), "has the entity 'a'"),
        (TEI[:700], r"line \d+: not well-formed XML .* It seems cut off: an interrupted download"),
        (
            TEI.replace("</trans>", "</tranz>"),
            r"line 14: not well-formed XML \(mismatched tag\)\. F",
        ),
        (TEI.replace("chien", "&chien;"), "has the entity 'chien', which is refused"),
        ("<?xml version='1.0'?><html></html>", "expected a TEI dictionary with <entry> elements"),
    ],
)
def test_xml_that_is_refused(put, content, message):
    with pytest.raises(ValueError, match=message):
        read_lexicon(put(content, "x.tei"))
