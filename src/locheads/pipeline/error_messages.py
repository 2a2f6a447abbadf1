"""One sentence for everything that a user can correct, from whatever our code, Hydra or the system raised.

What is no mistake is a bug of ours: its traceback is kept in a file, which the sentence names.
"""

import logging
import re
import sys
import traceback
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from locheads.config import Config
from locheads.errors import LocHeadsError
from locheads.settings import misfit, nearest
from locheads.text import printable, reason

PACKAGE = Path(__file__).resolve().parents[1]
HELP = "See: python run.py --help"


def explain(error: BaseException) -> str | None:
    """The sentence; None for anything else, which is a bug and deserves its traceback."""
    if isinstance(error, LocHeadsError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _setting(error)
    if type(error).__module__.startswith("submitit."):
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return f"A job of the queue did not end well ({last}): its log is in the sweep's folder, under .submitit."
    # logging wraps what keeps it from opening the run's log.
    system = error.__cause__ if isinstance(error, ValueError) else error
    if isinstance(system, OSError):
        name = system.filename or "A file"
        return (
            f"{name} cannot be used ({system.strerror or system}): choose another folder (paths.outputs, paths.cache)."
        )
    return None


def explain_command(error: Exception) -> str | None:
    """As `explain`, for what arises outside of a run: all that Hydra and its plug-ins raise is about the command line.

    None where code of this package raised it, beyond the function that catches it.
    """
    if (sentence := explain(error)) is not None:
        return sentence
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)[1:]]
    if any(PACKAGE in file.parents for file in files):
        return None
    if group := re.match(r"Config group override must be a string or a list\. Got (\w+)", str(error)):
        named = [text for text in sys.argv[1:] if re.fullmatch(r"\+*[\w/@]*=[^'\"\[]*", text)]
        culprits = [text for text in named if re.search(r"^=|=(null|true|false|[-+.\d]*)$", text, re.IGNORECASE)]
        return (
            f"{' '.join(culprits or named)} chooses no file ({group[1]}): write GROUP=NAME, or leave it out for the "
            f"default. {HELP}"
        )
    return f"The command line cannot be used ({reason(error)}). {HELP}"


def log_bug(error: BaseException) -> str:
    """Writes the traceback to run.log, or to stderr where there is none, and returns the sentence on it."""
    where = f"in {file}" if (file := log_file()) and _write(file, error) else "above"
    if where == "above":
        traceback.print_exception(error)
    return f"This is a bug of LocHeads, not yours: the traceback is {where}; please report it."


def log_user_error(error: BaseException, sentence: str) -> None:
    """Writes the sentence to run.log (the terminal gets it at the end, once), and what a library raised behind it."""
    log = logging.getLogger(__name__)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, sentence, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
    if error.__cause__ is not None and (file := log_file()):
        _write(file, error.__cause__)


class LineFormatter(logging.Formatter):
    """A message is one line, whatever control characters a path or an expression in it holds; tracebacks are not."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def log_file() -> str | None:
    """Where this process writes its log, as a path."""
    handlers = logging.getLogger().handlers
    return next((handler.baseFilename for handler in handlers if isinstance(handler, logging.FileHandler)), None)


def _write(file: str, error: BaseException) -> bool:
    """Whether the traceback is in the file now. Not by logging, which is silent on a full disk."""
    try:
        with open(file, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write("".join(printable(line, keep="\n") for line in traceback.format_exception(error)))
    except OSError:
        return False
    return True


def _missing_file(error: MissingConfigException) -> str:
    if error.missing_cfg_file is None:
        return f"{reason(error)}. {HELP}"
    # Of Hydra's own groups the names hold a slash (hydra/launcher).
    group, name = re.fullmatch(r"((?:hydra/)?[^/]*)/?(.*)", error.missing_cfg_file, re.DOTALL).groups()  # type: ignore[union-attr]
    options = [str(option) for option in error.options or ()]
    if not options:
        return f"There is no file {error.missing_cfg_file}.yaml in the configuration. {HELP}"
    return f"There is no {group}={name}.{nearest(name, options)} There are: {', '.join(options)}."


def _setting(error: Exception) -> str:
    # Hydra names the file in a message of its own, and chains what OmegaConf says of the value.
    chained = error.__cause__ or error.__context__
    # An interpolation that fails is named by what it asks for, all else by the setting that OmegaConf was about.
    direct = getattr(error, "full_key", None) and not isinstance(error, InterpolationResolutionError)
    cause = chained if isinstance(chained, OmegaConfBaseException) and not direct else error
    file = re.match(r"In '([^']+)': \w+ raised while composing", str(error))
    where = re.search(r"Could not (?:override|append to config|delete from config).*?'([^']+)'", str(error))
    key = getattr(cause, "full_key", None) or (where.group(1).split("=")[0] if where else "")
    sentence = _value(key, str(cause).splitlines()[0].rstrip(".")) if key else _grammar(str(error))
    return f"conf/{file[1]}.yaml: {sentence}" if file else sentence


def _value(key: str, text: str) -> str:
    """What is wrong with the setting `key`, from OmegaConf's text."""
    if re.search(r"\bnot in\b|Could not append", text) and key not in _setting_names():
        return f"There is no setting {key}.{nearest(key, _setting_names())} {HELP}"
    if "Invalid type assigned" in text:
        return f"{key} is a group of settings: choose a file with {key}=NAME, or set {key}.SETTING=VALUE. {HELP}"
    return misfit(key, text)


def _grammar(text: str) -> str:
    # OmegaConf adds lines on where it was.
    text = text.partition("full_key: ")[0]
    overrides = [text for text in sys.argv[1:] if "${" in text] if "interpolation" in text.lower() else []
    where = f" (in {' '.join(overrides)})" if overrides else ""
    if missing := re.search(r"Missing mandatory value: ([\w.]+)", text):
        return misfit(missing[1], missing[0])
    if lexed := re.match(r"LexerNoViableAltException: (.*)", text):
        return f"{lexed[1]} cannot be read: put the value in quotes, such as 'study=\"größe [1]\"'. {HELP}"
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", text):
        return f"{ambiguous[1]} holds several values: add -m to run them one after the other. {HELP}"
    if override := re.match(r"Error parsing override '(.*)'", text):
        return f"{override[1]} is not of the form setting=value (quote special characters). {HELP}"
    if unread := re.match(r"(?:no viable alternative at|mismatched|extraneous) input '(.*?)'", text):
        if unread[1] == "<EOF>":
            return f"A setting on the command line is empty or ends too early: write setting=value. {HELP}"
        return f'{unread[1]} cannot be read: quote special characters, such as \'runs=["k=1,a","k=2,a"]\'. {HELP}'
    return f"{' '.join(text.split()).rstrip('.')}{where}. {HELP}"


def _setting_names() -> list[str]:
    container = OmegaConf.to_container(OmegaConf.structured(Config))
    assert isinstance(container, dict)
    groups = {str(key): value for key, value in container.items() if isinstance(value, dict)}
    return [*map(str, container), *(f"{group}.{key}" for group, values in groups.items() for key in map(str, values))]
