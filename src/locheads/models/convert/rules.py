"""What a format makes of a checkpoint: key maps, and the proof that no tensor was forgotten before one is read."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from locheads.errors import ModelError, boundary
from locheads.models.convert.checkpoint import Checkpoint

Change = Callable[[Tensor], tuple[Tensor, ...]]
"""A tensor -> one for each target. Runs on the meta device as well, where only shapes are known."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def unchanged(tensor: Tensor) -> tuple[Tensor, ...]:
    return (tensor,)


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that `source`, a regular expression, matches as a whole."""

    source: str
    targets: tuple[str, ...] = ()
    """Names of the results, with the expression's groups as in `re.Match.expand`; none: deliberately unused."""
    change: Change = unchanged
    unused: str = ""
    """Why nothing is made of it."""


def to(source: str, *targets: str, change: Change = unchanged) -> Rule:
    """A rule that makes the targets."""
    return Rule(source, targets, change)


def prefixed(prefix: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules for keys that begin with `prefix` (plain text)."""
    return tuple(replace(rule, source=re.escape(prefix) + rule.source) for rule in rules)


def split_rows(count: int) -> Change:
    """Cuts a matrix into `count` blocks of rows."""
    return lambda tensor: tensor.chunk(count)


def with_rows(rows: int) -> Change:
    """Adds rows of zeros at the end, up to `rows`: the vocabulary's, for tokens that the original does not embed."""
    return lambda tensor: (torch.nn.functional.pad(tensor, (0, 0, 0, max(0, rows - tensor.shape[0]))),)


@dataclass(frozen=True)
class Part:
    """One folder that weights come from, with its key map. The first rule that matches a key counts."""

    name: str
    """As it is called in the manifest: checkpoint, vision tower."""
    weights: Checkpoint
    rules: tuple[Rule, ...]
    base: Checkpoint | None = None
    """For delta weights: what they are added to, name by name."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    source: Path
    settings: Mapping[str, Any]
    """The source's config.json."""
    vision_tower: Path | None = None
    """Folder of the vision tower, where the checkpoint names it without containing it."""
    vision_tower_aux: Path | None = None
    """Folder of the second vision tower (Mini-Gemini)."""
    base: Path | None = None
    """Folder of the weights that delta weights are added to."""
    conversation: str | None = None
    """Name of the chat template, where it is not the format's own."""

    def need(self, key: str) -> Any:
        """A setting of config.json. Raises ModelError where it is absent."""
        if key not in self.settings:
            raise ModelError(f"{self.source / 'config.json'} has no {key}: it is incomplete, or of another format.")
        return self.settings[key]


@dataclass(frozen=True)
class Recipe:
    """All that a conversion needs: configuration and processor of the result, and where its weights come from."""

    config: PreTrainedConfig
    processor: Any
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    """Choices that were made, for the reader of the manifest."""


@dataclass(frozen=True)
class Format:
    """A kind of original checkpoint. `describes`: one line for --list; `fits`: whether a config.json is of it."""

    name: str
    describes: str
    fits: Callable[[Mapping[str, Any]], bool]
    recipe: Callable[[Request], Recipe]


Plan = list[dict[str, Rule]]
"""Per part: source key -> what becomes of it, with the names of its targets written out."""


def account(parts: Sequence[Part], expected: Mapping[str, Tensor]) -> Plan:
    """Every key of every part, and every weight of the result, in its place. Reads names and shapes only.

    `expected`: the result's weights, on the meta device.

    Raises:
        ModelError: a key without a rule, a weight that nothing makes or that two keys make, another shape than the
            result's, or a type that is no floating-point number.
    """
    plan: Plan = []
    makers: dict[str, str] = {}
    for part in parts:
        steps: dict[str, Rule] = {}
        for key, outline in part.weights.outlines():
            steps[key] = _step(part, key)
            _check(part, key, outline, steps[key], expected, makers)
        if unknown := [key for key, step in steps.items() if not step.targets and not step.unused]:
            raise ModelError(
                f"{part.weights.folder} holds {len(unknown)} tensors that this format does not have, such as "
                f"{_some(unknown)}: choose another with --format (--list shows them)."
            )
        plan.append(steps)
    if absent := sorted(set(expected) - set(makers)):
        folders = " and ".join(str(part.weights.folder) for part in parts)
        raise ModelError(
            f"{folders} hold nothing for {len(absent)} weights of the model, such as {_some(absent)}: weight files are "
            "missing, or the checkpoint is of another format (choose with --format)."
        )
    return plan


def _step(part: Part, key: str) -> Rule:
    for rule in part.rules:
        if match := re.fullmatch(rule.source, key):
            return Rule(key, tuple(match.expand(target) for target in rule.targets), rule.change, rule.unused)
    return Rule(key)


def _check(
    part: Part, key: str, outline: Tensor, step: Rule, expected: Mapping[str, Tensor], makers: dict[str, str]
) -> None:
    """Enters in `makers` what the key makes. Raises ModelError where it cannot, see `account`."""
    folder, shape = part.weights.folder, list(outline.shape)
    if step.targets and outline.dtype not in FLOATS:
        raise ModelError(
            f"{key} of {folder} holds numbers of type {str(outline.dtype).removeprefix('torch.')}, not float32, "
            "bfloat16 or float16: quantized checkpoints cannot be converted, take the original one."
        )
    misfit = f"{key} of {folder} has the shape {shape}, which does not fit its model"
    with boundary(misfit, ModelError, "the files do not belong together."):
        results = step.change(outline)
    for target, result in zip(step.targets, results, strict=False):
        if target not in expected:
            raise ModelError(
                f"{key} of {folder} has no place in the model that config.json describes (it would be {target}): the "
                "configuration belongs to another checkpoint, or the format is another (choose with --format)."
            )
        if result.shape != expected[target].shape:
            raise ModelError(
                f"{key} of {folder} has the shape {shape}, and the model that config.json describes "
                f"needs {list(expected[target].shape)} for {target}: the files do not belong together."
            )
        if target in makers:
            raise ModelError(f"{key} and {makers[target]} would both become {target}: {folder} holds it twice.")
        makers[target] = key


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:3])
