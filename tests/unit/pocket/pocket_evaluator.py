"""Reads an expression word by word and lists the objects it fits. Written apart from the generator, on purpose."""

from locheads.pocket.scenes import COLOURS, SHAPES, SIZES, TEXTURES, Scene, SceneObject

SIDES = {"on the left": (0, -1), "on the right": (0, 1), "at the top": (1, -1), "at the bottom": (1, 1)}
RELATIONS = {" left of ": (0, -1), " right of ": (0, 1), " above ": (1, -1), " below ": (1, 1)}


def fits(scene: Scene, text: str) -> list[int]:
    """Indices of the objects that `text` may mean, by the plain sense of its words."""
    words = text.removeprefix("the ")
    for relation, (axis, sign) in RELATIONS.items():
        if relation in words:
            noun, landmark = words.split(relation)
            others = fits(scene, landmark)
            assert len(others) == 1, text
            origin = scene.objects[others[0]].centre[axis]
            return [i for i in described(scene, noun) if sign * (scene.objects[i].centre[axis] - origin) > 0]
    for side, (axis, sign) in SIDES.items():
        if words.endswith(" " + side):
            middle = (scene.width, scene.height)[axis] / 2
            found = described(scene, words.removesuffix(" " + side))
            return [i for i in found if sign * (scene.objects[i].centre[axis] - middle) > 0]
    first, _, rest = words.partition(" ")
    if first in ("larger", "smaller", "biggest", "smallest"):
        return extreme(scene, described(scene, rest), first)
    return described(scene, words)


def extreme(scene: Scene, found: list[int], word: str) -> list[int]:
    """The largest or smallest of `found` by its pixels, if it is so by a clear factor."""
    assert (len(found) == 2) == (word in ("larger", "smaller")) and len(found) >= 2, word
    sign = 1 if word in ("larger", "biggest") else -1
    order = sorted(found, key=lambda i: -sign * area(scene, scene.objects[i]))
    first, second = (area(scene, scene.objects[i]) for i in order[:2])
    return order[:1] if max(first, second) > 1.25 * min(first, second) else order[:2]


def area(scene: Scene, item: SceneObject) -> int:
    return int(item.mask(scene.height, scene.width).sum())


def described(scene: Scene, words: str) -> list[int]:
    """Objects that have every property named in `words`; a word that is no property is a mistake."""
    found = list(range(len(scene.objects)))
    for word in words.split():
        for field, values in (("colour", COLOURS), ("size", SIZES), ("texture", TEXTURES), ("shape", SHAPES)):
            if word in values:
                found = [i for i in found if getattr(scene.objects[i], field) == word]
                break
        else:
            assert word == "object", f"unknown word {word!r}"
    return found
