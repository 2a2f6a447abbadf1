"""Tables for a paper: what LaTeX is written, which figures are marked, and that no text of data is obeyed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from locheads.errors import StoreError
from locheads.evaluation.intervals import compare
from locheads.evaluation.metric_table import METRIC
from locheads.records.audit_file import AuditFile
from locheads.records.metrics_file import MetricsRecord
from locheads.records.zoom_file import ZoomFile
from locheads.report.dossier.latex import audit_tables, results_tables, run_tables, zoom_tables
from locheads.report.dossier.pairs import paired, read_pairs
from locheads.report.interval_words import PAIRED_MARK, interval_words, paired_mark
from locheads.report.latex_table import Figure, TexRow, TexTable, booktabs
from locheads.report.run_record import RunRecord, read_run

GOLDEN = r"""% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{A \& b: 50 \%.}
  \label{tab:of-a-b}
  \par\smallskip
  \begin{tabular}{lr@{\hspace{1em}}lc}
    \toprule
    a\_b & \multicolumn{2}{c}{Acc} & n \\
    \midrule
    x \textless{} y & 53.2\rlap{$^{\ddagger}$} & {\footnotesize [\phantom{1}50.1, \phantom{1}56.0]} & 1,035 \\
    \addlinespace
    {}[z] & \phantom{5}9.8\rlap{$^{\dagger}$} & {\footnotesize [\phantom{10}7.4, 100.0]} & \phantom{1,}346 \\
     & -- &  & \phantom{1,03}4 \\
    \bottomrule
  \end{tabular}
\end{table}
"""


def balanced(tex: str) -> bool:
    """Braces, environments, and in each table as many columns in every row as its first line declares."""
    bare = re.sub(r"(?m)(?<!\\)%.*$", "", tex).replace(r"\\", "\n").replace(r"\{", "").replace(r"\}", "")
    begun, ended = (sorted(re.findall(rf"\\{word}{{(\w+\*?)}}", tex)) for word in ("begin", "end"))
    return bare.count("{") == bare.count("}") and begun == ended and all(map(_even, tex.split(r"\begin{tabular}")[1:]))


def _even(table: str) -> bool:
    kinds = table.split("\n")[0]
    columns = sum(letter in "lcr" for letter in re.sub(r"@{(?:[^{}]|{[^{}]*})*}", "", kinds))
    rows = [line for line in table.split(r"\bottomrule")[0].splitlines() if line.endswith(r"\\")]
    spans = [sum(int(n) - 1 for n in re.findall(r"\\multicolumn{(\d)}", row)) for row in rows]
    counts = {len(re.findall(r"(?<!\\)&", row)) + 1 + span for row, span in zip(rows, spans, strict=True)}
    return counts == {columns}


def test_the_table_as_it_is_written() -> None:
    rows = (
        TexRow(("x < y", Figure("53.2", "50.1", "56.0", PAIRED_MARK), Figure("1,035"))),
        TexRow(("[z]", Figure("9.8", "7.4", "100.0", "\N{DAGGER}"), Figure("346")), "addlinespace"),
        TexRow(("", Figure("\N{EN DASH}"), Figure("4"))),
    )
    made = booktabs(TexTable("of a_b", ("a_b", "Acc", "n"), rows, "A & b: 50 %."))
    assert made == GOLDEN
    assert balanced(made)


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="rows of other lengths than its 2 headings"):
        booktabs(TexTable("t", ("a", "b"), (TexRow(("x",)),), ""))


def test_the_check_of_balance_can_fail() -> None:
    made = booktabs(TexTable("t", ("a", "b"), (TexRow(("x", "y")),), "c"))
    assert balanced(made)
    assert not balanced(made.replace("x & y", "x & y & z"))
    assert not balanced(made.replace(r"\end{table}", ""))
    assert not balanced(made.replace(r"\caption{c}", r"\caption{{c}"))


def test_numbers_line_up_at_their_points_with_signs_too() -> None:
    cells = [Figure("+1.75"), Figure("-10.2"), Figure("3"), Figure("failed")]
    numbers = booktabs(TexTable("t", ("d",), tuple(TexRow((cell,)) for cell in cells[:3]), ""))
    assert r"\phantom{1}$+$1.75 \\" in numbers and r"$-$10.2\phantom{5} \\" in numbers
    assert r"\phantom{$-$1}3\phantom{.75} \\" in numbers and r"{tabular}{c}" in numbers
    words = booktabs(TexTable("t", ("d",), tuple(TexRow((cell,)) for cell in cells), ""))
    assert r"{tabular}{l}" in words and "    failed" in words


def test_a_wide_table_has_its_intervals_below() -> None:
    row = TexRow(tuple(Figure("53.2", "50.1", "56.0") for _ in range(8)))
    made = booktabs(TexTable("t", tuple("abcdefgh"), (row,), ""))
    assert r"\begin{table*}" in made and r"\resizebox" in made and balanced(made)
    first, second = (line for line in made.splitlines() if "53.2" in line or "tiny" in line)
    assert first.count("53.2") == 8 and second.count("[50.1, 56.0]") == 8


# Which figures are marked.

_ROW = dict.fromkeys(("intersection", "union"), 1) | {"pointed": True}


def scored(hits: dict[str, np.ndarray], per_image: int = 2) -> pd.DataFrame:
    """Scores with the box IoU 1 for a hit and 0 for a miss, of one draw for each method."""
    frames = []
    for method, found in hits.items():
        ids = [str(i) for i in range(len(found))]
        images = [f"image {i // per_image}" for i in range(len(found))]
        frames.append(pd.DataFrame({"method": method, "sample_id": ids, "image_id": images,
                                    "box_iou": found.astype(float), **_ROW}))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def hits() -> dict[str, np.ndarray]:
    """600 answers of our own, of a method that is worse in a tenth of them, and of one that is as good."""
    rng = np.random.default_rng(0)
    own = rng.random(600) < 0.7
    changed = np.zeros(600, bool)
    changed[rng.choice(600, 60, replace=False)] = True
    return {
        "localization_heads": own,
        "mean_of_all_heads": own & ~changed,
        "random_heads": np.where(changed, rng.permutation(own), own),
    }


def test_paired_differences_are_those_of_an_independent_computation(hits: dict[str, np.ndarray]) -> None:
    found = paired(scored(hits, per_image=1), "localization_heads", 0.95)
    assert set(found) == {"mean_of_all_heads", "random_heads"}
    for method in found:
        per_sample = hits["localization_heads"].astype(float) - hits[method]
        value, low, high = found[method]["rec_acc@0.5"]
        assert value == pytest.approx(per_sample.mean())
        half = 1.96 * per_sample.std(ddof=1) / np.sqrt(len(per_sample))
        assert (high - low) / 2 == pytest.approx(half, rel=0.1)
        # As if the two had answered different samples, the interval would be far wider.
        apart = 1.96 * np.sqrt(sum(np.var(hits[m]) for m in ("localization_heads", method)) / len(per_sample))
        assert (high - low) / 2 < 0.6 * apart
    assert found["mean_of_all_heads"]["rec_acc@0.5"][1] > 0
    low, high = found["random_heads"]["rec_acc@0.5"][1:]
    assert low < 0 < high


def test_paired_differences_are_those_of_comparing_two_runs(hits: dict[str, np.ndarray]) -> None:
    scores = scored(hits)
    value, low, high = paired(scores, "localization_heads", 0.9)["mean_of_all_heads"]["rec_acc@0.5"]
    of = {method: METRIC["rec_acc@0.5"].parts(rows) for method, rows in scores.groupby("method")}
    images = pd.factorize(scores["image_id"][:600])[0]
    same = compare(of["mean_of_all_heads"], of["localization_heads"], images, confidence=0.9, resamples=10)
    assert (value, low, high) == pytest.approx((same.difference, same.low, same.high))


def test_draws_count_as_one_answer_and_other_samples_as_none(hits: dict[str, np.ndarray]) -> None:
    once = scored(hits)
    random = once[once["method"] == "random_heads"]
    twice = pd.concat([once, random], ignore_index=True)
    for metric, found in paired(once, "localization_heads", 0.95)["random_heads"].items():
        assert paired(twice, "localization_heads", 0.95)["random_heads"][metric] == pytest.approx(found)
    fewer = once.drop(random.index[:1])
    assert set(paired(fewer, "localization_heads", 0.95)) == {"mean_of_all_heads"}


RECORD: dict[str, Any] = {
    "split": "val", "n_expressions": 600, "n_images": 300, "n_failed": 2, "n_empty": 0, "confidence": 0.9,
    "methods": {
        "localization_heads": {"rec_acc@0.5": {"value": 0.7, "low": 0.66, "high": 0.74}},
        "best_rec_heads": {"rec_acc@0.5": {"value": 0.75, "low": 0.71, "high": 0.79}},
        "centre_box": {"rec_acc@0.5": {"value": 0.04, "low": 0.02, "high": 0.06}},
    },
}  # fmt: skip
CONFIG = {"model": {"name": "a_model"}, "dataset": {"name": "refcoco"}}
RESULTS = r"""% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{Boxes on refcoco val (a\_model), in percent: 300 images, 600 expressions, 2 of which failed. Brackets are 90 \% intervals over images in closed form (Wilson's, for as many independent expressions as the images are worth; the variance is the jackknife's over images, and nothing is resampled). ‡ the paired difference to “Localization heads”, on the same expressions, has a 90 \% interval over images (Student's, with the jackknife's variance over images, not resampled) without 0. * chosen with ground truth, of the discovery set.}
  \label{tab:results-boxes}
  \par\smallskip
  \begin{tabular}{lr@{\hspace{1em}}l}
    \toprule
     & \multicolumn{2}{c}{REC Acc@0.5} \\
    \midrule
    Localization heads & 70.0 & {\footnotesize [66.0, 74.0]} \\
    \midrule
    Best set by REC * & 75.0 & {\footnotesize [71.0, 79.0]} \\
    Centre box & \phantom{7}4.0\rlap{$^{\ddagger}$} & {\footnotesize [\phantom{6}2.0, \phantom{6}6.0]} \\
    \bottomrule
  \end{tabular}
\end{table}
"""  # noqa: E501  a caption is one line


def results(pairs: dict[str, Any], record: dict[str, Any] = RECORD, why: str = "") -> str:
    metrics = MetricsRecord.parse(record)
    return "".join(map(booktabs, results_tables(RunRecord(Path("run"), config=CONFIG), metrics, pairs, why)))


def test_the_results_of_a_record_as_they_are_written() -> None:
    pairs = {"best_rec_heads": {"rec_acc@0.5": (-0.05, -0.11, 0.01)}, "centre_box": {"rec_acc@0.5": (0.66, 0.6, 0.7)}}
    text = results(pairs)
    assert text == RESULTS
    assert balanced(text)


@pytest.mark.parametrize(("low", "high", "marked"), [(0.01, 0.2, 1), (-0.2, -0.01, 1), (-0.01, 0.2, 0), (0, 0.2, 0)])
def test_the_mark_vanishes_where_the_interval_covers_zero(low: float, high: float, marked: int) -> None:
    assert results({"centre_box": {"rec_acc@0.5": (0.1, low, high)}}).count(r"\ddagger") == marked
    assert paired_mark(float("nan"), float("nan")) == ""


def test_the_caption_says_what_is_not_known() -> None:
    text = results({}, why="the scores are gone.")
    assert r"\ddagger" not in text and "No paired difference is known: the scores are gone." in text
    assert "† on fewer than 30 images" in results({}, RECORD | {"n_images": 20})
    assert "95 % intervals" in interval_words("95 %", ["rec_acc@0.5"])
    assert "Wilson" not in interval_words("95 %", ["map_kld"])
    assert "Student's for figures without" in interval_words("95 %", ["rec_acc@0.5", "map_kld"])


def test_further_looks_and_audits_mark_their_paired_differences() -> None:
    change = {"a": 0.5, "b": 0.6, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "spread": 0.3,
              "design_effect": 1.0, "need": None, "need_of_a_point": None}  # fmt: skip
    gain = {"part": "all", "n_expressions": 60, "n_images": 40,
            "metrics": {"rec_acc@0.5": change, "res_ciou": change | {"low": -0.05}}}  # fmt: skip
    zoom = ZoomFile.parse({"name": "box", "combine": "product", "n_asked": [60], "n_parts": [60], "n_failed": 0,
                           "gains": [gain]})  # fmt: skip
    text = "".join(map(booktabs, zoom_tables(zoom)))
    assert text.count(r"\ddagger") == 1 and r"$+$10.0\rlap{$^{\ddagger}$}" in text and balanced(text)

    def choice(option: str, value: str, low: float) -> dict[str, Any]:
        found = {"value": 0.5, "low": 0.4, "high": 0.6, "difference": {"value": 0.1, "low": low, "high": 0.2}}
        return {"option": option, "value": value, "changes": "", "heads": "L1H1", "metrics": {"rec_acc@0.5": found},
                "contradicts": [], "error": None}  # fmt: skip

    audit = AuditFile.parse({
        "split": "val", "n_images": 40, "n_expressions": 60, "n_failed": 0, "confidence": 0.95, "mode": "product",
        "seconds": 1.0, "metric": "rec_acc@0.5", "target": None, "n_choices": 2, "n_failed_choices": 0,
        "base": choice("", "", 0.0), "base_contradicts": [], "best": [],
        "effects": [choice("grounding.sigma", "0", 0.01), choice("grounding.border", "reflect", -0.01)],
    })  # fmt: skip
    text = "".join(map(booktabs, audit_tables(audit)))
    assert text.count(r"\ddagger") == 1 and balanced(text) and "grounding.sigma & 0 &" in text


def test_a_whole_run(run_folder: Path, metrics_json: Callable[..., dict[str, Any]], edit_json: Any) -> None:
    edit_json(run_folder / "metrics.json", split="va_l\\input{x}")
    text = run_tables(read_run(run_folder))
    assert balanced(text) and "\\input{" not in text and r"va\_l\textbackslash{}input\{x\}" in text
    titles = re.findall(r"\\label{tab:([\w-]+)}", text)
    assert titles == ["results-boxes", "results-masks", "results-pointing", "results-heat-maps", "heads"]
    assert "No paired difference is known: the run folder has no scores.parquet" in text
    assert str(run_folder) not in text


def test_scores_that_are_not_the_runs_mark_nothing(run_folder: Path, hits: dict[str, np.ndarray]) -> None:
    metrics = MetricsRecord.parse(RECORD)
    scored(hits).to_parquet(run_folder / "scores.parquet")
    assert set(read_pairs(run_folder, metrics)) == {"mean_of_all_heads", "random_heads"}
    (run_folder / "scores.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match="cannot be read"):
        read_pairs(run_folder, metrics)
