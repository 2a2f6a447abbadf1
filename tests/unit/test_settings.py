"""Settings: one verdict on every value of every field, from Python as from the command line."""

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from pydantic import Field

from locheads.config import Config, PathsConfig, Stage
from locheads.discovery.config import CriterionConfig, HeadsConfig
from locheads.discovery.rank import rank_values
from locheads.discovery.scores import HeadScores
from locheads.errors import ConfigError, LocHeadsError
from locheads.geometry import Preprocess, square_geometry
from locheads.grounding.config import GroundingConfig, Sinks
from locheads.models.config import ModelConfig, PromptConfig
from locheads.models.prompts import prompt_text, tokenise
from locheads.pipeline import cli
from locheads.pipeline.error_messages import explain
from locheads.settings import Count, Text, settings


class Foreign(StrEnum):
    """No choice of ours."""

    foreign = "foreign"


HINTS = typing.get_type_hints(Config, include_extras=True)
GROUPS: dict[str, Any] = {name: hint for name, hint in HINTS.items() if dataclasses.is_dataclass(hint)}
FIELDS = [(group, f.name) for group, cls in GROUPS.items() for f in dataclasses.fields(cls)]
FIELDS += [("", name) for name in HINTS if name not in GROUPS]
TOP: Any = settings("")(
    type("Top", (), {"__annotations__": {name: hint for name, hint in HINTS.items() if name not in GROUPS}}
         | {f.name: f.default if f.default is not dataclasses.MISSING else dataclasses.field(default_factory=list)
            for f in dataclasses.fields(Config) if f.name not in GROUPS})
)  # fmt: skip
"""What of Config is in no group: the whole of it takes 20 times as long to merge."""

ODD: list[Any] = [
    "wrong", "", " ", "???", True, 3, None, b"3", 1j, Path("x"), Foreign.foreign, object(), {1, 2}, [], {}, (), [None],
    ["a"], [["a"]], {"a": 1}, {1: "a"}, {"a": "???"}, ["???"],
]  # fmt: skip
FOR_ALL_BUT_TEXT: list[Any] = [
    "3", "3.0", "-1", "1e3", "nan", "inf", "true", "no", "\t", "größe", False, 3.0, 3.5, 0, 0.0, -1, -0.5, 1, 255,
    1e308, 1e-308, 10**9, 2**63, 10**30, math.nan, math.inf, -math.inf,
]  # fmt: skip
"""Text takes all of them alike, which takes time."""


def leaf(hint: Any) -> Any:
    """The type behind `T | None`, list[T] and dict[str, T]."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return leaf(next(each for each in typing.get_args(hint) if each is not type(None)))
    return leaf(typing.get_args(hint)[-1]) if typing.get_origin(hint) in (list, dict) else hint


def values(group: str, name: str) -> list[Any]:
    """What is tried for a field: the same for all, and the members and names of its own enum."""
    hint = typing.get_type_hints(GROUPS.get(group, Config))[name]
    kind = leaf(hint)
    single = [*ODD, *(FOR_ALL_BUT_TEXT if kind is not str else [])]
    if isinstance(kind, type) and issubclass(kind, Enum):
        single += [*kind, *(one.name for one in kind), *(one.value for one in kind), str(next(iter(kind))).upper()]
    inside = [*([each] for each in single), [1, "wrong"]] if "list[" in str(hint) else []
    return [*single, *inside, *({"a": each} for each in single if "dict[" in str(hint))]


@functools.cache
def default(group: str) -> Any:
    """A group's defaults, but with no mapping in them: the command line merges mappings into their defaults."""
    made = GROUPS.get(group, Config)()
    return dataclasses.replace(made, **{name: {} for name, value in vars(made).items() if isinstance(value, dict)})


@functools.cache
def schema(group: str) -> Any:
    """A configuration with this group alone."""
    field = dataclasses.field(default_factory=lambda: default(group))
    return dataclasses.make_dataclass("Root", [(group, GROUPS[group], field)]) if group else TOP


@functools.cache
def structured(group: str) -> Any:
    return OmegaConf.structured(schema(group))


def from_command_line(group: str, name: str, value: Any) -> Any:
    """What becomes of a value in pipeline/cli.py, after Hydra has updated the schema with it."""
    composed = structured(group)
    OmegaConf.update(composed, f"{group}.{name}" if group else name, value)  # or it raises, and nothing has changed
    structured.cache_clear()
    whole = cli.validated(cli.plain(composed), schema(group))
    return getattr(getattr(whole, group) if group else whole, name)


def writable(value: Any) -> bool:
    """Whether a command line or a file in conf/ may hold it."""
    if isinstance(value, list):
        return all(map(writable, value))
    if isinstance(value, dict):
        return all(map(writable, value.values()))
    return value is None or isinstance(value, str | int | float)


def by_construction(group: str, name: str, value: Any) -> Any:
    return getattr(GROUPS.get(group, Config)(**{name: value}), name)


def by_replacement(group: str, name: str, value: Any) -> Any:
    return getattr(dataclasses.replace(default(group), **{name: value}), name)


def by_assignment(group: str, name: str, value: Any) -> Any:
    changed = dataclasses.replace(default(group))
    try:
        setattr(changed, name, value)
    except LocHeadsError:
        assert changed == default(group), "a value that is refused leaves the old one"
        raise
    return getattr(changed, name)


def verdict(make: Callable[..., Any], *args: Any) -> tuple[Any, str | None]:
    """(The value as it was accepted, why it was refused); whatever cannot be explained is raised."""
    try:
        return make(*args), None
    except Exception as error:
        if (sentence := explain(error)) is None:
            raise
        return None, sentence


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def unaltered(given: Any, kept: Any) -> bool:
    """Whether what is kept is what was given, up to how it is written. A number as a truth value is OmegaConf's."""
    if isinstance(kept, list):
        return len(given) == len(kept) and all(map(unaltered, given, kept))
    if isinstance(kept, dict):
        return all(unaltered(given[key], kept[key]) for key in given)
    if isinstance(kept, bool):
        return kept == (
            bool(given) if isinstance(given, int | float) else given.lower() in ("true", "yes", "on", "1", "3", "-1")
        )
    if isinstance(kept, int | float):
        return float(given) == kept
    return given is kept or (str(given) == str(kept)) or (isinstance(kept, Enum) and given == kept.name)


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_every_way_to_set_a_field_has_one_verdict(group: str, name: str) -> None:
    for value in values(group, name):
        kept, refused = verdict(by_construction, group, name, value)
        other, other_refused = verdict(from_command_line, group, name, value) if writable(value) else (kept, refused)
        about = f"{group}.{name}={value!r}: {refused or kept!r}, {other_refused or other!r}"
        assert (refused is None) == (other_refused is None), about
        for way in (by_replacement, by_assignment):
            assert verdict(way, group, name, value)[1] == refused, about
        if refused is None:
            assert same(kept, other), about
            assert unaltered(value, kept), about
        else:
            key = f"{group}.{name}" if group else name
            assert key in refused or (group == "segmenter" and "segmenter.checkpoint" in refused), about
            assert key in other_refused or (group == "segmenter" and "segmenter.checkpoint" in other_refused), about


def test_the_fuzz_is_not_empty_and_holds_what_is_right_and_what_is_wrong() -> None:
    assert len(FIELDS) > 130
    for group, name, right, wrong in (
        ("heads", "k", 3, 3.0), ("heads", "k", "3", "3.0"), ("heads", "k", 1, True), ("", "seed", 0, -1),
        ("criterion", "tau", None, math.nan), ("grounding", "sigma", 1, 1e308), ("model", "tiles", "no", "wrong"),
    ):  # fmt: skip
        tried = [repr(value) for value in values(group, name)]
        assert repr(right) in tried
        assert repr(wrong) in tried
        assert verdict(by_construction, group, name, right)[1] is None
        assert verdict(by_construction, group, name, wrong)[1] is not None


@settings("tea")
class Tea:
    """A group of our own."""

    cups: Count = 1
    milk: Annotated[float, Field(ge=0, le=1)] = 0.5
    heat: Annotated[float, Field(gt=0)] = 90.0
    share: Annotated[float, Field(gt=0, lt=1, description="must lie between 0 and 1")] = 0.5
    sinks: Sinks = Sinks.keep
    name: Text = "green"
    sizes: list[Count] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"cups": 0}, "tea.cups must be at least 1, not 0."),
        ({"cups": 2**31}, "tea.cups must be at most 2147483647, not 2147483648."),
        ({"cups": 1.5}, "tea.cups needs a whole number, not '1.5'."),
        ({"cups": True}, "tea.cups needs a whole number, not 'True'."),
        ({"cups": None}, "tea.cups needs a value, not null."),
        ({"cups": "???"}, "tea.cups needs a value: ??? stands for one that is missing."),
        ({"cups": [1]}, "tea.cups needs one value, not [1]."),
        ({"milk": -1}, "tea.milk must not be negative, not -1.0."),
        ({"milk": 2}, "tea.milk must be at most 1.0, not 2.0."),
        ({"heat": 0}, "tea.heat must be positive, not 0.0."),
        ({"heat": math.nan}, "tea.heat must be a number, not nan."),
        ({"share": 1}, "tea.share must lie between 0 and 1, not 1.0."),
        ({"sinks": "drain"}, "tea.sinks: Invalid value 'drain', expected one of [keep, mean_map, border_rows]."),
        ({"name": " "}, "tea.name is empty: give it a value, or leave it out."),
        ({"sizes": [1, 0]}, "tea.sizes[1] must be at least 1, not 0."),
        ({"sizes": 3}, "tea.sizes needs a list, such as tea.sizes=[A,B]."),
        ({"cps": 1}, "There is no setting tea.cps. Did you mean cups?"),
        ({"qqqqq": 1}, "There is no setting tea.qqqqq."),
    ],
)  # fmt: skip
def test_the_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Tea(**given)
    assert str(caught.value) == sentence


def test_what_is_right_is_taken_by_position_and_by_name() -> None:
    assert Tea(2, "0.25", sinks="mean_map") == Tea(cups="2", milk=0.25, sinks=Sinks.mean_map)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Tea has 7 settings, not 8"):
        Tea(*range(8))  # type: ignore[arg-type]


def test_a_refused_assignment_leaves_the_old_value() -> None:
    tea = Tea(cups=3)
    for name, value in {"cups": -1, "sinks": "drain", "cps": 1}.items():
        with pytest.raises(ConfigError):
            setattr(tea, name, value)
    assert tea == Tea(cups=3)
    assert not hasattr(tea, "cps")
    tea.cups = "4"  # type: ignore[assignment]
    assert tea.cups == 4


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_a_group_or_a_mapping(group: str) -> None:
    assert Config(**{group: {}}) == Config(**{group: GROUPS[group]()}) == Config()
    for wrong in (each for each in ODD if each != {}):
        refused = verdict(by_construction, "", group, wrong)[1]
        assert refused is not None
        assert group in refused, (wrong, refused)


def test_a_mapping_sets_the_group() -> None:
    assert Config(heads={"k": "5"}).heads == HeadsConfig(k=5)  # type: ignore[arg-type]
    for wrong in ({"k": 0}, {"kk": 1}, {1: 1}, CriterionConfig()):
        with pytest.raises(ConfigError, match="heads"):
            Config(heads=wrong)  # type: ignore[arg-type]


def test_the_whole_configuration_checks_itself() -> None:
    for given in ({"seed": -1}, {"stage": "nowhere"}, {"study": "../elsewhere"}, {"study": ""}, {"seed": 2**32}):
        with pytest.raises(ConfigError, match=next(iter(given))):
            Config(**given)  # type: ignore[arg-type]
    assert Config(stage="audit").stage == Stage.audit  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"heads.set is empty"):
        HeadsConfig(set="")


def test_the_cache_lies_in_the_outputs_as_on_the_command_line() -> None:
    assert Config().paths.cache == "outputs/cache"
    assert Config(paths=PathsConfig(outputs="there")).paths.cache == "there/cache"
    assert Config(paths=PathsConfig(outputs="there", cache="here")).paths.cache == "here"


@pytest.mark.parametrize("name", ["s_img", "entropy", "s_img_entropy"])
def test_a_score_named_in_words_ranks_by_itself(name: str) -> None:
    sums, entropy = np.array([[[0.1, 0.9]]]), np.array([[[0.2, 0.7]]])
    scores = HeadScores(("a",), {"sums": sums, "entropy": entropy})
    criterion = CriterionConfig(score=str(name), skip_layers=0, candidates=1)  # type: ignore[arg-type]
    best = np.nanargmin(rank_values(scores, np.full((1, 2), True), criterion))
    # The highest sum is the second head's, the lowest entropy the first one's.
    assert best == (1 if name == "s_img" else 0)


def test_a_preprocess_named_in_words_has_its_own_geometry() -> None:
    named = ModelConfig(preprocess="pad").preprocess  # type: ignore[arg-type]
    geometry = square_geometry(300, 200, 192, 12, named)
    assert geometry.to_cells(np.array([0, 0, 300, 200])).tolist() == [0, 2, 12, 10]
    assert geometry != square_geometry(300, 200, 192, 12, Preprocess.squash)
    # Text of the same name, past the settings.
    assert geometry == square_geometry(300, 200, 192, 12, "pad")  # type: ignore[arg-type]


def test_a_query_named_in_words_is_itself() -> None:
    class Words:
        is_fast = True

        def __call__(self, text: str, **_: Any) -> dict[str, Any]:
            ends = np.cumsum([len(word) + 1 for word in text.split(" ")])
            starts = [0, *ends[:-1]]
            return {"input_ids": list(range(len(ends))), "offset_mapping": list(zip(starts, ends - 1, strict=True))}

    prompt = PromptConfig(template="<image> the {expression} please now", full_stop=False)
    asked = prompt_text(prompt, "red cup")

    def span(query: str) -> tuple[int, int]:
        return tokenise(Words(), asked, PromptConfig(query=query).query, False)[1]  # type: ignore[arg-type]

    assert (span("last"), span("expression_last"), span("expression_mean")) == ((5, 6), (3, 4), (2, 4))


@pytest.mark.parametrize(
    "given",
    [{"sigma": -1}, {"sigma": 1e308}, {"sigma": 1e-200}, {"kernel": 4}, {"kernel": 1001}, {"level": 1e308},
     {"sink_factor": 0}, {"sink_factor": 1e308}, {"input_patch": 65}],
)  # fmt: skip
def test_grounding_refuses_what_no_map_can_be_smoothed_or_cut_by(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(ConfigError, match=rf"^grounding\.{name}\b"):
        GroundingConfig(**given)


@pytest.mark.parametrize("number", [np.int64(3), np.float32(0.5), np.float64(0.5)])
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    kept = HeadsConfig(k=number).k if isinstance(number, np.integer) else GroundingConfig(sigma=number).sigma
    assert kept == number
    assert type(kept) in (int, float)
    with pytest.raises(ConfigError, match=r"heads\.k"):
        HeadsConfig(k=np.float64(3))  # type: ignore[arg-type]


def test_a_setting_given_by_its_place_and_by_its_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"heads\.k is given twice"):
        HeadsConfig(3, k=4)  # type: ignore[misc]


@pytest.mark.parametrize("key", ["model.revision", "dataset.split", "predictions", "paths.data", "segmenter.revision"])
def test_an_empty_text_is_no_value(key: str) -> None:
    """A shell's variable that is not set would else unpin a commit in silence."""
    *group, name = key.split(".")
    with pytest.raises(ConfigError, match=f"{key} is empty"):
        GROUPS.get("".join(group), Config)(**{name: ""})


@pytest.mark.parametrize("written", ["12e4", "true", "1_0", "1.50"])
def test_text_that_would_become_another_text_is_refused(written: str) -> None:
    kept = OverridesParser.create().parse_override(f"model.revision={written}").value()
    with pytest.raises(ConfigError, match=rf"model\.revision={re.escape(written)} would be read as"):
        cli.check_text([f"model.revision={written}"], {"model": {"revision": str(kept)}})


@pytest.mark.parametrize(
    "override", ["study=2024", "study='12e4'", "study=0.5", "~x", "+a=3", "stage=report", "seed=1_0"]
)
def test_text_that_stays_itself_is_taken(override: str) -> None:
    settings = {"study": override.partition("=")[2].strip("'"), "stage": "report", "seed": 10, "a": 3}
    cli.check_text([override], settings)
