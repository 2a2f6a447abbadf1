"""Sentences about a scene: expressions that fit exactly one object, questions, and their answers in words."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from locheads.pocket.scenes import Scene, SceneObject

KINDS = ("attribute", "position")
KIND_SHARES = (0.6, 0.4)  # before a position that does not tell becomes an attribute expression
QUESTION = "question"
QUESTION_SHARE = 0.3
_FIELDS = ("texture", "colour", "shape")
_SUBSETS = tuple(c for n in range(1, 4) for c in combinations(_FIELDS, n))
SIDES = ("on the left", "on the right", "at the top", "at the bottom")
_MARGIN = 0.08  # of the canvas: how clearly a position must hold


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
    """The answer to a bare expression: dot colour, texture, colour, shape."""
    return f"{item.dots} {item.texture} {item.colour} {item.shape}"


def sample_expression(
    scene: Scene,
    target: int,
    rng: np.random.Generator,
    kinds: tuple[str, ...] = KINDS,
    shares: tuple[float, ...] = KIND_SHARES,
) -> Expression:
    """An unambiguous expression for object `target`; an attribute expression where the drawn kind is impossible.

    `shares`: of `KINDS`, from which `kinds` are drawn.
    """
    weights = np.array([shares[KINDS.index(kind)] for kind in kinds])
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    text = _position(scene, target, rng) if kind == "position" else None
    if text is None:
        kind, text = "attribute", phrase(scene.objects[target], _unique_subset(scene, target, rng))
    article = "" if rng.random() < 0.15 else "the "
    return Expression(article + text, kind, target)


def sample_exchange(
    scene: Scene,
    rng: np.random.Generator,
    kinds: tuple[str, ...] = KINDS,
    shares: tuple[float, ...] = KIND_SHARES,
) -> Exchange:
    """A bare expression (with its full stop) and its answer or, in `QUESTION_SHARE` of the cases, a question."""
    target = int(rng.integers(len(scene.objects)))
    if rng.random() >= QUESTION_SHARE:
        expression = sample_expression(scene, target, rng, kinds, shares)
        return Exchange(f"{expression.text} .", describe(scene.objects[target]), expression.kind, target)
    return _question(scene, target, rng)


def _question(scene: Scene, target: int, rng: np.random.Generator) -> Exchange:
    item, draw = scene.objects[target], rng.random()
    subset = _unique_subset(scene, target, rng)
    named = "the " + phrase(item, subset)
    free = [field for field in _FIELDS if field not in subset]
    if draw < 0.3:
        answer = f"{item.colour} {item.shape} {item.texture} {item.dots}"
        return Exchange(f"describe {named} .", answer, QUESTION, target)
    if draw < 0.65 or not free:
        return Exchange(f"what colour are the dots on {named} ?", item.dots, QUESTION, target)
    field = free[rng.integers(len(free))]
    return Exchange(f"what {field} is {named} ?", getattr(item, field), QUESTION, target)


def phrase(item: SceneObject, subset: tuple[str, ...]) -> str:
    """The fields of the subset in words: "striped circle", "red object"."""
    words = [getattr(item, field) for field in subset if field != "shape"]
    return " ".join([*words, item.shape if "shape" in subset else "object"])


def telling_phrase(scene: Scene, target: int, rng: np.random.Generator) -> str:
    """Words that fit the target alone, without its place: "the red circle"."""
    return "the " + phrase(scene.objects[target], _unique_subset(scene, target, rng))


def matching(scene: Scene, item: SceneObject, subset: tuple[str, ...]) -> list[int]:
    """Indices of the objects that agree with `item` in the fields of `subset`."""
    return [i for i, o in enumerate(scene.objects) if all(getattr(o, f) == getattr(item, f) for f in subset)]


def telling_subsets(scene: Scene, target: int) -> list[tuple[str, ...]]:
    """All sets of fields that together fit the target only."""
    return [subset for subset in _SUBSETS if len(matching(scene, scene.objects[target], subset)) == 1]


def _unique_subset(scene: Scene, target: int, rng: np.random.Generator) -> tuple[str, ...]:
    """One of them, drawn evenly."""
    unique = telling_subsets(scene, target)
    return unique[rng.integers(len(unique))]


def _shared_subset(scene: Scene, target: int, rng: np.random.Generator) -> tuple[str, ...] | None:
    """Fields that the target shares with at least one other object, drawn evenly; None if there are none."""
    item = scene.objects[target]
    shared = [s for s in ((), *_SUBSETS) if len(matching(scene, item, s)) > 1]
    return shared[rng.integers(len(shared))] if shared else None


def sides(scene: Scene, item: SceneObject) -> list[int]:
    """Indices into `SIDES` of the sides of the image on which the object clearly lies."""
    x, y = item.centre[0] / scene.width - 0.5, item.centre[1] / scene.height - 0.5
    return [side for side, offset in enumerate((-x, x, -y, y)) if offset > _MARGIN]


def _telling_sides(scene: Scene, target: int, rivals: list[int]) -> list[int]:
    """Sides on which the target clearly lies, and every rival clearly on the opposite one."""
    others = [sides(scene, scene.objects[i]) for i in rivals if i != target]
    return [side for side in sides(scene, scene.objects[target]) if all(side ^ 1 in other for other in others)]


def _position(scene: Scene, target: int, rng: np.random.Generator) -> str | None:
    subset = _shared_subset(scene, target, rng)
    if subset is None:
        return None
    rivals = matching(scene, scene.objects[target], subset)
    telling = _telling_sides(scene, target, rivals)
    return f"{phrase(scene.objects[target], subset)} {SIDES[telling[rng.integers(len(telling))]]}" if telling else None
