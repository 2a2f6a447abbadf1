"""stage=direct: real generation on the tiny model, and a model that knows how to write boxes."""

import html
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from running import Finished, Result, TinyFiles

from locheads.config import Stage
from locheads.data.config import AnswerFormat, DatasetConfig, Frame
from locheads.evaluation.config import DirectConfig
from locheads.geometry import Geometry, Preprocess, square_geometry
from locheads.models.attend import NO_MEMORY
from locheads.models.config import PromptConfig
from locheads.pipeline import direct
from locheads.store.atomic import read_json
from locheads.types import Answer

ASKED = PromptConfig(
    name="box_question_plain", template="<image>\nGive the box of {expression}", full_stop=False, max_new_tokens=4
)


@pytest.fixture
def ask(files: TinyFiles, tmp_path: Path, run: Callable[..., Path]) -> Callable[..., Path]:
    """stage=direct on the tiny files -> the run folder."""

    def start(**changes: Any) -> Path:
        own = changes.pop("direct", DirectConfig(AnswerFormat.xyxy_relative, Frame.image))
        return run(files.config(tmp_path / "out", **{"stage": Stage.direct, "direct": own, "prompt": ASKED} | changes))

    return start


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, int], str | None]], list[str]]:
    """Replaces the model by a function of expression and image width; -> the expressions that it was asked."""

    def stub(answer: Callable[[str, int], str | None]) -> list[str]:
        asked: list[str] = []

        def answers(_: Any, image: Any, expressions: list[str], *__: Any) -> tuple[list[Answer | None], Geometry]:
            asked.extend(expressions)
            geometry = square_geometry(*image.size, 48, 6, Preprocess.pad)
            texts = [answer(expression, image.width) for expression in expressions]
            return [None if text is None else Answer((7,), (text,), ended=True) for text in texts], geometry

        monkeypatch.setattr(direct, "answer_image", answers)
        return asked

    return stub


def test_a_model_that_answers_in_words_misses_everything(ask: Callable[..., Path]) -> None:
    folder = ask()
    metrics = read_json(folder / "metrics.json")
    assert metrics["n_expressions"] == metrics["n_empty"] == 30
    assert metrics["n_failed"] == 0
    assert metrics["methods"]["direct_output"]["rec_acc@0.5"]["value"] == 0
    assert "pointing" not in metrics["methods"]["direct_output"]
    answers = pd.read_parquet(folder / "answers.parquet")
    assert len(answers) == 30 and not answers["parsed"].any()
    assert answers["answer"].str.len().gt(0).any()
    (timed,) = read_json(folder / "timing.json")["passes"]
    assert timed["of"] == "answers" and timed["expressions"] == 30 and timed["peak_bytes"] > 0


def test_nothing_is_asked_twice_and_other_settings_ask_again(
    ask: Callable[..., Path], writes: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = writes(lambda *_: "[0, 0, 1, 1]")
    first = ask()
    assert len(asked) == 30
    second = ask()
    assert len(asked) == 30
    for name in ("metrics.json", "predictions.parquet", "answers.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    # Another convention reads the same words; another prompt does not.
    ask(direct=DirectConfig(AnswerFormat.xywh))
    assert len(asked) == 30
    ask(prompt=PromptConfig(name="bare", template="<image>\n{expression}"))
    assert len(asked) == 60


def test_boxes_are_scored_as_the_stated_convention_says(
    ask: Callable[..., Path], writes: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The whole image as an answer: its IoU with the object is the object's share of the image."""
    writes(lambda *_: "The region is [0.0, 0.0, 1.0, 1.0].")
    scores = pd.read_parquet(ask() / "scores.parquet")
    assert len(scores) == 30 and scores["answered"].all()
    assert (scores["box_iou"] - scores["chance"]).abs().max() < 1e-9
    assert scores["box_iou"].gt(0).all()
    # In pixels the same words are a speck in the corner.
    folder = ask(direct=DirectConfig(AnswerFormat.xyxy))
    assert (pd.read_parquet(folder / "scores.parquet")["box_iou"] < 0.02).all()
    # Which is said, as it is of a file of predictions.
    metrics = read_json(folder / "metrics.json")
    assert metrics["boxes"]["n_shares"] == 30
    assert any("is direct.box_format=xyxy how they are written?" in note for note in metrics["notes"])
    assert all(note in caplog.text for note in metrics["notes"])


def test_an_answer_in_the_frame_of_the_padded_input(ask: Callable[..., Path], writes: Callable[..., list[str]]) -> None:
    writes(lambda *_: "[0.0, 0.0, 1.0, 1.0]")
    own = DirectConfig(AnswerFormat.xyxy_relative, Frame.input)
    found = pd.read_parquet(ask(direct=own) / "predictions.parquet")
    # The bars are cut off: what is left is the image.
    assert (found["x0"] == 0).all() and (found["x1"] - found["mask_width"]).abs().max() < 1e-9
    assert (found["y1"] - found["mask_height"]).abs().max() < 1e-9


def test_every_miss_has_its_reason(ask: Callable[..., Path], writes: Callable[..., list[str]]) -> None:
    texts = itertools.cycle(
        ["<think>[0, 0, 1, 1]", "a cup", "[1, 0, 0, 1]", "[0, 0, 1, 9]", "[0, 0, 1, 1] [0, 0, .5, 1]"]
    )
    writes(lambda *_: next(texts))
    folder = ask()
    metrics, answers = read_json(folder / "metrics.json"), pd.read_parquet(folder / "answers.parquet")
    assert metrics["boxes"]["without"] == {
        "end within the model's thoughts": 6, "hold no box": 6, "have right < left or bottom < top": 6,
        "leave the declared range": 6,
    }  # fmt: skip
    assert (metrics["n_empty"], metrics["boxes"]["n_several"]) == (24, 6)
    assert answers["fault"].isna().tolist() == answers["parsed"].tolist()
    page = html.unescape((folder / "report.html").read_text())
    assert "24 without a box (6 end within the model" in page and "6 answers hold several different boxes" in page
    assert "scored; no baseline stands beside it" in page and "<h2>The heads</h2>" not in page


def test_an_unreadable_image_is_a_failure_and_the_rest_is_asked(
    files: TinyFiles, tmp_path: Path, ask: Callable[..., Path], writes: Callable[..., list[str]]
) -> None:
    own = files.copy(tmp_path / "data")
    broken = sorted(own.images.glob("*_000000000200.jpg"))[0]
    broken.write_bytes(b"no image")
    asked = writes(lambda *_: "[0, 0, 1, 1]")
    folder = ask(dataset=DatasetConfig(reader="refer", folder=str(own.folder), images=str(own.images)))
    metrics = read_json(folder / "metrics.json")
    assert (metrics["n_failed"], metrics["n_empty"], len(asked)) == (5, 0, 25)
    assert read_json(folder / "receipt.json")["n_failed"] == 5
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert rows.loc[rows["error"].notna(), "image_id"].unique().tolist() == ["200"]


def test_an_expression_that_memory_does_not_hold_is_a_failure_and_the_rest_is_asked(
    ask: Callable[..., Path], writes: Callable[..., list[str]]
) -> None:
    refused: list[str] = []

    def say(expression: str, _: int) -> str | None:
        refused.append(expression)  # the first that is asked
        if expression == refused[0]:
            return None
        return "[0, 0, 1, 1]"

    writes(say)
    folder = ask()
    rows = pd.read_parquet(folder / "predictions.parquet")
    failed = rows["expression"] == refused[0]
    assert rows.loc[failed, "error"].tolist() == [NO_MEMORY] * failed.sum()
    assert rows.loc[~failed, "error"].isna().all() and rows.loc[~failed, "x1"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "stage=direct needs direct.box_format, how the model writes boxes: xywh, xyxy,"),
        (["direct.box_format=xyxy", "direct.frame=input"], "needs direct.cell_pixels"),
        (["direct.box_format=xyxy", "prompt.max_new_tokens=0"], "prompt.max_new_tokens must be at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, finished: Finished, command: Callable[..., Result], no_model: None
) -> None:
    result = command("stage=direct", *arguments, *finished.arguments)
    assert result.code == 1
    assert sentence in result.err and result.err.count("\n") == 1


def test_the_dossier_tells_what_the_better_of_two_readings_would_give(
    files: TinyFiles, ask: Callable[..., Path], writes: Callable[..., list[str]]
) -> None:
    """Declared are pixels, and the model writes in thousandths where the square is in one image of that width; the hits
    are counted here by a plain loop."""
    tables = read_json(files.folder / "instances.json")
    sizes = {image["id"]: (image["width"], image["height"]) for image in tables["images"]}
    known: dict[tuple[int, bool], str] = {}
    for each in tables["annotations"]:
        (width, height), (x, y, w, h) = sizes[each["image_id"]], each["bbox"]
        corners = (x / width, y / height, (x + w) / width, (y + h) / height)
        if each["image_id"] >= 200:  # the val split
            known.setdefault((width, each["id"] % 2 == 0), str([round(1000 * value) for value in corners]))
    writes(lambda expression, width: known[width, expression in tiny.EXPRESSIONS[0]])
    folder = ask(direct=DirectConfig(AnswerFormat.xyxy))
    scores, answers = pd.read_parquet(folder / "scores.parquet"), pd.read_parquet(folder / "answers.parquet")
    either = 0
    for row, answer in zip(scores.itertuples(), answers["answer"], strict=True):
        numbers = [float(number) for number in answer.strip("[]").split(",")]
        truth = (row.true_x0, row.true_y0, row.true_x1, row.true_y1)
        scale = (row.image_width / 1000, row.image_height / 1000) * 2
        readings = numbers, [number * unit for number, unit in zip(numbers, scale, strict=True)]
        either += any(overlap(box, truth) >= 0.5 for box in readings)
    found = read_json(folder / "metrics.json")["boxes"]["either"]
    assert (found["n"], found["either"], found["pixels"]) == (30, either, 0) and either > 0
    dossier = (folder / "dossier" / "dossier.md").read_text()
    honest = 100 * scores["box_iou"].ge(0.5).mean()
    assert f"REC Acc@0.5 is {honest:.1f} % as declared; the better of two readings would give" in dossier
    assert f"| {either} of 30 | {100 * either / 30:.1f} |" in dossier and honest < 100 * either / 30


def overlap(a: Any, b: Any) -> float:
    sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    shared = sides[0] * sides[1]
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared)
