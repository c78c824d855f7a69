"""The prose of a manual page written with man(7) macros, as paragraphs.

What a formatter would set as filled text is kept, without fonts; listings (`.nf`, `.EX`), tables
and equations are left out. Pages written with mdoc(7), the other macro package, have no paragraphs
here.
"""

import re
import unicodedata

# Requests that end a paragraph, and of these, those whose arguments are a paragraph of their own.
_BREAKS = frozenset([
    "P", "PP", "LP", "HP", "TP", "TQ", "IP", "SH", "SS", "RS", "RE", "sp", "br", "TH", "nf", "fi",
    "EX", "EE", "TS", "TE", "EQ", "EN", "Sp", "Vb", "Ve",
])  # fmt: skip
_TITLES = frozenset(["SH", "SS"])
_TEXT = frozenset(["B", "I", "SM", "SB", "R"])
_JOINED = frozenset(["BR", "IR", "RB", "RI", "BI", "IB"])
_TAGGED = frozenset(["TP", "TQ"])  # the next line is a tag, a paragraph of its own
# What starts a part to leave out, and what ends it.
_LEFT_OUT = {
    "nf": "fi", "EX": "EE", "Vb": "Ve", "TS": "TE", "EQ": "EN", "de": ".", "de1": ".", "am": ".",
    "ig": ".",
}  # fmt: skip

_ESCAPE = re.compile(
    r"""\\(?:
        ["\#] .* $                                     # a comment
      | [fFgkmMnVY*] (?: \( .. | \[ (?P<long>[^]]*) \] | [+-]? . )   # a font, colour, register
      | s [+-]? (?: \( .. | \[ [^]]* \] | '[^']*' | [1-3]\d | \d )   # a size
      | [ABCDHLNRSXZbhlovwx] (?P<q>['"]) .*? (?P=q)    # a motion, a drawing, a measure
      | \( (?P<two>..) | \[ (?P<name>[^]]*) \]         # a named character
      | \$ [\d*@]                                      # an argument of a macro
      | (?P<one>.)
      | $
    )""",
    re.VERBOSE | re.MULTILINE,
)
_SIGNS = {
    "aq": "'", "dq": '"', "oq": "‘", "cq": "’", "lq": "“", "rq": "”", "Fo": "«", "Fc": "»",
    "fo": "‹", "fc": "›", "Bq": "„", "bq": "‚", "hy": "-", "en": "–", "em": "—", "mi": "−",
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "/o": "ø", "/O": "Ø", "oa": "å",
    "oA": "Å", "aa": "´", "ga": "`", "ha": "^", "ti": "~", "at": "@", "rs": "\\", "sl": "/",
    "mc": "µ", "de": "°", "co": "©", "if": "∞", "sh": "#", "Do": "$", "ba": "|", "bv": "|",
}  # fmt: skip
_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", ":": "\u0308", "~": "\u0303",
            ",": "\u0327", "v": "\u030c"}  # fmt: skip
_ONE = {"-": "-", "e": "\\", "\\": "\\", " ": " ", "~": " ", "0": " ", "t": " ", "`": "`"}
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)(?:"|$)|((?:\\.|[^\s\\])+)')
_SPACE = re.compile(r"\s+")


def man_paragraphs(page: str) -> list[str]:
    """Return the paragraphs of a manual page in order, their white space collapsed.

    Args:
        page: its source, with man(7) macros.
    """
    paragraphs: list[str] = []
    pieces: list[str] = []
    until: str | None = None
    tag_follows = False

    def end_paragraph() -> None:
        text = _SPACE.sub(" ", "".join(pieces)).strip()
        pieces.clear()
        if text:
            paragraphs.append(text)

    for line in page.split("\n"):
        name, rest = _request(line)
        if until is not None:
            if name == until:
                until = None
            if name not in _TITLES or until not in ("fi", "EE"):
                continue
            until = None  # a heading ends a listing that was not ended
        if name in ("Dd", "Sh"):
            return []  # mdoc(7)
        if name is None:
            pieces.append(_plain(line))
        elif name in _TEXT:
            pieces.append(" ".join(_plain(part) for part in _arguments(rest)))
        elif name in _JOINED:
            pieces.append("".join(_plain(part) for part in _arguments(rest)))
        else:
            until = _LEFT_OUT.get(name)
            if until == "." and name != "ig" and len(rest.split()) > 1:
                until = rest.split()[1]
            if name in _BREAKS:
                end_paragraph()
            if name in _TITLES or name == "IP":
                titles = [_plain(part) for part in _arguments(rest)]
                pieces.append(" ".join(titles if name in _TITLES else titles[:1]))
                end_paragraph()
                tag_follows = name in _TITLES and not titles
            elif name in _BREAKS:
                tag_follows = name in _TAGGED
            continue
        if line.endswith("\\c"):
            continue
        pieces.append(" ")
        if tag_follows:
            tag_follows = False
            end_paragraph()
    end_paragraph()
    return paragraphs


def _request(line: str) -> tuple[str | None, str]:
    if not line.startswith((".", "'")):
        return None, ""
    head = line[1:].lstrip(" \t")
    if head.startswith("."):  # `..` ends a definition
        return ".", ""
    if head.startswith('\\"'):
        return "", ""
    name, _, rest = head.partition(" ")
    return name.split("\t")[0].split("\\")[0], rest.strip()


def _arguments(rest: str) -> list[str]:
    return [
        quoted.replace('""', '"') if quoted or not bare else bare
        for quoted, bare in _ARGUMENT.findall(re.sub(r'\\".*$', "", rest))
    ]


def _plain(text: str) -> str:
    return _ESCAPE.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    if (one := match["one"]) is not None:
        return _ONE.get(one, "" if one in "&%/,|^:cdurpz{}!?)E.aT" else one)
    if match[0] in ("\\*(Aq", "\\*[Aq]"):
        return "'"
    name = match["two"] or match["name"]
    if name is None:
        return ""
    if name in _SIGNS:
        return _SIGNS[name]
    if len(name) == 2 and name[0] in _ACCENTS:
        return unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
    if re.fullmatch(r"u[0-9A-F]{4,6}", name) and int(name[1:], 16) <= 0x10FFFF:
        return chr(int(name[1:], 16))
    return " "
