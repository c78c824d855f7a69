"""The prose of HTML, Mallard and manual pages: what is a paragraph, and what is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonzo.lab.data.html_paragraphs import html_paragraphs
from gonzo.lab.data.man_paragraphs import man_paragraphs


@pytest.mark.parametrize(
    ("page", "paragraphs"),
    [
        ("", []),
        ("plain  text\nof one line", ["plain text of one line"]),
        ("<p>A <b>b</b>old word.<p>Next &amp; &eacute;t&#233;", ["A bold word.", "Next & été"]),
        ("<h1>Title</h1>text<ul><li>one<li>two</ul>", ["Title", "text", "one", "two"]),
        ("<table><tr><td>a<td>b<tr><td>c</table>", ["a", "b", "c"]),
        ("<p>first<br>second<br/>third</p>", ["first", "second", "third"]),
        ("<html><head><title>T</title><body><p>open head", ["open head"]),
        ("<head><title>T <b>t</b></title><style>p {}</style></head>text", ["text"]),
        ("<p>Use <code>ls -l</code> now</p><pre>rm\n\nx</pre>", ["Use now"]),
        ("<nav><p>Next</p></nav><header><p>Top</p></header><p>Text</p>", ["Text"]),
        ("<script>if (a < b) { '</p>' }</script><p>after</p>", ["after"]),
        ("<pre>a<p>b</p></pre>c</pre>d", ["cd"]),
        ("<p>a</code>b</p>", ["ab"]),
        ("<p>never <unknown>closed", ["never closed"]),
    ],
)  # fmt: skip
def test_html(page: str, paragraphs: list[str]) -> None:
    assert html_paragraphs(page) == paragraphs


def test_mallard() -> None:
    page = """<?xml version="1.0"?>
    <page xmlns="http://projectmallard.org/1.0/"><info><link type="guide" xref="a#b"/>
    <credit type="author"><name>A. Writer</name></credit><desc>What it is for.</desc>
    <mal:credit xmlns:mal="http://projectmallard.org/1.0/"><mal:name>T.</mal:name></mal:credit>
    </info><title>Open <gui>Files</gui> now</title><p>Press <key>F1</key>.</p>
    <steps><item><p>One</p></item></steps><screen>$ ls</screen><p>Type <cmd>ls</cmd></p></page>"""
    assert html_paragraphs(page) == [
        "What it is for.",
        "Open Files now",
        "Press F1.",
        "One",
        "Type",
    ]


@given(st.text(alphabet="<>/!-&;'\"= \nabp1", max_size=60))
def test_any_damage_is_read(page: str) -> None:
    for text in [*html_paragraphs(page), *man_paragraphs(page)]:
        assert text == " ".join(text.split())
        assert text


MAN = r""".\" A comment
.TH LS 1 2020 "GNU" "User's manual"
.ie \n(.g .ds Aq \(aq
.de Vb
defined text
..
.SH NAME
ls \- list files
.SH
DESCRIPTION
List \fIfiles\fP in
.IR dir ,
see
.BR stat (2) " and " open (2).
.\" hidden
It\(aqs \fBfast\fR\&: caf\('e, \[u00E9]t\[u00E9], na\(:ive\ , 5\-3.
.PP
Next,
without \c
.B space
\&.dot first
'br
.TP 8
.BI \-w " width"
Set the width. \" trailing
.TP
\fB\-x\fP, \fB\-\-xx\fP
Both.
.IP "\(bu tag" 4
After a tag.
.IP \(bu
.UR http://x.org
A site
.UE .
goes on.
.nf
int main(void);
.fi
.EX
$ ls
.EE
.TS
l l.
a	b
.TE
.SS "Return  value"
Zero.
.nf
never closed
.SH NOTES
Said "twice"
"""


def test_man() -> None:
    assert man_paragraphs(MAN) == [
        "NAME",
        "ls - list files",
        "DESCRIPTION",
        "List files in dir, see stat(2) and open(2). It's fast: café, été, naïve , 5-3.",
        "Next, without space .dot first",
        "-w width",
        "Set the width.",
        "-x, --xx",
        "Both.",
        "tag",
        "After a tag.",
        "A site goes on.",
        "Return value",
        "Zero.",
        "NOTES",
        'Said "twice"',
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\s-1SMALL\s+1 \s0x\s[10]y\s'12'z", "SMALL xyz"),
        (r"\f(CWcode\fR \f[BI]x\f[] \m[red]y\m[]", "code x y"),
        (r"\h'-1'a\v'1m'b\w'word'c \l'3i'd", "abc d"),
        (r"\n(.g \n[x] \nx \*(Aq \*[Aq] \*x", "' '"),
        (r"a\eb \\ \(rs \[rs]", "a\\b \\ \\ \\"),
        (r"\(lqquoted\(rq \(Foguillemets\(Fc \(em \(en", "“quoted” «guillemets» — –"),
        (r"\(,c \(^o \(ss \(oe \(~n \(vs \(:A", "ç ô ß œ ñ š Ä"),
        (r"\[u0153]uvre \[u110000]x \(zz", "œuvre x"),
        (r"hyphen\%ation\:break\/ it\,s a\|b\^c\~d\0e", "hyphenationbreak its abc d e"),
        (r"can\'t \`x", "can't `x"),
        ("ends with \\", "ends with"),
    ],
)
def test_escapes(source: str, text: str) -> None:
    assert man_paragraphs(source) == [text]


def test_arguments() -> None:
    assert man_paragraphs('.BR "a b" c\\ d "say ""hi"""') == ['a bc dsay "hi"']
    assert man_paragraphs('.B one "two  three" "open') == ["one two three open"]
    assert man_paragraphs(".B") == []


def test_mdoc_and_redirections_have_none() -> None:
    assert man_paragraphs(".Dd May 1, 2020\n.Dt LS 1\n.Sh NAME\n.Nm ls\ntext\n") == []
    assert man_paragraphs(".so man2/open.2\n") == []
