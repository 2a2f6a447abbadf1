"""Text of users is shown as it is: it runs nothing in a terminal, a spreadsheet, a page or a table."""

import csv
import io
import logging

import pandas as pd
import pytest

from locheads.errors import ConfigError, DataError, boundary, print_error
from locheads.fitted_table import Row, fitted_table, label
from locheads.pipeline.error_messages import LineFormatter, log_bug
from locheads.terminal import PlainConsole
from locheads.text import csv_text, latex_text, markdown_text, printable, reason


def _shown(what: object) -> str:
    # A terminal with colours, for which rich writes escapes of its own.
    console = PlainConsole(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(what, soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["a[/]b", "[bold]b", ":smile:", "[link=x]y[/link]", r"\[a]", "http://x.y/1 'q' 2.5"])
def test_the_terminal_shows_what_looks_like_markup(text: str) -> None:
    assert _shown(text) == f"{text}\n"
    assert _shown(fitted_table(text, label(text), [Row([text])], text)).count(text) == 4


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x07", r"\x07"),
        ("a\nb", r"a\nb"),
        ("a\rb", r"a\rb"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u2028b", r"a\u2028b"),
        ("\u202egpj", r"\u202egpj"),
        ("\ud800", r"\ud800"),
        ("größe 图 \u200d", "größe 图 \u200d"),
    ],
)
def test_control_characters_are_shown(text: str, safe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text) == safe
    assert _shown(text) == f"{safe}\n"
    assert print_error(f"no {text}") == 1
    assert capsys.readouterr().err == f"error: no {safe}\n"
    record = logging.LogRecord("n", logging.ERROR, "f", 0, "no %s", (text,), None)
    assert LineFormatter("%(message)s").format(record) == f"no {safe}"


def test_a_traceback_in_the_log_keeps_its_lines() -> None:
    try:
        raise ValueError("a")
    except ValueError as error:
        record = logging.LogRecord("n", logging.ERROR, "f", 0, "m", (), (ValueError, error, error.__traceback__))
    assert LineFormatter("%(message)s").format(record).count("\n") >= 3


def test_a_spreadsheet_runs_nothing_and_numbers_stay_numbers() -> None:
    formulas = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]
    texts = [*formulas, "plain", "-0.5", "+3", "1e-5", "", None]
    frame = pd.DataFrame({"=head": texts, "n": [-1.5] * len(texts), "i": -3, "mixed": [-1, "=1"] + [0.5] * 11})
    rows = list(csv.reader(io.StringIO(csv_text(frame), newline="")))
    assert rows[0] == ["'=head", "n", "i", "mixed"]
    assert [row[0] for row in rows[1:]] == [*(f"'{printable(text)}" for text in formulas), *texts[7:12], ""]
    assert {row[1] for row in rows[1:]} == {"-1.5"} and {row[2] for row in rows[1:]} == {"-3"}
    assert [row[3] for row in rows[1:4]] == ["-1", "'=1", "0.5"]
    assert "'" not in csv_text(pd.DataFrame({"x": [-1.5, float("nan")]}))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a|b", r"a\|b"),
        ("`x`", r"\`x\`"),
        ("a\nb", "a b"),
        ("<b>", "&lt;b&gt;"),
        ("[t](u)", r"[t\](u)"),
        ("77.0 [74, 79]", "77.0 [74, 79]"),
        ("*a* _b_ ~c~ $d$", r"\*a\* \_b\_ \~c\~ \$d\$"),
        ("\x1b[1m", r"\\x1b[1m"),
    ],
)
def test_markdown_shows_it_in_one_cell(text: str, safe: str) -> None:
    assert markdown_text(text) == safe


def test_latex_shows_it() -> None:
    assert latex_text("a_b & 5 % \\input{x} ~^#$") == (
        r"a\_b \& 5 \% \textbackslash{}input\{x\} \textasciitilde{}\textasciicircum{}\#\$"
    )
    assert latex_text("<a> | --x café \u2265") == r"\textless{}a\textgreater{} \textbar{} -{}-x café $\geq$"


class PanicException(BaseException):
    """As tokenizers' Rust raises it."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("bad\nnews."), "It failed (bad news): mend it."),
        (KeyError("x"), "It failed (KeyError: 'x'): mend it."),
        (RuntimeError(), "It failed (RuntimeError): mend it."),
        (AttributeError("no x"), "It failed (AttributeError: no x): mend it."),
        (OSError("\x1b[2J"), r"It failed (\x1b[2J): mend it."),
        (PanicException("no entry"), "It failed (no entry): mend it."),
        (ValueError("x" * 999), f"It failed ({'x' * 300}...): mend it."),
    ],
)
def test_a_boundary_makes_a_sentence_and_chains_what_was_raised(error: BaseException, says: str) -> None:
    with pytest.raises(DataError) as caught, boundary("It failed", DataError, "mend it."):
        raise error
    assert str(caught.value) == says
    assert caught.value.__cause__ is error
    assert reason(error) in says


@pytest.mark.parametrize("error", [ConfigError("ours"), MemoryError(), KeyboardInterrupt(), ZeroDivisionError()])
def test_what_is_not_the_librarys_passes(error: BaseException) -> None:
    with (
        pytest.raises(type(error)) as caught,
        boundary("It failed", DataError, "mend it.", unless=lambda e: isinstance(e, ZeroDivisionError)),
    ):
        raise error
    assert caught.value is error


def test_without_a_log_the_traceback_of_a_bug_goes_to_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    try:
        raise ValueError("ours")
    except ValueError as error:
        sentence = log_bug(error)
    assert sentence == "This is a bug of LocHeads, not yours: the traceback is above; please report it."
    assert "ValueError: ours" in capsys.readouterr().err
