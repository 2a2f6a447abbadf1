"""The dossier of a finished run says what its records say; the receipt vouches for it; a run is its own evidence of
what it repeats."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from running import Finished

from locheads.records.receipt_file import changed_files, read_receipt
from locheads.report.__main__ import main
from locheads.store.digest import file_digest


def test_the_dossier_has_the_figures_of_the_records(finished: Finished) -> None:
    folder = finished.folder
    text, page = (folder / "dossier/dossier.md").read_text(), (folder / "dossier/dossier.html").read_text()
    metrics, heads = (json.loads((folder / name).read_text()) for name in ("metrics.json", "heads.json"))
    model = json.loads((folder / "provenance.json").read_text())["model"]
    value = metrics["methods"]["localization_heads"]["rec_acc@0.5"]["value"]
    for told in (f"{100 * value:.1f}", model["weights"], f"{metrics['n_expressions']} expressions of", str(heads["k"])):
        assert told in text and told in page
    # What identifies a file is its sha256 now.
    for name in ("predictions.parquet", "metrics.json", "heads.json", "samples.json"):
        assert f"| {name.replace('_', chr(92) + '_')} |" in text and file_digest(folder / name) in text
    assert "http" not in page.replace("http-equiv", "")


def test_what_occurs_twice_is_counted_anew_from_the_answers(finished: Finished) -> None:
    """The answers hold image and words of every expression, the scores the true box."""
    own = pd.read_parquet(finished.folder / "predictions.parquet")
    scores = pd.read_parquet(finished.folder / "scores.parquet")
    boxes = scores[scores["method"] == "localization_heads"].set_index("sample_id")
    named = [
        (row.image_id, row.expression.lower(), tuple(boxes.loc[row.sample_id, ["true_x0", "true_y0", "true_x1"]]))
        for row in own.itertuples()
    ]
    words = Counter(key[:2] for key in set(named))
    repeats = json.loads((finished.folder / "samples.json").read_text())["repeats"]
    assert repeats["expressions"] == len(named) - len(set(named))
    assert repeats["ambiguous"] == sum(words[key[:2]] > 1 for key in named)
    assert repeats["seen_images"] == repeats["images"] == 0


def test_the_receipt_vouches_for_the_dossier_which_is_made_again_to_the_byte(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    receipt = read_receipt(copy)
    assert receipt is not None
    made = [name for name in receipt.files if name.startswith("dossier/")]
    assert made == ["dossier/dossier.html", "dossier/dossier.md", "dossier/methods.tex"]
    before = {name: (copy / name).read_bytes() for name in made}
    shutil.rmtree(copy / "dossier")
    assert main([str(copy), "--dossier"]) == 0
    assert {name: (copy / name).read_bytes() for name in made} == before
    assert changed_files(copy, [*made, "dossier/tables.tex"]) == []
    assert "\\toprule" in (copy / "dossier/tables.tex").read_text()


def test_a_run_whose_figures_were_edited_is_asked_about(finished: Finished, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["methods"]["localization_heads"]["rec_acc@0.5"]["value"] = 0.99
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert main([str(copy), "--dossier"]) == 0
    asked = (copy / "dossier/dossier.md").read_text().partition("**What to ask about**")[2]
    assert asked.lstrip().startswith("- metrics.json is not what the run wrote")
