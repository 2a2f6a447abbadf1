"""The pocket data set of paraphrases: two expressions of one object that share no word that says anything.

"the red object" and "the striped circle" name the same object by other words: a map that follows the object stays, one
that follows a word need not (`locheads.discovery.dependence`).
"""

from itertools import permutations

import numpy as np

from locheads.pocket.dataset import REFS, PocketData, Record, add_ref
from locheads.pocket.language import Expression, phrase, telling_subsets
from locheads.pocket.scenes import Scene


def paraphrases(scene: Scene, target: int, rng: np.random.Generator) -> tuple[str, str] | None:
    """Words that fit the target alone, twice; None where that needs a common one. Only the second names the shape, as
    the first says "object"."""
    subsets = telling_subsets(scene, target)
    pairs = [(a, b) for a, b in permutations(subsets, 2) if "shape" in b and not set(a) & set(b)]
    if not pairs:
        return None
    first, second = (phrase(scene.objects[target], subset) for subset in pairs[rng.integers(len(pairs))])
    return f"the {first}", f"the {second}"


def _add_refs(refs: list[Record], kinds: dict[str, str], scene: Scene, split: str, annotations: list[Record]) -> None:
    rng = np.random.default_rng([scene.seed, 10])
    for target, of in enumerate(annotations):
        if (texts := paraphrases(scene, target, rng)) is not None:
            add_ref(refs, kinds, of, split, [Expression(text, "attribute", target) for text in texts])


PARAPHRASES = PocketData(
    name="pocket_paraphrases",
    version=1,
    digest="0261e0c25a4c4acd57fd2d33a371d53afc953bcce57779e4bedc3b1c918521b5",
    splits={"train": (150, (3, 4, 5)), "val": (150, (3, 4, 5))},
    first_image=400_000,
    refs=REFS,
    add_refs=_add_refs,
)
"""Every object that can be told in two ways without a common word."""
