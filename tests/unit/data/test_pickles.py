"""Only plain content comes out of a pickle, and no code of it runs."""

import gc
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest

from locheads.data.refer_files import load_plain_pickle
from locheads.errors import DataError

PLAIN = [{"id": 1, "text": "ä", "x": [1.5, None, True, 2**70], "t": (1, "b"), "raw": b"\x00\xff", "s": {1, 2}}]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_content_survives(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert load_plain_pickle(path) == PLAIN


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_old_protocols(tmp_path: Path, protocol: int) -> None:
    content = [{"sent": "ä man", "id": 3}, {4, 5}, OrderedDict(a=1)]
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert load_plain_pickle(path) == content


def test_python_2_text_is_read_as_latin1(tmp_path: Path) -> None:
    # What Python 2's cPickle writes for [{'sent': 'caf\xe9', u'id': 7}] with protocol 2.
    path = tmp_path / "refs(unc).p"
    path.write_bytes(b"\x80\x02]q\x01}q\x02(U\x04sentq\x03U\x04caf\xe9q\x04X\x02\x00\x00\x00idq\x05K\x07ua.")
    assert load_plain_pickle(path) == [{"sent": "café", "id": 7}]


class _RunsCode:
    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker, path = tmp_path / "ran", tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([{"a": 1}, _RunsCode(marker)], protocol=protocol))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p is refused .* the global '(posix|nt)\.system'"):
        load_plain_pickle(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the control: an unrestricted reader does run it
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"c__builtin__\ngetattr\n.",
        b"ccopyreg\n_reconstructor\n.",
        b"cnumpy\nint64\n.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        b"(S'echo'\nios\nsystem\n.",
    ],
)
def test_every_other_global_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.p").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.p is refused because it names the global"):
        load_plain_pickle(tmp_path / "x.p")


def test_damaged_files(tmp_path: Path) -> None:
    whole = pickle.dumps(PLAIN, protocol=4)
    damaged = [whole[:cut] for cut in range(len(whole))]
    damaged += [
        b"",
        b"garbage",
        b"\xff\xd8\xff",
        b"PK\x03\x04",
        b"{}",
        b"<html>",
        b"\x80\x63.",
        b"P1\n.",
        b"}]K\x01s.",
    ]
    for content in damaged:
        (tmp_path / "refs.p").write_bytes(content)
        with pytest.raises(DataError, match=r"refs\.p is not a complete pickle \(\w+\): copy or download it again\.$"):
            load_plain_pickle(tmp_path / "refs.p")


def test_garbage_collection_is_back_on_after_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "x.p").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(DataError):
        load_plain_pickle(tmp_path / "x.p")
    assert gc.isenabled()


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.p cannot be read: No such file"):
        load_plain_pickle(tmp_path / "no.p")


@pytest.mark.parametrize(
    ("written", "text"),
    [("café table".encode(), "café table"), (b"caf\xe9 table", "café table"), (b"plain", "plain")],
)
def test_byte_strings_of_python_2_are_utf_8(tmp_path: Path, written: bytes, text: str) -> None:
    # Protocol 1: a list of one short byte string, as Python 2 wrote its str.
    (tmp_path / "a.p").write_bytes(b"]U" + bytes([len(written)]) + written + b"a.")
    assert load_plain_pickle(tmp_path / "a.p") == [text]
