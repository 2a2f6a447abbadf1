"""Terminal tables: the numbers of the records, within 100 columns, failed runs included."""

from pathlib import Path

import pytest
from printing import printed

from locheads.evaluation.metric_table import ABSENT
from locheads.pipeline.sweep_runs import read_sweep
from locheads.records.metrics_file import MetricsRecord
from locheads.report.run_record import read_run
from locheads.report.sweep_table import SweepRow, sweep_frame, sweep_table
from locheads.report.tables import heads_table, results_caption, results_table, slices_table


def line_of(text, start):
    """The first line that starts so, with single spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return next(line for line in lines if line.startswith(start))


def run(metrics, error=None, **overrides):
    return SweepRow(
        {k.replace("__", "."): v for k, v in overrides.items()},
        Path("/runs/x"),
        metrics and MetricsRecord.parse(metrics),
        error,
    )


@pytest.fixture
def metrics(metrics_json):
    return metrics_json()


def test_results_are_the_records_numbers(run_folder):
    text = printed(results_table(read_run(run_folder)))
    expected = "Localization heads 53.2 [50.1, 56.0] 53.3 53.4 53.5 53.6 [50.5, 56.4] 53.7 53.8"
    assert line_of(text, "Localization heads") == expected
    expected = f"Centre box 9.8 [7.4, 12.1] 9.9 10.0 10.1 10.2 [7.8, 12.5] 10.3 {ABSENT}"
    assert line_of(text, "Centre box") == expected
    assert "Best heads by IoU *" in text
    flat = " ".join(text.split())
    assert "val: 120 images, 400 expressions, 2 failed, 5 without a box" in flat
    assert "95 % interval" in flat
    assert "maps of another expression point at the object in 53.9 % (chance 54.0 %)" in flat


def test_results_fit_100_columns_at_their_widest(run_folder, metrics_json, edit_json):
    widest = {m: (1.0, 1.0, 1.0) for m in metrics_json()["methods"]}
    methods = metrics_json(widest)["methods"]
    for estimates in methods.values():
        for estimate in estimates.values():
            estimate.update(value=1.0, low=1.0, high=1.0)
    edit_json(run_folder / "metrics.json", methods=methods)
    text = printed(results_table(read_run(run_folder)))
    assert text.count("100.0 [100.0, 100.0]") == 10
    assert max(map(len, text.splitlines())) <= 100


def test_methods_come_in_the_order_of_the_tables(run_folder, metrics_json, edit_json):
    methods = dict(reversed(metrics_json()["methods"].items()))
    edit_json(run_folder / "metrics.json", methods={"brand_new": methods["random_heads"], **methods})
    text = printed(results_table(read_run(run_folder)))
    names = [
        "Localization heads",
        "Best heads by IoU *",
        "Mean of all heads",
        "Random heads",
        "Centre box",
        "brand_new",
    ]
    assert [text.index(n) for n in names] == sorted(text.index(n) for n in names)


def test_in_80_columns_every_number_is_still_whole(run_folder):
    text = printed(results_table(read_run(run_folder), width=80), width=80)
    assert max(map(len, text.splitlines())) <= 80
    expected = "Localization heads 53.2 [50.1, 56.0] 53.5 53.6 [50.5, 56.4] 53.7 53.8"
    assert line_of(text, "Localization heads") == expected


def test_heads_table(run_folder):
    text = printed(heads_table(read_run(run_folder)))
    assert line_of(text, "L3H1").split() == ["L3H1", "62.0", "±", "2.1", "0.550", "37.5", ABSENT]
    assert line_of(text, "L2H5").split() == ["L2H5", "41.0", "±", "2.1", "0.490", "37.5", ABSENT]
    assert "threshold τ = 0.188" in " ".join(text.split())


def test_heads_table_without_iou_and_threshold(run_folder, edit_json):
    edit_json(run_folder / "heads.json", head_iou=None, tau=None)
    text = printed(heads_table(read_run(run_folder)))
    assert line_of(text, "L3H1").split()[-1] == ABSENT
    assert "no threshold on the mean sums" in " ".join(text.split())


def test_general_sweep_names_swept_keys_and_keeps_failures(metrics):
    runs = [
        run(metrics, prompt="bare", seed="1"),
        run(None, "No [red] head\nis eligible", prompt="box", seed="1"),
    ]
    text = printed(sweep_table(runs))
    assert line_of(text, "prompt").split()[:2] == ["prompt", "REC"]
    assert line_of(text, "bare") == "bare 53.2 [50.1, 56.0] 53.6 [50.5, 56.4] L3H1 L4H6 L2H5"
    assert line_of(text, "box") == "box failed failed No [red] head is eligible"
    assert "All runs: seed=1." in text
    assert "1 of 2 runs failed." in text


def test_table5_layout(metrics):
    runs = [run(metrics, criterion=c, selection=s) for c in ("s_img", "entropy") for s in ("fixed", "greedy")]
    runs[3] = run(None, "no space left", criterion="entropy", selection="greedy")
    text = printed(sweep_table(runs))
    assert "Table 5" in text
    first = [line.split()[0] for line in text.splitlines() if line.split()]
    rows = [word for word in first if word in ("fixed", "greedy", "s_img", "entropy")]
    assert rows == ["fixed", "s_img", "entropy", "greedy", "s_img", "entropy"]
    assert line_of(text, "s_img") == "s_img 53.2 [50.1, 56.0] 53.6 [50.5, 56.4]"
    assert line_of(text[text.index("greedy") :], "entropy") == "entropy failed failed"
    assert "criterion=entropy selection=greedy: no space left" in " ".join(text.split())


def test_table4_layout_sorts_k_as_numbers(metrics):
    runs = [run(metrics, heads__k=k) for k in ("10", "2", "1")]
    text = printed(sweep_table(runs))
    assert "Table 4" in text
    assert line_of(text, "k=1").split() == ["k=1", "k=2", "k=10"]
    assert line_of(text, "REC") == "REC 53.2 53.2 53.2"
    assert line_of(text, "Acc@0.5") == "Acc@0.5 [50.1, 56.0] [50.1, 56.0] [50.1, 56.0]"
    assert line_of(text, "cIoU") == "cIoU [50.5, 56.4] [50.5, 56.4] [50.5, 56.4]"


def test_table4_with_five_columns_fits_a_terminal(metrics):
    text = printed(sweep_table([run(metrics, heads__k=str(k)) for k in range(1, 6)]), width=80)
    assert text.count("[50.1, 56.0]") == 5


def test_common_overrides_do_not_hide_the_paper_layouts(metrics):
    runs = [run(metrics, heads__k=k, seed="7") for k in ("1", "2")]
    text = printed(sweep_table(runs))
    assert "Table 4" in text
    assert "seed=7" in text


def test_broken_metrics_are_a_failed_run(run_folder):
    (run_folder / "overrides.yaml").write_text("[prompt=a]")
    (run_folder / "metrics.json").write_text("{}")
    (row,) = read_sweep(run_folder.parent)
    assert row.metrics is None
    assert "metrics.json cannot be read (split is missing)" in row.reason


def test_a_stage_without_figures_is_done_and_not_failed(metrics):
    runs = [run(metrics, stage="evaluate"), run(None, stage="discover")]
    text = printed(sweep_table(runs))
    assert line_of(text, "discover") == f"discover {ABSENT} {ABSENT} done"
    assert "failed" not in text
    assert sweep_frame(runs)["error"].isna().all()


@pytest.mark.parametrize("own", ["predictions", "direct_output"])
def test_the_figures_of_a_run_are_those_of_its_own_method(metrics, own):
    methods = {own: metrics["methods"]["localization_heads"], "centre_box": metrics["methods"]["centre_box"]}
    runs = [run(metrics | {"methods": methods}, dataset__limit=limit) for limit in ("1", "2")]
    assert line_of(printed(sweep_table(runs)), "1").startswith("1 53.2 [50.1, 56.0] 53.6 [50.5, 56.4]")
    assert sweep_frame(runs)["rec_acc@0.5"].tolist() == pytest.approx([0.532, 0.532], abs=1e-3)


def of(metrics, **values):
    found = {key.replace("__", "@"): {"value": v, "low": v - 0.1, "high": v + 0.1} for key, v in values.items()}
    return {**metrics, "methods": {"localization_heads": found}}


@pytest.mark.parametrize(
    "overrides", [{"prompt": "a"}, {"heads__k": "1"}, {"criterion": "paper", "selection": "fixed"}]
)
def test_a_sweep_shows_the_figures_that_its_data_are_compared_by(metrics, overrides):
    heat = of(metrics, agd_kld=1.234, agd_sim=0.4, agd_nss=-0.25)
    text = printed(sweep_table([run(heat, **overrides)]))
    for cell in ("1.234", "0.400", "-0.250", "[-0.350, -0.150]", "KLD", "SIM", "NSS"):
        assert cell in text, cell
    assert ABSENT not in text and "RES" not in text and "percent" not in text
    clicks = of(metrics, res_ciou=0.25, click_acc=0.75)
    text = printed(sweep_table([run(clicks, **overrides)]))
    assert "Click" in text and "75.0" in text and "[65.0, 85.0]" in text and "in percent" in text
    assert text.index("Click") < text.index("RES")
    points = printed(sweep_table([run(of(metrics, pointing=0.6), **overrides)]))
    assert "Pointing" in points and "60.0" in points and ABSENT not in points
    several = printed(sweep_table([run(of(metrics, grec_pr=0.3, n_acc=0.2, gres_giou=0.4, res_ciou=0.1), **overrides)]))
    assert all(cell in several for cell in ("GREC", "N-acc", "GRES", "RES"))
    both = [run(heat, **overrides), run(None, "boom", **overrides | {"prompt": "b"})]
    assert printed(sweep_table(both)).count("failed") >= 3  # of each figure


def test_sweep_frame(metrics):
    frame = sweep_frame([run(metrics, prompt="a"), run(None, "boom", prompt="b")])
    assert list(frame["prompt"]) == ["a", "b"]
    assert frame.loc[0, "rec_acc@0.5"] == 0.532
    assert frame.loc[0, "res_ciou_low"] == 0.505
    assert frame.loc[0, "heads"] == "L3H1 L4H6 L2H5"
    assert frame.loc[1, "error"] == "boom"
    assert frame["rec_acc@0.5"].isna().tolist() == [False, True]


def test_empty_sweep():
    assert "Sweep of 0 runs" in printed(sweep_table([]))
    assert len(sweep_frame([])) == 0


def _slices(metrics, **changes):
    estimates = {key: metrics["methods"]["localization_heads"][key] for key in ("rec_acc@0.5", "res_ciou", "pointing")}
    part = {"by": "words", "slice": "1 to 2", "n_expressions": 12, "n_images": 7, "metrics": estimates}
    return [part, part | {"slice": "3 to 4"}, part | {"by": "kind", "slice": "[red]<b>"} | changes]


def test_slices_are_the_records_numbers(run_folder, metrics, edit_json):
    edit_json(run_folder / "metrics.json", slices=_slices(metrics))
    text = printed(slices_table(read_run(run_folder)))
    assert line_of(text, "1 to 2") == f"1 to 2 12 53.2† [50.1, 56.0] {ABSENT} 53.6† [50.5, 56.4] {ABSENT} 53.8†"
    assert "† on fewer than 30 images" in text
    assert text.count("Words of the expression") == 1
    assert "[red]<b>" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_broken_slice_is_a_problem_and_no_error(run_folder, metrics, edit_json):
    edit_json(run_folder / "metrics.json", slices=_slices(metrics, n_images="seven"))
    record = read_run(run_folder)
    assert record.metrics is None
    assert "n_images" in " ".join(record.problems)


def test_a_level_is_not_rounded_to_another(run_folder, edit_json):
    for confidence, level in ((0.975, "97.5 %"), (0.95, "95 %"), (0.999, "99.9 %")):
        edit_json(run_folder / "metrics.json", confidence=confidence)
        metrics = read_run(run_folder).metrics
        assert metrics is not None and f"Brackets: {level} interval over images." in results_caption(metrics)
