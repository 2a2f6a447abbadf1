"""Every expression lies in one slice of every kind, and the facts come from the sample alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import Place, shown
from locheads.evaluation.slices import FACTS, SLICES, facts, slices_of
from locheads.evaluation.summarise import score_predictions, summarise, summarise_slices
from locheads.types import ImageGroup


@pytest.mark.parametrize(
    ("text", "words", "spatial"),
    [
        ("the dog", 2, False),
        ("Left-most dog, top", 3, True),
        ("dog at the RIGHT.", 4, True),
        ("bright topping", 2, False),  # no word of place is inside a word
        ("man in red on a bike", 6, False),
        ("", 0, False),
    ],
)
def test_facts_of_a_text(group: ImageGroup, text: str, words: int, spatial: bool) -> None:
    sample = replace(group.samples[0], expression=text, same_category=3)
    assert facts(sample, 400) == (400 / (80 * 40), 3, words, spatial)
    assert np.isnan(facts(replace(sample, same_category=None), 400)[1])


def table(**columns: list) -> pd.DataFrame:
    plain = {"area_share": 0.5, "same_category": 1.0, "n_words": 1, "spatial": False}
    n = max(map(len, columns.values()))
    return pd.DataFrame({key: columns.get(key, [plain[key]] * n) for key in FACTS})


@pytest.mark.parametrize(
    ("key", "column", "values", "expected"),
    [
        ("area", "area_share", [0.0, 0.0499, 0.05, 0.1, 0.2, 1.0], {"under 5 %": 2, "5 to 10 %": 1, "10 to 20 %": 1,
                                                                 "20 % and more": 2}),
        ("same_category", "same_category", [1, 2, 3, 4, 40, np.nan], {"1": 1, "2": 1, "3": 1, "4 and more": 2,
                                                                      "unknown": 1}),
        ("words", "n_words", [0, 2, 3, 4, 5, 7, 8, 99], {"1 to 2": 2, "3 to 4": 2, "5 to 7": 2, "8 and more": 2}),
        ("spatial", "spatial", [True, False, True], {"with": 2, "without": 1}),
    ],
)  # fmt: skip
def test_edges_of_the_slices(key: str, column: str, values: list, expected: dict[str, int]) -> None:
    found = {name: len(rows) for by, name, rows in slices_of(table(**{column: values})) if by == key}
    assert found == expected
    assert list(found) == list(expected)
    assert {by for by, _, _ in slices_of(table(**{column: values}))} == set(SLICES)


def test_slices_add_up_to_the_whole(group: ImageGroup) -> None:
    """The left object is missed, the right one is exact, and only its text has a word of place."""
    rows = []
    for sample in group.samples:
        code = sample.mask if sample.sample_id == "right" else {"size": [40, 80], "counts": _empty()}
        x0, y0, x1, y1 = sample.box if sample.sample_id == "right" else (0, 0, 1, 1)
        rows.append(
            {"method": "localization_heads", "draw": 0, "sample_id": sample.sample_id, "image_id": "p", "x0": x0,
             "y0": y0, "x1": x1, "y1": y1, "peak_x": None, "peak_y": None, "mask_counts": code["counts"],
             "mask_height": 40, "mask_width": 80, "error": None}
        )  # fmt: skip
    right = replace(group.samples[1], expression="dog on the right")
    left = replace(group.samples[0], expression="dog")
    scores = score_predictions(pd.DataFrame(rows), [replace(group, samples=(left, right))])
    config = EvaluationConfig()
    slices = summarise_slices(scores, "localization_heads", config)
    values = {(s["by"], s["slice"]): s["metrics"]["rec_acc@0.5"]["value"] for s in slices}
    assert values == {
        ("area", "10 to 20 %"): 0.5, ("same_category", "unknown"): 0.5, ("words", "1 to 2"): 0.0,
        ("words", "3 to 4"): 1.0, ("spatial", "with"): 1.0, ("spatial", "without"): 0.0,
    }  # fmt: skip
    whole = summarise(scores, config)["localization_heads"]
    of_all = next(s for s in slices if s["by"] == "area")
    assert of_all["metrics"] == {metric: whole[metric] for metric in shown(Place.SLICES)}
    assert (of_all["n_expressions"], of_all["n_images"]) == (2, 1)


def _empty() -> str:
    return coco.encode(np.zeros((40, 80), dtype=np.uint8, order="F"))["counts"].decode()
