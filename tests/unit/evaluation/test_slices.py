"""Every expression lies in one slice of every kind, and the facts come from the sample alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco

from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import OBJECTS, Place, shown, told
from locheads.evaluation.slices import SLICES, facts, slices_of
from locheads.evaluation.summarise import summarise, summarise_slices
from locheads.evaluation.truth import Truth
from locheads.types import ImageGroup


@pytest.mark.parametrize(
    ("text", "words", "spatial", "negation"),
    [
        ("the dog", 2, False, False),
        ("Left-most dog, top", 3, True, False),
        ("dog at the RIGHT.", 4, True, False),
        ("bright topping", 2, False, False),  # no word of place is inside a word
        ("man in red on a bike", 6, False, False),
        ("the man who ISN'T in red", 6, False, True),
        ("dog w/o a collar, not the left one", 8, True, True),
        ("nose of the knotted one", 5, False, False),  # nor one of negation
        ("", 0, False, False),
    ],
)
def test_facts_of_a_text(group: ImageGroup, text: str, words: int, spatial: bool, negation: bool) -> None:
    sample = replace(group.samples[0], expression=text, distractors=3, faulty=True)
    assert facts(sample, 400) == (1, 3, 400 / (80 * 40), words, spatial, negation)
    assert np.isnan(facts(replace(sample, faulty=None, distractors=None), 400)[:2]).all()
    # What the data set says of the expression comes before its words.
    assert [facts(replace(sample, negation=told), 400)[-1] for told in (True, False)] == [True, False]


def table(**columns: list) -> pd.DataFrame:
    plain = {"faulty": 0.0, "distractors": 1.0, "area_share": 0.5, "n_words": 1, "spatial": False, "negation": False,
             "kinds": "thing"}  # fmt: skip
    n = max(map(len, columns.values()))
    return pd.DataFrame({key: columns.get(key, [value] * n) for key, value in (plain | {OBJECTS: 1}).items()})


@pytest.mark.parametrize(
    ("key", "column", "values", "expected"),
    [
        ("area", "area_share", [0.0, 0.0499, 0.05, 0.1, 0.2, 1.0], {"under 5 %": 2, "5 to 10 %": 1, "10 to 20 %": 1,
                                                                 "20 % and more": 2}),
        ("distractors", "distractors", [0, 1, 2, 3, 4, 6, 7, 40, np.nan], {"0": 1, "1": 1, "2 to 3": 2, "4 to 6": 2,
                                                                        "7 and more": 2, "unknown": 1}),
        ("review", "faulty", [1.0, 0.0, np.nan, 0.0], {"clean": 2, "faulty": 1, "unknown": 1}),
        ("words", "n_words", [0, 2, 3, 4, 5, 7, 8, 99], {"1 to 2": 2, "3 to 4": 2, "5 to 7": 2, "8 and more": 2}),
        ("objects", OBJECTS, [0, 1, 2, 3, 9], {"none": 1, "one": 1, "two": 1, "three and more": 2}),
        ("spatial", "spatial", [True, False, True], {"without": 1, "with": 2}),
        ("negation", "negation", [True, False, True], {"without": 1, "with": 2}),
    ],
)  # fmt: skip
def test_edges_of_the_slices(key: str, column: str, values: list, expected: dict[str, int]) -> None:
    found = {name: len(rows) for by, name, rows in slices_of(table(**{column: values})) if by == key}
    assert found == expected
    assert list(found) == list(expected)
    assert {by for by, _, _ in slices_of(table(**{column: values}))} == set(SLICES)


def test_a_kind_of_which_nothing_is_known_has_no_slice() -> None:
    assert {by for by, _, _ in slices_of(table(faulty=[np.nan] * 3))} == {*SLICES} - {"review"}
    assert {by for by, _, _ in slices_of(table(faulty=[1.0]).drop(columns=OBJECTS))} == {*SLICES} - {"objects"}


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
    right = replace(group.samples[1], expression="dog on the right", faulty=False)
    left = replace(group.samples[0], expression="dog", faulty=True)
    scores = Truth([replace(group, samples=(left, right))]).score(pd.DataFrame(rows))
    config = EvaluationConfig()
    slices = summarise_slices(scores, "localization_heads", config)
    values = {(s["by"], s["slice"]): s["metrics"]["rec_acc@0.5"]["value"] for s in slices}
    assert values == {
        ("area", "10 to 20 %"): 0.5, ("words", "1 to 2"): 0.0, ("words", "3 to 4"): 1.0, ("spatial", "with"): 1.0,
        ("spatial", "without"): 0.0, ("negation", "without"): 0.5, ("review", "clean"): 1.0, ("review", "faulty"): 0.0,
    }  # fmt: skip
    whole = summarise(scores, config)["localization_heads"]
    of_all = next(s for s in slices if s["by"] == "area")
    assert of_all["metrics"] == {metric: whole[metric] for metric in told(shown(Place.SLICES), whole)}
    assert (of_all["n_expressions"], of_all["n_images"]) == (2, 1)


def _empty() -> str:
    return coco.encode(np.zeros((40, 80), dtype=np.uint8, order="F"))["counts"].decode()
