"""Greedy answers to all expressions about one image at once: one token per expression and step, on one cache.

The packed prompt is read as in the attention pass, and its keys and values are kept. Every step then feeds one token
per answer that goes on, under a mask of its own segment and the prefix, at its own position: each answer is what it
would be alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from locheads.models.attend import logits_at, model_inputs
from locheads.models.batching import Batch, Strip, collate
from locheads.models.capture import ONE_PASS, recording
from locheads.models.load import Lvlm

Choose = Callable[[Int[Tensor, "token"], Float[Tensor, "word"]], int]
"""The next token, from all before it and the logits."""


@dataclass
class Together:
    """The expressions of one strip, being answered."""

    lvlm: Lvlm
    strip: Strip
    choose: Choose
    ends: frozenset[int]
    """Tokens that end an answer."""
    limit: int
    """Of tokens, the one that ends it included."""
    answers: list[list[int]] = field(default_factory=list)
    """Per suffix, with the token that ended it."""

    def run(self) -> list[list[int]]:
        """-> `answers`, complete."""
        batch = collate([self.strip], shared=True)
        lengths = self.strip.lengths()
        self._segment = _segments(self.strip).to(self.lvlm.device)
        self._cache = DynamicCache()
        self.answers = [[] for _ in lengths]
        going = list(range(len(lengths)))
        logits = self._prefill(batch)
        while going := self._take(going, logits):
            logits = self._step(going)
        return self.answers

    def _prefill(self, batch: Batch) -> Float[Tensor, "suffix word"]:
        """The packed prompt -> logits behind the last token of each suffix. Nothing is recorded: `recording` lets the
        prefix be worked out without a mask."""
        with recording(batch.queries, batch.keys, heads={}, prefix=batch.causal_prefix):
            return self._forward(model_inputs(self.lvlm, batch), self.strip.ends())

    def _take(self, going: Sequence[int], logits: Float[Tensor, "suffix word"]) -> list[int]:
        """Appends a token to each answer. -> those that go on."""
        image = self.strip.image
        for i, row in zip(going, logits, strict=True):
            before = torch.cat(
                [image.prefix, image.suffixes[self.strip.suffixes[i]], torch.tensor(self.answers[i]).long()]
            )
            self.answers[i].append(self.choose(before, row))
        return [i for i in going if self.answers[i][-1] not in self.ends and len(self.answers[i]) < self.limit]

    def _step(self, going: Sequence[int]) -> Float[Tensor, "going word"]:
        """The last token of each answer that goes on -> logits behind it."""
        new = torch.tensor(going, device=self.lvlm.device) + 1
        self._segment = torch.cat([self._segment, new])
        inputs = {
            "input_ids": torch.tensor([[self.answers[i][-1] for i in going]]),
            "position_ids": self._positions(going),
            "attention_mask": self._mask(new),
        }
        if self.strip.image.token_types is not None:
            inputs[self.strip.image.token_types_name] = torch.zeros_like(inputs["input_ids"])
        inputs = {name: tensor.to(self.lvlm.device) for name, tensor in inputs.items()}
        return self._forward(inputs, torch.arange(len(going)))

    def _positions(self, going: Sequence[int]) -> Int[Tensor, "1 going"] | Int[Tensor, "axis 1 going"]:
        """Of a suffix and its answer they count on from the prefix's."""
        own = self.strip.image.prefix_positions
        start = len(self.strip.image.prefix) if own is None else int(own.max()) + 1
        lengths = self.strip.lengths()
        new = torch.tensor([[start + lengths[i] + len(self.answers[i]) - 1 for i in going]])
        return new if own is None else new.expand(len(own), 1, -1)

    def _mask(self, new: Int[Tensor, "going"]) -> Bool[Tensor, "1 1 going token"]:
        """What the new tokens see: the prefix, and all so far of their own segment."""
        return ((self._segment == 0) | (self._segment == new[:, None]))[None, None]

    def _forward(self, inputs: dict[str, Tensor], tokens: Int[Tensor, "token"]) -> Float[Tensor, "token word"]:
        with ONE_PASS:
            return logits_at(self.lvlm, inputs, tokens, past_key_values=self._cache, use_cache=True)


def _segments(strip: Strip) -> Int[Tensor, "token"]:
    """Of every token of the strip: 0 for the prefix, i + 1 for the i-th suffix."""
    counts = torch.tensor([len(strip.image.prefix), *strip.lengths()])
    return torch.repeat_interleave(torch.arange(len(counts)), counts)
