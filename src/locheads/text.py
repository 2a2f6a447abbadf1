"""Text of users and of data (paths, ids, expressions, names, what a library says) made safe for where it is shown.

HTML is escaped by Jinja's autoescape; the terminal's markup and matplotlib's mathematics are switched off where the
console and the charts are made.
"""

import html
import math
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded late: a wrong override is answered before pandas loads
    import pandas as pd

BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the order in which a terminal shows what follows."""
LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    # As they are, the fonts that LaTeX takes by itself print other letters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # pdflatex stops at these, which labels of ours hold; what else is not ASCII stays UTF-8.
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{GREEK SMALL LETTER RHO}": r"$\rho$",
    "\N{GREEK SMALL LETTER TAU}": r"$\tau$",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With these a spreadsheet begins a formula, or skips to one."""


def printable(text: str, keep: str = "") -> str:
    """Every control character, line break, mark of direction and half surrogate pair as its escape (`\\x1b`).

    `keep`: those that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter in keep or not _is_control(letter) else _escaped(letter) for letter in text)


def csv_text(frame: "pd.DataFrame") -> str:
    """The table as CSV, without its index. A text that a spreadsheet would run as a formula gets an apostrophe in
    front, which spreadsheets hide; numbers stay numbers, negative ones, too."""
    return frame.map(cell).rename(columns=cell).to_csv(index=False)


def cell(value: object) -> object:
    """A value of a CSV file: see `csv_text`."""
    if not isinstance(value, str):
        return value
    # A lone carriage return would end the row for some readers.
    quoted = value.startswith(FORMULA) and not _is_number(value)
    return f"'{printable(value)}" if quoted else printable(value)


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is, on one line; square brackets stay, as they make no link alone."""
    escaped = html.escape(printable(" ".join(str(text).split())), quote=False)
    # A bracket with a parenthesis behind it would be a link.
    return re.sub(r"([\\`*_|~$]|\](?=\())", r"\\\1", escaped)


def latex_text(text: object) -> str:
    """Text that LaTeX prints as it is, on one line."""
    escaped = "".join(LATEX.get(letter, letter) for letter in printable(" ".join(str(text).split())))
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens would be a dash


def reason(error: BaseException) -> str:
    """What an exception of a library says, as the part of a sentence: one line, its kind where that tells more."""
    text = printable(" ".join(str(error).split())).rstrip(".")
    if not text or isinstance(error, KeyError | IndexError | AttributeError | TypeError | AssertionError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


def duration(seconds: float) -> str:
    """Such as "3 min 07 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in BIDI


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text == text.strip()
    except ValueError:
        return False
