"""The control that swaps the expression and keeps the image, on a table worked by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from locheads.evaluation.truth import box_shares, partners, swapped_pointing
from locheads.types import ImageGroup, Sample

LEFT, RIGHT = (0, 0, 8, 10), (12, 0, 20, 10)


@pytest.fixture
def group(sample: Callable[..., Sample]) -> ImageGroup:
    """20 x 10 pixels; two expressions for the left object, one for the right one."""
    samples = (sample("l1", LEFT, 20, 10), sample("l2", LEFT, 20, 10), sample("r", RIGHT, 20, 10))
    return ImageGroup("p", Path("p"), 20, 10, samples)


def table(peaks: dict[str, tuple | None], method: str = "m", draw: int = 0) -> pd.DataFrame:
    points = [point or (None, None) for point in peaks.values()]
    columns = {"method": method, "draw": draw, "sample_id": list(peaks)}
    return pd.DataFrame(columns | {"peak_x": [p[0] for p in points], "peak_y": [p[1] for p in points]})


def truth(group: ImageGroup, predictions: pd.DataFrame) -> np.ndarray:
    boxes = {s.sample_id: s.box for s in group.samples}
    return np.array([boxes[key] for key in predictions["sample_id"]])


def test_a_partner_is_the_next_expression_for_another_object(group: ImageGroup) -> None:
    assert partners([group]) == {"l1": "r", "l2": "r", "r": "l1"}


def test_an_image_with_one_object_has_no_partners(group: ImageGroup) -> None:
    alone = ImageGroup("p", Path("p"), 20, 10, group.samples[:2])
    assert partners([alone]) == {}
    predictions = table({"l1": (1, 1), "l2": (1, 1)})
    swapped = swapped_pointing(predictions, truth(alone, predictions), partners([alone]))
    assert np.isnan(swapped).all()


def test_heads_that_follow_the_words_never_point_at_the_original(group: ImageGroup) -> None:
    predictions = table({"l1": (3, 3), "l2": (3, 3), "r": (15, 3)})
    assert swapped_pointing(predictions, truth(group, predictions), partners([group])).tolist() == [0, 0, 0]


def test_heads_that_follow_the_image_point_where_they_did(group: ImageGroup) -> None:
    predictions = table({"l1": (3, 3), "l2": (3, 3), "r": (3, 3)})
    assert swapped_pointing(predictions, truth(group, predictions), partners([group])).tolist() == [1, 1, 0]


def test_methods_and_draws_are_kept_apart_and_a_lost_partner_counts_as_unknown(group: ImageGroup) -> None:
    one = table({"l1": (3, 3), "r": (3, 3)}, draw=0)
    two = table({"l1": (3, 3), "r": (15, 3)}, draw=1)
    other = table({"l1": (3, 3)}, method="n")
    predictions = pd.concat([one, two, other])
    swapped = swapped_pointing(predictions, truth(group, predictions), partners([group]))
    np.testing.assert_array_equal(swapped, [1, 0, 0, 0, np.nan])


def test_a_failed_partner_points_nowhere(group: ImageGroup) -> None:
    predictions = table({"l1": (3, 3), "r": None})
    assert swapped_pointing(predictions, truth(group, predictions), partners([group])).tolist() == [0, 0]


def test_chance_is_the_share_of_the_image(group: ImageGroup) -> None:
    assert box_shares(group.samples).tolist() == [0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    ("box", "share"), [((-5, -5, 25, 15), 1.0), ((10, 0, 30, 10), 0.5), ((-9, 5, 5, 99), 0.125), ((30, 0, 40, 10), 0.0)]
)
def test_chance_is_never_more_than_the_image(
    sample: Callable[..., Sample], box: tuple[float, float, float, float], share: float
) -> None:
    outside = replace(sample("s", LEFT, 20, 10), box=box)
    assert box_shares([outside]).tolist() == [share]
