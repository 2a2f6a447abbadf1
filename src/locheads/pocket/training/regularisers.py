"""What a training may have besides its answers: a rest on the first token, and a cost per head in use. Neither knows
where an object is. Both are off by default."""

import argparse
from dataclasses import dataclass, replace

import torch
from transformers import LlavaForConditionalGeneration

from locheads.errors import ConfigError
from locheads.pocket.pocket_model import add_words_of_facts
from locheads.pocket.training.batches import Level
from locheads.pocket.training.facts import FACTS
from locheads.pocket.training.gates import add_gates, clamp
from locheads.pocket.training.rest import Rest, with_bias


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a second edition; without them a training is that of the first."""
    group = parser.add_argument_group("second edition", "see experiments/pocket/trials.md")
    group.add_argument("--gate-cost", type=float, default=0.0, help="loss of a head in use; see ...training.gates")
    group.add_argument("--gates-from", type=int, default=100, help="step of the second stage from which heads cost")
    group.add_argument("--rest-bonus", type=float, default=0.0, help="score of the first token; see ...training.rest")
    group.add_argument("--rest-ramp", type=int, default=100, help="steps of the second stage over which it grows")
    group.add_argument(
        "--facts", type=float, default=0.0, help="share of expressions answered by a fact; see ...training.facts"
    )
    group.add_argument("--fact-names", nargs="+", choices=FACTS, default=tuple(FACTS), help="which (default: all)")
    group.add_argument("--full", type=float, help="share of the last level's steps that see all image tokens")
    group.add_argument("--positions", type=float, help="share of the last level's expressions that are to name a side")


@dataclass(frozen=True)
class Options:
    """The values of `add_options`. `rest_bonus`, `gate_cost` and `facts` of 0 are off."""

    gate_cost: float = 0.0
    gates_from: int = 100
    rest_bonus: float = 0.0
    rest_ramp: int = 100
    facts: float = 0.0
    fact_names: tuple[str, ...] = tuple(FACTS)
    full: float | None = None
    positions: float | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value out of its range."""
        shares = {"facts": self.facts, "full": self.full, "positions": self.positions}
        for name, share in shares.items():
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"--{name} {share} is a share: give 0 to 1.")
        for name in ("gate_cost", "gates_from", "rest_bonus", "rest_ramp"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)} must not be below 0.")

    def check_same(self, saved: dict[str, str]) -> None:
        """Raises ConfigError where a checkpoint was made with others; `saved`: its arguments as text."""
        for name in self.__dataclass_fields__:
            now, then = str(getattr(self, name)), saved.get(name)
            if then is not None and then != now:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"The checkpoint was trained with {option} {then}, not {now}: resume it as it began.")

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Options":
        """Those of a command line."""
        values = {name: getattr(arguments, name) for name in cls.__dataclass_fields__}
        return cls(**values | {"fact_names": tuple(arguments.fact_names)})

    def changed(self, level: Level) -> Level:
        """The level that training ends on, as the options change it."""
        if self.full is not None:
            level = replace(level, full=self.full)
        return level if self.positions is None else replace(level, shares=(1 - self.positions, self.positions))

    def prepared(self, model: LlavaForConditionalGeneration, seed: int) -> LlavaForConditionalGeneration:
        """The model with the biases and words that the options need, and it has not; its function is the same."""
        if self.rest_bonus and not model.config.text_config.attention_bias:
            model = with_bias(model)
        if self.facts:
            add_words_of_facts(model, seed)
        return model


class Regularisers:
    """Of one model in training, which is changed: gates are put on it."""

    def __init__(self, model: LlavaForConditionalGeneration, options: Options) -> None:
        self.options = options
        self.rest = Rest(model) if options.rest_bonus else None
        self.gates = add_gates(model) if options.gate_cost else []

    @property
    def columns(self) -> tuple[str, ...]:
        """What `measured` gives."""
        return ("gates",) if self.gates else ()

    def measured(self) -> dict[str, float]:
        """The sum of all gates: about how many heads are in use."""
        return {"gates": sum(gate.sum().item() for gate in self.gates)} if self.gates else {}

    def cost(self, step: int) -> torch.Tensor | float:
        """What is added to the loss of the answers."""
        if not self.gates or step < self.options.gates_from:
            return 0.0
        return self.options.gate_cost * torch.cat(self.gates).sum()

    def before_step(self) -> None:
        """Between the gradients and the step."""
        if self.rest:
            self.rest.mask_gradients()

    def after_step(self, step: int) -> None:
        """`step`: of the second stage, which has just been done."""
        clamp(self.gates)
        if self.rest:
            self.rest.hold(self.options.rest_bonus * min(1.0, (step + 1) / max(self.options.rest_ramp, 1)))
