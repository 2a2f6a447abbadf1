"""A user's own class or object by its dotted path."""

import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from locheads import dotted
from locheads.errors import ConfigError


def test_it_loads_classes_objects_and_members() -> None:
    assert dotted.load("collections:OrderedDict", dict, "some.setting") is OrderedDict
    assert dotted.load("string:digits", str, "some.setting") == "0123456789"
    assert dotted.load("pathlib:Path.cwd", None, "some.setting")() == Path.cwd()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("collections.OrderedDict", "some.setting=collections.OrderedDict is no dotted path"),
        ("collections:", "is no dotted path"),
        ("../evil:x", "is no dotted path"),
        ("no_such_module_here:Name", r"the module no_such_module_here cannot be imported \(.*\): correct its name"),
        ("collections:NoSuchName", "the module collections holds no NoSuchName"),
        ("string:digits", "neither a subclass nor an instance of builtins.dict"),
    ],
)
def test_what_does_not_load_is_one_sentence(path: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        dotted.load(path, dict, "some.setting")
    assert "\n" not in str(error.value)


def test_a_module_that_fails_is_one_sentence_and_an_edited_one_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_failing_module.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"cannot be imported .*division by zero"):
        dotted.load("own_failing_module:x", None, "some.setting")
    file = tmp_path / "own_edited_module.py"
    file.write_text("x = 1\n")
    assert dotted.load("own_edited_module:x", int, "some.setting") == 1
    settings = {"model": {"adapter": "own_edited_module:x", "id": "no_such:model"}, "ids": [1, "a.b:c"]}
    before = dotted.source_digests(settings)
    assert list(before) == ["own_edited_module:x"]
    file.write_text("x = 2\n")
    assert dotted.source_digests(settings) != before
    file.write_text("x = 1\n")
    assert dotted.source_digests(settings) == before
    monkeypatch.delitem(sys.modules, "own_edited_module")
