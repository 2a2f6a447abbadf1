"""Settings validate themselves: the decorator of every group, one verdict for Python and for the command line.

How to add a setting: write a field with its type and a default. Bounds stand in the type, and the requirement in words,
where the words that follow from the bound do not suffice, is the field's description:

    @settings("evaluation")
    class EvaluationConfig:
        resamples: Count = 2000                      # must be at least 1, not 0.
        confidence: Annotated[float, Field(gt=0, lt=1, description="must lie between 0 and 1")] = 0.95

An enum takes the member or its name. Rules between the fields of a group stand in its `__post_init__`, as
`require((is_fine, "sentence."), ...)`; rules between groups stand in `config.check`. Numbers are finite; text that may
not be empty is `Text`. A list of bounded numbers is `list[Annotated[int, Field(ge=1)]]`.
"""

import dataclasses
import difflib
import logging
import numbers
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from omegaconf import BooleanNode, EnumNode, FloatNode, IntegerNode, StringNode
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from locheads.errors import ConfigError, Rule

log = logging.getLogger(__name__)

MOST = 2**31 - 1
"""Of whatever is counted: more than that is a slip of the keyboard, and does not fit the numbers of every library."""
Count = Annotated[int, Field(ge=1, le=MOST)]
"""A whole number, 1 or more."""
Natural = Annotated[int, Field(ge=0, le=MOST)]
"""A whole number, 0 or more."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Of a generator of random numbers."""
Text = Annotated[str, Field(pattern=r"\S")]
"""Text that is not empty: a variable of the shell that is not set leaves nothing behind the equals sign."""

FORMER = {
    "audit.alone": "audit.single",
    "audit.workers": "engine.processes",
    "dataset.columns.picture": "dataset.columns.image",
    "direct.max_new_tokens": "prompt.max_new_tokens",
    "direct.frame=picture": "direct.frame=image",
    "grounding.resolution=picture": "grounding.resolution=image",
    "predictions_format.frame=picture": "predictions_format.frame=image",
}
"""Names and values of settings as earlier versions wrote them -> as they are written now. They work for one version."""

_NODES: dict[Any, Any] = {int: IntegerNode, float: FloatNode, bool: BooleanNode, str: StringNode}
_KINDS = {"Integer": "a whole number", "Float": "a number"}
_T = TypeVar("_T")


@dataclass_transform(field_specifiers=(dataclasses.field,))
def settings(group: str) -> Callable[[type[_T]], type[_T]]:
    """Makes a class a validated group of settings, named `group` in sentences ("" for the whole configuration).

    It is a pydantic dataclass, and OmegaConf takes it as a structured config. Values of any origin are read as the
    command line reads them. Construction, `dataclasses.replace` and assignment raise ConfigError, and an assignment
    that is refused leaves the old value.
    """

    def decorate(cls: type[_T]) -> type[_T]:
        made: Any = dataclass(config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))(cls)
        own, names = made.__init__, [f.name for f in dataclasses.fields(made)]
        hints = get_type_hints(made)
        prefix = f"{group}." if group else ""

        def construct(self: Any, *args: Any, **named: Any) -> None:
            if len(args) > len(names):
                raise ConfigError(f"{made.__name__} has {len(names)} settings, not {len(args)}.")
            values = dict(zip(names, args, strict=False))
            if twice := sorted(values.keys() & named):
                raise ConfigError(f"{prefix}{twice[0]} is given twice, by its place and by its name: leave one out.")
            values |= {renamed(prefix + name).removeprefix(prefix): value for name, value in named.items()}
            for name in values:
                if name not in hints:
                    raise ConfigError(f"There is no setting {prefix}{name}.{nearest(name, names)}")
            read = {name: _read(f"{prefix}{name}", hints[name], value) for name, value in values.items()}
            try:
                own(self, **read)
            except ValidationError as error:
                raise ConfigError(_sentence(prefix, made, error.errors()[0])) from None

        def assign(self: Any, name: str, value: Any) -> None:
            changed = dataclasses.replace(self, **{name: value})
            object.__setattr__(self, name, getattr(changed, name))

        made.__init__, made.__setattr__ = construct, assign
        return made

    return decorate


def require(*rules: Rule) -> None:
    """Raises ConfigError with the sentence of the first rule that does not hold."""
    for ok, sentence in rules:
        if not ok:
            raise ConfigError(sentence)


def renamed(written: str) -> str:
    """SETTING, SETTING=VALUE or an override of Hydra's under the names of today, with a warning where they changed."""
    for former, now in FORMER.items():
        if former not in written:
            continue  # nearly always: building a pattern takes longer than all the rest
        inner = "" if "=" in former else r"(?:\.[^=]+)?"  # a setting in a group that was renamed
        if match := re.fullmatch(rf"(\+*){re.escape(former)}({inner}(?:=.*)?)", written, re.DOTALL):
            log.warning("%s is called %s now: the former name works in this version only.", former, now)
            return (match[1] or "") + now + (match[2] or "")
    return written


def nearest(name: str, names: list[str]) -> str:
    """The end of a sentence on a name that is unknown."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {found[0]}?" if found else ""


def misfit(key: str, text: str) -> str:
    """What is wrong with the value of `key`, from OmegaConf's text."""
    if kind := re.match(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text, re.DOTALL):
        return f"{key} needs {_KINDS.get(kind[2], kind[2])}, not {kind[1]!r}."
    if kind := re.match(r"Value '(.*)' (?:of type '\w+' )?is not a valid bool", text, re.DOTALL):
        return f"{key} needs true or false, not {kind[1]!r}."
    if re.match(r"Invalid value assigned: \w+ is not a ListConfig", text):
        return f"{key} needs a list, such as {key}=[A,B]."
    if kind := re.match(r"Key (.*) \(\w+\) is incompatible with \(str\)", text):
        return f"{key} has the name {kind[1]}, which is no text: put it in quotes."
    if re.match(r"Cannot assign \w+ to Dict", text):
        return f"{key} needs names with values, such as {key}={{A: B}}."
    if "not Optional" in text or text.startswith("Incompatible value 'None'"):
        return f"{key} needs a value, not null."
    if "missing mandatory value" in text.lower():
        return f"{key} needs a value: ??? stands for one that is missing."
    return f"{key}: {text}."


def _read(key: str, hint: Any, value: Any) -> Any:
    """`value` as the command line would read it for a field of this type."""
    if isinstance(value, str) and value == "???":
        raise ConfigError(misfit(key, "Missing mandatory value"))
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if value is None and hint is not Any:
        raise ConfigError(f"{key} needs a value, not null.")
    if get_origin(hint) is list:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} needs a list, such as {key}=[A,B].")
        return [_read(f"{key}[{i}]", get_args(hint)[0], each) for i, each in enumerate(value)]
    if get_origin(hint) is dict:
        return _mapping(key, hint, value)
    if dataclasses.is_dataclass(hint):
        return _group(key, hint, value)
    return _anything(key, value) if hint is Any else _leaf(key, hint, value)


def _anything(key: str, value: Any) -> Any:
    """What a file in YAML may hold: text, numbers, true, false, null, and lists and mappings of these."""
    if isinstance(value, list | tuple):
        return _read(key, list[Any], value)
    if isinstance(value, dict):
        return _read(key, dict[str, Any], value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ConfigError(f"{key} needs text, a number, a list or a mapping, not {value!r}.")


def _mapping(key: str, hint: Any, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key} needs names with values, such as {key}={{A: B}}.")
    _check_names(key, value)
    today = {renamed(f"{key}.{name}").removeprefix(f"{key}."): each for name, each in value.items()}
    return {name: _read(f"{key}.{name}", get_args(hint)[1], each) for name, each in today.items()}


def _check_names(key: str, value: dict[Any, Any]) -> None:
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(f"{key} has the name {name!r}, which is no text: put it in quotes.")


def _group(key: str, cls: Any, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    if isinstance(value, dict):
        _check_names(key, value)
        return cls(**value)
    raise ConfigError(f"{key} is a group of settings: choose a file with {key}=NAME, or set {key}.SETTING=VALUE.")


def _leaf(key: str, hint: Any, value: Any) -> Any:
    if isinstance(value, numbers.Real) and not isinstance(value, int):  # numpy's, which OmegaConf does not know
        value = int(value) if isinstance(value, numbers.Integral) else float(value)
    if not isinstance(value, str | int | float | Path):
        raise ConfigError(f"{key} needs one value, not {value!r}.")
    if type(value) is str:
        value = renamed(f"{key}={value}").removeprefix(f"{key}=")
    node = EnumNode(hint) if issubclass(hint, Enum) else _NODES[hint]()
    try:
        return node.validate_and_convert(value)
    except OmegaConfBaseException as error:
        text = str(error).replace("$VALUE_TYPE", type(value).__name__).replace("$VALUE", str(value))
        raise ConfigError(misfit(key, text.rstrip("."))) from None


def _sentence(prefix: str, cls: Any, error: ErrorDetails) -> str:
    name, *rest = error["loc"]
    key, value = prefix + str(name) + "".join(f"[{part}]" for part in rest), error["input"]
    described = cls.__pydantic_fields__[name].description
    if error["type"] == "string_pattern_mismatch" and described is None:
        return f"{key} is empty: give it a value, or leave it out."
    words = described or _words(error)
    return f"{key} {words}, not {value}."


def _words(error: ErrorDetails) -> str:
    """The requirement that was not met."""
    match error["type"], error.get("ctx", {}):
        case "greater_than_equal", {"ge": 0}:
            return "must not be negative"
        case "greater_than_equal", {"ge": least}:
            return f"must be at least {least}"
        case "less_than_equal", {"le": most}:
            return f"must be at most {most}"
        case "greater_than", {"gt": 0}:
            return "must be positive"
        case "finite_number", _:
            return "must be a number"
    return error["msg"].replace("Input should", "must")
