"""Sentences about a scene: expressions that fit exactly one object, questions, and their answers in words."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from locheads.pocket.scenes import Scene, SceneObject

KINDS = ("attribute", "position", "comparative", "relation")
KIND_SHARES = (0.54, 0.2, 0.16, 0.10)
QUESTION = "question"
QUESTION_SHARE = 0.3
NUMBERS = ("zero", "one", "two", "three", "four", "five")
_FIELDS = ("size", "texture", "colour", "shape")
_SUBSETS = tuple(c for n in range(1, 5) for c in combinations(_FIELDS, n))
_SIDES = ("on the left", "on the right", "at the top", "at the bottom")
_RELATIONS = ("left of", "right of", "above", "below")
_MARGIN = 0.08  # of the canvas: how clearly a position or relation must hold


@dataclass(frozen=True)
class Expression:
    """Words that fit one object only. `target` indexes `scene.objects`; no full stop at the end."""

    text: str
    kind: str
    target: int


@dataclass(frozen=True)
class Exchange:
    """One prompt with its answer, both in words. `target` is None for a question about the whole scene."""

    prompt: str
    answer: str
    kind: str
    target: int | None


def describe(item: SceneObject) -> str:
    """The answer to a bare expression: dot colour, size, colour, shape."""
    return f"{item.dots} {item.size} {item.colour} {item.shape}"


def sample_expression(
    scene: Scene, target: int, rng: np.random.Generator, kinds: tuple[str, ...] = KINDS, focus: str | None = None
) -> Expression:
    """An unambiguous expression for object `target`; an attribute expression where the drawn kind is impossible.

    `focus`: attribute expressions name this field alone, or with one more, wherever that suffices.
    """
    shares = np.array([KIND_SHARES[KINDS.index(kind)] for kind in kinds])
    kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
    makers = {"position": _position, "comparative": _comparative, "relation": _relation}
    text = makers[kind](scene, target, rng) if kind in makers else None
    if text is None:
        kind, text = "attribute", _phrase(scene.objects[target], _unique_subset(scene, target, rng, focus))
    article = "" if rng.random() < 0.15 else "the "
    return Expression(article + text, kind, target)


def sample_exchange(
    scene: Scene, rng: np.random.Generator, kinds: tuple[str, ...] = KINDS, focus: str | None = None
) -> Exchange:
    """A bare expression (with its full stop) and its answer or, in `QUESTION_SHARE` of the cases, a question."""
    target = int(rng.integers(len(scene.objects)))
    if rng.random() >= QUESTION_SHARE:
        expression = sample_expression(scene, target, rng, kinds, focus)
        return Exchange(f"{expression.text} .", describe(scene.objects[target]), expression.kind, target)
    return _question(scene, target, rng, focus)


def _question(scene: Scene, target: int, rng: np.random.Generator, focus: str | None) -> Exchange:
    item, draw = scene.objects[target], rng.random()
    if draw < 0.12:
        return Exchange("how many objects are there ?", NUMBERS[len(scene.objects)], QUESTION, None)
    subset = _unique_subset(scene, target, rng, focus)
    phrase = "the " + _phrase(item, subset)
    free = [field for field in _FIELDS if field not in subset]
    if draw < 0.45:
        return Exchange(f"describe {phrase} .", f"{item.colour} {item.shape} {item.size} {item.dots}", QUESTION, target)
    if draw < 0.75 or not free:
        return Exchange(f"what colour are the dots on {phrase} ?", item.dots, QUESTION, target)
    field = free[rng.integers(len(free))]
    if field == "texture":
        return Exchange(f"is {phrase} plain or striped ?", item.texture, QUESTION, target)
    return Exchange(f"what {field} is {phrase} ?", getattr(item, field), QUESTION, target)


def _phrase(item: SceneObject, subset: tuple[str, ...]) -> str:
    words = [getattr(item, field) for field in subset if field != "shape"]
    return " ".join([*words, item.shape if "shape" in subset else "object"])


def matching(scene: Scene, item: SceneObject, subset: tuple[str, ...]) -> list[int]:
    """Indices of the objects that agree with `item` in the fields of `subset`."""
    return [i for i, o in enumerate(scene.objects) if all(getattr(o, f) == getattr(item, f) for f in subset)]


def _unique_subset(scene: Scene, target: int, rng: np.random.Generator, focus: str | None = None) -> tuple[str, ...]:
    """Fields that together fit the target only, drawn evenly from all such sets."""
    item = scene.objects[target]
    unique = [subset for subset in _SUBSETS if len(matching(scene, item, subset)) == 1]
    if focus is not None:
        unique = [subset for subset in unique if focus in subset and len(subset) <= 2] or unique
    return unique[rng.integers(len(unique))]


def _shared_subset(scene: Scene, target: int, rng: np.random.Generator, without: str = "") -> tuple[str, ...] | None:
    """Fields that the target shares with at least one other object, drawn evenly; None if there are none."""
    item = scene.objects[target]
    shared = [s for s in ((), *_SUBSETS) if without not in s and len(matching(scene, item, s)) > 1]
    return shared[rng.integers(len(shared))] if shared else None


def _offsets(scene: Scene, item: SceneObject, origin: tuple[float, float]) -> tuple[float, ...]:
    """How far the object lies left of, right of, above, below `origin`, in units of the canvas's side."""
    x = (item.centre[0] - origin[0]) / scene.width
    y = (item.centre[1] - origin[1]) / scene.height
    return -x, x, -y, y


def _telling_sides(scene: Scene, target: int, rivals: list[int], origin: tuple[float, float]) -> list[int]:
    """Directions in which the target lies clearly off `origin` and every rival clearly on the other side."""
    own = _offsets(scene, scene.objects[target], origin)
    others = [_offsets(scene, scene.objects[i], origin) for i in rivals if i != target]
    return [d for d in range(4) if own[d] > _MARGIN and all(other[d] < -_MARGIN for other in others)]


def _position(scene: Scene, target: int, rng: np.random.Generator) -> str | None:
    subset = _shared_subset(scene, target, rng)
    if subset is None:
        return None
    rivals = matching(scene, scene.objects[target], subset)
    sides = _telling_sides(scene, target, rivals, (scene.width / 2, scene.height / 2))
    return f"{_phrase(scene.objects[target], subset)} {_SIDES[sides[rng.integers(len(sides))]]}" if sides else None


def _comparative(scene: Scene, target: int, rng: np.random.Generator) -> str | None:
    subset = _shared_subset(scene, target, rng, without="size")
    if subset is None:
        return None
    item = scene.objects[target]
    rivals = [i for i in matching(scene, item, subset) if i != target]
    if any(scene.objects[i].size == item.size for i in rivals):
        return None
    pair = {"large": "larger", "small": "smaller"} if len(rivals) == 1 else {"large": "biggest", "small": "smallest"}
    return f"{pair[item.size]} {_phrase(item, subset)}"


def _relation(scene: Scene, target: int, rng: np.random.Generator) -> str | None:
    subset = _shared_subset(scene, target, rng)
    rivals = [] if subset is None else matching(scene, scene.objects[target], subset)
    landmarks = [i for i in range(len(scene.objects)) if i not in rivals]
    if subset is None or not landmarks:
        return None
    landmark = landmarks[rng.integers(len(landmarks))]
    sides = _telling_sides(scene, target, rivals, scene.objects[landmark].centre)
    if not sides:
        return None
    other = _phrase(scene.objects[landmark], _unique_subset(scene, landmark, rng))
    return f"{_phrase(scene.objects[target], subset)} {_RELATIONS[sides[rng.integers(len(sides))]]} the {other}"
