"""Runs beside the paper's figures: which cell a run fills, the difference, what is missing, what is said."""

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from printing import printed

from locheads.errors import StoreError
from locheads.evaluation.metric_table import METRICS
from locheads.report.studies.build import MISSING, Study, build
from locheads.report.studies.layout import overlap
from locheads.report.studies.layouts import LAYOUTS
from locheads.report.studies.runs import find_runs
from locheads.report.studies.write import latex, terminal_table, write_study
from locheads.store.atomic import read_json, write_json

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = ROOT / "experiments"

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(template: Path, tmp_path: Path) -> MakeRun:
    """A run folder of LLaVA-1.5-13B on RefCOCO val, with settings, metrics and provenance changed."""

    def make(name: str, settings: dict[str, Any], rec: float = 0.8, res: float = 0.7, **status: Any) -> Path:
        folder = Path(shutil.copytree(template, tmp_path / "runs" / name))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        real = {"model.name": "llava_1_5_13b", "model.id": "some/checkpoint", "dataset.name": "refcoco"}
        for key, value in (real | settings).items():
            group, _, last = key.rpartition(".")
            (config.setdefault(group, {}) if group else config)[last] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "overrides.yaml").write_text("[]")
        metrics = read_json(folder / "metrics.json")
        own = metrics["methods"]["localization_heads"]
        own["rec_acc@0.5"] = {"value": rec, "low": rec - 0.01, "high": rec + 0.02}
        own["res_ciou"] = {"value": res, "low": res - 0.01, "high": res + 0.02}
        write_json(folder / "metrics.json", metrics)
        provenance = read_json(folder / "provenance.json")
        write_json(
            folder / "provenance.json", provenance | {"started": status.pop("started", "2026-01-01"), "digest": name}
        )
        if status:
            write_json(folder / "status.json", status)
        return folder

    return make


def joined(study: str, tmp_path: Path) -> Study:
    return build(LAYOUTS[study], find_runs([str(tmp_path / "runs")]), EXPERIMENTS / study)


def cell(study: Study, **labels: str) -> dict[str, Any]:
    cells = study.cells
    for name, value in labels.items():
        cells = cells[cells[name] == value]
    (found,) = cells.to_dict("records")
    return found


def test_a_run_stands_beside_the_papers_figure_with_difference_and_interval(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"heads.k": 3}, res=0.75)
    found = cell(joined("table4_head_count", tmp_path), model="LLaVA-1.5-13B", k="k=3")
    assert (found["paper"], found["ours"], found["low"], found["high"]) == ("76.1", 75.0, 74.0, 77.0)
    assert (found["difference"], found["difference_low"], found["difference_high"]) == (-1.1, -2.1, 0.9)
    assert (found["status"], found["digest"], found["expressions"]) == ("measured", "a", 400)


def test_what_was_not_run_is_marked_and_a_specialist_is_not_ours_to_run(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"dataset.split": "val"})
    study = joined("table1_rec", tmp_path)
    assert cell(study, method="LLaVA-1.5-13B", data="refcoco", split="testA")["status"] == "missing"
    table = study.table.set_index(["method", "figure"])
    assert table.loc[("LLaVA-1.5-13B", "ours"), "refcoco testA"] == MISSING
    assert table.loc[("LLaVA-1.5-13B", "ours"), "refcoco val"] == "80.0 [79.0, 82.0]"
    assert table.loc[("LLaVA-1.5-13B", "difference"), "refcoco val"] == "-7.2 [-8.2, -5.2]"
    assert set(table.loc[("LLaVA-1.5-7B", "ours")]) >= {MISSING}
    assert ("UNINEXT", "ours") not in table.index and ("UNINEXT", "paper") in table.index


def test_a_pocket_run_is_never_compared_with_the_papers_models(make_run: MakeRun, tmp_path: Path) -> None:
    pocket = {"model.name": "pocket", "model.id": "pocket", "dataset.name": "pocket"}
    make_run("a", pocket | {"criterion.score": "s_img_entropy"})
    study = joined("table5_criteria", tmp_path)
    own = study.cells[study.cells["status"] == "measured"]
    assert set(own["model"]) == {"pocket"} and own["paper"].isna().all() and own["difference"].isna().all()
    assert any(note.startswith("All of our figures are at pocket size") for note in study.notes)
    assert list(study.cells["model"].unique()) == ["LLaVA-1.5-13B", "pocket"]


def test_of_two_runs_for_a_cell_the_newest_counts_and_the_other_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("z_old", {"heads.k": 3}, res=0.1, started="2026-01-01")
    make_run("a_new", {"heads.k": 3}, res=0.2, started="2026-02-01")
    study = joined("table4_head_count", tmp_path)
    assert cell(study, model="LLaVA-1.5-13B", k="k=3")["ours"] == 20
    assert any(note.startswith("1 older or unrelated runs are left out") for note in study.notes)


def test_a_failed_run_is_a_cell_with_its_reason(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"heads.k": 3})
    make_run("b", {"heads.k": 4}, state="failed", error="heads.k=4 is <more> than\nthe 3 heads.")
    study = joined("table4_head_count", tmp_path)
    assert cell(study, model="LLaVA-1.5-13B", k="k=4")["status"] == "failed"
    note = next(note for note in study.notes if note.startswith("1 of 2 runs failed"))
    assert "LLaVA-1.5-13B refcoco val k=4: heads.k=4 is <more> than the 3 heads." in note
    assert "is &lt;more&gt; than" in write_study(study, tmp_path / "out")[0].read_text()


def test_settings_in_which_joined_runs_should_not_differ_are_told(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"heads.k": 2, "dataset.limit": 100, "paths.outputs": "x", "engine.device": "cpu"})
    quantized = {"engine.quantization": "4bit", "engine.device": "cuda"}
    make_run("b", {"heads.k": 3, "dataset.limit": None, "paths.outputs": "y"} | quantized)
    (note,) = [note for note in joined("table4_head_count", tmp_path).notes if "differ" in note]
    assert note == "Our runs differ also in dataset.limit (100, None); engine.quantization (None, 4bit)."


def test_smoothing_puts_the_default_into_both_halves(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"grounding.kernel": 7, "grounding.sigma": 1.0})
    make_run("b", {"grounding.kernel": 3, "grounding.sigma": 1})
    make_run("c", {"grounding.kernel": 7, "grounding.sigma": 0})
    study = joined("table8_smoothing", tmp_path)
    own = study.cells[(study.cells["status"] == "measured") & (study.cells["quantity"] == "rec_acc50")]
    assert sorted(zip(own["parameter"], own["value"], own["digest"], strict=True)) == [
        ("kernel", "3", "b"), ("kernel", "7", "a"), ("sigma", "0.0", "c"), ("sigma", "1.0", "a"),
    ]  # fmt: skip
    assert own["paper"].notna().all()


def test_time_memory_and_depth_of_a_model(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", {})
    one = {
        "of": "attention", "device": "a GPU", "memory_of": "gpu", "expressions": 200, "seconds": 5.0,
        "peak_bytes": 3 << 29,
    }  # fmt: skip
    write_json(folder / "timing.json", {"passes": [one]})
    study = joined("compare_models", tmp_path)
    found = {c["quantity"]: c["ours"] for c in study.cells.to_dict("records")}
    assert found["ms_per_expression"] == 25 and found["peak_gib"] == 1.5 and found["device"] == "a GPU"
    assert found["heads"] == "L3H1 L4H6 L2H5"
    assert found["depth"] == pytest.approx(100 * (4 + 5 + 3) / 3 / 6, abs=1e-3)


def test_stability_of_the_top_heads(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", {})
    tops = [["L3H1", "L4H6", "L2H5"], ["L3H1", "L4H6", "L0H0"], ["L3H1", "L5H5", "L4H6"]]
    write_json(
        folder / "stability.json", {"k": 3, "sizes": [{"n": 10, "tops": tops}, {"n": 100, "tops": tops[:1] * 3}]}
    )
    study = joined("sample_count", tmp_path)
    found = {(c["samples"], c["quantity"]): c["ours"] for c in study.cells.to_dict("records")}
    assert found["10", "overlap_trials"] == pytest.approx(100 * 2 / 3, abs=1e-3)
    assert found["10", "overlap_all"] == pytest.approx(100 * (1 + 2 / 3 + 2 / 3) / 3, abs=1e-3)
    assert (found["10", "same_set"], found["100", "same_set"]) == ("1 of 3", "3 of 3")
    assert found["100", "overlap_trials"] == 100
    assert list(study.cells["samples"].unique()) == ["10", "100"]
    assert overlap(set(), set()) == 0


def test_where_the_heads_come_from_is_the_row_of_transfer(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("own", {"dataset.name": "refcoco+"})
    given = make_run("given", {"dataset.name": "refcoco+"})
    heads: dict[str, Any] = {"set": "x", "source": "a run", "model": None, "found_on": ["refcoco", "train"],
                             "heads": ["L3H1"], "leakage": "not checked"}  # fmt: skip
    provenance = read_json(given / "provenance.json")
    write_json(given / "provenance.json", provenance | {"heads": heads})
    study = joined("transfer", tmp_path)
    assert list(study.cells["heads found on"]) == ["refcoco train", "refcoco+ train"]
    # Without it the row would be the run's own discovery, which it did not have.
    write_json(given / "provenance.json", provenance | {"heads": heads | {"found_on": 3}})
    with pytest.raises(StoreError, match=r"given: provenance\.json cannot be read \(heads\.found_on should be"):
        joined("transfer", tmp_path)


def test_the_same_records_give_the_same_bytes_wherever_they_lie(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("b", {"heads.k": 2})
    make_run("a", {"heads.k": 3})
    first = [path.read_bytes() for path in write_study(joined("fig6_frequency_iou", tmp_path), tmp_path / "out")]
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "runs" / "deeper")
    files = write_study(joined("fig6_frequency_iou", tmp_path), tmp_path / "other")
    assert [path.read_bytes() for path in files] == first
    assert [path.name for path in files] == [
        "result.md",
        "result.tex",
        "result.csv",
        "result_llava_1_5_13b_refcoco.svg",
    ]


def test_the_files_hold_the_same_figures(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"heads.k": 3}, res=0.7777)
    study = joined("table4_head_count", tmp_path)
    page, tex, csv, *_ = write_study(study, tmp_path / "out")
    assert "77.8 [76.8, 79.8]" in page.read_text()
    assert "77.8 &" in tex.read_text() and "[76.8, 79.8]" in tex.read_text()
    assert "77.77,76.77,79.77,1.67,0.67,3.67" in csv.read_text()
    assert "f00dfacecafe and changes" in page.read_text()
    text = printed(terminal_table(study))
    # The paper's figure, ours and the difference in one row, the intervals below.
    row = next(line.split() for line in text.splitlines() if line.startswith(" LLaVA-1.5-13B"))
    at = row.index("76.1")
    assert row[at : at + 3] == ["76.1", "77.8", "+1.7"]
    assert "[76.8, 79.8]" in text and "[+0.7, +3.7]" in text and "In all rows: data: refcoco val." in text


def test_a_table_for_a_paper_says_what_brackets_and_differences_are(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"heads.k": 3}, res=0.7777)
    study = joined("table4_head_count", tmp_path)
    tex = latex(study)
    assert "\\caption{The paper's Table 4" in tex and "95 \\% intervals over images in closed form" in tex
    # Ours and the paper's are no pair, so no difference is marked, although its interval excludes 0.
    assert "it is not paired" in tex and "ddagger" not in tex
    assert "In all rows: data refcoco val." in tex and "& data &" not in tex
    lines = [line.split("&")[:2] for line in tex.splitlines() if re.search("& (paper|ours|difference) &", line)]
    names = [(label.strip(), source.strip()) for label, source in lines]
    own = names.index(("LLaVA-1.5-13B", "paper"))
    assert names[own : own + 3] == [("LLaVA-1.5-13B", "paper"), ("", "ours"), ("", "difference")]


def test_a_paired_change_is_marked_where_its_interval_excludes_zero(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("a", {"zoom.name": "box"})
    change = {"a": 0.5, "b": 0.6, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "spread": 0.3,
              "design_effect": 1.0, "need": None, "need_of_a_point": None}  # fmt: skip
    zoom = {"name": "box", "combine": "product", "n_asked": [60], "n_parts": [60], "n_failed": 0}
    for low, marks in ((0.05, 1), (-0.05, 0)):
        gain = {"part": "all", "n_expressions": 60, "n_images": 40, "metrics": {"res_ciou": change | {"low": low}}}
        write_json(folder / "zoom.json", zoom | {"gains": [gain]})
        tex = latex(joined("zoom", tmp_path))
        assert tex.count("\\ddagger") == marks and "the paired difference to the first look" in tex
        assert "Wilson" not in tex  # the only intervals are those of the changes


@pytest.mark.parametrize("study", list(LAYOUTS))
def test_every_layout_reads_its_paper_csv_whole(study: str, make_run: MakeRun, tmp_path: Path) -> None:
    """Each figure of the file becomes a cell, and no figure is made up."""
    folder = make_run("a", {"grounding.kernel": 7, "grounding.sigma": 1.0})
    metrics = read_json(folder / "metrics.json")
    of_some_data = {m.key: {"value": 0.5, "low": 0.4, "high": 0.6} for m in METRICS if m.rare}
    metrics["methods"]["localization_heads"] |= of_some_data
    write_json(folder / "metrics.json", metrics)
    write_json(tmp_path / "runs" / "a" / "stability.json", {"k": 1, "sizes": [{"n": 5, "tops": [["L3H1"]] * 2}]})
    layout = LAYOUTS[study]
    assert (layout.paper is not None) == (EXPERIMENTS / study / "paper.csv").exists()
    if layout.paper is None:
        return
    found = build(layout, find_runs([str(tmp_path / "runs")]), EXPERIMENTS / study)
    raw = pd.read_csv(EXPERIMENTS / study / "paper.csv", dtype=str)
    assert layout.paper_columns() == set(raw.columns)
    expected = sorted(value for column in layout.paper.figures for value in raw[column].dropna())
    assert sorted(found.cells["paper"].dropna()) == expected


def paper(study: str) -> pd.DataFrame:
    return pd.read_csv(EXPERIMENTS / study / "paper.csv")


def test_the_papers_tables_agree_where_the_layouts_take_them_to() -> None:
    rec, res = (paper(name).set_index("method") for name in ("table1_rec", "table2_res"))
    k = paper("table4_head_count").set_index("model")
    assert (k["k3"] == res.loc[k.index, "refcoco_val"]).all()
    ablated = (rec.loc["LLaVA-1.5-13B", "refcoco_val"], res.loc["LLaVA-1.5-13B", "refcoco_val"])
    fixed = paper("table5_criteria").query("strategy == 'fixed' and criterion == 's_img+entropy'")
    smoothing = paper("table8_smoothing").query("parameter == 'sigma' and value == 1.0")
    for row in (fixed, smoothing):
        assert tuple(row[["rec_acc50", "res_ciou"]].iloc[0]) == ablated
    direct = paper("table6_direct_output").set_index("model")["localization_heads_rec_refcocog"]
    assert (direct == rec.loc[direct.index, "refcocog_val"]).all()


def test_the_slips_that_the_tables_tell(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"heads.k": 3})
    note = joined("table4_head_count", tmp_path).notes[0]
    assert "prints 65.4 as the average for k = 4" in note and "66.63" in note
    column = paper("table4_head_count")["k4"]
    assert math.isclose(sum(column) / 10, 66.63)
    assert paper("table2_res").set_index("method").loc["DeepSeek-VL-7B", "refcoco+_testA"] == 66.1


def test_runs_without_what_the_study_shows(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {})
    with pytest.raises(StoreError, match="None of the 1 runs holds what sample_count shows"):
        joined("sample_count", tmp_path)


def test_a_paper_csv_of_another_study_is_found_out(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {})
    with pytest.raises(StoreError, match="lacks the columns"):
        build(LAYOUTS["table1_rec"], find_runs([str(tmp_path / "runs")]), EXPERIMENTS / "table5_criteria")


def test_comparisons_and_joined_reports_are_no_runs(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a", {"stage": "compare"})
    make_run("b", {"stage": "report", "runs": ["x"]})
    with pytest.raises(StoreError, match="there is no run in"):
        find_runs([str(tmp_path / "runs")])
    make_run("c", {})
    assert [run.provenance.digest for run in find_runs([str(tmp_path / "runs"), str(tmp_path / "runs" / "c")])] == ["c"]


def test_a_slice_is_a_row_with_its_own_figures_and_counts(make_run: MakeRun, tmp_path: Path) -> None:
    file = "/x/qwen25a3b_direct_predictions.jsonl"
    folder = make_run("a", {"dataset.name": "ref_adv_s", "predictions": file, "model.id": "pocket"})
    metrics = read_json(folder / "metrics.json")
    found = {key: {"value": v, "low": v - 0.1, "high": v + 0.1} for key, v in {"rec_acc@0.5": 0.3}.items()}
    few = {"by": "distractors", "slice": "2 to 3", "n_expressions": 21, "n_images": 20, "metrics": found}
    write_json(folder / "metrics.json", metrics | {"slices": [few]})
    study = joined("slices", tmp_path)
    own = study.cells[study.cells["status"] == "measured"].set_index(["slice", "quantity"])
    assert set(own["model"]) == {*study.origins["model"]} == {"qwen25a3b_direct_predictions"}
    # The model that the settings name was not asked.
    assert not [note for note in study.notes if "pocket size" in note]
    # The run is of another split than the published figures are.
    assert set(own["data"]) == {"ref_adv_s val"} and own["paper"].isna().all()
    assert own.loc[("2 to 3", "rec_acc50"), ["ours", "low", "high", "expressions"]].tolist() == [30, 20, 40, 21]
    assert own.loc[("all", "rec_acc50"), ["ours", "expressions"]].tolist() == [80, 400]
    assert ("2 to 3", "rec_acc@0.75") not in own.index and ("all", "rec_acc@0.75") in own.index
    assert study.table.set_index("slice")["REC Acc@0.5"]["2 to 3"].tolist()[-1] == "30.0† [20.0, 40.0]"
