"""Whole runs whose attention is taken from rows of the model's own answer."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from running import Finished, Result, TinyFiles
from tiny import write_headset

from locheads.api import Grounder
from locheads.config import Config
from locheads.data.config import AnswerFormat
from locheads.discovery.config import HeadsConfig
from locheads.errors import ConfigError, DataError
from locheads.evaluation.config import DirectConfig
from locheads.models.config import PromptConfig
from locheads.pipeline import answered_rows
from locheads.pipeline.answers import COLUMNS
from locheads.pipeline.inputs import load_inputs
from locheads.store.atomic import read_json
from locheads.types import Answer, HeadIndex

PROMPT = PromptConfig(max_new_tokens=4)
GIVEN = [HeadIndex(2, 1), HeadIndex(3, 0), HeadIndex(4, 2)]
Ask = Callable[..., Path]


@pytest.fixture
def ask(files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path]) -> Ask:
    """A run with heads that are given -> the run folder. All runs of a test have one cache."""
    heads = HeadsConfig(set=str(write_headset(tmp_path / "heads.json", GIVEN)))

    def start(query: str, **changes: Any) -> Path:
        prompt = replace(PROMPT, query=query)
        return run(files.config(tmp_path / "out", **{"prompt": prompt, "heads": heads} | changes))

    return start


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes the model write these texts in turn, a token per word; -> how many it was asked for each time."""

    def stub(*texts: str) -> list[int]:
        asked: list[int] = []

        def answers(_: Any, image: Any, *__: Any) -> list[Answer | None]:
            n = len(image.suffixes)
            said = [texts[(sum(asked) + i) % len(texts)] for i in range(n)]
            asked.append(n)
            words = [tuple(re.findall(r"\s*\S+", text)) for text in said]
            return [Answer((7,) * len(own), own, ended=True) for own in words]

        monkeypatch.setattr(answered_rows, "answer_prepared", answers)
        return asked

    return stub


def predictions(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "predictions.parquet")


def test_the_first_row_is_last_and_others_are_others(ask: Ask) -> None:
    last, first, second = (predictions(ask(query)) for query in ("last", "answer_first", "answer_word:2"))
    own = [column.name for column in COLUMNS]
    pd.testing.assert_frame_equal(first.drop(columns=own), last)
    assert first["answer"].str.len().gt(0).all() and set(first["answer"]) == set(second["answer"])
    assert not np.allclose(second["x0"], last["x0"], equal_nan=True)
    assert not {*own} & {*last.columns}


def test_the_model_is_asked_once_for_all_queries(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("answer_word:1")

    def refuse(*_: Any) -> None:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(answered_rows, "answer_prepared", refuse)
    ask("answer_mean")
    with pytest.raises(AssertionError, match="asked again"):
        ask("answer_mean", prompt=replace(PROMPT, query="answer_mean", max_new_tokens=3))


def test_a_run_that_is_done_loads_no_model(ask: Ask, request: pytest.FixtureRequest) -> None:
    first = ask("answer_word:2")
    request.getfixturevalue("no_model")
    pd.testing.assert_frame_equal(predictions(first), predictions(ask("answer_word:2")))


def test_answers_without_a_box_are_failures_and_those_with_one_stand_beside_the_heads(
    ask: Ask, writes: Callable[..., list[int]], request: pytest.FixtureRequest
) -> None:
    asked = writes("[0, 0, .5, 1]", "a cup")
    direct = DirectConfig(AnswerFormat.xyxy_relative)
    folder = ask("answer_numbers", direct=direct)
    assert read_json(folder / "metrics.json")["n_failed"] == 15
    rows = predictions(folder)
    boxed = rows["answer"] == "[0, 0, .5, 1]"
    assert boxed.sum() == 15 and rows.loc[boxed, "error"].isna().all() and rows.loc[boxed, "x1"].notna().any()
    np.testing.assert_allclose(rows.loc[boxed, "answer_x1"], rows.loc[boxed, "mask_width"] / 2)
    assert rows.loc[~boxed, "answer_x1"].isna().all()
    assert rows.loc[~boxed, "error"].str.contains("'a cup' holds no four numbers of a box").all()
    # Those that failed are known without the model.
    assert sum(asked) >= 30
    request.getfixturevalue("no_model")
    assert read_json(ask("answer_numbers", direct=direct) / "metrics.json")["n_failed"] == 15


def test_an_answer_of_fewer_words_is_a_failure(ask: Ask, writes: Callable[..., list[int]]) -> None:
    writes("red cup", "a red cup")
    rows = predictions(ask("answer_word:3"))
    short = rows["answer"] == "red cup"
    assert short.sum() == 15 and rows.loc[short, "error"].str.contains("'red cup' has no word 3, but 2").all()
    assert rows.loc[~short, "error"].isna().all()


def test_pairs_are_controlled_by_the_token_of_the_row(
    files: TinyFiles, tmp_path: Path, run: Callable[[Config], Path], writes: Callable[..., list[int]]
) -> None:
    """All answers begin alike: every pair counts. Every second begins otherwise: some pairs do not."""
    config = files.config(tmp_path / "out", prompt=replace(PROMPT, query="answer_word:2"))
    inputs = load_inputs(config)
    assert inputs.judged
    counted = []
    for n, texts in enumerate((("a b",), ("a b", "c b"))):
        writes(*texts)
        own = files.config(tmp_path / f"out{n}", prompt=replace(PROMPT, query="answer_word:2"))
        follows = read_json(run(own) / "heads.json")["follows"]
        counted.append(follows["n_same"] + follows["n_other"])
    assert counted[0] > counted[1] > 0


def test_grounding_from_python_asks_too(files: TinyFiles) -> None:
    image = next(files.images.iterdir())
    of = {
        query: Grounder(str(files.model), GIVEN, prompt=replace(PROMPT, query=query), device="cpu")
        for query in ("last", "answer_first", "answer_word:2", "answer_word:9", "answer_numbers")
    }
    last, first, second = (of[q].maps(image, "red square")[0] for q in ("last", "answer_first", "answer_word:2"))
    np.testing.assert_array_equal(first, last)
    assert np.abs(second - last).max() > 1e-4
    with pytest.raises(DataError, match="has no word 9"):
        of["answer_word:9"].maps(image, "red square")
    with pytest.raises(ConfigError, match=r"needs direct\.box_format"):
        of["answer_numbers"].maps(image, "red square")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prompt.query=answer_numbers"], "prompt.query=answer_numbers needs direct.box_format, how the model writes"),
        (["prompt.query=answer_word"], "needs the number of the word, as in answer_word:2"),
        (["prompt.query=answers"], "There is no Query 'answers': use one of last,"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, finished: Finished, command: Callable[..., Result], no_model: None
) -> None:
    result = command(*arguments, *finished.arguments)
    assert result.code == 1
    assert sentence in result.err and result.err.count("\n") == 1
