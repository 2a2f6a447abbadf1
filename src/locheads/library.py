"""For use from Python, besides grounding (`api`): attend images, score maps, discover and judge heads, evaluate.

Without Hydra and run folders. Every mistake is a LocHeadsError of one sentence.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from locheads import map_numbers
from locheads.data.arrays import AnyImage, as_image
from locheads.data.config import DatasetConfig
from locheads.data.image_files import open_image
from locheads.data.masks import box_code, encode, tight_box
from locheads.data.prediction_files import Answer
from locheads.dependence.asked_pairs import AskedPairs
from locheads.dependence.config import DependenceConfig
from locheads.dependence.pairs import with_paraphrases
from locheads.dependence.word_verdict import Follows
from locheads.discovery.config import CriterionConfig, Draw
from locheads.discovery.found_heads import FoundHeads
from locheads.discovery.frequencies import discover, top_heads
from locheads.discovery.scores import score, stack_scores, with_dependence
from locheads.discovery.trials import draw_trials
from locheads.errors import DataError, chosen
from locheads.evaluation.config import EvaluationConfig
from locheads.evaluation.metric_table import PREDICTIONS
from locheads.evaluation.summarise import summarise
from locheads.evaluation.truth import score_answers
from locheads.models.attend import attend as attend_group
from locheads.models.attend import attend_image
from locheads.models.config import PromptConfig
from locheads.models.loaded import LoadedModel
from locheads.records.follows import FollowsRecord
from locheads.types import Attention, Box, HeadIndex, ImageGroup

GIVEN = "the samples that were given"
"""Whose images heads are judged on; `save_heads` says the split."""


def attend(
    model: LoadedModel,
    image: AnyImage,
    expressions: Sequence[str],
    *,
    prompt: PromptConfig | None = None,
    sample_ids: Sequence[str] | None = None,
) -> Attention:
    """The attention maps of all heads, [sample, layer, head, row, col], from the query token of each expression.

    Args:
        model: of `load_model`.
        image: whatever `ground` takes.
        expressions: one or more.
        prompt: what the model is asked (default: referseg).
        sample_ids: names of the expressions (default: "0", "1", ...).

    Raises:
        DataError: the image or an expression cannot be asked.
        ModelError: the memory does not suffice, or the attention is not finite.
    """
    if isinstance(expressions, str) or not expressions or not all(isinstance(text, str) for text in expressions):
        raise DataError('The expressions must be a list of texts, such as ["the cup"].')
    ids = tuple(sample_ids) if sample_ids is not None else tuple(str(i) for i in range(len(expressions)))
    if len(ids) != len(expressions):
        raise DataError(f"There are {len(ids)} sample_ids for {len(expressions)} expressions: give one for each.")
    maps, geometry = attend_image(model, as_image(image), expressions, prompt or PromptConfig())
    return Attention("", ids, maps, map_numbers.attention_sum(maps), geometry)


def attention_sum(maps: Float[np.ndarray, "*any row col"]) -> Float[np.ndarray, "*any"]:
    """Criterion 1, S_img: the sum of each map, the attention that the head spends on the image.

    Maps are post-softmax weights to the image's tokens, not renormalised. Raises DataError for anything else.
    """
    return map_numbers.attention_sum(_maps(maps))


def spatial_entropy(
    maps: Float[np.ndarray, "*any row col"], criterion: CriterionConfig | None = None
) -> Float[np.ndarray, "*any"]:
    """Criterion 2: the entropy in nats of the areas of a map's 8-connected components above its mean; inf for a map
    without any. `criterion`: how the released code differs (floor, weighting, empty_maps, precision).

    Raises DataError for what are no maps.
    """
    maps, how = _maps(maps), criterion or CriterionConfig()
    return map_numbers.ENTROPY.of(maps, how)


def discover_heads(
    model: LoadedModel,
    samples: Iterable[ImageGroup | tuple[AnyImage, str]],
    k: int = 3,
    *,
    n_samples: int | None = None,
    trials: int = 5,
    draw: str = Draw.expression,
    criterion: CriterionConfig | None = None,
    prompt: PromptConfig | None = None,
    dependence: DependenceConfig | None = None,
    seed: int = 0,
) -> FoundHeads:
    """The k heads that are chosen most often over random draws of the samples (the paper's discovery).

    Args:
        model: of `load_model`.
        samples: pairs of image and expression, or image groups of `read_samples`. Boxes only tell objects apart.
        k: how many heads.
        n_samples: samples of each trial. None: half of all, at most the paper's 1,000; trials of all samples would
            agree whatever they hold.
        trials: how many draws.
        draw: "expression", or "image": whole images until they hold n_samples (see `DiscoveryConfig`). All samples are
            attended whatever is drawn; those of an image group share the image's part of the pass.
        criterion: how a sample chooses heads (default: the paper's).
        prompt: what the model is asked (default: referseg).
        dependence: on how many image groups it is judged whether heads follow the words (default: the first 60 with
            expressions for several objects; `images=0`: none). These are attended a second time, with the found heads.
        seed: of the draws.

    Warns (UserWarning) where the found heads do not follow the words.

    Raises:
        DataError: no samples, or one that cannot be asked.
        ConfigError: another draw, or counts below 1.
        DiscoveryError: fewer than k heads were ever chosen, or a criterion that reads the heads' dependence on the
            words without image groups that have expressions for several objects.
    """
    by = chosen(Draw, draw)
    criterion, prompt = criterion or CriterionConfig(), prompt or PromptConfig()
    words = AskedPairs(dependence or DependenceConfig(), prompt)
    parts, names = [], list[str]()
    for attention in _attended(model, samples, prompt, words):
        parts.append(score(attention, criterion))
        names += [attention.image_id] * len(attention.sample_ids)
    measured = words.dependence()
    scores, images = with_dependence(stack_scores(parts), measured), np.unique(names, return_inverse=True)[1]
    n_samples = n_samples or max(min(1000, len(scores.sample_ids) // 2), 1)
    draws = draw_trials(images, n_samples, trials, seed, by)
    found = discover(scores, draws, criterion, images)
    heads = tuple(top_heads(found, k))
    follows = _follows(model, heads, words, seed) if words.groups else None
    if follows is not None and follows.follows not in (Follows.follow, Follows.unknown):
        warnings.warn(follows.sentence, stacklevel=2)
    asked = model.config, prompt, criterion
    return FoundHeads(heads, found, scores, tuple(draws), images, *asked, seed, by, measured, follows)


def read_samples(
    split: str, dataset: DatasetConfig | None = None, cache: str | Path = "outputs/cache"
) -> list[ImageGroup]:
    """The images of a split with their expressions, true boxes and masks.

    Args:
        split: such as "val".
        dataset: which data and how they are read, as the group `dataset` of the configuration (default: the pocket
            data, which are made at first use).
        cache: folder for what readers prepare.

    Raises:
        DataError, ConfigError: one sentence on what is wrong with the files or the settings.
    """
    from locheads.config import PathsConfig
    from locheads.pipeline.inputs import open_dataset

    return open_dataset(dataset or DatasetConfig(), PathsConfig(cache=str(cache))).read(split)


def evaluate(
    groups: Iterable[ImageGroup],
    boxes: Mapping[str, Sequence[float] | None],
    masks: Mapping[str, np.ndarray | None] | None = None,
    *,
    confidence: float = 0.95,
) -> dict[str, dict[str, float | None]]:
    """Every metric of answers from anywhere, {"value", "low", "high"}, shares from 0 to 1; intervals are over images.

    Args:
        groups: the truth; every sample counts, and one without an answer is a miss.
        boxes: sample id -> (x0, y0, x1, y1) in pixels of the image, right and bottom exclusive; None: no answer.
        masks: sample id -> bool [height, width]. None, or absent: the box stands for its mask.
        confidence: of the intervals.

    Raises:
        DataError: an id that no group holds, or a box or mask that is none.
    """
    groups, masks = list(groups), masks or {}
    images = {sample.sample_id: group for group in groups for sample in group.samples}
    if unknown := sorted({*boxes, *masks} - images.keys()):
        raise DataError(f"There is no sample {unknown[0]!r} in these groups: give the ids of their samples.")
    answers = [_answer(key, images[key], boxes.get(key), masks.get(key)) for key in dict.fromkeys([*boxes, *masks])]
    parts = [scored for _, scored in score_answers(answers, groups, "there is no answer to it")]
    if not parts:
        raise DataError("There is nothing to evaluate: the groups hold no sample.")
    return summarise(pd.concat(parts, ignore_index=True), EvaluationConfig(confidence=confidence))[PREDICTIONS]


def _maps(maps: Any) -> Float[np.ndarray, "*any row col"]:
    maps = np.asarray(maps)
    if maps.ndim < 2 or 0 in maps.shape or not np.issubdtype(maps.dtype, np.floating):
        raise DataError(f"Maps must be an array of floats [..., row, col], not {maps.dtype} of shape {maps.shape}.")
    if not np.isfinite(maps).all() or maps.min() < 0:
        raise DataError("Maps must be attention weights, finite and not negative.")
    return maps


def _attended(
    model: LoadedModel, samples: Iterable[ImageGroup | tuple[AnyImage, str]], prompt: PromptConfig, words: AskedPairs
) -> Iterable[Attention]:
    for i, one in enumerate(samples):
        if isinstance(one, ImageGroup) and words.wants(one):
            asked, n = with_paraphrases(one), len(one.samples)
            found = attend_group(model, asked, open_image(asked), prompt)
            words.add(asked, found.maps)
            maps = found.maps[:n]
            yield replace(found, sample_ids=found.sample_ids[:n], maps=maps, sums=map_numbers.attention_sum(maps))
        elif isinstance(one, ImageGroup):
            yield attend_group(model, one, open_image(one), prompt)
        else:
            image, expression = as_image(one[0]), one[1]
            # The same picture in several pairs is one image, however it was given.
            name = sha256(image.tobytes()).hexdigest()
            yield replace(attend(model, image, [expression], prompt=prompt, sample_ids=[str(i)]), image_id=name)


def _follows(model: LoadedModel, heads: Sequence[HeadIndex], words: AskedPairs, seed: int) -> FollowsRecord:
    texts = [[sample.asked for sample in group.samples] for group in words.groups]
    pairs = zip(words.groups, texts, strict=True)
    maps = [attend_image(model, open_image(group), asked, words.prompt, heads)[0] for group, asked in pairs]
    verdict, tolerance = words.verdict(maps, seed), words.config.tolerance
    return FollowsRecord.of(verdict, heads, words.groups, GIVEN, words.prompt, words.grounding, tolerance)


def _answer(key: str, group: ImageGroup, box: Sequence[float] | None, mask: np.ndarray | None) -> Answer:
    """Raises DataError for a box or mask that is none."""
    if mask is not None and (np.shape(mask) != (group.height, group.width) or np.asarray(mask).dtype != bool):
        raise DataError(f"The mask of the sample {key} must be bool [{group.height}, {group.width}], as its image.")
    found = None if box is None else _box(key, box)
    code = None if mask is None or not mask.any() else encode(mask, f"the sample {key}")
    if code is None and mask is None and found is not None:
        code = box_code(found, group.width, group.height)
    return Answer(key, found or (tight_box(code) if code is not None and box is None else None), code)


def _box(key: str, box: Sequence[float]) -> Box | None:
    numbers = tuple(float(number) for number in box)
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise DataError(f"The box of the sample {key} must be four finite numbers (x0, y0, x1, y1), not {box}.")
    x0, y0, x1, y1 = numbers
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
