"""The audit on the page, in the terminal and as a chart; what is broken in it is named, what is text is escaped."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from locheads.errors import StoreError
from locheads.records.audit_file import AuditFile
from locheads.report.audit_outcome import audit_outcome
from locheads.report.audit_report import audit_tables, by_option
from locheads.report.figures import audit_effects
from locheads.report.html import write_report
from locheads.report.run_record import read_run
from locheads.terminal import PlainConsole


def entry(found: float, difference: float, **more: Any) -> dict[str, Any]:
    metrics = {
        name: {
            "value": found, "low": found - 0.02, "high": found + 0.02,
            "difference": {"value": difference, "low": difference - 0.01, "high": difference + 0.01},
        }
        for name in ("rec_acc@0.5", "res_ciou")
    }  # fmt: skip
    base = {"changes": "none", "heads": "L3H1", "metrics": metrics, "contradicts": [], "error": None}
    return base | more


@pytest.fixture
def audited(run_folder: Path) -> Path:
    effects = [
        entry(0.51, -0.005, option="grounding.border", value="reflect", changes="grounding.border=reflect"),
        entry(0.2, -0.3, option="grounding.sigma", value="<b>2.0</b>", changes="grounding.sigma=2",
              contradicts=["grounding.sigma=2.0 (paper: sigma 1.0)"]),
        entry(0, 0, option="criterion.elbow", value="kneed", metrics={}, error="no knee"),
    ]  # fmt: skip
    record = {
        "split": "val", "n_images": 9, "n_expressions": 99, "n_failed": 1, "confidence": 0.95, "mode": "random",
        "seconds": 4.2, "metric": "rec_acc@0.5", "target": 0.865, "n_choices": 4, "n_failed_choices": 1,
        "base": entry(0.515, 0.0), "base_contradicts": [], "effects": effects, "best": effects[:2],
        "closest": effects[1:2],
    }  # fmt: skip
    (run_folder / "audit.json").write_text(json.dumps(record))
    return run_folder


def shown(folder: Path) -> str:
    console = PlainConsole(width=160, record=True, file=StringIO())
    for table in audit_tables(read_run(folder)):
        console.print(table)
    return console.export_text()


def test_the_option_that_matters_most_is_on_top(audited: Path) -> None:
    record = read_run(audited)
    assert record.problems == ()
    assert [row.option for row in by_option(record.need(AuditFile))] == [
        "grounding.sigma", "grounding.border", "criterion.elbow",
    ]  # fmt: skip
    text = shown(audited)
    assert text.index("grounding.sigma") < text.index("grounding.border") < text.index("criterion.elbow")
    assert "-30.0† [-31.0, -29.0]" in text and "51.5† [49.5, 53.5]" in text
    assert "† on fewer than 30 images" in " ".join(text.split())
    assert "The 2 best by REC Acc@0.5, on the images by which they were picked" in text
    assert "grounding.sigma=2.0 (paper: sigma 1.0)" in text
    assert "4 combinations, 1 of them impossible" in " ".join(text.split())


AGAINST = {
    "joint_confidence": {"rec_acc@0.5": 0.999, "res_ciou": 0.99}, "n_confirming": 4,
    "again": {"splits": 200, "best": 0.13, "closest": 0.2}, "n_compatible": 2,
    "targets": [
        {"metric": "rec_acc@0.5", "value": 0.865, "settings": "", "source": "", "split": "pocket val", "alone": 3},
        {"metric": "res_ciou", "value": 0.5, "settings": "heads.k=1", "source": "table4", "split": "pocket val",
         "alone": 2},
    ],
    "in_common": [{"option": "grounding.box", "value": "hull", "members": 2, "readings": 2}],
}  # fmt: skip
"""What an audit of this version adds, with two targets."""


@pytest.fixture
def against(audited: Path, edit_json: Callable[..., None]) -> Path:
    """Whose largest effect is no longer clear once all intervals are to hold."""
    record = json.loads((audited / "audit.json").read_text())
    sigma = record["effects"][1]["metrics"]["rec_acc@0.5"]["difference"]
    sigma |= {"joint_low": -0.62, "joint_high": 0.02}
    best = record["effects"][0] | {"picked": 0.6, "confirmed": {
        "value": 0.5, "low": 0.4, "high": 0.6, "difference": {"value": -0.01, "low": -0.05, "high": 0.03}}}  # fmt: skip
    edit_json(audited / "audit.json", **AGAINST, effects=record["effects"], best=[best], compatible=[best])
    return audited


def test_the_page_begins_with_what_the_audit_found(against: Path) -> None:
    page = write_report(against).read_text()
    first = page[page.index('<section id="verdict"') :]
    first = first[: first.index("</section>")]
    assert "no evaluation to judge" not in page
    assert "<h2>None of 2 options alone surely moves REC Acc@0.5.</h2>" in first
    assert "These images do not settle whether REC Acc@0.5 hangs on grounding.sigma and" in first
    assert "RES cIoU is surely moved by grounding.sigma=" in first
    assert "criterion.elbow=kneed could not be measured: no knee" in first
    assert "hold for all 4 combinations at once with 95 %; each by itself is one of 99.90 %" in first
    assert "reaches 60.0 there, and 50.0† [40.0, 60.0] on the 4 others, which had no say, -1.0" in first
    assert "picks the combination that is best on all in 13 % of 200 splits" in first
    assert "2 of 3 combinations are compatible with all 2 targets" in first
    assert "RES cIoU = 50.0 on pocket val with heads.k=1: 2 by itself" in first
    assert "All of them have grounding.box=hull in common." in first
    assert "is no evidence that the authors did it" in first
    assert "is the closest on a random half of them in 20 % of 200 splits" in first
    assert "What compatible readings share" in page and "2 of 2" in page and "2 of 4" in page


def test_the_terminal_says_the_same_and_shows_the_set(against: Path) -> None:
    text = " ".join(shown(against).split())
    assert "None of 2 options alone surely moves REC Acc@0.5. - " in text
    assert "1 of the 2 compatible readings" in text and "heads.k=1" in text


def test_without_a_target_nothing_is_said_of_one_and_with_none_left_that_is_said(
    audited: Path, against: Path, edit_json: Callable[..., None]
) -> None:
    edit_json(against / "audit.json", n_compatible=0, compatible=[], in_common=[])
    found = audit_outcome(read_run(against).need(AuditFile))[1]
    assert any("is none of the combinations that were tried" in sentence for sentence in found)
    assert not any("in common" in sentence for sentence in found)
    edit_json(audited / "audit.json", n_compatible=None, targets=[])
    assert "compatible" not in " ".join(audit_outcome(read_run(audited).need(AuditFile))[1])


def test_the_chart_has_a_row_per_effect_that_could_be_measured(audited: Path) -> None:
    left, right = audit_effects(read_run(audited)).axes
    assert len(left.get_yticklabels()) == 2
    assert "from 51.5" in left.get_title(loc="left") and "RES" in right.get_title(loc="left")


def test_the_page_shows_the_audit_and_escapes_its_text(audited: Path) -> None:
    page = write_report(audited).read_text()
    assert "Audit: which choices matter" in page
    assert "&lt;b&gt;2.0&lt;/b&gt;" in page and "<b>2.0</b>" not in page
    assert "no knee" in page


def test_without_an_audit_the_page_is_as_ever(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    assert "Audit: which choices matter" not in page
    with pytest.raises(StoreError, match=r"audit\.json is missing"):
        audit_effects(read_run(run_folder))


@pytest.mark.parametrize("change", [{"metric": "acc"}, {"effects": 3}, {"target": "much"}])
def test_a_broken_audit_is_named(change: dict, audited: Path, edit_json: Callable[..., None]) -> None:
    edit_json(audited / "audit.json", **change)
    assert any(problem.startswith("audit.json cannot be read") for problem in read_run(audited).problems)
    assert "Audit: which choices matter" not in write_report(audited).read_text()
