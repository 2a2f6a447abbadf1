"""Before the first stage: everything that can be checked without loading weights."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from locheads.audit.choice_grid import Choice
from locheads.config import Config, Stage
from locheads.data.config import WHERE_IT_LIES
from locheads.data.image_groups import may_name_several, with_heat
from locheads.data.review import flags_of
from locheads.discovery.headset import HeadSet
from locheads.errors import ConfigError, DataError
from locheads.evaluation.best_heads import searched_groups
from locheads.grounding.config import Contrast
from locheads.grounding.contrast import probes_of
from locheads.models.engine import ALL_MAPS, Quantization
from locheads.models.identity import ModelIdentity, adapter_identity, identify
from locheads.models.placement import check_unloaded
from locheads.pipeline.answers import AnswerKeys, answer_keys
from locheads.pipeline.audit_stage import check_beside, choices_of, prompts_of, targets_of, with_variants
from locheads.pipeline.given_heads import given_heads, given_record, maps_heads
from locheads.pipeline.inputs import Inputs, inputs_of_sweep, load_inputs, samples_file
from locheads.pipeline.open_store import open_store
from locheads.pipeline.setup import Setup
from locheads.pipeline.verified import verification_record
from locheads.segmenters.load_segmenter import check_segmenter, segmenter_identity
from locheads.store.attention_store import AttentionStore
from locheads.store.digest import json_digest
from locheads.store.key import UNKNOWN, Key, MadeWith, difference
from locheads.types import ImageGroup

WITHOUT_EFFECT = (
    "audit", "engine", "explorer", "shard", "steer", "tracker", "paths", "report", "study", "stage", "predictions",
    "predictions_format", "runs", "fresh",
)  # fmt: skip
"""Groups of settings that cannot change a result: a run's digest leaves them out."""


def prepare(config: Config, folder: Path, record: dict[str, Any]) -> Setup:
    """Checks everything that can be checked without loading weights, and opens the store."""
    check_unloaded(config.model, config.engine)
    check_segmenter(config.segmenter)
    audited = _audited(config) if config.stage == Stage.audit else []
    identity = identify(config.model, Path(config.paths.cache))
    _check_head_count(config, identity)
    maps_heads(config, identity)
    head_set = given_heads(config, identity)
    # One of many workers does not read all images: the store asks for those of its own shards.
    inputs = inputs_of_sweep(config) if config.shard.count == 1 else load_inputs(config)
    contrasts = Contrast.probes in (config.grounding.contrast, *(choice.grounding.contrast for choice in audited))
    if contrasts or config.absence.needs_probes:
        inputs = _with_probes(config, inputs, contrasts)
    _check_shown(config, inputs)
    _check_truth(config, inputs.evaluated)
    store = open_store(config, identity, inputs.annotations, inputs.images)
    made = _made(config, store)
    digest = run_digest(config, identity, inputs, head_set, made.key.made_with)
    record |= {
        "digest": digest,
        "model": dataclasses.asdict(identity) | {"id": config.model.id, "revision": config.model.revision},
        "verification": verification_record(config, identity),
        "dataset": {
            "name": config.dataset.name,
            "annotations_sha256": inputs.annotations,
            "pictures_sha256": inputs.images_digest,
            "guard": inputs.guard,
            "notes": list(inputs.notes),
        },
        "answers" if config.stage == Stage.direct else "maps": _made_with(made.key, made.current_key),
        "seeds": {"seed": config.seed, "trials": [[config.seed, i] for i in range(config.discovery.trials)]},
    }
    if head_set is not None:
        record["heads"] = given_record(head_set, config.heads.k)
    samples_file(inputs, config).write(folder)
    return Setup(config, folder, inputs, identity, store, digest, head_set)


def _audited(config: Config) -> Sequence[Choice]:
    """All that stage=audit will measure."""
    check_beside(config)
    prompts_of(config)
    return with_variants(choices_of(config), targets_of(config)).choices


def _made(config: Config, store: AttentionStore) -> AttentionStore | AnswerKeys:
    """What knows the key of the maps or, with stage=direct, of the answers that the run reads."""
    if config.stage != Stage.direct:
        return store
    return answer_keys(config, store)


def _made_with(key: Key, current: Key) -> dict[str, Any]:
    """What provenance.json says of the attention maps or answers, which may be those of an earlier run."""
    return {
        "store": key.digest[:16],
        "made_with": UNKNOWN if key.made_with is None else dict(key.made_with),
        "other_versions": difference(key.made_with, current.made_with) if key != current else None,
    }


def run_digest(
    config: Config,
    identity: ModelIdentity,
    inputs: Inputs,
    head_set: HeadSet | None = None,
    made_with: MadeWith | None = None,
) -> str:
    """What identifies a result: the settings that can change it, the weights, annotations and images, and what the
    maps were made with."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in WITHOUT_EFFECT}
    if config.engine.quantization != Quantization.none:
        settings["quantization"] = config.engine.quantization.value
    # Where they lie; what they are is in the weights' and annotations' own digests.
    del settings["model"]["id"], settings["model"]["adapter"]
    del settings["model"]["image_backend"]  # the one that was taken is in `made_with`
    settings["model"] |= adapter_identity(config.model)
    for key in WHERE_IT_LIES:
        del settings["dataset"][key]
    # What the guard leaves of discovery depends on the files beside: the drawn ids tell it.
    del settings["dataset"]["guard"]
    # Which heads they are counts, not where their file lies.
    settings["heads"]["set"] = None if head_set is None else [str(head) for head in head_set.heads]
    settings["segmenter"] = segmenter_identity(config.segmenter, Path(config.paths.cache))
    data = [inputs.annotations, inputs.images_digest, inputs.trials, *flags_of(inputs.evaluated)]
    # What the guard leaves of the calibration, as of discovery.
    data += [sample.sample_id for group in inputs.calibration for sample in group.samples]
    return json_digest([settings, identity.weights, data, made_with])


def _with_probes(config: Config, inputs: Inputs, contrasts: bool) -> Inputs:
    """With the probes of the evaluated images and of those on which absence is calibrated, and where maps are
    contrasted with them of those on which the best set is searched.

    Raises DataError where a sample of the data set has the id of a probe.
    """
    searched = searched_groups(inputs.discovery) if contrasts and config.engine.maps == ALL_MAPS else []
    probed = [probes_of(group) for group in [*inputs.evaluated, *inputs.calibration, *searched]]
    ids = {sample.sample_id for group in probed for sample in group.samples}
    taken = (s.sample_id for group in inputs.all_groups for s in group.samples if s.sample_id in ids)
    if (own := next(taken, None)) is not None:
        raise DataError(
            f"The sample id {own!r} of the data set is that of a probe, which grounding.contrast=probes and "
            "absence.score=probes ask: rename it."
        )
    return dataclasses.replace(inputs, probed=probed)


def _check_truth(config: Config, evaluated: list[ImageGroup]) -> None:
    """Raises DataError where what is measured needs one box and mask per expression, and the truth is another."""
    name, of_heat = config.dataset.name, with_heat(evaluated)
    if config.stage in (Stage.audit, Stage.direct) and of_heat:
        raise DataError(
            f"stage={config.stage.value} measures boxes, but the truth of {name} is heat maps: use stage=evaluate or "
            "report."
        )
    if config.zoom.looks and (of_heat or may_name_several(evaluated)):
        truth = "are heat maps" if of_heat else "may be several objects or none"
        raise DataError(f"A further look is for one object, but the answers of {name} {truth}: set zoom=none.")


def _check_shown(config: Config, inputs: Inputs) -> None:
    evaluated_ids = {sample.sample_id for group in inputs.evaluated for sample in group.samples}
    for sample_id in config.evaluation.show:
        if sample_id not in evaluated_ids:
            raise ConfigError(
                f"evaluation.show names the sample {sample_id}, which {config.dataset.split} does not hold (or "
                "dataset.limit leaves out): samples.json of a run lists the ids."
            )


def _check_head_count(config: Config, identity: ModelIdentity) -> None:
    """What no discovery can yield is refused before the attention pass."""
    skipped = config.criterion.skip_layers
    admitted = max(identity.layers - skipped, 0) * identity.heads
    if config.heads.k > admitted:
        raise ConfigError(
            f"heads.k={config.heads.k} is more than the {admitted} heads that can be chosen: the model has "
            f"{identity.layers} layers of {identity.heads} heads, and criterion.skip_layers={skipped} leaves out the "
            "first layers."
        )
