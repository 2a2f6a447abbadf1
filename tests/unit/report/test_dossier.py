"""A dossier says what the records say, and of what they do not say, that it is not recorded or not checked."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from locheads.evaluation.box_format_check import BoxCheck, EitherReading
from locheads.records.follows import FollowsRecord, JudgementFile
from locheads.records.heads_file import SupportRecord
from locheads.records.metrics_file import Estimate, MetricsRecord
from locheads.records.provenance_file import ProvenanceFile, Repeats, SamplesFile
from locheads.records.receipt_file import PAGES, ReceiptFile, changed_files
from locheads.report.__main__ import main
from locheads.report.dossier.answers import coordinates, verification
from locheads.report.dossier.expressions import duplicates, expressions
from locheads.report.dossier.failures import failures
from locheads.report.dossier.heads import support, words
from locheads.report.dossier.leakage import leakage
from locheads.report.dossier.origin import notes, origin
from locheads.report.dossier.section import Section, Standing, Subject
from locheads.report.dossier.sections import sections
from locheads.report.dossier.subject import evaluated, figures
from locheads.report.dossier.write import to_html, to_markdown, write_dossier
from locheads.report.html import write_report
from locheads.report.run_record import RunRecord, read_run
from locheads.store.digest import file_digest

EVIL = "<script>alert(1)</script> a|b `c` _d_ *e* \\f & [g](http://x)"


@pytest.fixture
def record(template: Path) -> RunRecord:
    return read_run(template)


def text(section: Section) -> str:
    """All that a section says."""
    cells = (cell for table in section.tables for row in table.rows for cell in row)
    return " ".join([*(outcome.text for outcome in section.outcomes), *section.sentences, *cells])


def stands(section: Section) -> dict[Standing, str]:
    return {s: " ".join(o.text for o in section.outcomes if o.standing == s) for s in Standing}


def with_metrics(record: RunRecord, **changes: Any) -> RunRecord:
    assert record.metrics is not None
    return replace(record, metrics=record.metrics.model_copy(update=changes))


def with_provenance(record: RunRecord, **changes: Any) -> RunRecord:
    content = record.provenance.content() | changes
    return replace(record, provenance=ProvenanceFile.parse(content))


def with_samples(record: RunRecord, **changes: Any) -> RunRecord:
    return replace(record, samples=SamplesFile(split="val", evaluated=("1", "2"), **changes))


def test_an_empty_record_says_of_every_subject_that_it_does_not_know() -> None:
    nothing = RunRecord(Path("run"))
    for section in sections(nothing):
        told = " ".join([*section.sentences, *(cell for table in section.tables for row in table.rows for cell in row)])
        assert "ot recorded" in told or "ot checked" in told, section.title
        assert stands(section)[Standing.holds] == "", section.title


def test_counts_are_those_of_the_record(record: RunRecord) -> None:
    assert "400 expressions of 120 images of pocket val were scored." in stands(evaluated(record))[Standing.holds]
    part = {**record.config, "dataset": {**record.config["dataset"], "limit": 400, "offset": 7, "shuffle": True}}
    assert "The whole split was evaluated" not in text(evaluated(replace(record, config=part)))
    asked = stands(evaluated(replace(record, config=part)))[Standing.ask]
    assert "at most 400 expressions after the first 7 in an order drawn with the seed" in asked
    assert "whether the whole split" in text(evaluated(replace(record, config={})))


def test_model_revision_and_digests_are_the_recorded_ones(record: RunRecord) -> None:
    model = {"revision": "abc123", "weights": "5" * 64, "model_type": "llava", "layers": 6, "heads": 8}
    data = {"annotations_sha256": "a" * 64, "pictures_sha256": None}
    told = text(evaluated(with_provenance(record, model=model, dataset=data)))
    assert all(part in told for part in ("abc123", "5" * 64, "llava, 6 layers of 8 heads", "a" * 64))
    assert "abc123" not in text(evaluated(record))


def test_a_run_that_died_is_asked_about(record: RunRecord) -> None:
    assert record.status is not None
    died = replace(record, status=record.status.model_copy(update={"state": "failed", "error": "Disk full."}))
    assert "state is: failed. It says: Disk full." in stands(evaluated(died))[Standing.ask]
    assert stands(evaluated(record))[Standing.ask] == ""


def test_heads_below_a_baseline_are_asked_about(record: RunRecord, metrics_json: Callable[..., Any]) -> None:
    assert "beat every baseline" in stands(figures(record))[Standing.holds]
    low = {"localization_heads": (0.1, 0.08, 0.12), "mean_of_all_heads": (0.5, 0.4, 0.6)}
    found = stands(figures(replace(record, metrics=MetricsRecord.parse(metrics_json(low)))))
    assert "beat none" in found[Standing.ask] and found[Standing.holds] == ""
    assert "of 7 images only" in stands(figures(with_metrics(record, n_images=7)))[Standing.ask]
    assert "images only" not in text(figures(record))


def slice_of(by: str, name: str, n: int) -> dict[str, Any]:
    metrics = {"rec_acc@0.5": {"value": 0.25, "low": 0.2, "high": 0.3}}
    return {"by": by, "slice": name, "n_expressions": n, "n_images": 40, "metrics": metrics}


def test_faulty_expressions_and_distractors_are_those_of_the_slices(
    record: RunRecord, metrics_json: Callable[..., Any]
) -> None:
    parts = [slice_of("review", "clean", 300), slice_of("review", "faulty", 100), slice_of("distractors", "0", 80),
             slice_of("distractors", "1", 320)]  # fmt: skip
    reviewed = expressions(replace(record, metrics=MetricsRecord.parse(metrics_json() | {"slices": parts})))
    assert "A review flags 100 of 400 expressions (25.0 %) as faulty." in stands(reviewed)[Standing.ask]
    assert "Of 400 expressions, 80 (20.0 %) have no distractor" in text(reviewed)
    assert [table.rows[1][:4] for table in reviewed.tables] == [
        ("faulty", "100", "40", "25.0 [20.0, 30.0]"), ("1", "320", "40", "25.0 [20.0, 30.0]"),
    ]  # fmt: skip
    clean = MetricsRecord.parse(metrics_json() | {"slices": parts[:1]})
    assert "flags 0 of 300" in stands(expressions(replace(record, metrics=clean)))[Standing.holds]
    without = expressions(record)
    assert "no review was at hand" in stands(without)[Standing.unknown] and without.tables == ()
    assert "Not recorded: distractors" in text(without)


def counted(**changes: int | None) -> Repeats:
    return Repeats.parse({"images": 0, "seen_images": 0, "expressions": 0, "ambiguous": 0} | changes)


@pytest.mark.parametrize(
    ("found", "standing", "sentence"),
    [
        (counted(), Standing.holds, "No evaluated image occurs twice"),
        (counted(), Standing.holds, "No expression occurs twice"),
        (counted(images=1), Standing.ask, "count as independent: 1."),
        (counted(images=2), Standing.ask, "count as independent: 2."),
        (counted(expressions=3), Standing.ask, "same image, same object, same words): 3."),
        (counted(ambiguous=2), Standing.ask, "also name another object of the same image: 2."),
        (counted(images=None, seen_images=None), Standing.unknown, "evaluated images occur"),
        (None, Standing.unknown, "images or expressions occur twice"),
    ],
)  # fmt: skip
def test_duplicates_are_those_that_were_counted(
    record: RunRecord, found: Repeats | None, standing: Standing, sentence: str
) -> None:
    section = duplicates(with_samples(record, repeats=found))
    assert sentence in stands(section)[standing]
    assert "Not checked: near duplicates" in text(section)


def test_leakage_is_what_the_guard_counted(record: RunRecord) -> None:
    assert "Not recorded: whether discovery saw evaluated images" in text(leakage(record))
    seen = counted(seen_images=2)
    guarded = with_provenance(record, dataset={"guard": {"val": 3, "/place/refs(unc).p": 4}})
    found = leakage(with_samples(guarded, n_excluded_images=5, repeats=seen))
    assert "The guard kept the ids of all evaluated images out" in stands(found)[Standing.holds]
    assert "It left out 5 images." in text(found) and found.tables[0].rows[1] == ("/place/refs(unc).p", "4")
    assert "discovery or a calibration saw, evaluated ones to the byte: 2." in stands(found)[Standing.ask]
    clean = leakage(with_samples(guarded, repeats=counted()))
    assert "No image that discovery" in stands(clean)[Standing.holds] and stands(clean)[Standing.ask] == ""
    assert "only this one was guarded" not in text(clean)
    alone = leakage(with_provenance(record, dataset={"guard": {"val": 0}}))
    assert "only this one was guarded" in stands(alone)[Standing.unknown]
    assert all("trained on the evaluated data" in stands(one)[Standing.unknown] for one in (found, clean, alone))


def test_given_heads_and_runs_without_heads_have_no_guard(record: RunRecord) -> None:
    heads = {"set": "a", "source": "b", "model": None, "found_on": ["refcoco", "train"], "heads": ["L1H2"],
             "leakage": "not checked"}  # fmt: skip
    given = with_provenance(record, heads=heads)
    assert "found on refcoco train; leakage: not checked" in text(leakage(given))
    assert "The heads were given" in text(support(given))
    scored = replace(record, config={**record.config, "predictions": "boxes.jsonl"})
    assert "chose no heads" in stands(leakage(scored))[Standing.holds]
    assert "asked no model" in text(verification(scored))


def test_failed_samples_are_named_with_their_reasons(record: RunRecord) -> None:
    assert "Of 400 expressions, 2 failed and 5 got no box." in stands(failures(record))[Standing.ask]
    assert "1 discovery sample failed." in stands(failures(record))[Standing.ask]
    assert "Not recorded: which samples failed" in text(failures(record))
    named = MetricsRecord.parse({**_content(record), "failed": [{"sample_id": "s7", "reason": "no image"}]})
    section = failures(replace(record, metrics=named))
    assert section.tables[0].rows == (("s7", "no image"),) and "The first 1" in section.tables[0].caption
    assert "Not recorded: which" not in text(section)
    whole = with_metrics(replace(record, heads=None), n_failed=0, n_empty=0)
    assert "0 failed and 0 got no box" in stands(failures(whole))[Standing.holds]


def _content(record: RunRecord) -> dict[str, Any]:
    assert record.metrics is not None
    content: dict[str, Any] = record.metrics.content()
    return content


def direct(record: RunRecord, either: EitherReading | None, honest: float) -> RunRecord:
    """A run that asked for boxes in words."""
    boxes = BoxCheck(n_boxes=5, without={}, n_several=0, either=either)
    methods = {"direct_output": {"rec_acc@0.5": Estimate(honest, honest, honest)}}
    config = {**record.config, "stage": "direct", "direct": {"box_format": "xyxy"}}
    return with_metrics(replace(record, config=config), methods=methods, boxes=boxes)


def test_the_better_of_both_readings_stands_beside_the_honest_figure(record: RunRecord) -> None:
    """Of 5 answers, read as declared (pixels) 1 hits; one more hits in thousandths."""
    section = coordinates(direct(record, EitherReading(n=5, pixels=1, thousandths=1, either=2), 0.2))
    told = "REC Acc@0.5 is 20.0 % as declared; the better of two readings would give 40.0 %, +20.0 points."
    assert stands(section)[Standing.ask] == told
    assert "no accuracy of the model" in text(section) and "direct.box_format=xyxy" in text(section)
    assert section.tables[0].rows == (
        ("As declared: the honest figure", "", "20.0 [20.0, 20.0]"),
        ("Pixels of the image", "1 of 5", "20.0"), ("Thousandths of the image", "1 of 5", "20.0"),
        ("Better of both readings, chosen by the true box", "2 of 5", "40.0"),
    )  # fmt: skip


def test_where_both_readings_agree_there_is_nothing_to_ask(record: RunRecord) -> None:
    section = coordinates(direct(record, EitherReading(n=5, pixels=1, thousandths=0, either=1), 0.2))
    assert stands(section)[Standing.ask] == "" and "+0.0 points" in stands(section)[Standing.holds]
    before = coordinates(direct(record, None, 0.2))
    assert "Not recorded: the better of two readings" in text(before)
    assert coordinates(record).outcomes == () and "asked no model for boxes in words" in text(coordinates(record))


def test_a_verification_has_its_age_at_the_time_of_the_run(record: RunRecord) -> None:
    when = {"when": "2026-11-20T16:00:00+00:00", "passed": 6, "failed": [], "not_applicable": []}
    section = verification(with_provenance(record, verification=when))
    assert "passed 6 checks" in stands(section)[Standing.holds]
    assert "2 days before the run" in text(section) and "known) passed." in text(section)
    unasked = {**when, "not_applicable": ["known answer"]}
    told = verification(with_provenance(record, verification=unasked))
    assert "objects whose place is known" in stands(told)[Standing.unknown]
    failed = verification(
        with_provenance(record, verification={**when, "failed": ["known answer, one of four", "geometry"]})
    )
    assert "failed: known answer, one of four, geometry" in stands(failed)[Standing.ask]
    assert stands(failed)[Standing.holds] == "" and "known) failed." in text(failed)
    before = {key: value for key, value in when.items() if key != "not_applicable"}
    assert "Not recorded: which checks" in text(verification(with_provenance(record, verification=before)))
    assert "Not recorded" in text(verification(record))
    assert "Not checked" in text(verification(with_provenance(record, verification=None)))


FOLLOWS = {"heads": ("L3H1", "L4H6"), "n_images": 60, "n_same": 9, "n_other": 8, "split": "train", "n_asked": 60,
           "n_paraphrases": 3, "same_token": True, "tolerance": 0.1}  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "standing"),
    [("follow", Standing.holds), ("partly", Standing.ask), ("same place", Standing.ask), ("unknown", Standing.unknown)],
)
def test_whether_heads_follow_the_words_is_what_the_run_judged(
    record: RunRecord, verdict: str, standing: Standing
) -> None:
    assert "Whether the heads follow the words." in stands(words(record))[Standing.unknown]
    follows = FollowsRecord.parse({**FOLLOWS, "follows": verdict, "sentence": "So they do. Asked in other words x."})
    section = words(with_metrics(record, follows=follows))
    assert stands(section)[standing] == "So they do."
    assert "3 of the wordings were made by toggling" in text(section) and "60 images of train" in text(section)
    alone = replace(record, metrics=None, heads=None, judgement=JudgementFile(verdict=follows, source="a", digest="b"))
    assert words(alone) == section


def test_support_is_asked_about_below_its_confidence(record: RunRecord) -> None:
    assert "Not recorded: how often the same heads" in text(support(record))
    assert record.heads is not None
    for share, standing in ((0.99, Standing.holds), (0.5, Standing.ask)):
        found = SupportRecord(confidence=0.95, resamples=500, curve=((50, share), (200, share)))
        section = support(replace(record, heads=record.heads.model_copy(update={"support": found})))
        assert f"come first in {100 * share:.1f} % of 500 resamples" in stands(section)[standing]


def test_notes_and_warnings_are_each_told_once(record: RunRecord) -> None:
    assert "Not recorded: warnings" in text(notes(record))
    warned = with_provenance(record, warnings=["a note", "a warning"], dataset={"notes": ["a defect"]})
    section = notes(with_metrics(warned, notes=("a note",)))
    assert section.sentences == ("a note", "Data: a defect", "Warning: a warning")
    assert stands(section)[Standing.ask] == "2 notes on the figures or the data. The run warned of 1 thing."
    assert "warned of nothing" in stands(notes(with_provenance(record, warnings=[])))[Standing.holds]


def test_code_and_machine_are_the_recorded_ones(record: RunRecord) -> None:
    assert "commit f00dfacecafe with uncommitted changes" in stands(origin(record))[Standing.ask]
    clean = with_provenance(record, dirty=False, seeds={"seed": 3}, versions={"torch": "2.13", "torchvision": None})
    assert "without uncommitted changes" in stands(origin(clean))[Standing.holds]
    rows = dict(origin(clean).tables[0].rows)  # type: ignore[arg-type]
    assert (rows["Seed"], rows["Versions"]) == ("3", "torch 2.13, torchvision not installed")
    assert rows["Command"] == "run.py 'prompt.template=a b'"
    assert "The commit of the code." in stands(origin(with_provenance(record, commit=None)))[Standing.unknown]
    made = {"store": "c8", "made_with": {}, "other_versions": "torch 2.12 (here 2.13)"}
    assert "made with other versions: torch 2.12" in stands(origin(with_provenance(record, maps=made)))[Standing.ask]


SUBJECTS: tuple[Subject, ...] = (
    evaluated, figures, expressions, duplicates, leakage, failures, coordinates, verification, words, support, notes,
    origin,
)  # fmt: skip


@pytest.fixture
def evil(record: RunRecord) -> RunRecord:
    config = {**record.config, "model": {"name": EVIL, "id": EVIL}, "dataset": {"name": EVIL, "split": EVIL}}
    provenance = {"argv": [EVIL], "commit": EVIL, "dirty": False, "warnings": [EVIL], "hardware": {EVIL: EVIL},
                  "dataset": {"guard": {EVIL: 1}, "notes": [EVIL]}, "model": {"source": EVIL, "revision": EVIL},
                  "verification": {"when": EVIL, "passed": 1, "failed": [EVIL]}, "started": EVIL}  # fmt: skip
    found = with_provenance(replace(record, config=config), **provenance)
    failed = {**_content(record), "failed": [{"sample_id": EVIL, "reason": EVIL + "\n# heading"}]}
    return replace(found, metrics=MetricsRecord.parse(failed), problems=(EVIL,))


def test_texts_of_data_are_escaped_in_html(evil: RunRecord) -> None:
    page = to_html(evil, sections(evil))
    assert "<script" not in page and page.count("alert(1)") >= 12
    assert EVIL in html.unescape(page)


def test_texts_of_data_are_escaped_in_markdown(evil: RunRecord) -> None:
    page = to_markdown(evil, sections(evil))
    assert "<script" not in page and "\n# heading" not in page
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt; a\\|b \\`c\\` \\_d\\_ \\*e\\* "
    assert page.count(escaped) == page.count("alert(1)") >= 12
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    bars = [line.replace("\\|", "").count("|") for line in rows]
    assert all(n in (3, 4, 5, 6) for n in bars)


def test_every_outcome_links_to_a_section_that_is_there(record: RunRecord) -> None:
    found = sections(record)
    page, text = to_html(record, found), to_markdown(record, found)
    for section in found:
        assert f'id="{section.anchor}"' in page and f"\n## {section.title}\n" in text
        assert section.title.lower().replace(" ", "-") == section.anchor
        for outcome in section.outcomes:
            assert f'<a href="#{section.anchor}"><bdi>{html.escape(outcome.text, quote=False)}' in page.replace(
                "&#39;", "'"
            )
    assert len({section.anchor for section in found}) == len(found)


def test_the_dossier_is_a_page_of_the_run(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["config.yaml", "metrics.json"]
    ReceiptFile(files={name: file_digest(run_folder / name) for name in names}).write(run_folder)
    page = write_report(run_folder).read_text()
    assert 'href="dossier/dossier.html"' in page
    first = {
        name: (run_folder / name).read_bytes() for name in PAGES if (run_folder / name).exists() and "dossier" in name
    }
    assert len(first) == 3 and b'href="../report.html"' in first["dossier/dossier.html"]
    assert main([str(run_folder), "--dossier"]) == 0
    written = [*first, "dossier/tables.tex"]
    assert capsys.readouterr().out.split() == [str(run_folder / name) for name in written]
    assert first == {name: (run_folder / name).read_bytes() for name in first}
    assert changed_files(run_folder, [*names, *written]) == []


def test_a_dossier_goes_elsewhere_on_demand(run_folder: Path, tmp_path: Path) -> None:
    assert main([str(run_folder), "--dossier", str(tmp_path / "paper")]) == 0
    assert not (run_folder / "dossier").exists()
    assert "../report.html" not in (tmp_path / "paper" / "dossier.html").read_text()
    assert main([str(tmp_path / "paper"), "--dossier"]) == 1


def test_odd_records_make_a_dossier(run_folder: Path) -> None:
    (run_folder / "config.yaml").write_text(yaml.safe_dump({"model": 3, "dataset": {"name": [1], "split": {"a": 1}}}))
    changed = json.loads((run_folder / "provenance.json").read_text()) | {"model": {"layers": [1], "weights": {}}}
    (run_folder / "provenance.json").write_text(json.dumps(changed))
    write_dossier(read_run(run_folder))
    assert (run_folder / "dossier" / "dossier.md").read_text().startswith("# Dossier")
