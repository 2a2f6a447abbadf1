"""The pocket data set of gRefCOCO's form: expressions that none, one or several objects of a scene match.

The model has learnt expressions of one object only, and plurals are no words of it: "the red object" is asked whether
one, two or no red object is there.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np

from locheads.pocket.dataset import TABLES, PocketData, Record, file_name, ref_record
from locheads.pocket.language import SIDES, sides
from locheads.pocket.scenes import COLOURS, SHAPES, TEXTURES, Scene

_REFS = {0: 3, 1: 2, 2: 2, 3: 1}
"""Refs of an image by the number of objects that match, the last of that many or more; fewer where there are none."""
_SENTENCES = 2
"""Of a ref that has a target, at most: of none each expression is a ref of its own, as they mean no common thing."""
_BARE = 0.15
"""Share of expressions without an article, as the model has learnt them."""


@dataclass(frozen=True)
class Match:
    """Words, and which objects of the scene they fit."""

    text: str
    kind: str
    """Which words it has, such as "colour shape side"; "" for "object" alone."""
    targets: tuple[int, ...]


def matches(scene: Scene) -> list[Match]:
    """Every phrase of the language that fits objects of the scene, or none of them, beyond doubt.

    With a side only where every object of the phrase lies clearly on that side or on the opposite one.
    """
    found = []
    for texture, colour, shape in product((None, *TEXTURES), (None, *COLOURS), (None, *SHAPES)):
        named = {"texture": texture, "colour": colour, "shape": shape}
        fields = [field for field, value in named.items() if value]
        fit = [i for i, o in enumerate(scene.objects) if all(getattr(o, f) == named[f] for f in fields)]
        text = " ".join(word for word in (texture, colour, shape or "object") if word)
        found.append(Match(text, " ".join(fields), tuple(fit)))
        of_sides = [sides(scene, scene.objects[i]) for i in fit]
        for side, words in enumerate(SIDES) if fit else ():
            if all(side in own or side ^ 1 in own for own in of_sides):
                targets = tuple(i for i, own in zip(fit, of_sides, strict=True) if side in own)
                found.append(Match(f"{text} {words}", " ".join([*fields, "side"]), targets))
    return found


def draw(scene: Scene, rng: np.random.Generator) -> list[list[Match]]:
    """The refs of a scene: matches of the same objects, or a single one of none."""
    of_targets: dict[tuple[int, ...], list[Match]] = defaultdict(list)
    for match in matches(scene):
        of_targets[match.targets].append(match)
    absent = [[match] for match in _by_kind(of_targets.pop((), []), _REFS[0], rng)]
    refs = []
    for count in (1, 2, 3):
        sets = [targets for targets in of_targets if min(len(targets), 3) == count]
        chosen = rng.permutation(len(sets))[: _REFS[count]]
        refs += [_by_kind(of_targets[sets[i]], _SENTENCES, rng) for i in chosen]
    return refs + absent


def _by_kind(candidates: list[Match], count: int, rng: np.random.Generator) -> list[Match]:
    """Some of them: every kind is as probable, however many phrases it has."""
    kinds = sorted({match.kind for match in candidates})
    chosen = [kinds[i] for i in rng.permutation(len(kinds))[:count]]
    of_kind = [[match for match in candidates if match.kind == kind] for kind in chosen]
    return [same[rng.integers(len(same))] for same in of_kind]


def _add_refs(refs: list[Record], kinds: dict[str, str], scene: Scene, split: str, annotations: list[Record]) -> None:
    rng = np.random.default_rng([scene.seed, 7])
    for same in draw(scene, rng):
        of = [annotations[i] for i in same[0].targets]
        articles = ["" if rng.random() < _BARE else "the " for _ in same]
        ids = range(len(kinds) + 1, len(kinds) + 1 + len(same))
        kinds |= {str(i): match.kind for i, match in zip(ids, same, strict=True)}
        texts = {i: article + match.text for i, article, match in zip(ids, articles, same, strict=True)}
        image_id = annotations[0]["image_id"]
        about = {
            "image_id": image_id,
            "ann_id": [each["id"] for each in of] or [-1],
            "category_id": [each["category_id"] for each in of] or [-1],
            "no_target": not of,
        }
        refs.append(ref_record(len(refs) + 1, about, split, file_name(image_id), texts))


COUNTS = PocketData(
    name="pocket_counts",
    version=1,
    digest="fca5d6031e60b40ce59891201209f52e9533de2a0963ed1c9db094e4012766d8",
    splits={"train": (200, (3, 4, 5)), "val": (150, (3, 4, 5)), "testA": (50, (3,)), "testB": (50, (5,))},
    first_image=200_000,
    refs=TABLES / "grefs(unc).json",
    add_refs=_add_refs,
)
"""Of a scene's expressions, by the number of objects that match: see `_REFS`."""
