"""RefCOCO's expressions as F-LMM takes them, against mmdet's loop, and all of an image in one text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refer_files import REFS, TinyRefer

from locheads.data.config import Asked, DatasetConfig, Expressions
from locheads.data.first_expressions import first_expressions
from locheads.data.refer import ReferDataSet


def test_the_same_refs_as_in_a_plain_loop() -> None:
    """Public code updates an annotation with each of its refs, and takes the last state of each."""
    rng = np.random.default_rng(0)
    refs: list[dict[str, Any]] = [
        {"ref_id": i, "ann_id": int(rng.integers(60)), "sentences": [
            {"sent_id": 10 * i + k, "sent": f"thing {i} {k}", "raw": f"The Thing {i}, {k}"} for k in range(3)]}
        for i in range(200)
    ]  # fmt: skip
    annotations: dict[int, dict[str, Any]] = {}
    for ref in refs:
        annotations.setdefault(ref["ann_id"], {}).update(ref)
    expected = [(a["ref_id"], a["sentences"][0]["raw"].lower()) for a in annotations.values()]
    found = first_expressions(refs)
    assert [(ref["ref_id"], ref["sentences"][0]["sent"]) for ref in found] == expected
    assert all(len(ref["sentences"]) == 1 for ref in found) and len(found) < 60 + 1
    assert refs[0]["sentences"][0]["sent"] == "thing 0 0"  # the original stays


@pytest.fixture
def config(tiny: TinyRefer) -> DatasetConfig:
    tiny.write()
    return DatasetConfig(reader="refer", folder=str(tiny.folder), refs=REFS, images=str(tiny.images))


def test_alone_and_in_one_text(config: DatasetConfig, tmp_path: Path) -> None:
    readers = {
        name: ReferDataSet(replace(config, **how), tmp_path / "cache")
        for name, how in {
            "all": {}, "first": {"expressions": Expressions.first},
            "together": {"expressions": Expressions.first, "asked": Asked.in_text},
        }.items()
    }  # fmt: skip
    assert len({reader.digest for reader in readers.values()}) == 3  # the same ids with other questions
    every, first, together = (reader.read("val") for reader in readers.values())
    assert readers["all"].digest == ReferDataSet(config, tmp_path).digest
    for whole, own, joined in zip(every, first, together, strict=True):
        refs = list(dict.fromkeys(s.ref_id for s in whole.samples))
        assert [s.ref_id for s in own.samples] == refs and all(s.expression.islower() for s in own.samples)
        text = " ".join(f"{s.expression}." for s in own.samples)
        assert [str(s.asked) for s in joined.samples] == [text] * len(refs)
        assert [s.asked[slice(*s.sentence.part)] for s in joined.samples if s.sentence] == [
            s.expression for s in own.samples
        ]
        assert [replace(s, sentence=None) for s in joined.samples] == list(own.samples)
    assert any(len(group.samples) > 1 for group in together) and len(every[1].samples) > len(first[1].samples)
    assert readers["together"].read("val") == together  # from the table
