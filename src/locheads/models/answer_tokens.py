"""Which tokens of the model's own answer are wanted. A token's row here is the one that predicts it: that of the token
before it."""

import re
from collections.abc import Callable, Sequence
from typing import assert_never

from locheads.errors import ConfigError, DataError
from locheads.models.config import Query, query_of
from locheads.types import Answer

Place = tuple[int, int]
"""Where something begins and ends in a text, in characters."""
FindNumbers = Callable[[str], list[Place] | None]
"""Where the four numbers of an answer's box stand; None where it holds no box."""
_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*")


def wanted_tokens(answer: Answer, query: str, image_token: int, find_numbers: FindNumbers) -> tuple[int, ...]:
    """The answer's tokens whose predicting rows `query` asks for, by position; its length stands for its end.

    Raises:
        DataError: the answer has none of them, or cannot be read again because it holds the model's image token.
    """
    found = _wanted(answer, query, find_numbers)
    if not found:
        raise DataError("The model answers nothing, so that no row of its answer can be taken.")
    if image_token in answer.ids[: max(found)]:
        raise DataError(f"The model's answer {answer.text[:40]!r} holds the model's image token: it cannot be read.")
    return found


def _wanted(answer: Answer, query: str, find_numbers: FindNumbers) -> tuple[int, ...]:
    kind, n = query_of(query)
    match kind:
        case Query.answer_first:
            return (0,)
        case Query.answer_end:
            return (_end(answer),)
        case Query.answer_word:
            return _tokens_at(answer, [_word(answer, n)])
        case Query.answer_mean:
            return tuple(range(len(answer.ids)))
        case Query.answer_numbers:
            return _tokens_at(answer, _numbers(answer, find_numbers))
        case Query.last | Query.expression_last | Query.expression_mean:
            raise ValueError(f"{query} is no query in the answer")
        case _:
            assert_never(kind)


def _end(answer: Answer) -> int:
    if not answer.ended:
        raise DataError(
            f"The model's answer {answer.text[:40]!r} does not end within its {len(answer.ids)} tokens: raise "
            "prompt.max_new_tokens."
        )
    return len(answer.ids)


def _word(answer: Answer, n: int) -> Place:
    words = [word.span() for word in _WORD.finditer(answer.text)]
    if len(words) < n:
        raise DataError(f"The model's answer {answer.text[:40]!r} has no word {n}, but {len(words)} in all.")
    return words[n - 1]


def _numbers(answer: Answer, find_numbers: FindNumbers) -> list[Place]:
    found = find_numbers(answer.text)
    if found is None:
        raise DataError(f"The model's answer {answer.text[:40]!r} holds no four numbers of a box.")
    return found


def _tokens_at(answer: Answer, places: Sequence[Place]) -> tuple[int, ...]:
    """Those that hold any letter of these places."""
    return tuple(i for i, token in enumerate(_places(answer)) if any(_overlaps(token, place) for place in places))


def _places(answer: Answer) -> list[Place]:
    """Of every token; one that only begins a letter has that letter."""
    ends = [sum(map(len, answer.pieces[: i + 1])) for i in range(len(answer.pieces))]
    return [(end - len(piece), max(end, end - len(piece) + 1)) for piece, end in zip(answer.pieces, ends, strict=True)]


def _overlaps(one: Place, other: Place) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def no_box_format(_: str) -> list[Place] | None:
    """`FindNumbers` where nobody said how the model writes boxes. Raises ConfigError."""
    raise ConfigError("prompt.query=answer_numbers needs direct.box_format, how the model writes boxes: use a run.")


def query_token(answer: Answer, wanted: tuple[int, ...]) -> str:
    """The token whose row predicts the first wanted one, in words: "" for the prompt's last."""
    return answer.pieces[wanted[0] - 1].strip() if wanted[0] else ""
