"""No table of the terminal is wider than 100 columns, whatever stands in it, and nothing of it is lost."""

import pytest
from printing import printed
from rich.cells import cell_len

from locheads.fitted_table import WIDE, Column, Kind, Row, figures, fitted_table, label, words

LONG = "a text that goes on and on, with words of all lengths, for more than one hundred columns of any terminal " * 2


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def width(text: str) -> int:
    return max(cell_len(line.rstrip()) for line in text.splitlines())


@pytest.mark.parametrize("console", [100, 120, 300])
def test_thirty_figures_fit_in_parts_that_all_begin_with_the_labels(console: int) -> None:
    names = [f"metric {i}" for i in range(30)]
    rows = [Row([f"run {r}", *(f"{r}{i}.5 [0.0, 100.0]" for i in range(30))]) for r in range(3)]
    text = printed(fitted_table("Wide", [*label("run"), *figures(*names)], rows), console)
    assert width(text) <= WIDE
    parts = text.count("run 0")
    assert parts > 1 and text.count("run 2") == parts
    for name in names:
        assert name in text
    for r in range(3):
        assert all(f" {r}{i}.5 [0.0, 100.0]" in text for i in range(30))
    # The negative control: one part would be wider than the terminal.
    assert 30 * len("00.5 [0.0, 100.0]") > WIDE


def test_what_narrow_tables_hold_stays_in_one_part() -> None:
    text = printed(fitted_table("Narrow", [*label("run"), *figures("x", "y")], [Row(["a", "1", "2"])]))
    assert lines(text) == ["Narrow", "run x y", "─" * 9, "a 1 2"]


def test_words_and_labels_are_folded_and_whole() -> None:
    columns = [*label("path"), *words("found", "reason"), *figures("n")]
    rows = [Row([f"/very/{'long' * 40}/{i}", LONG, f"{LONG} {i}", str(i)]) for i in range(2)]
    text = printed(fitted_table("Long words", columns, rows, caption=LONG))
    assert width(text) <= WIDE and "…" not in text
    assert "In all rows: found: a text" in text and text.count("found") == 1  # one value in both rows
    # Folded, no letter is lost: of the paths, both reasons, what both rows found, and the caption.
    assert text.count("terminal") == 2 * (2 + 1 + 1) and text.count("l") >= 2 * 40


def test_a_label_that_all_rows_share_moves_into_the_caption_and_figures_stay() -> None:
    columns = [*label("kind", "model", "data"), *figures("REC")]
    same = [Row(["heads", model, "val", "1.0"]) for model in ("a", "b")]
    text = printed(fitted_table("T", columns, same, caption="Own caption."))
    assert lines(text)[1] == "model REC" and lines(text)[-2:] == [
        "In all rows: kind: heads, data: val.",
        "Own caption.",
    ]
    assert "In all rows" not in printed(fitted_table("T", columns, same[:1]))  # one row says nothing of others
    other = [*same, Row(["other", "c", "val", "1.0"])]
    assert "In all rows: data: val." in printed(fitted_table("T", columns, other))


def test_rows_always_keep_a_label() -> None:
    text = printed(
        fitted_table("T", [*label("model", "data"), *figures("x")], [Row(["a", "val", str(i)]) for i in "12"])
    )
    assert lines(text)[1:2] + lines(text)[3:5] == ["data x", "val 1", "val 2"] and "In all rows: model: a." in text


def test_rows_of_one_group_stand_below_it() -> None:
    rows = [Row([kind, name, "1"]) for kind, name in (("old", "a"), ("old", "b"), ("new", "a"), ("new", "c"))]
    found = lines(printed(fitted_table("T", [*label("kind", "name"), *figures("x")], rows)))
    assert found[3:] == ["old", "a 1", "b 1", "new", "a 1", "c 1"]
    # Where nearly every row has its own, a line for each would be longer.
    rows = [Row([kind, "a", "1"]) for kind in "pqrs"] + [Row(["s", "b", "1"])]
    assert "s b 1" in lines(printed(fitted_table("T", [*label("kind", "name"), *figures("x")], rows)))


def test_neighbours_of_a_group_stay_together_below_its_name() -> None:
    columns = [*label("model"), *(Column(of, Kind.FIGURE, f"data {i}") for i in range(6) for of in ("paper", "ours"))]
    rows = [Row(["m", *(f"{i:02}.0 [00.0, 99.9]" for i in range(12))])]
    text = printed(fitted_table("T", columns, rows))
    headings = [line.split() for line in lines(text) if line.startswith("model ")]
    assert len(headings) > 1 and all(found == ["model", *["paper", "ours"] * (len(found) // 2)] for found in headings)
    assert width(text) <= WIDE and [text.count(f"data {i}") for i in range(6)] == [1] * 6


def test_a_row_stands_only_in_the_parts_where_it_has_figures() -> None:
    wide = ["0.5 [0.0, 100.0]"] * 8
    rows = [Row(["both", *wide]), Row(["first", *wide[:4], *[""] * 4]), Row(["last", *[""] * 6, *wide[:2]])]
    text = printed(fitted_table("T", [*label("run"), *figures(*"abcdefgh")], rows))
    assert [text.count(name) for name in ("both", "first", "last")] == [2, 1, 1] and text.count(wide[0]) == 14


def test_text_of_users_is_shown_as_it_is() -> None:
    text = printed(
        fitted_table("[red]T[/]", [*label("[b]"), *figures("x")], [Row(["\x1b[31m:smile:", "[1, 2]"])], "[i]c")
    )
    assert all(part in text for part in ("[red]T[/]", "[b]", r"\x1b[31m:smile:", "[1, 2]", "[i]c"))
    assert "\x1b" not in text
