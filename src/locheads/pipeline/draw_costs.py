"""What each draw of discovery costs, with the images that are judged, and what further looks cost: told before
anything runs."""

from dataclasses import replace

from locheads.config import Config
from locheads.data.guard import group_keys
from locheads.data.image_groups import exclude_images, merged
from locheads.data.own_reader import DataSetReader
from locheads.discovery.config import Draw
from locheads.pipeline.inputs import draw_judged, draw_samples, excluded_images
from locheads.store.attention_store import count
from locheads.types import ImageGroup
from locheads.workers.split_work import TokenCost


def draw_costs(config: Config, candidates: list[ImageGroup], cost: TokenCost) -> str:
    """Images, expressions and expected tokens of either draw, the one that is set first.

    `candidates`: the images that discovery may see (`discovery_candidates`); at least one.
    """
    own = config.discovery.draw
    return "; ".join(_told(config, draw, candidates, cost) for draw in sorted(Draw, key=lambda draw: draw != own))


def discovery_candidates(config: Config, data: DataSetReader) -> list[ImageGroup]:
    """The discovery split without the images of guarded splits. Raises DataError as the readers do."""
    banned = excluded_images(config, group_keys(data.read(config.dataset.split)))
    return exclude_images(data.read(config.dataset.discovery_split), set().union(*banned.values()))[0]


def look_costs(config: Config, evaluated: list[ImageGroup], cost: TokenCost) -> str:
    """Expressions and expected tokens of the further looks, at most: each at a part of its own as large as the image.
    Nothing where there are none."""
    looks = config.zoom.looks
    if looks == 0:
        return ""
    single = [replace(group, samples=(sample,)) for group in evaluated for sample in group.samples]
    return (
        f"zoom={config.zoom.name} asks up to {looks * len(single):,} expressions again, each about part of its image, "
        f"in the job evaluate: about {looks * sum(map(cost.of, single)):,.0f} tokens"
    )


def _told(config: Config, draw: Draw, candidates: list[ImageGroup], cost: TokenCost) -> str:
    config = replace(config, discovery=replace(config.discovery, draw=draw))
    drawn, _ = draw_samples(candidates, config.discovery, config.seed)
    asked = merged([*draw_judged(candidates, drawn, config), *drawn])
    return (
        f"discovery.draw={draw.value}: {count(drawn):,} expressions of {len(drawn):,} images "
        f"({count(drawn) / len(drawn):.2f} per image), with those that are judged {count(asked):,} of {len(asked):,}, "
        f"about {sum(map(cost.of, asked)):,.0f} tokens"
    )
