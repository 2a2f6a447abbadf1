"""An entry of the table of metrics is shown wherever it says, and nowhere else."""

from pathlib import Path

import pytest
from printing import printed

from locheads.audit.config import METRICS as AUDITED
from locheads.evaluation.metric_table import ABSENT, METRICS, Metric, Place, Unit
from locheads.pipeline.compare_runs import COMPARED
from locheads.records.metrics_file import MetricsRecord
from locheads.report.html import CHARTS, render
from locheads.report.run_record import read_run
from locheads.report.studies.layouts import LAYOUTS
from locheads.report.tables import results_table, slices_table
from locheads.store.atomic import read_json, write_json

WIDE = 320
"""Columns of a terminal that has room for all metrics in one table."""


@pytest.fixture
def measured(run_folder: Path) -> Path:
    """A run that measured every metric, 0.111 on for each; also by slices."""
    record = read_json(run_folder / "metrics.json")
    values = {m.key: round(0.111 + i / 100, 3) for i, m in enumerate(METRICS)}
    estimates = {key: {"value": value, "low": 0.0, "high": 1.0} for key, value in values.items()}
    part = {"by": "words", "slice": "1 to 2", "n_expressions": 9, "n_images": 40, "metrics": estimates}
    write_json(run_folder / "metrics.json", record | {"methods": {"localization_heads": estimates}, "slices": [part]})
    return run_folder


def _lines(table: object, start: str) -> str:
    return next(line for line in printed(table, WIDE).splitlines() if line.strip().startswith(start))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_a_metric_is_shown_where_its_entry_says(metric: Metric, measured: Path) -> None:
    record = read_run(measured)
    assert record.problems == ()
    figure = record.metrics.get("localization_heads", metric.key)
    page, text = render(record, dict.fromkeys(CHARTS), []), f" {metric.unit.text(figure.value)} "
    cell = f"<b>{metric.unit.text(figure.value)}</b>"
    results, slices = page.split("By slices:")
    assert (cell in results) == bool(metric.shown & (Place.PAGE | Place.DETAILS))
    assert (cell in slices) == bool(metric.shown & Place.SLICES)
    assert f">{metric.label}<" in page and (metric.note == "" or metric.note.split("'")[0] in page)
    of_run, of_slice = results_table(record, WIDE), slices_table(record, WIDE)
    assert (text in _lines(of_run, "Localization heads ")) == bool(metric.shown & Place.TERMINAL)
    assert (text in _lines(of_slice, "Words of the expression ")) == bool(metric.shown & Place.SLICES)
    summary = record.metrics.summary()
    assert summary[f"localization_heads/{metric.key}"] == figure.value
    assert (metric.plain_name in summary) == bool(metric.shown & Place.SUMMARY)
    assert (metric.key in COMPARED) == bool(metric.shown & Place.COMPARE)
    assert (metric.key in AUDITED) == bool(metric.shown & Place.AUDIT)
    names = {quantity.key for quantity in LAYOUTS["compare_models"].quantities}
    assert (metric.plain_name in names) == bool(metric.shown & Place.STUDIES)


def test_keys_and_names_are_unique_and_names_are_plain() -> None:
    assert len({m.key for m in METRICS}) == len({m.label for m in METRICS}) == len(METRICS)
    names = [metric.plain_name for metric in METRICS if metric.shown & (Place.SUMMARY | Place.STUDIES)]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)


def test_units() -> None:
    assert (Unit.PERCENT.text(0.5321), Unit.NATS.text(0.5321), Unit.PERCENT.text(0.01, "+")) == ("53.2", "0.53", "+1.0")
    assert Unit.PERCENT.text(float("nan")) == Unit.NATS.text(float("inf")) == "\N{EN DASH}"


def _of_a(estimate: dict) -> dict:
    return {"a": {"pointing": estimate}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_images": True}, "n_images should be a valid integer, not True"),
        ({"n_images": "seven"}, "n_images should be a valid integer, not 'seven'"),
        ({"surprise": 1}, "surprise is unknown"),
        (
            {"methods": _of_a({"value": "x", "low": 0, "high": 1})},
            "methods.a.pointing.value should be a valid number, not",
        ),
        ({"methods": [1]}, "methods should be a valid dictionary, not [1]"),
        ({"methods": _of_a({"value": 0.5, "low": 0.4})}, "methods.a.pointing.high is missing"),
        ({"methods": _of_a({"value": 0.5, "low": 0, "high": 1, "odd": 1})}, "methods.a.pointing.odd is unknown"),
        ({"figure6": {"spearman": float("nan")}}, "figure6.spearman should be a finite number, not nan"),
        ({"slices": [{"by": "words"}]}, "slices[0].slice is missing"),
    ],
)
def test_what_is_wrong_with_metrics_json_is_one_sentence(change: dict, sentence: str, run_folder: Path) -> None:
    raw = read_json(run_folder / "metrics.json")
    MetricsRecord.parse(raw)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        MetricsRecord.parse(raw | change)
    assert str(error.value).startswith(sentence) and "\n" not in str(error.value)


def test_metrics_json_of_earlier_versions_opens(run_folder: Path) -> None:
    """The oracle was the best heads by IoU; a metric could be null; there were neither slices nor a confidence."""
    raw = read_json(run_folder / "metrics.json")
    methods = {"oracle_heads": raw["methods"]["best_iou_heads"], "random_heads": {"pointing": None}}
    methods["centre_box"] = {"pointing": {"value": None, "low": None, "high": None}}
    methods["predictions"] = {"pointing": {"value": 0.5, "low": None, "high": None}}
    old = {key: value for key, value in raw.items() if key not in ("confidence", "best_iou_heads", "figure6")}
    record = MetricsRecord.parse(old | {"methods": methods, "oracle_heads": ["L1H1"], "heads": None, "n_images": 4})
    assert record.best_iou_heads == ("L1H1",) and record.heads == () and record.confidence == 0.95
    assert str(record.get("best_iou_heads", "rec_acc@0.5")) == "57.1† [54.0, 60.2]"
    assert record.methods["random_heads"] == record.methods["centre_box"] == {}
    assert str(record.get("predictions", "pointing")) == f"50.0† [{ABSENT}, {ABSENT}]"
