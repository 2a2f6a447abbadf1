"""The methods in sentences: a setting has one home, a value its sentence, and no two values are the same paragraph."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from locheads.config import Config
from locheads.data.config import Reader
from locheads.discovery.criteria import CRITERIA
from locheads.grounding.config import Border
from locheads.models.config import Query
from locheads.report.dossier import methods as methods_module
from locheads.report.dossier.choice import Choice, filled, shown
from locheads.report.dossier.methods import CHOICES, SILENT, Paragraph, latex, methods
from locheads.report.dossier.sentences_data import FORMS
from locheads.report.dossier.sentences_discovery import SCORES
from locheads.report.dossier.sentences_evaluation import KINDS
from locheads.report.run_record import RunRecord, read_run
from locheads.segmenters.config import SegmenterKind
from locheads.text import markdown_text

CONF = Path(__file__).resolve().parents[3] / "conf"
DEFAULTS: dict[str, Any] = yaml.safe_load(OmegaConf.to_yaml(OmegaConf.structured(Config()), resolve=True))
TEXTS: dict[str, list[Any]] = {
    "criterion.score": [*CRITERIA, "own:one", "own:two"],
    "dataset.reader": [*map(str, Reader), "own:One", "own:Two"],
    "engine.maps": ["all", "top 3", "top 20", "heads_a.json", "heads_b.json"],
    "model.adapter": [None, "probe", "own:One", "own:Two"],
    "prompt.query": [*(q.value for q in Query if q is not Query.answer_word), "answer_word:1", "answer_word:2"],
    "segmenter.kind": [*map(str, SegmenterKind), "own:One", "own:Two"],
}
"""Settings whose type is text, but that choose among names."""


def leaves(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every setting."""
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


HINTS = dict(leaves(Config))


def values(key: str, hint: Any) -> list[Any]:
    """Of a choice all values as config.yaml writes them; of the others some that differ by little."""
    if key in TEXTS:
        return TEXTS[key]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (inner,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
        return [None, *values("", inner)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [member.name for member in hint]
    if typing.get_origin(hint) is list:
        numbers = typing.get_args(hint)[0] in (int, float)
        return [[], [1], [1, 2]] if numbers else [[], ["a"], ["a", "b"], ["a, b"]]
    if typing.get_origin(hint) is dict:
        return [{}, {"a": "b"}, {"a": "c"}]
    some: dict[Any, list[Any]] = {
        bool: [False, True],
        int: [0, 1, 2, 1000],
        float: [0.0, 0.25, 0.2500001, 1.0, 1000.5],
        str: ["a", "b", "a b", "a  b", "a\nb", "a\\nb", "A"],
    }
    return some[hint]


def changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with the dotted settings changed."""
    copy = json.loads(json.dumps(settings))
    for key, value in changes.items():
        *groups, name = key.split(".")
        target = copy
        for group in groups:
            target = target[group]
        target[name] = value.name if isinstance(value, Enum) else value
    return dict(copy)


def in_markdown(paragraphs: tuple[Paragraph, ...]) -> str:
    return "\n\n".join(markdown_text(f"{p.title}. {' '.join(p.sentences)}") for p in paragraphs)


def paragraph(settings: dict[str, Any]) -> tuple[str, str]:
    found = methods(RunRecord(Path("run"), config=settings))
    return in_markdown(found), latex(found)


def alike(choice: Choice, of: list[Any]) -> list[str]:
    """Pairs of values that lead to the same paragraph where the setting counts, and values without a sentence."""
    found = []
    for where in choice.where or ({},):
        settings = [changed(DEFAULTS, {key: rule.example for key, rule in where.items()} | {choice.key: v}) for v in of]
        texts = [paragraph(each) for each in settings]
        found += [
            f"{choice.key}: {a!r} and {b!r} are the same"
            for (a, of_a), (b, of_b) in combinations(zip(of, texts, strict=True), 2)
            if of_a[0] == of_b[0] or of_a[1] == of_b[1]
        ]
        found += [f"{choice.key}: {v!r} has no sentence" for v, text in zip(of, texts, strict=True)
                  if f"{choice.key} is {shown(v)}." in text[0].replace("\\", "")]  # fmt: skip
    return found


def test_every_setting_has_one_home() -> None:
    homes = [choice.key for choice in CHOICES]
    assert len(set(homes)) == len(homes)
    assert not set(homes) & set(SILENT)
    assert {*homes, *SILENT} == set(HINTS)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.key)
def test_every_value_has_its_sentence_and_no_two_the_same_paragraph(choice: Choice) -> None:
    assert alike(choice, values(choice.key, HINTS[choice.key])) == []


def test_none_of_ours_is_taken_for_a_users_own() -> None:
    """Names that are text in the settings, where any other name is a class or an object of the user's."""
    assert set(SCORES) == set(CRITERIA)
    assert set(FORMS) == set(Reader)
    assert set(KINDS) == set(SegmenterKind)


def test_a_value_that_says_nothing_of_its_own_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: two borders with one sentence, one without any, and text whose spaces are lost."""
    at = next(i for i, topic in enumerate(methods_module.TOPICS) if topic[0] == "From maps to a box")
    old = next(choice for choice in CHOICES if choice.key == "grounding.border")

    def with_choice(new: Choice) -> Choice:
        title, choices, facts = methods_module.TOPICS[at]
        kept = (*(choice for choice in choices if choice.key != new.key), new)
        topics = [*methods_module.TOPICS]
        topics[at] = (title, kept, facts)
        monkeypatch.setattr(methods_module, "TOPICS", tuple(topics))
        return new

    say = {Border.mirror: "One.", Border.reflect: "One.", Border.nearest: "Two."}
    assert alike(with_choice(replace(old, say=say)), [member.name for member in Border]) == [
        "grounding.border: 'mirror' and 'reflect' are the same",
        "grounding.border: 'constant' has no sentence",
    ]
    lost = Choice("grounding.name", lambda value, _: f"It is called {value}.")
    monkeypatch.undo()
    assert alike(with_choice(lost), ["a b", "a  b"]) == ["grounding.name: 'a b' and 'a  b' are the same"]


def files_of(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


@pytest.mark.parametrize(
    "group", sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name not in ("experiment", "hydra", "tracker"))
)
def test_files_of_a_group_are_told_apart(group: str) -> None:
    """Different settings are different paragraphs. Only files that hold the very same settings are one."""
    base = changed(DEFAULTS, {"predictions": "answers.jsonl"} if group == "predictions_format" else {})
    base = changed(base, {"stage": "audit"} if group == "audit" else {})
    found: dict[str, str] = {}
    for file in files_of(group):
        settings = base | {group: base[group] | yaml.safe_load(file.read_text())}
        own = json.dumps(settings, sort_keys=True)
        text = paragraph(settings)[0]
        assert found.setdefault(text, own) == own, file
    assert len(found) > 1 or group == "audit"


def test_the_papers_open_choices_are_all_said() -> None:
    """The choices on which the paper is silent, or its released code differs from it."""
    text = " ".join(sentence for p in methods(RunRecord(Path("run"), config=DEFAULTS)) for sentence in p.sentences)
    for words in (
        "on the sums' means over the samples", "the elbow of the sorted sums", "farthest from the line",
        "a > mean(a), 8-connected", "share P is that of its cells", "never chosen", "not filtered by their bottom row",
        "first 2 layers no head", "its 10 best heads", "5 trials", "The same heads ground every sample",
        "visual content that the user provides", "the last token of the prompt", "window is 7 wide", "sigma 1.",
        "mirrored about its outermost cells", "largest convex hull", "exact inverse of the preprocessing",
        "Bars of the mean colour", "applies on the model's grid", "Masks are the pseudo-masks", "seed 0",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("state", ["released_c0", "released_c1"])
def test_the_released_code_is_told_from_the_paper(state: str) -> None:
    own = yaml.safe_load((CONF / "criterion" / f"{state}.yaml").read_text())
    text = paragraph(DEFAULTS | {"criterion": DEFAULTS["criterion"] | own})[0]
    assert f"released code {'C0' if state == 'released_c0' else 'C1'}" in text
    assert "released code" not in paragraph(DEFAULTS)[0]


def test_what_has_no_effect_says_nothing() -> None:
    mass = "That part is a share of 0.9."
    assert mass not in paragraph(DEFAULTS)[0]
    assert mass in paragraph(changed(DEFAULTS, {"grounding.box": "mass_quantiles"}))[0]
    given = paragraph(changed(DEFAULTS, {"heads.set": "llava_1_5_7b"}))[0]
    assert "**Discovery.**" not in given and "votes for" not in given and "Of the first 2 layers no" in given
    of_a_file = paragraph(changed(DEFAULTS, {"predictions": "answers.jsonl"}))[0]
    assert "answers.jsonl" in of_a_file and "convex hull" not in of_a_file


@pytest.mark.parametrize(
    ("changes", "without"),
    [
        ({"predictions": "answers.jsonl"}, ["Model", "Prompt", "Discovery", "Heads", "From maps to a box", "Masks"]),
        ({"stage": "direct"}, ["Discovery", "Heads", "From maps to a box", "Masks"]),
        ({"stage": "discover"}, ["From maps to a box", "Further looks", "Masks", "Evaluation"]),
        ({"stage": "attend"}, ["Discovery", "Heads", "From maps to a box", "Masks", "Evaluation"]),
        ({"heads.set": "llava_1_5_7b"}, ["Discovery"]),
        ({}, ["Predictions", "Boxes in words", "Audit", "Steering"]),
    ],
)
def test_a_step_that_was_not_taken_has_no_paragraph(changes: dict[str, Any], without: list[str]) -> None:
    titles = [p.title for p in methods(RunRecord(Path("run"), config=changed(DEFAULTS, changes)))]
    assert not set(without) & set(titles) and {"Data", "Run"} <= set(titles)
    assert set(without) <= {title for title, _, _ in methods_module.TOPICS}


def test_what_the_record_lacks_is_said_and_not_made_up() -> None:
    settings = changed(DEFAULTS, {})
    del settings["grounding"]["border"]
    text = paragraph(settings)[0]
    assert "does not hold the settings grounding.border." in text and "Beyond its border" not in text
    odd = paragraph(changed(DEFAULTS, {"grounding.border": "later"}))[0]
    assert 'grounding.border is "later".' in odd
    assert "grounding.border is [1]." in paragraph(changed(DEFAULTS, {"grounding.border": [1]}))[0]


def test_figures_come_from_the_records(run_folder: Path, edit_json: Callable[..., None]) -> None:
    text = in_markdown(methods(read_run(run_folder)))
    for words in (
        "400 expressions of 120 images of the split val were evaluated; 2 of them failed and 5 got no answer.",
        "The threshold tau is 0.188.", "The localization heads are L3H1, L4H6, L2H5", "torch 2.13.0",
        "commit f00dfacecafe0123456789, with uncommitted changes", "95 % intervals over images",
    ):  # fmt: skip
        assert words in text, words
    edit_json(run_folder / "metrics.json", n_expressions=401, confidence=0.9)
    edit_json(run_folder / "provenance.json", dirty=False)
    text = in_markdown(methods(read_run(run_folder)))
    assert "401 expressions" in text and "90 % intervals" in text and ", without uncommitted changes" in text


def test_text_of_the_record_is_shown_and_never_obeyed() -> None:
    hostile = "\\input{/etc/passwd} $x$ 50% <b> `c` [a](b) {expression}"
    md, tex = paragraph(changed(DEFAULTS, {"prompt.template": hostile, "model.id": "a_b&c"}))
    assert "\\input{" not in tex and r"\textbackslash{}input\{/etc/passwd\} \$x\$ 50\%" in tex and r"a\_b\&c" in tex
    assert "<b>" not in md and "&lt;b&gt;" in md and "](b)" not in md.replace("\\](b)", "")
    unescaped = tex.replace(r"\{", "").replace(r"\}", "")
    assert unescaped.count("{") == unescaped.count("}")


def test_values_are_shown_so_that_none_looks_like_another() -> None:
    assert [shown(v) for v in (1000, 0.05, None, True, "a")] == ["1,000", "0.05", "null", "true", '"a"']
    assert len({shown(v) for v in ("a b", "a  b", "a   b", "a\nb", "a\\nb")}) == 5
    assert filled("It is {}.", "It is not set.")({}, lambda _: None) == "It is not set."
