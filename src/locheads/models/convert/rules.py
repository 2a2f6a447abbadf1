"""Key maps: what becomes of every tensor of a checkpoint, and the proof that nothing was forgotten."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locheads.errors import ModelError
from locheads.models.convert.source import Checkpoint

Change = Callable[[Tensor], tuple[Tensor, ...]]
"""A tensor -> one for each target. Runs on the meta device as well, where only shapes are known."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that `source`, a regular expression, matches as a whole."""

    source: str
    targets: tuple[str, ...] = ()
    """Names of the results, with the expression's groups as in `re.Match.expand`; none: deliberately unused."""
    change: Change | None = None
    unused: str = ""
    """Why nothing is made of it."""


def to(source: str, *targets: str, change: Change | None = None) -> Rule:
    """A rule that makes the targets."""
    return Rule(source, targets, change)


def drop(source: str, why: str) -> Rule:
    """A rule that deliberately makes nothing."""
    return Rule(source, unused=why)


def prefixed(prefix: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules for keys that begin with `prefix` (plain text)."""
    return tuple(Rule(re.escape(prefix) + rule.source, rule.targets, rule.change, rule.unused) for rule in rules)


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
class Step:
    """What becomes of one tensor."""

    targets: tuple[str, ...]
    change: Change | None
    unused: str

    def made(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The results, one for each target."""
        return (tensor,) if self.change is None else self.change(tensor)


Plan = list[dict[str, Step]]
"""Per part: source key -> what becomes of it."""


def account(parts: Sequence[Part], expected: Mapping[str, Tensor]) -> Plan:
    """Every key of every part, and every weight of the result, in its place. Reads names and shapes only.

    Args:
        parts: the sources with their key maps.
        expected: the result's weights, on the meta device.

    Raises:
        ModelError: a key without a rule, a weight that nothing makes or that two keys make, another shape than the
            result's, or a type that is no floating-point number.
    """
    plan: Plan = []
    made: dict[str, str] = {}
    for part in parts:
        steps: dict[str, Step] = {}
        for key, outline in part.weights.outlines():
            steps[key] = _step(part, key)
            _check(part, key, outline, steps[key], expected, made)
        _all_known(part, steps)
        plan.append(steps)
    if absent := sorted(set(expected) - set(made)):
        folders = " and ".join(str(part.weights.folder) for part in parts)
        raise ModelError(
            f"{folders} hold nothing for {len(absent)} weights of the model, such as {_some(absent)}: weight files are "
            "missing, or the checkpoint is of another format (choose with --format)."
        )
    return plan


def _step(part: Part, key: str) -> Step:
    for rule in part.rules:
        if match := re.fullmatch(rule.source, key):
            return Step(tuple(match.expand(target) for target in rule.targets), rule.change, rule.unused)
    return Step((), None, "")


def _all_known(part: Part, steps: Mapping[str, Step]) -> None:
    unknown = [key for key, step in steps.items() if not step.targets and not step.unused]
    if unknown:
        raise ModelError(
            f"{part.weights.folder} holds {len(unknown)} tensors that this format does not have, such as "
            f"{_some(unknown)}: choose another with --format (--list shows them)."
        )


def _check(
    part: Part, key: str, outline: Tensor, step: Step, expected: Mapping[str, Tensor], made: dict[str, str]
) -> None:
    folder = part.weights.folder
    if step.targets and outline.dtype not in FLOATS:
        raise ModelError(
            f"{key} of {folder} holds numbers of type {str(outline.dtype).removeprefix('torch.')}, not float32, "
            "bfloat16 or float16: quantized checkpoints cannot be converted, take the original one."
        )
    try:
        results = step.made(outline)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{key} of {folder} has the shape {list(outline.shape)}, which does not fit its model."
        ) from error
    for target, result in zip(step.targets, results, strict=False):
        if target not in expected:
            raise ModelError(
                f"{key} of {folder} has no place in the model that config.json describes (it would be {target}): the "
                "configuration belongs to another checkpoint, or the format is another (choose with --format)."
            )
        if result.shape != expected[target].shape:
            raise ModelError(
                f"{key} of {folder} has the shape {list(outline.shape)}, and the model that config.json describes "
                f"needs {list(expected[target].shape)} for {target}: the files do not belong together."
            )
        if target in made:
            raise ModelError(f"{key} and {made[target]} would both become {target}: {folder} holds it twice.")
        made[target] = key


def _some(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(sorted(names)[:limit])


def split_rows(*shares: int) -> Change:
    """Cuts a matrix into blocks of rows, in proportion to the shares."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        each, rest = divmod(tensor.shape[0], sum(shares))
        if rest:
            raise ValueError(f"{tensor.shape[0]} rows in {sum(shares)} shares")
        return tuple(tensor.split([each * share for share in shares]))

    return change


def with_rows(rows: int) -> Change:
    """Adds rows of zeros at the end, up to `rows`: the vocabulary's, for tokens that the original does not embed."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        return (torch.nn.functional.pad(tensor, (0, 0, 0, max(0, rows - tensor.shape[0]))),)

    return change
