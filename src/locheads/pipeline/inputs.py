"""Which samples a run needs: the evaluated split, and the trials of discovery on other pictures."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from locheads.config import Config, DatasetConfig, PathsConfig
from locheads.data.pictures import check_picture_folder
from locheads.data.refer import annotation_digest, read_refer
from locheads.data.sampling import draw_trials, exclude_images, limit, subset
from locheads.errors import ConfigError, DataError
from locheads.pocket.dataset import ensure_dataset
from locheads.types import ImageGroup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The samples of one run."""

    evaluated: list[ImageGroup]
    discovery: list[ImageGroup]
    """The pictures and expressions that any trial draws."""
    trials: tuple[tuple[str, ...], ...]
    """Per trial the ids of its samples."""
    n_excluded_images: int
    """Pictures of the discovery split that the evaluated split also holds."""
    annotations: str
    """sha256 of the annotation files."""


def load_inputs(config: Config) -> Inputs:
    """Reads the annotations and draws the trials. Opens no picture.

    Raises:
        DataError: the data set is absent, incomplete or contradicts itself.
        ConfigError: an unknown reader.
    """
    folder, images = locate(config.dataset, config.paths)
    dataset = config.dataset
    evaluated = read_refer(folder, dataset.refs, images, dataset.split)
    candidates = read_refer(folder, dataset.refs, images, dataset.discovery_split)
    # The pictures of the whole split: heads found with a small dataset.limit may be evaluated without it later.
    candidates, n_excluded = exclude_images(candidates, {group.image_id for group in evaluated})
    if n_excluded:
        log.warning("%d pictures of %s are also in %s: discovery leaves them out.",
                    n_excluded, dataset.discovery_split, dataset.split)  # fmt: skip
    check_picture_folder(images)
    ids = [sample.sample_id for group in candidates for sample in group.samples]
    if not ids:
        raise DataError(
            f"No expression of {dataset.discovery_split} is left for discovery once the pictures of "
            f"{dataset.split} are excluded: choose another dataset.discovery_split."
        )
    draws = draw_trials(ids, config.discovery.n_samples, config.discovery.trials, config.seed)
    return Inputs(
        evaluated=limit(evaluated, dataset.limit),
        discovery=subset(candidates, {ids[i] for i in np.unique(np.concatenate(draws))}),
        trials=tuple(tuple(ids[i] for i in draw) for draw in draws),
        n_excluded_images=n_excluded,
        annotations=annotation_digest(folder, dataset.refs),
    )


def locate(dataset: DatasetConfig, paths: PathsConfig) -> tuple[Path, Path]:
    """-> (folder with the annotations, folder with the pictures). Makes the pocket data where it is asked for."""
    if dataset.reader == "pocket":
        root = ensure_dataset(Path(paths.cache))
        return root / "pocket", root / "images" / "train2014"
    if dataset.reader == "refer":
        return Path(dataset.folder), Path(dataset.images)
    raise ConfigError(f"dataset.reader={dataset.reader} is unknown: use pocket or refer.")
