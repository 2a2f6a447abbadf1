"""One sentence for everything that a user can mend, from whatever our code, Hydra or the system raised."""

import difflib
import re

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from locheads.config import Config
from locheads.errors import LocHeadsError

HELP = "See: python run.py --help"
_KINDS = {"Integer": "a whole number", "Float": "a number"}


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


def _missing_file(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").partition("/")
    options = [str(option) for option in error.options or ()]
    if not options:
        return f"There is no {error.missing_cfg_file}. {HELP}"
    return f"There is no {group}={name}.{_nearest(name, options)} There are: {', '.join(options)}."


def _setting(error: Exception) -> str:
    # Hydra names the file in a message of its own, and chains what OmegaConf says of the value.
    chained = error.__cause__ or error.__context__
    cause = chained if isinstance(chained, OmegaConfBaseException) else error
    file = re.match(r"In '([^']+)': \w+ raised while composing", str(error))
    where = re.search(r"Could not (?:override|append to config|delete from config).*?'([^']+)'", str(error))
    key = getattr(cause, "full_key", None) or (where.group(1).split("=")[0] if where else "")
    sentence = _value(key, str(cause).splitlines()[0].rstrip(".")) if key else _grammar(str(error))
    return f"conf/{file[1]}.yaml: {sentence}" if file else sentence


def _value(key: str, text: str) -> str:
    """What is wrong with the setting `key`, from OmegaConf's text."""
    if re.search(r"\bnot in\b|Could not append", text):
        return f"There is no setting {key}.{_nearest(key, _setting_names())} {HELP}"
    if kind := re.match(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text):
        return f"{key} needs {_KINDS.get(kind[2], kind[2])}, not {kind[1]!r}."
    if kind := re.match(r"Value '(.*)' is not a valid bool", text):
        return f"{key} needs true or false, not {kind[1]!r}."
    if "Invalid type assigned" in text:
        return f"{key} is a group of settings: choose a file with {key}=NAME, or set {key}.SETTING=VALUE. {HELP}"
    if re.match(r"Invalid value assigned: \w+ is not a ListConfig", text):
        return f"{key} needs a list, such as {key}=[A,B]."
    if "not Optional" in text:
        return f"{key} needs a value, not null."
    return f"{key}: {text}."


def _grammar(text: str) -> str:
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", text):
        return f"{ambiguous[1]} holds several values: add -m to run them one after the other. {HELP}"
    if override := re.match(r"Error parsing override '(.*)'", text):
        return f"{override[1]} is not of the form setting=value (quote special characters). {HELP}"
    if unread := re.match(r"(?:no viable alternative at|mismatched|extraneous) input '(.*?)'", text):
        return f'{unread[1]} cannot be read: quote special characters, such as \'runs=["k=1,a","k=2,a"]\'. {HELP}'
    return f"{' '.join(text.split()).rstrip('.')}. {HELP}"


def _nearest(name: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {nearest[0]}?" if nearest else ""


def _setting_names() -> list[str]:
    container = OmegaConf.to_container(OmegaConf.structured(Config))
    assert isinstance(container, dict)
    groups = {str(key): value for key, value in container.items() if isinstance(value, dict)}
    return [*map(str, container), *(f"{group}.{key}" for group, values in groups.items() for key in map(str, values))]
