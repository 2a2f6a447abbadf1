"""Which samples a run needs: the evaluated split, and the trials of discovery on other images."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from locheads.config import Config, PathsConfig
from locheads.data.agd20k import Agd20kDataSet
from locheads.data.annotation_files import file_sha256
from locheads.data.config import CAPTIONED, MADE, OF_REFER_FORM, Absent, DatasetConfig, Reader
from locheads.data.flickr30k import FlickrDataSet
from locheads.data.grefcoco import GrefDataSet
from locheads.data.guard import group_keys, guarded_keys
from locheads.data.headers import check_headers
from locheads.data.hub import HubDataSet
from locheads.data.image_files import check_image_folder
from locheads.data.image_groups import exclude_images, image_numbers, limit, shuffle, subset, without_absent
from locheads.data.jsonl import JsonlDataSet
from locheads.data.own_coco import CocoDataSet
from locheads.data.own_reader import DataSetReader, OwnDataSet
from locheads.data.pathnames import coco_id
from locheads.data.png import PngDataSet
from locheads.data.reasonseg import ReasonSegDataSet
from locheads.data.refer import ReferDataSet
from locheads.data.review import review_files
from locheads.data.screenspot import ScreenSpotDataSet
from locheads.data.swapped import SwappedDataSet
from locheads.dependence.pairs import with_paraphrases
from locheads.discovery.config import DiscoveryConfig, Draw
from locheads.discovery.trials import draw_trials
from locheads.errors import DataError
from locheads.pipeline.repeats import repeats_of
from locheads.pocket.captions import FLICKR, PNG, ensure_captions
from locheads.pocket.counts import COUNTS
from locheads.pocket.dataset import IMAGES, SMALL, TABLES, PocketData, ensure_dataset
from locheads.pocket.paraphrases import PARAPHRASES
from locheads.records.provenance_file import SamplesFile, Trial
from locheads.store.digest import file_digests, json_digest
from locheads.types import HeadScores, ImageGroup

log = logging.getLogger(__name__)


READERS: dict[str, type[DataSetReader]] = {
    Reader.agd20k: Agd20kDataSet,
    Reader.coco: CocoDataSet,
    Reader.flickr30k: FlickrDataSet,
    Reader.grefcoco: GrefDataSet,
    Reader.hub: HubDataSet,
    Reader.jsonl: JsonlDataSet,
    Reader.png: PngDataSet,
    Reader.pocket: ReferDataSet,
    Reader.pocket_counts: GrefDataSet,
    Reader.pocket_flickr30k: FlickrDataSet,
    Reader.pocket_paraphrases: ReferDataSet,
    Reader.pocket_png: PngDataSet,
    Reader.pocket_small: ReferDataSet,
    Reader.reasonseg: ReasonSegDataSet,
    Reader.refer: ReferDataSet,
    Reader.screenspot: ScreenSpotDataSet,
}


@dataclass(frozen=True)
class Inputs:
    """The samples of one run."""

    evaluated: list[ImageGroup]
    discovery: list[ImageGroup]
    """The images and expressions that any trial draws."""
    trials: tuple[tuple[str, ...], ...]
    """Per trial the ids of its samples."""
    n_excluded_images: int
    """Images of the discovery split that the evaluated split, or another one that is guarded, also holds."""
    annotations: str
    """sha256 of the annotation files."""
    guard: dict[str, int] = field(default_factory=dict)
    """Guarded file (and "SPLIT" for the evaluated one) -> images of the discovery split that it also holds."""
    judged: list[ImageGroup] = field(default_factory=list)
    """Whole images on which it is judged whether heads follow the words, with a paraphrase of every expression that is
    the only one of its object. Their samples may be among the others."""
    probed: list[ImageGroup] = field(default_factory=list)
    """Images with the probes of grounding.contrast=probes, which are no samples; see `prepare`."""
    calibration: list[ImageGroup] = field(default_factory=list)
    """Whole images of the discovery split, guarded as discovery's are, on which the threshold of absence is found."""
    notes: tuple[str, ...] = ()
    """Known defects of the data set's copy, and what its images' headers leave open."""
    images: Mapping[Path, str | None] = field(default_factory=dict)
    """Image -> sha256 of its file; None: not there. Filled by `with_images`."""

    @property
    def all_groups(self) -> list[ImageGroup]:
        """The images of every part, some of them several times, in the order in which they are asked: first those that
        are judged, with all their expressions."""
        return [*self.judged, *self.discovery, *self.evaluated, *self.calibration, *self.probed]

    @property
    def images_digest(self) -> str | None:
        """sha256 over the images' digests in the order of the samples; None where they are not known."""
        paths = [group.path for group in self.all_groups]
        if not self.images:
            return None
        return json_digest([[path.name, self.images[path]] for path in paths])

    def positions(self, scores: HeadScores) -> list[np.ndarray]:
        """Per trial where its samples are in `scores`; failed samples are not there (and are counted)."""
        where = {sample_id: i for i, sample_id in enumerate(scores.sample_ids)}
        return [np.array([where[i] for i in trial if i in where], dtype=int) for trial in self.trials]

    def images_of(self, scores: HeadScores) -> np.ndarray:
        """The number of each scored sample's image, [sample]: what tells which samples are not independent."""
        where = {sample.sample_id: i for i, group in enumerate(self.discovery) for sample in group.samples}
        return np.array([where[sample_id] for sample_id in scores.sample_ids], dtype=int)


def load_inputs(config: Config) -> Inputs:
    """Reads the annotations and draws the trials. Opens of each image only the header.

    Raises:
        DataError: the data set is absent, incomplete or contradicts itself or its images.
        ConfigError: a reader whose settings do not fit it.
    """
    dataset = config.dataset
    data = open_dataset(dataset, config.paths, config.seed)
    evaluated = data.read(dataset.split)
    discovery = Drawn() if config.heads.set is not None else _draw(config, data, evaluated)
    if dataset.reader in OF_REFER_FORM:
        check_image_folder(locate(dataset, config.paths)[1])
    selected = chosen(evaluated, config)
    judged = draw_judged(selected if config.heads.set is not None else discovery.candidates, discovery.groups, config)
    calibration: list[ImageGroup] = []
    if config.absence.calibrates:
        known = discovery.candidates or _guarded(config, evaluated, data.read(dataset.discovery_split))[0]
        calibration = _draw_calibration(config, known)
    headers = check_headers([*selected, *discovery.groups, *judged, *calibration], image_folders(dataset, config.paths))
    return Inputs(
        evaluated=selected,
        discovery=discovery.groups,
        trials=discovery.trials,
        n_excluded_images=discovery.n_excluded,
        annotations=data.digest,
        guard=discovery.guard,
        judged=judged,
        calibration=calibration,
        notes=(*data.notes, *headers),
    )


def with_images(inputs: Inputs, cache: Path) -> Inputs:
    """The same, with the digest of every image; a file that has not changed since the last time is not read again."""
    return replace(inputs, images=_image_digests(inputs, cache))


_last: tuple[Any, Inputs] | None = None
"""What the last run of this process read, and what that depended on."""


def inputs_of_sweep(config: Config) -> Inputs:
    """As `load_inputs` and `with_images`; the next run of a sweep finds what the last one read, where settings,
    annotations, guarded files and all images are the same."""
    global _last
    cache = Path(config.paths.cache)
    if _last is not None:
        depended_on, inputs = _last
        # Before anything is read, the digest of a hub copy is that of nothing: it is always read anew.
        now = _depend_on(config, open_dataset(config.dataset, config.paths).digest)
        if now == depended_on and _image_digests(inputs, cache) == inputs.images:
            return inputs
    inputs = with_images(load_inputs(config), cache)
    _last = _depend_on(config, inputs.annotations), inputs
    return inputs


def _depend_on(config: Config, annotations: str) -> list[Any]:
    """What `load_inputs` depends on, but for the images. `annotations`: the digest of their files."""
    parts = (config.dataset, config.paths, config.discovery, config.dependence, config.absence)
    groups = [asdict(group) for group in parts]
    reviews = {str(path): file_sha256(path) for path in review_files(config.dataset)}
    return [annotations, groups, config.seed, config.heads.set is None, excluded_images(config, set()), reviews]


def _image_digests(inputs: Inputs, cache: Path) -> dict[Path, str | None]:
    return file_digests([group.path for group in inputs.all_groups], cache, absent=True)


@dataclass(frozen=True)
class Drawn:
    """What discovery sees; the fields are those of `Inputs`. Nothing where the heads are given."""

    groups: list[ImageGroup] = field(default_factory=list)
    trials: tuple[tuple[str, ...], ...] = ()
    n_excluded: int = 0
    guard: dict[str, int] = field(default_factory=dict)
    candidates: list[ImageGroup] = field(default_factory=list)
    """What it was drawn from, and the absent samples beside it."""


def _draw(config: Config, data: DataSetReader, evaluated: list[ImageGroup]) -> Drawn:
    dataset = config.dataset
    candidates, n_excluded, guard = _guarded(config, evaluated, data.read(dataset.discovery_split))
    # An expression of nothing has no head that points at it: from absent ones nothing can be learnt.
    present = without_absent(candidates)
    if not present:
        raise DataError(
            f"No expression of {dataset.discovery_split} is left for discovery once the images of "
            f"{dataset.split} are excluded: choose another dataset.discovery_split."
        )
    return Drawn(*draw_samples(present, config.discovery, config.seed), n_excluded, guard, candidates)


def draw_samples(
    candidates: list[ImageGroup], how: DiscoveryConfig, seed: int
) -> tuple[list[ImageGroup], tuple[tuple[str, ...], ...]]:
    """-> (the images and expressions that any trial draws, per trial the ids of its samples)."""
    ids = [sample.sample_id for group in candidates for sample in group.samples]
    draws = draw_trials(image_numbers(candidates), how.n_samples, how.trials, seed, how.draw)
    drawn = subset(candidates, {ids[i] for i in np.unique(np.concatenate(draws))})
    return drawn, tuple(tuple(ids[i] for i in draw) for draw in draws)


def draw_judged(candidates: list[ImageGroup], drawn: list[ImageGroup], config: Config) -> list[ImageGroup]:
    """dependence.images whole images at random, of those with expressions for several objects; in their order.

    With discovery.draw=image they are taken from the images that were `drawn` whole, as long as these suffice.
    """
    present = without_absent(candidates)
    several = [group for group in present if len({sample.ref_id for sample in group.samples}) > 1]
    order = np.random.default_rng([config.seed, 2**31 + 1]).permutation(len(several))
    if config.discovery.draw == Draw.image:
        whole = {(group.image_id, len(group.samples)) for group in drawn}
        missed = [(group.image_id, len(group.samples)) not in whole for group in several]
        order = order[np.argsort(np.array(missed, dtype=bool)[order], kind="stable")]
    return [with_paraphrases(several[i]) for i in np.sort(order[: config.dependence.images])]


def _draw_calibration(config: Config, candidates: list[ImageGroup]) -> list[ImageGroup]:
    """absence.images whole images at random, in their order, with their absent samples.

    Raises DataError where they hold no absent or no other ones.
    """
    order = np.random.default_rng([config.seed, 2**31 + 2]).permutation(len(candidates))
    drawn = [candidates[i] for i in np.sort(order[: config.absence.images])]
    if len({sample.absent for group in drawn for sample in group.samples}) < 2:
        raise config.absence.lacks_kinds(config.dataset.discovery_split)
    return drawn


def chosen(split: list[ImageGroup], config: Config) -> list[ImageGroup]:
    """What dataset.shuffle, offset and limit leave of the evaluated split."""
    ordered = shuffle(split, config.seed) if config.dataset.shuffle else split
    return limit(ordered, config.dataset.limit, config.dataset.offset)


def _guarded(
    config: Config, evaluated: list[ImageGroup], candidates: list[ImageGroup]
) -> tuple[list[ImageGroup], int, dict[str, int]]:
    """-> (candidates that no guarded split holds, excluded images, the same by file)."""
    dataset = config.dataset
    # The images of the whole split: heads found with a small dataset.limit may be evaluated without it later.
    banned = excluded_images(config, group_keys(evaluated))
    own = group_keys(candidates)
    guard = {name: len(own & keys) for name, keys in banned.items()}
    _warn_of_numbers(dataset, candidates, set().union(*banned.values()))
    kept, n_excluded = exclude_images(candidates, set().union(*banned.values()))
    if n_excluded:
        shared = ", ".join(f"{name} ({count})" for name, count in guard.items() if count)
        log.warning("%d images of %s are also in %s: discovery leaves them out.",
                    n_excluded, dataset.discovery_split, shared)  # fmt: skip
    return kept, n_excluded, guard


def _warn_of_numbers(dataset: DatasetConfig, candidates: list[ImageGroup], banned: set[str]) -> None:
    """Names that are numbers may be COCO's images of 2017; nothing but the user can tell."""
    if dataset.reader not in (Reader.coco, Reader.jsonl) or dataset.coco_names:
        return
    like_coco = [group for group in candidates if str(coco_id(group.path.name, of_coco=True)) in banned]
    if like_coco:
        log.warning(
            "%d images of %s are named as images of COCO that are evaluated, the first: %s. Discovery takes them: "
            "set dataset.coco_names=true if they are COCO's.",
            len(like_coco), dataset.discovery_split, like_coco[0].path,
        )  # fmt: skip


def excluded_images(config: Config, evaluated: set[str]) -> dict[str, set[str]]:
    """Evaluated split, or guarded file -> keys of the images that discovery must not see."""
    dataset = config.dataset
    beside = locate(dataset, config.paths)[0] if dataset.reader in OF_REFER_FORM else None
    others = guarded_keys(dataset.guard, beside, dataset.discovery_split, Path(config.paths.cache))
    return {dataset.split: evaluated} | others


def open_dataset(dataset: DatasetConfig, paths: PathsConfig, seed: int = 0) -> DataSetReader:
    """The data set behind its reader. Reads nothing yet, but makes the pocket data where it is asked for.

    `seed`: of the absent samples that dataset.absent makes.

    Raises:
        ConfigError: the reader's settings do not fit it.
    """
    if dataset.reader in (*MADE, *CAPTIONED):
        folder, images = map(str, locate(dataset, paths))
        dataset = replace(dataset, folder=folder, images=images)
    own = READERS.get(dataset.reader, OwnDataSet)(dataset, Path(paths.cache))
    return own if dataset.absent == Absent.none else SwappedDataSet(own, dataset, Path(paths.cache), seed)


def locate(dataset: DatasetConfig, paths: PathsConfig) -> tuple[Path, Path]:
    """-> (folder with the annotations, folder with the images). Makes the pocket data where it is asked for."""
    if dataset.reader in MADE:
        others: dict[str, PocketData] = {
            Reader.pocket_counts: COUNTS, Reader.pocket_paraphrases: PARAPHRASES, Reader.pocket_small: SMALL
        }  # fmt: skip
        root = ensure_dataset(Path(paths.cache), others.get(dataset.reader))
        return root / TABLES, root / IMAGES
    if dataset.reader in CAPTIONED:
        root, images = ensure_captions(Path(paths.cache))
        return root / (PNG if dataset.reader == Reader.pocket_png else FLICKR), images
    return Path(dataset.folder), Path(dataset.images)


def image_folders(dataset: DatasetConfig, paths: PathsConfig) -> list[Path]:
    """Where the data set's images may lie once links are followed."""
    named = [Path(name) for name in (dataset.folder, dataset.images, *dataset.links) if name]
    # The pocket data, and images that a hub copy's table holds.
    return [*named, Path(paths.cache)]


def samples_file(inputs: Inputs, config: Config) -> SamplesFile:
    """The ids that the run used, in order, and what was kept out."""
    return SamplesFile(
        split=config.dataset.split,
        evaluated=tuple(sample.sample_id for group in inputs.evaluated for sample in group.samples),
        discovery_split=config.dataset.discovery_split,
        trials=tuple(Trial(seed=(config.seed, i), samples=ids) for i, ids in enumerate(inputs.trials)),
        judged=tuple(sample.sample_id for group in inputs.judged for sample in group.samples),
        **_calibrated_on(inputs),
        n_excluded_images=inputs.n_excluded_images,
        guard=inputs.guard,
        repeats=repeats_of(inputs.evaluated, [*inputs.discovery, *inputs.calibration], inputs.images),
        notes=inputs.notes,
    )


def _calibrated_on(inputs: Inputs) -> dict[str, tuple[str, ...]]:
    """Only where there is a calibration: the file has no field that says nothing."""
    ids = tuple(sample.sample_id for group in inputs.calibration for sample in group.samples)
    return {"calibration": ids} if ids else {}
