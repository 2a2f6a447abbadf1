"""Reads an expression word by word and lists the objects it fits. Written apart from the generator, on purpose."""

from locheads.pocket.scenes import COLOURS, SHAPES, TEXTURES, Scene

SIDES = {"on the left": (0, -1), "on the right": (0, 1), "at the top": (1, -1), "at the bottom": (1, 1)}


def fits(scene: Scene, text: str) -> list[int]:
    """Indices of the objects that `text` may mean, by the plain sense of its words."""
    words = text.removeprefix("the ")
    for side, (axis, sign) in SIDES.items():
        if words.endswith(" " + side):
            middle = (scene.width, scene.height)[axis] / 2
            found = described(scene, words.removesuffix(" " + side))
            return [i for i in found if sign * (scene.objects[i].centre[axis] - middle) > 0]
    return described(scene, words)


def described(scene: Scene, words: str) -> list[int]:
    """Objects that have every property named in `words`; a word that is no property is a mistake."""
    found = list(range(len(scene.objects)))
    for word in words.split():
        for field, values in (("colour", COLOURS), ("texture", TEXTURES), ("shape", SHAPES)):
            if word in values:
                found = [i for i in found if getattr(scene.objects[i], field) == word]
                break
        else:
            assert word == "object", f"unknown word {word!r}"
    return found
