"""The page: everything in one file, every text escaped, honest about what is missing."""

import json
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from locheads.errors import StoreError
from locheads.report.__main__ import main
from locheads.report.html import write_report


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.texts = [], []
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def whole(build, tmp_path_factory):
    return Page(write_report(build(tmp_path_factory.mktemp("report") / "run")))


def test_self_contained(whole):
    sources = [a["src"] for a in whole.all("img")] + [a["srcset"] for a in whole.all("source")]
    assert len(sources) == 4 * 2 + 3
    assert all(s.startswith(("data:image/svg+xml;base64,", "data:image/webp;base64,")) for s in sources)
    assert whole.all("script") == whole.all("link") == whole.all("iframe") == []
    assert "http" not in "".join(a.get("href", "") for a in whole.all("a"))
    assert "default-src 'none'" in whole.all("meta")[3]["content"]


def test_what_was_looked_at_again_is_explained_where_something_was(whole, run_folder):
    items = json.loads((run_folder / "gallery.json").read_text())
    items[0]["views"] = [[10, 20, 110, 120]]
    (run_folder / "gallery.json").write_text(json.dumps(items))
    page = Page(write_report(run_folder))
    assert "thin dashed white: looked at again" in page.text
    assert "the answers are those after all looks" in page.text
    assert "looked at again" not in whole.text and "all looks" not in whole.text


def test_an_answer_of_nothing_has_its_reason(run_folder, edit_json):
    """By the score of absence, or because the map is flat; a record without metrics or without the score, too."""
    items = json.loads((run_folder / "gallery.json").read_text())
    for item, absence in zip(items, (0.62, 0.4, None), strict=True):
        item.update(box=None, error=None, absence=absence)
    (run_folder / "gallery.json").write_text(json.dumps(items))
    flat = "No box: the fused map has no cell above its mean."
    assert Page(write_report(run_folder)).text.count(flat) == 3, "a run without abstaining"
    part = {"score": "mass", "threshold": 0.55, "calibration": None, "n_targeted": 1, "n_absent": 1, "n_unscored": 0,
            "auroc": {}, "coverage": [1.0], "risk": [0.5]}  # fmt: skip
    edit_json(run_folder / "metrics.json", absence=part)
    text = Page(write_report(run_folder)).text
    assert "None: the score of absence is 0.62, and the answer is none from 0.55 on." in text
    assert text.count(flat) == 1
    assert text.count("No box: the score of absence says that nothing is there, or") == 1
    (run_folder / "metrics.json").unlink()
    assert Page(write_report(run_folder)).text.count(flat) == 3


def test_numbers_and_explanations(whole):
    assert "53.2 [50.1, 56.0]" in whole.text
    assert "9.8 [7.4, 12.1]" in whole.text
    assert "Chosen with ground truth, so no competitor" in whole.text
    assert "averaged over 10 draws" in whole.text
    assert "evenly spaced over the evaluated split and not picked" in whole.text
    assert "2 of 400" in whole.text
    assert "commit f00dfacecafe, with uncommitted changes" in whole.text
    assert "run.py 'prompt.template=a b'" in whole.text
    assert "template:" in whole.text


def test_accessible(whole):
    assert all(a["alt"].strip() for a in whole.all("img"))
    assert len(whole.all("caption")) == len(whole.all("table")) == 4
    assert [a.get("lang") for a in whole.all("html")] == ["en"]
    assert len(whole.all("h1")) == 1
    targets = {a["href"].removeprefix("#") for a in whole.all("a")} - {"dossier/dossier.html"}
    assert targets <= {a["id"] for a in whole.all("section") if "id" in a}


def test_expressions_are_escaped_in_text_and_attributes(whole):
    assert "<script" not in whole.source
    assert "<b>corrupt" not in whole.source
    assert """<script>alert(1)</script> "it's" R&D $\\frac{1}{$""" in whole.text
    odd = next(a["alt"] for a in whole.all("img") if "R&D" in a["alt"])
    assert """<script>alert(1)</script> "it's" R&D""" in odd
    assert "Failed: the image is <b>corrupt</b>" in whole.text


def test_other_records_are_escaped(run_folder, edit_json):
    (run_folder / "gallery.json").unlink()
    evil = '"><img src=x onerror=alert(1)>'
    edit_json(run_folder / "provenance.json", commit=evil, versions={evil: evil}, argv=[evil])
    edit_json(run_folder / "status.json", state=evil, error=evil, stages={evil: {"state": evil, "seconds": 1}})
    edit_json(run_folder / "metrics.json", split=evil)
    edit_json(run_folder / "heads.json", criterion={"candidates": evil})
    (run_folder / "config.yaml").write_text(f"study: '{evil}'\nmodel: {{name: '{evil}'}}\n")
    page = Page(write_report(run_folder))
    assert "<img src=x" not in page.source
    assert [a for a in page.all("img") if "onerror" in a] == []
    assert page.text.count("onerror") >= 8


def test_odd_texts(run_folder):
    items = json.loads((run_folder / "gallery.json").read_text())
    items[0]["expression"] = "x" * 20_000
    items[1]["expression"] = "\ud800 \u202e gnal \x00 日本"
    items[2]["expression"] = ""
    (run_folder / "gallery.json").write_text(json.dumps(items))
    (run_folder / "heads.json").unlink()
    page = Page(write_report(run_folder))
    assert "x" * 20_000 in page.source
    assert max(len(a["alt"]) for a in page.all("img")) < 400
    assert "日本" in page.text


MISSING = {
    "metrics.json": "There are no results to show",
    "gallery.npz": "The maps of this sample are not in gallery.npz",
    "provenance.json": "provenance.json is missing or broken",
    "heads.json": "There are no heads to show",
    "gallery.json": "There are no samples to show",
    "config.yaml": "config.yaml is missing",
    "status.json": "status.json is missing",
}


@pytest.mark.parametrize("names", [list(MISSING)[:3], list(MISSING)[3:]])
def test_missing_records_are_named_and_the_rest_shown(run_folder, names):
    for name in names:
        (run_folder / name).unlink()
    page = Page(write_report(run_folder))
    assert "This report is not complete" in page.text
    for name, said in MISSING.items():
        assert (f"{name} is missing." in page.text) == (name in names)
        assert (said in page.text) == (name in names)
    assert ("53.2 [50.1, 56.0]" in page.text) == ("metrics.json" not in names)
    assert ("62.0 ± 2.1" in page.text) == ("heads.json" not in names)


def test_a_run_that_died_at_once(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "failed", "stages": {}, "error": "Disk <full>"}')
    page = Page(write_report(tmp_path))
    assert "The run's state is “failed”: Disk <full>." in page.text
    assert "This run has no evaluation to judge." in page.text


def test_whole_run_has_no_notice(whole):
    assert "This report is not complete" not in whole.text


def test_24_samples_stay_below_6_megabytes(tmp_path, build):
    path = write_report(build(tmp_path / "run", n_gallery=24))
    assert len(Page(path).all("figure")) == 24 + 4
    assert path.stat().st_size < 6_000_000


def test_command_line_writes_the_same_page_again(run_folder, whole, tmp_path, capsys):
    assert main([str(run_folder)]) == 0
    assert (run_folder / "report.html").read_text(encoding="utf-8") == whole.source
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


def test_command_line_has_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "locheads.report", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} holds no record of a run")
    assert "Traceback" not in done.stderr


def test_unwritable_page(run_folder):
    (run_folder / "gallery.json").unlink()
    (run_folder / "heads.json").unlink()
    (run_folder / "report.html").mkdir()
    with pytest.raises(StoreError, match="Cannot write"):
        write_report(run_folder)


def test_details_and_slices_are_tables_of_their_own(run_folder, metrics_json, edit_json):
    methods = metrics_json()["methods"]
    one = {"value": 0.5, "low": 0.25, "high": 1.5}
    methods["localization_heads"] |= {"map_kld": one, "map_energy": one}
    part = {"by": "spatial", "slice": "<i>with", "n_expressions": 12, "n_images": 7, "metrics": {"res_ciou": one}}
    edit_json(run_folder / "metrics.json", methods=methods, slices=[part])
    page = Page(write_report(run_folder))
    assert len(page.all("caption")) == len(page.all("table")) == 6
    assert "0.50 [0.25, 1.50]" in page.text  # KLD is no percentage
    assert "50.0 [25.0, 150.0]" in page.text
    assert "Words of place: <i>with" in page.text
    assert "<summary>By slices: words of place</summary>" in page.source  # the kinds that there are
    assert "<i>with" not in page.source
