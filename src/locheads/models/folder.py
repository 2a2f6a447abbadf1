"""What a checkpoint's folder says of itself, checked in seconds from its files: no weight is read, but for one norm's.

A check is a function of the folder. It returns what it found, or raises the ModelError that a run ends with: the lines
of a verification and the refusals of a load are the same sentences.
"""

import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from locheads import dotted
from locheads.errors import ConfigError, DataError, ModelError, boundary
from locheads.models.adapters import FAMILIES, ON_THE_HUB, adapter_class
from locheads.models.config import DType, ModelConfig, PromptConfig
from locheads.models.convert.checkpoint import INDEXES, Checkpoint, settings_if_any
from locheads.models.convert.conversion import FORMATS
from locheads.models.convert.from_llava import DELTA_NORM
from locheads.models.findings import Finding, Outcome
from locheads.models.identity import PARTS, source_of
from locheads.models.processors import lacking_fields, load_processor, read, read_configuration, readable
from locheads.models.prompts import chat_prompt_text

TEMPLATE = "chat template"
"""The check without which a model can still be looked at, if not asked in a chat."""
POINTER = b"version https://git-lfs"
"""How the text begins that git leaves where git-lfs has not brought the file."""
BYTES = {DType.float32: 4, DType.bfloat16: 2, DType.float16: 2}
PACKERS = {"gptq": "gptqmodel", "awq": "gptqmodel", "fp8": "accelerate", "compressed-tensors": "compressed_tensors",
           "bitsandbytes": "bitsandbytes", "gguf": "gguf"}  # fmt: skip
"""Ways of quantising weights -> the package that reads them."""
PACKED = (".qweight", ".qzeros", ".SCB", ".absmax", ".weight_scale", ".weight_scale_inv", ".weight_packed", ".scales")
"""Ends of tensors' names that only quantised weights have."""
WRAPPED = {
    "base_model.model.": "peft leaves before them: save what its merge_and_unload() returns",
    "module.": "DistributedDataParallel leaves before them: save its .module",
    "_orig_mod.": "torch.compile leaves before them: save its ._orig_mod",
    "_forward_module.": "a trainer leaves before them: save the model itself",
}
"""Beginnings of tensors' names that a wrapper of the model has left -> what to do."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tiktoken.model")
"""Files that hold the words of a tokenizer."""
APART = ("vision", "visual", "image", "audio", "talker")
"""One of these stands in the name of every tensor of a tower, or of what speaks: of all that is no text decoder."""


FOREIGN = {
    ".gguf": "quantised for llama.cpp: use the transformers checkpoint that it was made from.",
    ".npz": "weights of MLX: use the transformers checkpoint that they were made from.",
    ".pth": "weights in their authors' own format: use the transformers form, often named -hf.",
    "params.json": "settings in their authors' own format: use the transformers form, often named -hf.",
    ".ckpt": "a trainer's checkpoint: save the model with save_pretrained.",
    ".distcp": "a part of a distributed run's checkpoint: save the whole model with save_pretrained.",
}
"""Ends of files that take the place of transformers' -> what they are, and what to do."""


class NotApplicable(str):
    """What a check says that has nothing to look at."""


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder, its files read when they are asked for."""

    path: Path
    config: ModelConfig
    downloaded: bool
    """A download of the hub's, of which not every file need be here yet."""

    @cached_property
    def names(self) -> frozenset[str]:
        """Of its files."""
        return frozenset(file.name for file in self.path.iterdir())

    @cached_property
    def settings(self) -> dict[str, Any]:
        """config.json; empty where there is none. Raises ModelError for a damaged one."""
        return settings_if_any(self.path / "config.json")

    @cached_property
    def model(self) -> Any:
        """config.json with its family's defaults. Raises ModelError."""
        if dotted.is_dotted(self.config.adapter or ""):  # its module may make a family of the user's own known
            dotted.load(str(self.config.adapter), None, "model.adapter")
        return read_configuration(str(self.path), self.config)

    @cached_property
    def text(self) -> Any:
        """The text decoder's part of it. Raises ModelError."""
        with boundary(f"config.json of {self.path} describes no text decoder", ModelError, PARTS):
            return self.model.get_text_config(decoder=True)

    @cached_property
    def weights(self) -> Checkpoint:
        """Raises ModelError where weight files are missing."""
        return Checkpoint(self.path)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor's shape and type by its name. Raises ModelError for damaged files."""
        return dict(self.weights.outlines())

    @cached_property
    def tokenizer(self) -> Any:
        """Raises ModelError."""
        with readable(str(self.path), self.config) as path:
            return read(path, self.config, AutoTokenizer.from_pretrained, named=str(self.path))

    @cached_property
    def processor(self) -> Any:
        """Raises ModelError as `load_processor`."""
        return load_processor(str(self.path), self.config, self.model)


Check = Callable[[Folder], str]


def check_folder(config: ModelConfig, prompt: PromptConfig | None = None) -> list[Finding]:
    """One line for every check of the checkpoint's folder, in an order in which the first failure explains the rest.

    Args:
        config: which checkpoint.
        prompt: how it will be asked; None: without its chat template.

    Raises:
        ModelError: there is no such folder.
    """
    folder = folder_of(config)
    if folder is None:
        return [Finding("folder", Outcome.not_applicable, f"{config.id} is not downloaded: run stage=fetch first")]
    checks = {**FORMAT, **WEIGHTS, **PARTS_OF_IT, TEMPLATE: lambda folder: _chat_template(folder, prompt)}
    findings: list[Finding] = []
    for name, check in checks.items():
        findings.append(_finding(name, check, folder))
        if findings[-1].outcome == Outcome.failed and name in FORMAT:
            break  # the rest asks for a checkpoint that can be used
    return findings


def refuse(config: ModelConfig, checks: dict[str, Check]) -> None:
    """Raises the ModelError of the first of these checks that fails; nothing for what is not downloaded yet."""
    folder = folder_of(config)
    if folder is not None:
        for check in checks.values():
            _run(check, folder)


def folder_of(config: ModelConfig) -> Folder | None:
    """Where the checkpoint lies; None for a hub id of which nothing is downloaded. Raises ModelError."""
    source = source_of(config)
    if Path(source).is_dir():
        return Folder(Path(source), config, downloaded=False)
    with boundary(f"The downloads of {source} cannot be read", ModelError, "is it a hub id, owner/name?"):
        found = try_to_load_from_cache(source, "config.json", revision=config.revision)
    return Folder(Path(found).parent, config, downloaded=True) if isinstance(found, str) else None


def _run(check: Check, folder: Folder) -> str:
    with boundary(f"The files of {folder.path} cannot be read", ModelError, PARTS):
        return check(folder)


def _finding(name: str, check: Check, folder: Folder) -> Finding:
    try:
        found = _run(check, folder)
    except ModelError as error:
        # What a library says stands in parentheses, and may hold a colon.
        end = "): " if "): " in str(error) else ": "
        text, _, advice = str(error).partition(end)
        return Finding(name, Outcome.failed, text + end.rstrip(": "), advice)
    return Finding(name, Outcome.not_applicable if isinstance(found, NotApplicable) else Outcome.passed, str(found))


# The format.


def _whole_files(folder: Folder) -> str:
    """No file is a stand-in for one that git-lfs has not brought."""
    files = [file for file in sorted(folder.path.iterdir()) if file.is_file()]
    pointers = [file.name for file in files if _begins(file) == POINTER]
    if pointers:
        raise ModelError(
            f"{folder.path} has {len(pointers)} git-lfs pointers in place of files, such as {pointers[0]}: run git lfs "
            "install and git lfs pull in it, or download it with stage=fetch."
        )
    return f"{len(files)} files"


def _begins(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(len(POINTER))


def _transformers_form(folder: Folder) -> str:
    """It is a whole model in transformers' form, and no adapter lies beside it."""
    if "adapter_config.json" in folder.names:
        raise ModelError(_adapter(folder))
    if "config.json" not in folder.names:
        raise ModelError(_no_settings(folder))
    settings, kind = folder.settings, folder.settings.get("model_type")
    if any(form.fits(settings) for form in FORMATS.values()):
        delta = " --base LANGUAGE_MODEL" if _named_delta(folder) else ""
        raise ModelError(
            f"{folder.path} is in its authors' original format: convert it with python -m locheads.models.convert "
            f"{folder.path} NEW{delta}, and use model.id=NEW."
        )
    if "mm_vision_tower" in settings or "mm_projector_type" in settings:
        raise ModelError(
            f"{folder.path} is in a form of LLaVA's original format that is not converted ({_classes(settings)}): use "
            "its transformers form, often a repository whose name ends in -hf."
        )
    if not isinstance(kind, str):
        raise ModelError(f"config.json of {folder.path} names no model_type: it is no transformers checkpoint's.")
    return f"transformers, {kind} ({_classes(settings)})"


def _classes(settings: dict[str, Any]) -> str:
    return ", ".join(map(str, settings.get("architectures") or ["no architecture named"]))


def _adapter(folder: Folder) -> str:
    """The sentence for an adapter alone, or beside a model."""
    settings = settings_if_any(folder.path / "adapter_config.json")
    base, kind = settings.get("base_model_name_or_path") or "a base that it does not name", settings.get("peft_type")
    merge = (
        f"in peft, PeftModel.from_pretrained(base, '{folder.path}').merge_and_unload().save_pretrained(NEW) makes one "
        "model of both; save the base's processor there, too, and use model.id=NEW"
    )
    whole = any(name.startswith(("model.safetensors", "model-0", "pytorch_model")) for name in folder.names)
    if whole:
        return (
            f"{folder.path} holds a {kind} adapter (adapter_config.json) beside a whole model, and it is not said "
            f"which is meant: {merge}; or take adapter_config.json away to use the model without it."
        )
    return f"{folder.path} holds a {kind} adapter alone, whose base is {base}: {merge}."


def _no_settings(folder: Folder) -> str:
    """The sentence for a folder without config.json."""
    found = (file for pattern in ("*/config.json", "*/*/config.json") for file in folder.path.glob(pattern))
    inside = sorted(file.parent for file in found)
    if inside:
        return f"{folder.path} is no checkpoint, but holds some: use model.id={inside[0]}."
    hint = "name a folder with a transformers checkpoint, or download it again."
    return f"{folder.path} has no config.json{_foreign(folder) or f': {hint}'}"


def _foreign(folder: Folder) -> str | None:
    """How the sentence on what is missing ends where weights of another form are there instead."""
    for name in sorted(folder.names):
        what = next((what for end, what in FOREIGN.items() if name.endswith(end)), None)
        if what is not None:
            return f", and holds {name}, {what}"
    return None


def _family(folder: Folder) -> str:
    """Its family can be used."""
    settings, kind = folder.settings, folder.settings["model_type"]
    if folder.config.adapter is not None:
        return NotApplicable(f"{kind}, by the adapter {folder.config.adapter}")
    unknown = kind not in {*FAMILIES, *CONFIG_MAPPING_NAMES, *ON_THE_HUB}
    if unknown and "auto_map" in settings and not folder.config.trust_remote_code:
        raise ModelError(
            f"{folder.path} is a {kind!r} model, whose code lies beside its weights and is not run: use its form for "
            "transformers, often named -hf; or, where you have read and trust that code, set "
            "model.trust_remote_code=true and model.adapter to an adapter of your own."
        )
    kind = str(kind) if unknown or kind in ON_THE_HUB else folder.model.model_type
    adapter_class(kind, str(folder.path))
    return kind


def _precision(folder: Folder) -> str:
    """Its weights are whole numbers of bits, or the package that unpacks them is there."""
    settings = folder.settings
    if "quantization" in settings:  # MLX's name for it
        raise ModelError(
            f"{folder.path} is quantised for MLX: use the transformers checkpoint that it was made from, and "
            "engine.quantization=4bit where memory is short."
        )
    packed = settings.get("quantization_config")
    if not isinstance(packed, dict):
        return "weights are not quantised"
    method = str(packed.get("quant_method", "an unnamed way"))
    package = PACKERS.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ModelError(
            f"{folder.path} is quantised ({method}), which needs the package {package}: use the checkpoint that it "
            "was made from, with engine.quantization=4bit where memory is short."
        )
    return f"quantised ({method}): attention rows are not those of the original"


# The weights.


def _weight_files(folder: Folder) -> str:
    """The weight files are there, whole, and hold what their index says."""
    try:
        files = folder.weights.files
    except ModelError as error:
        if folder.downloaded:
            return NotApplicable("not all weights are downloaded yet: run stage=fetch first")
        if foreign := _foreign(folder):
            raise ModelError(f"{folder.path} has no weights for transformers{foreign}") from error
        raise error
    if files[0].suffix == ".safetensors" and _written_by(files[0]) == "mlx":
        raise ModelError(
            f"{folder.path} holds weights of MLX, whose tensors have other shapes: use the transformers checkpoint "
            "that they were made from."
        )
    indexed = any(name in folder.names for name in INDEXES)
    if not indexed and not {"model.safetensors", "pytorch_model.bin"} & {file.name for file in files}:
        raise ModelError(
            f"{folder.path} has weights ({files[0].name}) and no index that says what is where: download "
            f"{INDEXES[0]}, too, or name a single file model.safetensors."
        )
    return f"{len(files)} files of {len(folder.tensors)} tensors"


def _written_by(file: Path) -> str | None:
    broken = boundary(f"{file} is damaged or incomplete", ModelError, "download it again.")
    with broken, safe_open(file, framework="pt") as opened:
        return (opened.metadata() or {}).get("format")


def _tensor_names(folder: Folder) -> str:
    """The tensors are named as the model's are, and there are those of every decoder layer."""
    if not _present(folder):
        return NotApplicable("no weights to look into")
    names = folder.tensors.keys()
    for start, why in WRAPPED.items():
        if sum(name.startswith(start) for name in names) > len(names) / 2:
            raise ModelError(f"The tensors of {folder.path} are named {start}..., which {why}.")
    if lora := next((name for name in names if "lora_A" in name), None):
        raise ModelError(f"{folder.path} holds layers of LoRA, such as {lora}: save what merge_and_unload() returns.")
    llava = str(folder.settings.get("model_type")).startswith("llava")  # Kimi has a projector of the same name
    if llava and any(name.startswith(("model.mm_projector.", "model.vision_tower.vision_tower.")) for name in names):
        raise ModelError(
            f"The tensors of {folder.path} are named as in LLaVA's original format, and config.json is not of it: "
            "take the original's config.json and convert it, python -m locheads.models.convert."
        )
    packed = next((name for name in names if name.endswith(PACKED)), None)
    if packed and "quantization_config" not in folder.settings:
        raise ModelError(
            f"{folder.path} holds quantised weights, such as {packed}, and config.json does not say how: use the "
            "checkpoint that it was made from."
        )
    return _layers(folder)


def _layers(folder: Folder) -> str:
    found = {int(part) for name in folder.tensors if not _apart(name) for part in re.findall(r"layers\.(\d+)\.", name)}
    needed = folder.text.num_hidden_layers
    absent = sorted(set(range(needed)) - found)
    if found and absent:
        raise ModelError(
            f"{folder.path} lacks the weights of {len(absent)} of its {needed} decoder layers, such as layer "
            f"{absent[0]}: the file is incomplete or belongs to another model; download or save it again."
        )
    return f"{needed} decoder layers"


def _apart(name: str) -> bool:
    return any(part in name for part in APART)


def _present(folder: Folder) -> bool:
    try:
        return bool(folder.tensors)
    except ModelError:
        return False


def _vocabulary(folder: Folder) -> str:
    """The embeddings are as many as config.json says, and the image's token is one of them."""
    rows = _rows(folder)
    if rows is None:
        return NotApplicable("no embeddings to look into")
    said, image = getattr(folder.text, "vocab_size", rows), getattr(folder.model, "image_token_id", None)
    if rows != said:
        raise ModelError(
            f"The weights of {folder.path} hold {rows} token embeddings, and config.json says vocab_size {said}: one "
            "of them is another model's, or was saved before tokens were added; save the whole model again."
        )
    if isinstance(image, int) and image >= rows:
        raise ModelError(
            f"The image's token of {folder.path} has the id {image}, and there are {rows} token embeddings: "
            "config.json belongs to another model; download or save the checkpoint again."
        )
    return f"{rows} token embeddings"


def _rows(folder: Folder) -> int | None:
    if not _present(folder):
        return None
    names = (name for name in folder.tensors if name.endswith("embed_tokens.weight") and not _apart(name))
    found = (folder.tensors[name] for name in names)
    return next((len(tensor) for tensor in found if tensor.dim() == 2), None)


def _no_difference(folder: Folder) -> str:
    """The weights are a model's, not what is to be added to a base."""
    if _named_delta(folder):
        raise ModelError(_delta(folder))
    name = next((name for name in folder.tensors if _is_last_norm(name)), None) if _present(folder) else None
    # Gemma's norms are stored as the difference to 1.
    if name is None or "gemma" in folder.text.model_type or not folder.tensors[name].is_floating_point():
        return NotApplicable("no norm by which it shows")
    norm = folder.weights.find(name)
    if norm is not None and norm.float().abs().mean() < DELTA_NORM:
        raise ModelError(_delta(folder))
    return "the last norm is a model's own"


def _is_last_norm(name: str) -> bool:
    return name.endswith("model.norm.weight") and not _apart(name)


def _named_delta(folder: Folder) -> bool:
    names = (folder.path.name, folder.config.id, str(folder.settings.get("_name_or_path", "")))
    return any(re.search(r"(^|[-_])delta([-_]|$)", Path(name).name.lower()) for name in names)


def _delta(folder: Folder) -> str:
    return (
        f"{folder.path} holds delta weights, the difference to a base model: add the base's weights to them as their "
        "page says, and use model.id= the folder of the sum."
    )


# What goes with the weights.


def _tokenizer_file(folder: Folder) -> str:
    """There is a file with the words of a tokenizer: without one, transformers may make an empty one."""
    found = sorted(folder.names & set(TOKENIZERS))
    if found:
        return ", ".join(found)
    if folder.downloaded:
        return NotApplicable("no tokenizer is downloaded yet: run stage=fetch first")
    raise ModelError(
        f"{folder.path} has no tokenizer (tokenizer.json, tokenizer.model or vocab.json): download it again, or copy "
        "those of the checkpoint that this one was made of."
    )


def _processor(folder: Folder) -> str:
    """Image processor and tokenizer can be read; what they lack is known."""
    processor = folder.processor
    lacking = lacking_fields(processor, settings_if_any(folder.path / "processor_config.json"))
    filled = f"; {', '.join(lacking)} taken from config.json" if lacking else ""
    return f"{type(processor).__name__}, {type(processor.image_processor).__name__}{filled}"


def _tokenizer(folder: Folder) -> str:
    """The tokenizer knows the image's token, and nothing that the weights do not."""
    tokenizer, image = folder.tokenizer, getattr(folder.model, "image_token_id", None)
    _same_tokens(folder)
    size, rows = len(tokenizer), _rows(folder)
    if isinstance(image, int) and tokenizer.convert_ids_to_tokens(image) is None:
        raise ModelError(
            f"The tokenizer of {folder.path} has {size} tokens, and none with the image's id {image}: it is another "
            "model's, such as the language model's alone; take the files of the checkpoint that this one was made of."
        )
    if rows is not None and size > rows:
        raise ModelError(
            f"The tokenizer of {folder.path} has {size} tokens, and the weights {rows} token embeddings: tokens were "
            "added after the model was saved; save model and tokenizer together."
        )
    return f"{size} tokens, the image's is {tokenizer.convert_ids_to_tokens(image)!r}"


def _same_tokens(folder: Folder) -> None:
    """transformers builds some classes of tokenizer anew from the words of tokenizer.json, not as that file has it."""
    if "tokenizer.json" not in folder.names:
        return
    text = f"hello{folder.tokenizer.eos_token or ' '}hello  it's\n12 left."
    ready = Tokenizer.from_file(str(folder.path / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    if folder.tokenizer(text, add_special_tokens=False)["input_ids"] != ready:
        raise ModelError(
            f"transformers reads {folder.path} as a {type(folder.tokenizer).__name__}, with other tokens than its "
            "tokenizer.json: write PreTrainedTokenizerFast as tokenizer_class in tokenizer_config.json."
        )


def _chat_template(folder: Folder, prompt: PromptConfig | None) -> str:
    """It renders a question, where the prompt asks for it."""
    asked = PromptConfig(name="of a chat", template="{expression}", chat=True) if prompt is None else prompt
    if not asked.chat:
        return NotApplicable(f"prompt={asked.name} asks without it")
    try:
        question = chat_prompt_text(asked, "the red cup", folder.processor)
    except ModelError:
        return NotApplicable("no processor that could be asked")
    except (ConfigError, DataError) as error:
        if prompt is None:
            return NotApplicable("there is none that works, and only prompts with chat=true need it")
        raise ModelError(str(error)) from error
    return repr(question.text)


def _memory(folder: Folder) -> str:
    """Gigabytes by type of number; the machine's own memory must hold those of the chosen one."""
    if not _present(folder):
        return NotApplicable("no weights to look into")
    numbers = sum(tensor.numel() for tensor in folder.tensors.values())
    disk = sum(file.stat().st_size for file in folder.weights.files) / 1e9
    needs = ", ".join(f"{dtype.value} {numbers * size / 1e9:.1f} GB" for dtype, size in BYTES.items())
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if numbers * BYTES[folder.config.dtype] / 1e9 > there and not torch.cuda.is_available():
        raise ModelError(
            f"The weights of {folder.path} need more memory than the {there:.1f} GB of this machine ({needs}): choose "
            "model.dtype=bfloat16, or a machine with a GPU."
        )
    return f"{disk:.1f} GB on disk; in memory {needs}, of {there:.1f} GB"


FORMAT: dict[str, Check] = {
    "files": _whole_files,
    "format": _transformers_form,
    "family": _family,
    "precision": _precision,
}
"""Whether it is a checkpoint that can be used at all: asked before anything else is."""
WEIGHTS: dict[str, Check] = {
    "weight files": _weight_files,
    "tensor names": _tensor_names,
    "vocabulary": _vocabulary,
    "delta weights": _no_difference,
    "tokenizer files": _tokenizer_file,
}
"""Asked before the weights load."""
PARTS_OF_IT: dict[str, Check] = {"tokenizer": _tokenizer, "processor": _processor, "memory": _memory}
"""Loading finds these by itself, or they only warn."""
