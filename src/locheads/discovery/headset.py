"""Localization heads as a file: the heads.json of a run, or a set that is published with the package."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from locheads.dependence.word_verdict import Follows
from locheads.errors import ConfigError, StoreError
from locheads.geometry import Preprocess
from locheads.models.config import ModelConfig, PromptConfig
from locheads.records.follows import FollowsRecord
from locheads.records.heads_file import SCHEMA, AskedModel, HeadSetFile, HowFound
from locheads.records.receipt_file import refuse_changed
from locheads.records.record_base import decode_json
from locheads.text import reason
from locheads.types import HeadIndex, heads_above_zero


@dataclass(frozen=True)
class HeadSet:
    """Localization heads that were found elsewhere, as a heads.json gives them."""

    heads: tuple[HeadIndex, ...]
    """The most frequent first."""
    name: str
    """Its path, or its name among the published ones."""
    source: str
    """Who found the heads, in words."""
    model: str | None
    """Id of the model in which they were found."""
    layers: int
    """Of that model."""
    heads_per_layer: int
    revision: str | None = None
    """Commit of its hub repository; None where the file does not say."""
    found_on: tuple[str, str] | None = None
    """(data set, split) of the discovery; None where the file does not say."""
    preprocess: Preprocess | None = None
    """How the model saw the images of the discovery; None where the file does not say."""
    tiles: bool = False
    prompt: PromptConfig | None = None
    """What it was asked there; None where the file does not say."""
    follows: FollowsRecord | None = None
    """Whether these heads follow the words, as the run that found them judged; None where the file does not say."""
    how: HowFound | None = None
    """How they were found, in words."""
    ranks: Mapping[HeadIndex, int] = field(default_factory=dict)
    """The rank of every head whose rank the file tells, from 1: of `heads`, and of further ones."""
    frequency: Mapping[HeadIndex, float] = field(default_factory=dict)
    """The share of samples that chose the head, in [0, 1], where the file tells it."""


def read_headset(name: str | Path) -> HeadSet:
    """The localization heads of a file, the most frequent first.

    Args:
        name: a published set (see `published`), a heads.json, or a folder with one.

    Raises:
        StoreError: nothing is there, it is no heads.json, one of another schema version, or one in a run folder that is
            not what the run wrote.
    """
    path = _locate(name)
    refuse_changed(path.parent, [path.name])
    try:
        content = decode_json(path.read_bytes())
        version = content.get("schema")
        if version == SCHEMA:
            file = HeadSetFile.parse(_with_settings_of_its_run(content, path.with_name("config.yaml")))
            return _head_set(file, str(name))
    # json, yaml and the settings' own checks each raise kinds of their own.
    except Exception as error:
        raise StoreError(f"{path} is no heads.json of a run ({reason(error)}): make one with python run.py.") from error
    raise StoreError(
        f"{path} has the schema version {version}, and this version of LocHeads reads {SCHEMA}: make it again with "
        "python run.py stage=discover."
    )


def published() -> list[str]:
    """Names of the sets that come with the package. They begin with the name of a file in conf/model/."""
    return sorted(path.name.removesuffix(".json") for path in _folder().iterdir() if path.name.endswith(".json"))


def published_for(model: str) -> HeadSet | None:
    """The published set that is taken for the model with this id unasked, if there is one: that which bears the name
    of a file in conf/model/. The others must be named."""
    models = resources.files("locheads") / "conf/model"
    sets = (read_headset(name) for name in published() if (models / f"{name}.yaml").is_file())
    return next((found for found in sets if found.model == model), None)


def check_headset(heads: HeadSet, layers: int, heads_per_layer: int) -> None:
    """Raises ConfigError where a model of this many layers and heads cannot be the one of the set."""
    if (heads.layers, heads.heads_per_layer) != (layers, heads_per_layer):
        raise ConfigError(
            f"{heads.name} holds heads of {heads.model or 'a model'} with {heads.layers} layers of "
            f"{heads.heads_per_layer} heads, but this model has {layers} layers of {heads_per_layer} heads: use the "
            "heads.json of a run with this model."
        )


def differences(heads: HeadSet, model: ModelConfig, prompt: PromptConfig) -> list[str]:
    """A sentence per way in which the model is not asked as it was when the heads of the set were found."""
    sentences = []
    if heads.model not in (None, model.id):
        sentences.append(f"The heads of {heads.name} are those of {heads.model}; this model is {model.id}.")
    elif heads.revision is not None and heads.revision != model.revision:
        sentences.append(
            f"The heads of {heads.name} were found at revision {heads.revision} of {model.id}, and the one here is "
            f"{model.revision or 'not pinned'}."
        )
    if heads.preprocess not in (None, model.preprocess):
        sentences.append(
            f"The heads of {heads.name} were found with preprocess={heads.preprocess.value}, and images are prepared "
            f"with preprocess={model.preprocess.value} here."
        )
    if heads.preprocess is not None and heads.tiles != model.tiles:
        sentences.append(
            f"The heads of {heads.name} were found with tiles={heads.tiles}, but here is tiles={model.tiles}."
        )
    if heads.prompt is not None and _prompt_settings(heads.prompt) != _prompt_settings(prompt):
        sentences.append(
            f"The heads of {heads.name} were found with another prompt ({heads.prompt.template[:60]!r}, full_stop="
            f"{heads.prompt.full_stop}, chat={heads.prompt.chat}, query={heads.prompt.query}) than the one here."
        )
    return sentences


def doubts(heads: HeadSet) -> list[str]:
    """What the run that found the heads says against them."""
    judged = heads.follows
    if judged is None or judged.follows == Follows.follow:
        return []
    return [f"The heads of {heads.name} were judged on {judged.split}: {judged.sentence}"]


def _prompt_settings(prompt: PromptConfig) -> tuple[str, bool, bool, str]:
    return prompt.template, prompt.full_stop, prompt.chat, prompt.query


def parse_heads(names: Iterable[object]) -> tuple[HeadIndex, ...]:
    """ "L14H24" -> HeadIndex(14, 24).

    Raises:
        StoreError: anything else.
        ConfigError: no head, or one twice.
    """
    heads = tuple(name if isinstance(name, HeadIndex) else _parse_name(name) for name in names)
    if not heads:
        raise ConfigError('There are no heads: name at least one, such as ["L14H24"].')
    if twice := [head for head in heads if heads.count(head) > 1]:
        raise ConfigError(f"{twice[0]} is named {heads.count(twice[0])} times: name each head once.")
    return heads


def _folder() -> Any:
    return resources.files("locheads") / "heads"


def _locate(name: str | Path) -> Path:
    if str(name) in published():
        return Path(str(_folder() / f"{name}.json"))
    path = Path(name)
    if not str(name).strip() or not path.exists():
        raise StoreError(
            f"There is no head set {name or repr('')}: give the heads.json of a run, a folder with one, or the name "
            f"of a published set ({', '.join(published())})."
        )
    return path / "heads.json" if path.is_dir() else path


def _head_set(file: HeadSetFile, name: str) -> HeadSet:
    found_on, model = file.dataset, file.model or AskedModel()
    found = f"found by a run on {found_on.name} {found_on.split}" if found_on else "not said"
    return HeadSet(
        tuple(head.index for head in file.found),
        name,
        file.source or found,
        model.id,
        file.layers,
        file.heads_per_layer,
        revision=model.revision,
        found_on=(found_on.name, found_on.split) if found_on else None,
        preprocess=model.preprocess,
        tiles=model.tiles,
        prompt=_prompt(file),
        follows=file.follows,
        how=file.how or _how_of_run(file),
        ranks=_ranks(file),
        frequency=_frequency(file),
    )


def _how_of_run(file: HeadSetFile) -> HowFound:
    query = (file.prompt_settings or {}).get("query")
    return HowFound(
        row=None if query is None else f"prompt.query={query}",
        prompt=file.prompt,
        data=" ".join((file.dataset.name, file.dataset.split)) if file.dataset else None,
        criterion=file.criterion.get("name") if isinstance(file.criterion, dict) else None,
        n_samples=file.n_samples if isinstance(file.n_samples, int) and file.n_samples > 0 else None,
        date=None,
        by_us=None,
    )


def _ranks(file: HeadSetFile) -> dict[HeadIndex, int]:
    """Heads that were never chosen have no rank."""
    if (grid := file.score if file.score is not None else file.frequency_mean) is not None:
        heads = [head.index for head in file.found]
        listed = dict.fromkeys([*heads, *heads_above_zero(np.nan_to_num(grid))])
        return {head: rank for rank, head in enumerate(listed, start=1)}
    return {head.index: rank for rank, head in enumerate(file.found, start=1)} | {
        head.index: head.rank for head in file.also_ranked
    }


def _frequency(file: HeadSetFile) -> dict[HeadIndex, float]:
    if file.frequency_mean is not None:
        return {HeadIndex(*at): float(value) for at, value in np.ndenumerate(file.frequency_mean) if value > 0}
    known = {head.index: head.frequency_mean for head in (*file.found, *file.also_ranked)}
    return {head: value for head, value in known.items() if value is not None}


def _prompt(file: HeadSetFile) -> PromptConfig | None:
    settings = file.prompt_settings
    if settings is None and (template := file.prompt) is not None:
        # Of a run before these settings were recorded, and without its config.yaml. Only the model's chat template
        # places the image by itself.
        settings = {"name": "custom", "template": template, "chat": "<image>" not in template}
    if settings is None:
        return None
    return PromptConfig(**settings)


def _with_settings_of_its_run(content: dict[str, Any], config: Path) -> dict[str, Any]:
    """A heads.json from before it held all of the prompt gets that from the config.yaml beside it."""
    if "prompt_settings" in content or "prompt" not in content or not config.is_file():
        return content
    run = yaml.safe_load(config.read_text())
    # Another run's file may have been copied here.
    if run["prompt"]["template"] != content["prompt"]:
        return content
    model = content["model"] | {"tiles": run["model"].get("tiles", False)}
    return content | {"model": model, "prompt_settings": run["prompt"]}


def _parse_name(name: object) -> HeadIndex:
    match = re.fullmatch(r"L(\d{1,5})H(\d{1,5})", name, re.ASCII) if isinstance(name, str) else None
    if match is None:
        raise StoreError(f"{name!r} is no head: write layer and head, counted from 0, like L14H24.")
    return HeadIndex(int(match[1]), int(match[2]))
