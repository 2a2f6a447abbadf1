"""What the metrics of several objects, or of none, add up per expression: columns of the scores -> numerators,
denominators.

`objects`: how many the expression names; `answered`: how many boxes it was answered with; `shared`, `union`: pixels of
the mask of all answers and that of all objects; `pixels`: of the objects alone. Where public code differs, each reading
has a function of its own.
"""

import numpy as np

FAILED = -1
"""As the number of answered boxes of an expression that could not be processed: it said neither none nor some."""


def none_said(objects: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Whether nothing was named and nothing answered."""
    return (objects == 0) & (answered == 0)


def some_answered(objects: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Whether something was named and something answered."""
    return (objects > 0) & (answered > 0)


def mask_iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """0 for an empty union."""
    return intersection / np.where(union > 0, union, 1)


def official_iou(objects: np.ndarray, answered: np.ndarray, shared: np.ndarray, union: np.ndarray) -> np.ndarray:
    """1 for a right "none", 0 for a wrong one, else the masks' IoU (ReLA, `refer_evaluation.py`)."""
    return np.where(objects == 0, answered == 0, np.where(answered == 0, 0.0, mask_iou(shared, union)))


def official_intersection(objects: np.ndarray, answered: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Nothing where "none" was said of something; the mask that was said not to be one still counts in the union."""
    return np.where((objects == 0) | (answered == 0), 0, shared)


def official_union(objects: np.ndarray, answered: np.ndarray, union: np.ndarray) -> np.ndarray:
    """A false mask's area counts; nothing where "none" is right."""
    return np.where(none_said(objects, answered), 0, union)


def gsva_iou(objects: np.ndarray, answered: np.ndarray, shared: np.ndarray, union: np.ndarray) -> np.ndarray:
    """A mask keeps its IoU where "none" was said of something (GSVA, `solver.py`)."""
    return np.where(objects == 0, answered == 0, mask_iou(shared, union))


def lisa_iou(answered: np.ndarray, shared: np.ndarray, union: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Masks alone, empty where "none" was said: 1 wherever the union is empty (LISA's `validate`)."""
    own, whole = np.where(answered == 0, 0, shared), np.where(answered == 0, pixels, union)
    return np.where(whole == 0, answered != FAILED, mask_iou(own, whole))


def lisa_union(answered: np.ndarray, union: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """As `lisa_iou`."""
    return np.where(answered == 0, pixels, union)
