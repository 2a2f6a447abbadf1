"""A checkpoint's parts as transformers reads them, what they lack put right; every kind of failure is a sentence."""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import constants as hub
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor
from transformers.utils import cached_file, is_torchvision_available
from transformers.utils import logging as transformers_log

from locheads.errors import ModelError, boundary
from locheads.models.batching import is_out_of_memory
from locheads.models.config import ModelConfig
from locheads.models.convert.checkpoint import settings_if_any
from locheads.models.convert.original_tokenizers import sentencepiece_tokenizer
from locheads.models.identity import PARTS, POCKET_FOLDERS
from locheads.models.image_backend import Choice, choose
from locheads.text import reason

FAMILY_PACKAGES = ("torchvision", "num2words")
"""What the processors of some families import, and make install EXTRAS=families brings."""
SMALL = ("*.json", "*.model", "*.txt", "*.jinja", "*.py")
"""Of a hub's repository what is no weight."""


def _side(size: Any) -> int:
    return size if isinstance(size, int) else size[0]


def _patches(vision: Any) -> int:
    return (_side(vision.image_size) // _side(vision.patch_size)) ** 2


FIELDS: dict[str, Callable[[Any], Any]] = {
    "patch_size": lambda model: _side(model.vision_config.patch_size),
    # ViP-LLaVA's is always this one.
    "vision_feature_select_strategy": lambda model: getattr(model, "vision_feature_select_strategy", "default"),
    "vision_aspect_ratio": lambda model: model.vision_aspect_ratio,
    # A CLIP tower puts one token of its own before those of the patches.
    "num_additional_image_tokens": lambda model: int(model.vision_config.model_type == "clip_vision_model"),
    "num_image_tokens": lambda model: _patches(model.vision_config),
    "image_seq_length": lambda model: getattr(model, "mm_tokens_per_image", None) or model.image_seq_length,
    "image_seq_len": lambda model: _patches(model.vision_config) // model.scale_factor**2,
    "spatial_merge_size": lambda model: model.spatial_merge_size,
}
"""Settings of processors that decide how many tokens an image has -> what the model's configuration says of them."""


def read_configuration(source: str, config: ModelConfig) -> Any:
    """Of the part that takes images and text: of Qwen-Omni the thinker, which a talker follows. Raises ModelError."""
    checkpoint = read(source, config, AutoConfig.from_pretrained)
    thinker = getattr(checkpoint, "thinker_config", None)
    if thinker is None:
        return checkpoint
    thinker._commit_hash = getattr(checkpoint, "_commit_hash", None)
    return thinker


def load_processor(source: str, config: ModelConfig, checkpoint: Any) -> Any:
    """The checkpoint's processor; what its folder does not say of it is taken from the model's configuration.

    Raises:
        ModelError: a part of it is missing or cannot be read, or neither says how many tokens an image has.
        ConfigError: as `choose`.
    """
    choice = image_choice(source, config, checkpoint)
    with readable(source, config) as path:
        processor = read(path, config, AutoProcessor.from_pretrained, named=source)
        _check_parts(processor, source)
        # Not by an option of AutoProcessor: it hands that on to the tokenizer and to the video part. A class that names
        # no backend (Emu3's) has one form only.
        if choice is not None and getattr(processor.image_processor, "backend", choice.taken) != choice.taken:
            processor.image_processor = read_image_processor(path, config, choice, source)
        with boundary(f"The settings of the processor of {source} cannot be completed", ModelError, PARTS):
            settings, _ = type(processor).get_processor_dict(path, revision=config.revision)
            return completed(processor, settings, checkpoint, source)


def image_choice(
    source: str, config: ModelConfig, checkpoint: Any, installed: bool = is_torchvision_available()
) -> Choice | None:
    """The form of the checkpoint's image processor; see `choose`. Raises ConfigError, ModelError."""
    nested = _content(source, config, "processor_config.json").get("image_processor")
    settings = nested if isinstance(nested, dict) else _content(source, config, "preprocessor_config.json")
    # The pocket models' was PIL's. Their files stay as they are: published heads name their digest.
    by_5 = nested is settings and config.id not in POCKET_FOLDERS
    return choose(config.image_backend, settings, by_5, checkpoint.model_type, installed)


def read_image_processor(source: str, config: ModelConfig, choice: Choice | None, named: str = "") -> Any:
    """In the form of the choice. Raises ModelError."""
    form = {} if choice is None else {"backend": choice.taken.value}
    return read(source, config, AutoImageProcessor.from_pretrained, named=named, **form)


def complete(processor: Any, checkpoint: Any, source: str) -> Any:
    """As `load_processor` of a processor that was loaded elsewhere: what it has from its kind alone counts as not said.

    Raises:
        ModelError: a part of it is missing, or nothing says how many tokens an image has.
    """
    _check_parts(processor, source)
    with boundary(f"The settings of the processor of {source} cannot be completed", ModelError, PARTS):
        return completed(processor, _said(processor), checkpoint, source)


def _said(processor: Any) -> dict[str, Any]:
    """The settings of a processor that are not its kind's defaults, its chat template among them."""
    known = inspect.signature(type(processor).__init__).parameters.values()
    usual = {one.name: one.default for one in known if one.name not in type(processor).get_attributes()}
    said = {name: getattr(processor, name, default) for name, default in (usual | {"chat_template": None}).items()}
    return {name: value for name, value in said.items() if value != usual.get(name)}


def _check_parts(processor: Any, source: str) -> None:
    """Without a processor's file transformers gives the bare tokenizer, or the bare image processor."""
    for part in ("tokenizer", "image_processor"):
        if getattr(processor, part, None) is None:
            raise ModelError(
                f"{source} has no {part.replace('_', ' ')} that goes with its model: the folder lacks a file "
                "(processor_config.json, preprocessor_config.json, tokenizer.json); download or save it again."
            )


def lacking_fields(processor: Any, settings: dict[str, Any]) -> list[str]:
    """Of `FIELDS` those that such a processor has and its settings do not say."""
    known = inspect.signature(type(processor).__init__).parameters
    # Aya Vision's patches are scaled by this, and its own values for both are right together.
    apart = {"patch_size"} if "downsample_factor" in known else set()
    return [name for name in FIELDS if name in known and name not in apart and settings.get(name) is None]


def completed(processor: Any, settings: dict[str, Any], checkpoint: Any, source: str) -> Any:
    """The processor made again with what its settings (processor_config.json) lack, where they lack something.

    Raises:
        ModelError: the model's configuration does not say it, either.
    """
    kind = type(processor)
    found: dict[str, Any] = {}
    for name in lacking_fields(processor, settings):
        try:
            found[name] = FIELDS[name](checkpoint)
        except (AttributeError, TypeError) as error:
            if getattr(processor, name, None) is None:
                raise ModelError(
                    f"The processor of {source} lacks {name}, and config.json does not say it: add it to "
                    "processor_config.json, or take that file from the checkpoint that this one was made of."
                ) from error
    if all(getattr(processor, name, None) == value for name, value in found.items()):
        return processor
    return kind.from_args_and_dict([getattr(processor, part) for part in kind.get_attributes()], settings | found)


@contextmanager
def readable(source: str, config: ModelConfig) -> Iterator[str]:
    """The source itself or, where its tokenizer is tokenizer.model alone, a folder that has tokenizer.json, too.

    transformers makes another tokenizer of the pieces, which puts no space before a text behind a special token, or
    none at all.
    """
    ready, pieces = (_file(source, config, name) for name in ("tokenizer.json", "tokenizer.model"))
    if ready is not None or pieces is None:
        yield source
        return
    folder = Path(source)
    if not folder.is_dir():
        with boundary(f"{source} cannot be downloaded", ModelError, "try again, or name a folder."):
            folder = Path(snapshot_download(source, revision=config.revision, allow_patterns=list(SMALL)))
    with TemporaryDirectory() as made:
        settings = sentencepiece_tokenizer(folder, Path(made) / "tokenizer.json")
        (Path(made) / "tokenizer_config.json").write_text(json.dumps(settings))
        for file in folder.glob("*"):
            if any(file.match(pattern) for pattern in SMALL) and not (Path(made) / file.name).exists():
                (Path(made) / file.name).symlink_to(file.resolve())
        yield made


def _file(source: str, config: ModelConfig, name: str) -> str | None:
    """Where a file of the checkpoint lies; None where it has none."""
    options = dict.fromkeys(("missing_entries", "connection_errors", "gated_repo"), False)
    quiet = {f"_raise_exceptions_for_{kind}": value for kind, value in options.items()}
    with boundary(f"{source} cannot be read", ModelError, where(source)):
        return cached_file(source, name, revision=config.revision, **quiet)


def _content(source: str, config: ModelConfig, name: str) -> dict[str, Any]:
    """Of a file of settings; empty where the checkpoint has none. Raises ModelError."""
    file = _file(source, config, name)
    return {} if file is None else settings_if_any(Path(file))


def read(source: str, config: ModelConfig, loader: Callable[..., Any], /, named: str = "", **options: Any) -> Any:
    """Runs a from_pretrained; its many kinds of failure become one sentence, about `named` where that is given."""
    level, bar = transformers_log.get_verbosity(), transformers_log.is_progress_bar_enabled()
    name = named or source
    need = "model.id must be 'pocket', a folder with a transformers checkpoint, or a hub id that is downloaded or can "
    try:
        # Its image processors announce that they do without torchvision, and its loader that there are weights of
        # layers that we left out: expected, and of no consequence.
        transformers_log.set_verbosity_error()
        if Path(source).is_dir():  # nothing to download, and copying weights in memory needs no bar
            transformers_log.disable_progress_bar()
        with boundary(f"Cannot load the model {name}", ModelError, f"{where(name)}. {need}be reached.", _named_apart):
            return loader(source, revision=config.revision, trust_remote_code=config.trust_remote_code, **options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_apart(name, error)) from error
    finally:
        transformers_log.set_verbosity(level)
        if bar:
            transformers_log.enable_progress_bar()


def _named_apart(error: BaseException) -> bool:
    return isinstance(error, ImportError) or _package(error) is not None or is_out_of_memory(error)


def _package(error: BaseException) -> str | None:
    """The package of the families that an error names."""
    return next((name for name in FAMILY_PACKAGES if name in str(error).lower()), None)


def _apart(name: str, error: Exception) -> str:
    """The sentence for lack of memory, or of a package."""
    if is_out_of_memory(error):
        return (
            f"{name} does not fit into the memory of its device: choose engine.device_map=auto, "
            "model.dtype=bfloat16 or engine.quantization, or set engine.maps to a heads.json to load fewer layers."
        )
    extra = "make install EXTRAS=families brings what the families of conf/model need."
    how = extra if _package(error) else "install it beside LocHeads, or use another form of the checkpoint."
    return f"{name} needs a package that is not installed ({reason(error)}): {how}"


def where(source: str) -> str:
    """Where the checkpoint was looked for."""
    if Path(source).is_dir():
        return "the folder is there, but one of its files is missing, damaged or of another model"
    cache = f"looked for it among the downloads in {hub.HF_HUB_CACHE}"
    if hub.HF_HUB_OFFLINE:
        return f"{cache} only, because HF_HUB_OFFLINE is set (as it is for workers: run stage=fetch first)"
    return f"{cache} and at {hub.ENDPOINT}"
