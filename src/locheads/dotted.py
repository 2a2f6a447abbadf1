"""A user's own class, function or object, named in a setting by its dotted path: `my_package.module:Name`."""

import hashlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from locheads.errors import ConfigError
from locheads.text import reason

_FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_dotted(text: str) -> bool:
    """Whether the text has the form package.module:Name."""
    return _FORM.fullmatch(text) is not None


def load(path: str, base: type | None, setting: str) -> Any:
    """What the dotted path names, imported.

    Args:
        path: "package.module:Name"; the module must be importable (installed, beside run.py, or on PYTHONPATH).
        base: what it must be a subclass or an instance of; None: anything.
        setting: whose value the path is, for the sentence of the error.

    Raises:
        ConfigError: the path has another form, the module cannot be imported, or it holds nothing fitting of that name.
    """
    if not is_dotted(path):
        raise ConfigError(f"{setting}={path} is no dotted path: write package.module:Name.")
    module_name, _, name = path.partition(":")
    found = _import(module_name, path, setting)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{setting}={path}: the module {module_name} holds no {name}.")
        found = getattr(found, part)
    fits = base is None or isinstance(found, base) or (isinstance(found, type) and issubclass(found, base))
    if not fits:
        assert base is not None
        raise ConfigError(
            f"{setting}={path} is neither a subclass nor an instance of {base.__module__}.{base.__name__}."
        )
    return found


def source_digests(values: Any) -> dict[str, str]:
    """Dotted path -> digest of its module's file, of every path that was loaded among settings as plain values.

    So an edited module is noticed; what that module imports does not count.
    """
    if isinstance(values, dict | list | tuple):
        each = values.values() if isinstance(values, dict) else values
        return {path: digest for value in each for path, digest in source_digests(value).items()}
    if not isinstance(values, str) or not is_dotted(values):
        return {}
    file = getattr(sys.modules.get(values.partition(":")[0]), "__file__", None)
    return {values: file_digest(Path(file))} if file else {}


def file_digest(file: Path) -> str:
    """16 hex digits over a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _import(module: str, path: str, setting: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ConfigError(
            f"{setting}={path}: the module {module} cannot be imported ({reason(error)}): correct its name, or put "
            "its folder on PYTHONPATH."
        ) from error
