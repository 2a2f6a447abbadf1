"""`heads.set`: heads that were found elsewhere ground and are evaluated without discovery, and every record says so."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from running import Finished, Result, TinyFiles
from tiny import headset, write_headset

from locheads.config import Config, Stage
from locheads.discovery.config import HeadsConfig, SelectionConfig, SelectionKind
from locheads.errors import ConfigError
from locheads.models.engine import EngineConfig
from locheads.pipeline import attention_pass as attention
from locheads.types import HeadIndex

Run = Callable[[Config], Path]
GIVEN = [HeadIndex(1, 3), HeadIndex(2, 1), HeadIndex(0, 2)]


def found(finished: Finished) -> list[HeadIndex]:
    heads = json.loads((finished.folder / "heads.json").read_text())["heads"]
    return [HeadIndex(head["layer"], head["head"]) for head in heads]


def test_the_heads_of_a_run_ground_as_in_that_run(
    files: TinyFiles, finished: Finished, store: Path, tmp_path: Path, run: Run, no_model: None
) -> None:
    folder = run(files.config(tmp_path, store, heads=HeadsConfig(set=str(finished.folder))))
    own = finished.folder / "predictions.parquet"
    assert (folder / "predictions.parquet").read_bytes() == own.read_bytes()
    mine, theirs = (json.loads((each / "metrics.json").read_text()) for each in (folder, finished.folder))
    for method in ("localization_heads", "mean_of_all_heads", "centre_box"):
        assert mine["methods"][method] == theirs["methods"][method]
    assert not {"best_rec_heads", "best_iou_heads"} & set(mine["methods"]) and mine["figure6"] is None
    # The negative control: other heads answer otherwise.
    other = run(files.config(tmp_path, store, heads=HeadsConfig(set=str(write_headset(tmp_path / "o.json", GIVEN)))))
    assert (other / "predictions.parquet").read_bytes() != own.read_bytes()


def test_discovery_is_left_out_and_every_record_says_so(files: TinyFiles, tmp_path: Path, run: Run) -> None:
    heads = write_headset(tmp_path / "set.json", GIVEN)
    folder = run(files.config(tmp_path, heads=HeadsConfig(k=2, set=str(heads)), stage=Stage.report))
    assert not (folder / "heads.json").exists()
    record = json.loads((folder / "provenance.json").read_text())["heads"]
    assert (record["set"], record["heads"], record["leakage"]) == (str(heads), ["L1H3", "L2H1"], "not checked")
    assert "discover" not in json.loads((folder / "status.json").read_text())["stages"]
    samples = json.loads((folder / "samples.json").read_text())
    assert samples["trials"] == [] and len(samples["evaluated"]) == 30
    assert set(pd.read_parquet(folder / "predictions.parquet")["heads"]) == {"L1H3 L2H1"}
    page = (folder / "report.html").read_text()
    assert "none: heads L1H3, L2H1 of" in page and "heads.json is missing" not in page


@pytest.mark.parametrize("maps", ["all", "top 2"])
def test_no_discovery_image_is_asked(
    maps: str, files: TinyFiles, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = attention.attend_groups

    def watching(lvlm: Any, batch: Any, *rest: Any) -> Any:
        asked.extend(group.image_id for group, _ in batch)
        return real(lvlm, batch, *rest)

    monkeypatch.setattr(attention, "attend_groups", watching)
    heads = HeadsConfig(set=str(write_headset(tmp_path / "set.json", GIVEN)))
    run(files.config(tmp_path, heads=heads, engine=EngineConfig(device="cpu", threads=1, maps=maps)))
    assert sorted(asked) == [str(i) for i in tiny.SPLITS["val"]]


def test_a_data_set_without_a_discovery_split_will_do(files: TinyFiles, store: Path, tmp_path: Path, run: Run) -> None:
    heads = HeadsConfig(set=str(write_headset(tmp_path / "set.json", GIVEN)))
    config = files.config(tmp_path, store, heads=heads)
    assert (run(replace(config, dataset=replace(config.dataset, discovery_split="nowhere"))) / "metrics.json").exists()


def test_the_same_heads_are_the_same_digest_wherever_their_file_lies(
    files: TinyFiles, store: Path, tmp_path: Path, run: Run
) -> None:
    def digest(name: str, heads: list[HeadIndex]) -> str:
        given = HeadsConfig(set=str(write_headset(tmp_path / name, heads)))
        folder = run(files.config(tmp_path, store, heads=given, stage=Stage.attend))
        return json.loads((folder / "provenance.json").read_text())["digest"]

    assert digest("a.json", GIVEN) == digest("b.json", GIVEN) != digest("c.json", GIVEN[::-1])


@pytest.mark.parametrize(
    ("content", "changes", "sentence"),
    [
        (headset(GIVEN, (32, 32)), {}, "32 layers of 32 heads, but this model has 5 layers of 4 heads"),
        (headset(GIVEN[:2]), {}, "heads.k=3 is more than the 2 heads of heads.set="),
        (headset(GIVEN, dataset={"name": "pocket", "split": "val"}), {}, "were found on pocket val, which is what is"),
        (headset(GIVEN), {"stage": Stage.discover}, "stage=discover finds heads, and heads.set="),
        (headset(GIVEN), {"selection": SelectionConfig(SelectionKind.greedy)}, "selection=greedy needs the scores"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_loads(
    content: str, changes: dict, sentence: str, files: TinyFiles, tmp_path: Path, run: Run, no_model: None
) -> None:
    (tmp_path / "set.json").write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        run(files.config(tmp_path, heads=HeadsConfig(set=str(tmp_path / "set.json")), **changes))


def test_heads_of_another_model_of_the_same_shape_are_a_warning(
    files: TinyFiles, store: Path, tmp_path: Path, command: Callable[..., Result]
) -> None:
    (tmp_path / "set.json").write_text(headset(GIVEN, model={"id": "some/model"}))
    arguments = [*files.arguments(tmp_path / "out", store), f"heads.set={tmp_path / 'set.json'}", "stage=ground"]
    result = command(*arguments)
    assert result.code == 0, result.err
    assert "are those of some/model; this model is" in " ".join(result.out.split())
