"""What is said of the localization heads' frequencies and of how sure they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locheads.models.config import Query
from locheads.records.heads_file import HeadsFile
from locheads.report.tables import heads_caption, heads_rows, query_row


@pytest.fixture
def heads(run_folder: Path) -> Callable[..., HeadsFile]:
    """Two trials of 200 images whose frequencies have intervals of twice `half`."""

    def changed(half: float = 0.04, std: float = 0.021, **more: Any) -> HeadsFile:
        raw = json.loads((run_folder / "heads.json").read_text())
        for head in raw["heads"]:
            mean = head["frequency_mean"]
            head |= {"frequency_low": mean - half, "frequency_high": mean + half}
        raw["frequency_std"] = np.full(np.shape(raw["frequency_std"]), std).tolist()
        return HeadsFile.parse(raw | {"n_images": 200, "n_expressions": 390} | more)

    return changed


def test_frequencies_with_interval_and_spread(heads: Callable[..., HeadsFile]) -> None:
    assert heads_rows(heads())[0][1] == "62.0 [58.0, 66.0] ± 2.1"
    assert heads_rows(heads(n_images=29))[0][1] == "62.0\u2020 [58.0, 66.0] ± 2.1"


@pytest.mark.parametrize(
    ("more", "said", "unsaid"),
    [
        ({}, "trials (390 different ones of 200 images), 1 failed", "whole"),
        ({"draw": "image"}, "of 200 images, drawn by whole images), 1", "few"),
        ({}, "Brackets: 95 % interval over images.", "fewer than 30 images"),
        ({"n_images": 29}, "on fewer than 30 images: take figure and interval as rough", "nothing"),
        ({"n_images": 1}, "One image tells nothing of others: there is no interval.", "Brackets"),
        # Two trials: 0.021^2 is about (0.08 / 3.92)^2, and 0.05^2 is six times as much.
        ({}, "± is the standard deviation over trials.", "too narrow"),
        ({"std": 0.05}, "because their thresholds do: take the intervals as too narrow.", "rough"),
        ({"std": 0.05, "trials": 5}, "± is the standard deviation over trials.", "too narrow"),
    ],
)
def test_the_caption_says_what_the_figures_are_of(
    heads: Callable[..., HeadsFile], more: dict[str, Any], said: str, unsaid: str
) -> None:
    caption = heads_caption(heads(**more))
    assert said in caption and unsaid not in caption


@pytest.mark.parametrize(
    ("frequency", "says"),
    [
        (
            1.0,
            " 2 other heads tie with {}: only the order in the model decides between them. Each sample names them all",
        ),
        (0.6, " 2 other heads tie with {}: only the order in the model decides between them."),
    ],
)
def test_heads_that_the_order_alone_decided_on_are_counted(
    heads: Callable[..., HeadsFile], frequency: float, says: str
) -> None:
    found = heads()
    assert "tie" not in heads_caption(found)  # the negative control: no two of these are the same
    grid = np.zeros(np.shape(found.frequency_mean))
    chosen = [(head.layer, head.head) for head in found.found]
    others = [at for at in np.ndindex(*grid.shape) if at not in chosen][:2]
    for at in (*chosen, *others):
        grid[at] = frequency
    caption = heads_caption(heads(frequency_mean=grid.tolist()))
    assert says.format(found.found[-1].index) in caption and ("names them all" in caption) == (frequency == 1)


def test_the_row_of_every_query_is_told_in_words() -> None:
    told = [query_row("answer_word:3" if kind == Query.answer_word else kind) for kind in Query]
    assert len(set(told)) == len(Query) and "word 3 of" in query_row("answer_word:3")
    # Of a run from before it was recorded.
    assert query_row(None) == query_row("last") == "the last token of the prompt"
