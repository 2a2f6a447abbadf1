"""stage=steer: the LVLM is asked again while chosen heads look at another object. Does its answer change with them?"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from locheads.data.image_files import open_image
from locheads.dependence.control_heads import others_of_layers
from locheads.dependence.head_dependence import HeadDependence
from locheads.dependence.pairs import pairs_of
from locheads.errors import DiscoveryError
from locheads.evaluation.steer_effect import Kind, Mode, sentences, steer_effects
from locheads.grounding.config import Resolution
from locheads.grounding.ground_maps import ground_stack
from locheads.models.adapters import PreparedInput
from locheads.models.answer import check_makes_words
from locheads.models.load import Lvlm
from locheads.models.steering import NOTHING, Steering, answer_beginnings, repeated
from locheads.pipeline.setup import Setup
from locheads.pipeline.word_pairs import maps_of
from locheads.records.steer_file import SteerFile
from locheads.terminal import track
from locheads.types import HeadIndex, ImageGroup, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Steered:
    """One expression under every treatment."""

    image: int
    changes: Float[np.ndarray, "treatment"]
    becomes: Bool[np.ndarray, "treatment"]


def steer_stage(
    setup: Setup, ranking: Sequence[HeadIndex], source: str, dependence: HeadDependence | None, lvlm: Lvlm
) -> None:
    """Steers the first k heads of the ranking, and controls -> steer.json.

    Raises:
        DiscoveryError: no image has two objects about which the model answers differently.
        ModelError: the model makes no words, or cannot be steered.
    """
    check_makes_words(lvlm)
    if dependence is None:
        raise DiscoveryError(NOBODY)
    work = _Work(setup, ranking, dependence.dependence, lvlm)
    groups = setup.inputs.judged[: setup.config.steer.images]
    found = [one for i, group in enumerate(track(groups, "steer", "images")) for one in work.image(i, group)]
    if not found:
        raise DiscoveryError(NOBODY)
    record = _record(work, found, source)
    record.write(setup.folder)
    for sentence in record.sentences:
        log.info("%s", sentence)


NOBODY = (
    "stage=steer found no image with expressions for two objects about which the model's answers begin differently: "
    "choose a prompt that it answers by what the object is, or more images (dependence.images, steer.images)."
)


@dataclass
class _Work:
    """What all images share."""

    setup: Setup
    ranking: Sequence[HeadIndex]
    dependence: Float[np.ndarray, "layer head"]
    lvlm: Lvlm
    n_same_answer: int = 0

    @cached_property
    def treatments(self) -> list[tuple[Mode, Kind, int]]:
        """In their order in every result."""
        sizes = sorted({min(k, len(self.ranking)) for k in self.setup.config.steer.k})
        return [(mode, kind, k) for mode in Mode for k in sizes for kind in Kind]

    def heads(self, kind: Kind, k: int, draw: Float[np.ndarray, "layer head"]) -> tuple[HeadIndex, ...]:
        """Of a treatment; `draw`: random numbers."""
        chosen = tuple(self.ranking[:k])
        if kind == Kind.chosen:
            return chosen
        return others_of_layers(chosen, self.dependence if kind == Kind.least else draw)

    def image(self, number: int, group: ImageGroup) -> Iterator[_Steered]:
        """Every expression against one about another object whose answer begins differently, drawn at random."""
        config = self.setup.config
        samples, maps = maps_of(self.setup.store, group, self.ranking[: config.heads.k])
        if len(samples) < 2:
            return
        image = self.lvlm.adapter.prepare(open_image(group), [sample.expression for sample in samples], config.prompt)
        on_grid = replace(config.grounding, resolution=Resolution.grid)
        (cells,) = ground_stack(maps, [image.geometry] * len(samples), on_grid).chosen
        asked = answer_beginnings(self.lvlm, image, [NOTHING] * len(samples)).numpy()
        rng = np.random.default_rng([config.seed, 2**31 + 2, number])
        for i, others in enumerate(self._others(samples)):
            answers = asked.argmax(axis=1)
            differing = others[answers[others] != answers[i]]
            self.n_same_answer += len(differing) == 0 < len(others)
            if len(differing):
                other = rng.choice(differing)
                steered = self._steered(image, i, cells[i], cells[other], rng.random(self.dependence.shape))
                yield _Steered(number, *compared(asked[i], steered, answers[i], answers[other]))

    def _others(self, samples: Sequence[Sample]) -> list[Int[np.ndarray, "n"]]:
        """Of each expression those about another object."""
        pairs = pairs_of(samples, self.setup.config.prompt)
        first, second = pairs.first[~pairs.same], pairs.second[~pairs.same]
        return [np.concatenate([second[first == i], first[second == i]]) for i in range(len(samples))]

    def _steered(
        self, image: PreparedInput, i: int, own: np.ndarray, other: np.ndarray, draw: np.ndarray
    ) -> Float[np.ndarray, "treatment word"]:
        """How the answer to the i-th expression begins under every treatment."""
        steer = self.setup.config.steer
        biases = {
            Mode.move: moving(image, own, other, steer.own, steer.other),
            Mode.hide: hiding(image, self.lvlm.adapter.image_token_id),
        }
        steerings = [Steering(self.heads(kind, k, draw), biases[mode]) for mode, kind, k in self.treatments]
        return answer_beginnings(self.lvlm, repeated(image, i, len(steerings)), steerings).numpy()


def moving(
    image: PreparedInput,
    own: Bool[np.ndarray, "row col"],
    other: Bool[np.ndarray, "row col"],
    away: float,
    there: float,
) -> Float[Tensor, "prefix"]:
    """The bias `there` on the cells of the other expression, and `away` on the own that are not among them."""
    bias = torch.zeros(len(image.prefix))
    bias[image.image_tokens[torch.from_numpy((own & ~other).ravel())]] = away
    bias[image.image_tokens[torch.from_numpy(other.ravel())]] = there
    return bias


def hiding(image: PreparedInput, image_token: int) -> Float[Tensor, "prefix"]:
    """The bias that hides all tokens of the image."""
    return torch.zeros(len(image.prefix)).masked_fill(image.prefix == image_token, -torch.inf)


def compared(
    before: Float[np.ndarray, "word"], after: Float[np.ndarray, "treatment word"], a: int, b: int
) -> tuple[Float[np.ndarray, "treatment"], Bool[np.ndarray, "treatment"]]:
    """-> (change of log p(b) - log p(a), whether b is now the most probable)."""
    changes = (after[:, b] - after[:, a]) - (before[b] - before[a])
    return changes.astype(np.float64), after.argmax(axis=1) == b


def _record(work: _Work, found: Sequence[_Steered], source: str) -> SteerFile:
    setup, images = work.setup, np.array([one.image for one in found])
    config = setup.config
    effects = steer_effects(
        [(*treatment, *_named(work, *treatment)) for treatment in work.treatments],
        np.stack([one.changes for one in found]),
        np.stack([one.becomes for one in found]),
        images,
        config.evaluation.confidence,
    )
    return SteerFile(
        sentences=tuple(sentences(effects)),
        effects=tuple(effects),
        heads=tuple(map(str, work.ranking[: max(k for *_, k in work.treatments)])),
        source=source,
        split=setup.judged_split,
        n_images=len(np.unique(images)),
        n_expressions=len(found),
        n_same_answer=work.n_same_answer,
        other=config.steer.other,
        own=config.steer.own,
        confidence=config.evaluation.confidence,
        digest=setup.digest,
    )


def _named(work: _Work, mode: Mode, kind: Kind, k: int) -> tuple[list[str], float | None]:
    """-> (the heads of a treatment, their mean dependence); nothing of those that are drawn anew every time."""
    if kind == Kind.random:
        return [], None
    heads = work.heads(kind, k, work.dependence)
    values = [work.dependence[head.layer, head.head] for head in heads]
    return list(map(str, heads)), float(np.mean(values)) if np.isfinite(values).all() and values else None
