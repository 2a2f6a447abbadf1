"""What a stored result was made from: told apart by content, and in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import locheads
from locheads.pipeline.open_store import NO_PART
from locheads.store.atomic import write_json
from locheads.store.key import Key, code_digest, difference, of_other_versions, read_key, walk_imports

PASS = "locheads.pipeline.attention_pass"


def test_what_differs_is_named_and_nothing_else() -> None:
    theirs, ours = {"torch": "2.13.0", "pillow": "12.3.0"}, {"torch": "2.13.0", "pillow": "13.0", "torchvision": "0.28"}
    assert difference(theirs, ours) == "pillow 12.3.0 (here 13.0), torchvision none (here 0.28)"
    assert difference(None, ours) == "versions that were not recorded"


def test_others_have_the_same_question_the_newest_first_and_what_was_edited_is_none(tmp_path: Path) -> None:
    def kept(key: Key) -> Path:
        path = tmp_path / key.digest[:16] / "key.json"
        write_json(path, key.content)
        return path

    ours = Key({"model": "m"}, {"torch": "3"})
    files = [kept(Key({"model": "m"}, made)) for made in (None, {"torch": "1"}, {"torch": "2"}, {"torch": "3"})]
    files += [kept(Key({"model": "other"}, {"torch": "1"}))]
    for second, file in enumerate(files):
        os.utime(file, (second, second))
    found = [key.made_with for _, key in of_other_versions(ours, files)]
    assert found == [{"torch": "2"}, {"torch": "1"}, None]
    files[2].write_text(files[2].read_text().replace('"2"', '"1"'))  # a version that it was not made with
    files[0].write_text("{")
    assert [key.made_with for _, key in of_other_versions(ours, files)] == [{"torch": "1"}]
    assert read_key(tmp_path / "absent" / "key.json") is None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that stands in for ours: `a` imports `b` and `sub.c`, which imports `d` inside of a function."""
    monkeypatch.setattr(locheads, "__path__", [str(tmp_path)])
    files = {
        "a.py": "from locheads import b\nimport locheads.sub.c\n\ndef f(x):\n    return x + 1\n",
        "b.py": "B = 1\n",
        "sub/__init__.py": "S = 1\n",
        "sub/c.py": "def g():\n    from locheads.d import D\n    return D\n",
        "d.py": 'D = "text"\n',
        "e.py": "E = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(without: frozenset[str] = frozenset()) -> str:
    code_digest.cache_clear()
    return code_digest("locheads.a", without=without)


@pytest.mark.parametrize("name", ["a.py", "b.py", "sub/__init__.py", "sub/c.py", "d.py"])
def test_a_change_of_any_imported_module_is_another_digest(name: str, package: Path) -> None:
    before = digest()
    path = package / name
    path.write_text(path.read_text().replace("1", "2").replace("text", "other").replace("return D", "return not D"))
    assert digest() != before


def test_comments_docstrings_layout_and_strangers_do_not_count(package: Path) -> None:
    before = digest()
    (package / "a.py").write_text(
        '"""Docs."""\n\n# Why.\nfrom locheads import b\nimport locheads.sub.c\ndef f(x):\n'
        '    """Docs."""\n    return (x\n            + 1)  # one more\n'
    )
    (package / "e.py").write_text("E = 2\n")
    assert digest() == before
    (package / "a.py").write_text("from locheads import b\nimport locheads.sub.c\ndef f(x):\n    return 1 + x\n")
    assert digest() != before


def test_a_string_that_is_no_docstring_counts(package: Path) -> None:
    before = digest()
    (package / "d.py").write_text('D = "text "\n')
    assert digest() != before


def test_what_is_left_out_does_not_count(package: Path) -> None:
    without = frozenset({"locheads.b"})
    before = digest(without)
    (package / "b.py").write_text("B = 2\n")
    assert digest(without) == before


def test_the_code_of_the_attention_pass_is_complete() -> None:
    """Against what Python itself imports, in a process of its own."""
    say = f"import sys, {PASS}; print(*(name for name in sys.modules if name.startswith('locheads.')))"
    said = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True).stdout.split()
    everything = set(walk_imports(PASS))
    assert set(said) <= everything
    # By settings alone comes what they import; all else that is left out is left out by name.
    counted = set(walk_imports(PASS, without=NO_PART))
    assert everything >= NO_PART, "a module that is left out by name is not there"
    settings = set(walk_imports("locheads.config", without=NO_PART - {"locheads.config"}))
    silent = everything - counted - NO_PART - settings
    assert not silent, "only modules of NO_PART import these: name them there, or let the pass import them itself"
    must = "capture attend batching prompts load placement adapters.family adapters.square_view variants"
    assert {f"locheads.models.{name}" for name in must.split()} | {
        "locheads.data.image_files",
        "locheads.geometry",
        PASS,
    } <= counted
