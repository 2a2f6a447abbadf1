"""What a checkpoint's folder says of itself, checked in seconds from its files: no weight is read, but for one norm's.

A check is a function of the folder. It returns what it found, or raises the ModelError that a run ends with: the lines
of a verification and the refusals of a load are the same sentences.
"""

from tokenizers import Tokenizer

from locheads.errors import ConfigError, DataError, ModelError, boundary
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.convert.checkpoint import settings_if_any
from locheads.models.findings import Finding, Outcome
from locheads.models.folder import Check, Folder, NotApplicable, folder_of
from locheads.models.folder_format import FORMAT
from locheads.models.folder_weights import WEIGHT_FILES, memory
from locheads.models.identity import PARTS
from locheads.models.processors import lacking_fields
from locheads.models.prompts import chat_prompt_text

TEMPLATE = "chat template"
"""The check without which a model can still be looked at, if not asked in a chat."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tiktoken.model")
"""Files that hold the words of a tokenizer."""


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
    size, rows = len(tokenizer), folder.embeddings
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


WEIGHTS: dict[str, Check] = {**WEIGHT_FILES, "tokenizer files": _tokenizer_file}
"""Asked before the weights load."""
PARTS_OF_IT: dict[str, Check] = {"tokenizer": _tokenizer, "processor": _processor, "memory": memory}
"""Loading finds these by itself, or they only warn."""
