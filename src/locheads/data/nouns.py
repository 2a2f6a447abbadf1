"""Nouns of a text, by textblob's tagger, whose lexicon comes with the package: nothing is downloaded."""

import re
from functools import lru_cache
from itertools import pairwise

from locheads.errors import ConfigError
from locheads.types import Excerpt

NO_OBJECTS = frozenset(["right", "left", "top", "bottom", "front", "back", "side", "middle", "center", "centre"])
"""Words of place, which the tagger takes for nouns."""
_SIGNS = re.compile(r"([^\w\s'\u2019-])")


def last_noun(phrase: Excerpt) -> Excerpt:
    """The text with the last noun of its part as its part; the same where there is none.

    Raises ConfigError where textblob is not installed.
    """
    start, end = phrase.part
    inside = [part for part in nouns(str(phrase)) if start <= part[0] and part[1] <= end]
    return Excerpt(phrase, inside[-1]) if inside else phrase


@lru_cache(maxsize=64)
def nouns(text: str) -> tuple[tuple[int, int], ...]:
    """Where the nouns of a text stand, as half-open ranges of characters; NO_OBJECTS are left out."""
    try:
        from textblob.en import tag
    except ImportError as error:
        raise ConfigError(
            "dataset.phrases=nouns needs textblob, which is not installed: make install EXTRAS=nouns, or use "
            "dataset.phrases=given."
        ) from error
    # Tokens are what stands between blanks: a comma would be a part of the word before it.
    tagged = [(word, kind) for word, kind in tag(" ".join(_SIGNS.sub(r" \1 ", text).split()), tokenize=False) if word]
    ends = [0]
    for word, _ in tagged:
        ends.append(text.index(word, ends[-1]) + len(word))
    return tuple(
        (end - len(word), end)
        for (word, kind), (_, end) in zip(tagged, pairwise(ends), strict=True)
        if kind.startswith("NN") and word.lower() not in NO_OBJECTS and any(letter.isalpha() for letter in word)
    )
