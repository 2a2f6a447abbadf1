"""How a setting becomes a sentence: the home of a setting is its `Choice`, which has a sentence for every value.

A setting says nothing where it has no effect (`where`), so a paragraph holds what was done and no more. How to add one:
an entry in the `sentences_*.py` of its group. A new member of an enumeration is a new entry of the mapping.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from locheads.config import Stage

Look = Callable[[str], Any]
"""Dotted name of a setting -> its value in the record; ABSENT where the record does not hold it."""
Say = Mapping[Any, str] | Callable[[Any, Look], str]


class _Absent:
    """The record does not hold the setting; null is another thing."""


ABSENT = _Absent()


@dataclass(frozen=True)
class Only:
    """A condition: the setting has one of these values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        return value in self.values

    @property
    def example(self) -> Any:
        return self.values[0]


@dataclass(frozen=True)
class Not:
    """A condition: the setting has none of these values."""

    values: tuple[Any, ...]
    example: Any
    """A value with which it holds."""

    def holds(self, value: Any) -> bool:
        return value not in self.values


Where = Mapping[str, Only | Not]
"""Setting -> what must hold of it; all of them must."""


_NO_RUN = (Stage.check, Stage.verify, Stage.compare, Stage.fetch, Stage.status)
"""Stages that no method is behind."""
ASKS_MODEL: Where = {"predictions": Only((None,)), "stage": Not(_NO_RUN, Stage.report)}
"""Runs that asked the LVLM, or read what it was asked before; not those of a file of predictions."""
USES_HEADS: Where = {**ASKS_MODEL, "stage": Not((*_NO_RUN, Stage.direct, Stage.attend), Stage.report)}
"""Runs about heads, found or given."""
GROUNDS: Where = {
    **ASKS_MODEL,
    "stage": Not((*_NO_RUN, Stage.direct, Stage.attend, Stage.discover, Stage.judge), Stage.report),
}
"""Runs that made answers of maps."""


@dataclass(frozen=True)
class Choice:
    """What one setting says in a methods paragraph."""

    key: str
    """Its dotted name."""
    say: Say
    """Value -> sentence."""
    where: tuple[Where, ...] = ()
    """Where it has an effect: one of these must hold; empty: everywhere."""

    def sentence(self, look: Look) -> str | None:
        """None where the setting has no effect, or the record does not hold it."""
        value = look(self.key)
        if value is ABSENT or not self.counts(look):
            return None
        if callable(self.say):
            return self.say(value, look)
        named = {key.name: text for key, text in self.say.items() if isinstance(key, Enum)}  # as config.yaml has it
        found = named.get(value) if isinstance(value, str) else self.say.get(value) if _is_key(value) else None
        return found or f"{self.key} is {shown(value)}."

    def counts(self, look: Look) -> bool:
        """Whether the setting has an effect; a condition on what the record does not hold counts as fulfilled."""
        return not self.where or any(_holds(where, look) for where in self.where)


def within(where: Where, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """The same choices, which count only where this holds, too, but for what they say of the same settings."""
    return tuple(replace(one, where=tuple({**where, **own} for own in one.where or ({},))) for one in choices)


def _is_key(value: Any) -> bool:
    """Whether a mapping can have it as a key: a list of a broken record cannot be one."""
    return not isinstance(value, list | dict)


def _holds(where: Where, look: Look) -> bool:
    return all(value is ABSENT or rule.holds(value) for key, rule in where.items() for value in (look(key),))


def filled(text: str, null: str = "") -> Callable[[Any, Look], str]:
    """`text` with the value in the place of `{}`; `null` for null, and for what is empty."""

    def say(value: Any, _: Look) -> str:
        nothing = null and (value is None or value in ("", [], {}))
        return null if nothing else text.replace("{}", shown(value))

    return say


def of_one(text: str, one: str) -> Callable[[Any, Look], str]:
    """As `filled`; `one` for 1."""
    return lambda value, _: one if value == 1 else text.replace("{}", shown(value))


def shown(value: Any) -> str:
    """A value as a reader sees it: 1,000; 0.05; "text" in quotation marks, so that no two values look alike."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.15g}"
    # Markdown and LaTeX show two spaces as one.
    return re.sub(r" (?= )", r"\\u0020", json.dumps(value, ensure_ascii=False, default=str))
