"""From lists of values to the combinations that are measured."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np

from locheads.audit.config import LARGEST, AuditConfig, AuditMode
from locheads.discovery.config import CriterionConfig, SelectionConfig
from locheads.errors import ConfigError
from locheads.grounding.config import GroundingConfig


@dataclass(frozen=True)
class Change:
    """One value of one option."""

    option: str
    """As grounding.threshold."""
    values: Mapping[str, Any]
    """What it sets in its group, with the types of the schema."""

    @property
    def group(self) -> str:
        return self.option.split(".")[0]

    @property
    def label(self) -> str:
        """As "mean" or "mean, level 1.5"."""
        first = self.option.split(".", 1)[1]
        rest = [f"{key} {text(value)}" for key, value in self.values.items() if key != first]
        return ", ".join([text(self.values[first])] * (first in self.values) + rest)


@dataclass(frozen=True)
class Choice:
    """One combination: everything that turns stored attention into boxes and masks."""

    criterion: CriterionConfig
    selection: SelectionConfig
    k: int
    grounding: GroundingConfig
    changes: tuple[Change, ...] = ()
    """What makes it differ from the run's own settings."""

    @property
    def key(self) -> str:
        """Equal for two choices that hold the same settings."""
        parts = (self.criterion, self.selection, self.grounding)
        plain = [{key: value for key, value in vars(part).items() if key != "name"} for part in parts]
        return json.dumps([*plain, self.k])

    def changed(self, *changes: Change) -> "Choice":
        """The same with these changes."""
        by_group: dict[str, dict[str, Any]] = {}
        for change in changes:
            by_group.setdefault(change.group, {}).update(change.values)
        k = by_group.pop("heads", {}).get("k", self.k)
        groups = {name: dataclasses.replace(getattr(self, name), **values) for name, values in by_group.items()}
        return dataclasses.replace(
            self, k=k, changes=tuple(change for change in changes if not self._has(change)), **groups
        )

    def _has(self, change: Change) -> bool:
        return all(self.setting(f"{change.group}.{key}") == value for key, value in change.values.items())

    def setting(self, name: str) -> Any:
        """By its dotted name."""
        group, key = name.split(".")
        return self.k if group == "heads" else getattr(getattr(self, group), key)


def text(value: Any) -> str:
    """A setting's value as a user would write it."""
    value = getattr(value, "value", value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def combinations(
    base: Choice, options: Sequence[Sequence[Change]], singles: Sequence[Sequence[Change]], audit: AuditConfig
) -> list[Choice]:
    """`base` first, then every change by itself, then those of the mode; none twice.

    Raises ConfigError where there are too many.
    """
    found = [base, *(base.changed(change) for option in [*options, *singles] for change in option)]
    found += [base.changed(*changes) for changes in _several(options, audit)]
    distinct: dict[str, Choice] = {}
    for choice in found:
        distinct.setdefault(choice.key, choice)
    return list(distinct.values())


def _several(options: Sequence[Sequence[Change]], audit: AuditConfig) -> list[tuple[Change, ...]]:
    """The changes at once that the mode asks for."""
    size = math.prod(len(option) for option in options)
    match audit.mode:
        case AuditMode.one_at_a_time:
            return []
        case AuditMode.product:
            n_combinations = size
        case AuditMode.random:
            n_combinations = min(audit.n, size)
        case _:
            assert_never(audit.mode)
    if n_combinations > LARGEST:
        raise ConfigError(
            f"The audit has {n_combinations} combinations, more than {LARGEST}: list fewer values, or set "
            "audit.mode=random and audit.n."
        )
    if n_combinations == size:
        return list(itertools.product(*options))
    rng, drawn = np.random.default_rng(audit.seed), dict[tuple[int, ...], None]()
    while len(drawn) < n_combinations:
        drawn[tuple(int(rng.integers(len(option))) for option in options)] = None
    return [tuple(option[i] for option, i in zip(options, at, strict=True)) for at in drawn]
