"""What occurs more than once among the samples of a run, from what is at hand anyway: words, boxes, images' digests."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from locheads.dependence.pairs import text_of
from locheads.records.provenance_file import Repeats
from locheads.types import Box, Excerpt, ImageGroup, Sample


def repeats_of(
    evaluated: Sequence[ImageGroup], seen: Iterable[ImageGroup] = (), digests: Mapping[Path, str | None] | None = None
) -> Repeats:
    """`seen`: the images that discovery and the calibration of absence saw. `digests`: image -> sha256 of its file,
    None where it is not there; without any the images were not read, and nothing is said of them."""
    named = [boxes for group in evaluated for boxes in _by_words(group).values()]
    own = _contents(evaluated, digests)
    return Repeats(
        images=None if own is None else len(own) - len(set(own)),
        seen_images=None if own is None else len(set(own) & set(_contents(seen, digests) or ())),
        expressions=sum(len(boxes) - len(set(boxes)) for boxes in named),
        ambiguous=sum(len(boxes) for boxes in named if len(set(boxes)) > 1),
    )


def _by_words(group: ImageGroup) -> dict[object, list[Box]]:
    """Words -> the boxes that the image's expressions name by them."""
    found: dict[object, list[Box]] = defaultdict(list)
    for sample in group.samples:
        found[_words(sample)].append(sample.box)
    return found


def _words(sample: Sample) -> object:
    """What is asked, white space and case apart; of an excerpt the part, too: its text is the whole caption's."""
    part = sample.expression.part if isinstance(sample.expression, Excerpt) else None
    return text_of(sample), part


def _contents(groups: Iterable[ImageGroup], digests: Mapping[Path, str | None] | None) -> list[str] | None:
    """The digest of every image that is there; None where the images were not read."""
    if not digests:
        return None
    return [digest for group in groups if (digest := digests.get(group.path)) is not None]
