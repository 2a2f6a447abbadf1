"""No flipped bit of a derived file, in store, cache or run folder, changes a figure in silence or ends in a traceback.

    LOCHEADS_FLIPS=2000 python -m pytest -s tests/integration/test_flipped_bits.py

flips that many (default: 150) and prints a table. Each flip is followed by the reader of that file, in this process:
it must give what it gave before, or say that something is damaged and give nothing else than before.
"""

import itertools
import logging
import os
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from running import Finished, TinyFiles, call

from locheads.data.config import DatasetConfig
from locheads.data.guard import guarded_keys
from locheads.data.hub import HubDataSet
from locheads.data.refer import ReferDataSet
from locheads.discovery.headset import read_headset
from locheads.errors import LocHeadsError, StoreError
from locheads.pipeline import receipt
from locheads.pipeline.compare_runs import read_scores
from locheads.pipeline.sweep_runs import read_sweep
from locheads.pipeline.timing import write_timing
from locheads.pocket import dataset
from locheads.records.receipt_file import SweepFile
from locheads.report.dossier.write import FOLDER
from locheads.report.run_record import read_run
from locheads.report.studies.runs import READ, find_runs
from locheads.store import digest
from locheads.store.answer_store import AnswerStore
from locheads.store.attention_store import AttentionStore
from locheads.tracking.wandb_names import _group
from locheads.types import ImageGroup
from locheads.workers.shard_progress import ShardState, read_progress

FLIPS = int(os.environ.get("LOCHEADS_FLIPS", "150"))

Value = dict[str, str]
"""What a reader gives, piece by piece: of a damaged file it may give fewer pieces, never others."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind and what reads one of them."""

    name: str
    files: Sequence[Path]
    read: Callable[[Path], Value]


def plain(value: Any) -> str:
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
        return sha256(repr(value).encode()).hexdigest()


# One reader per kind of file.


def store_reader(key: dict[str, Any], groups: list[ImageGroup]) -> Callable[[Path], Value]:
    def read(path: Path) -> Value:
        store = AttentionStore(**{name: value for name, value in key.items() if name != "self"})
        assert store.folder == path.parent
        found: Value = {}
        for stored in store.read(groups):
            about = plain([stored.geometry, stored.image, stored.image_id])
            more = {name: array for name in ("sums", "mean", "cells") if (array := getattr(stored, name)) is not None}
            for i, sample_id in enumerate(stored.sample_ids):
                heads = ["maps"] if stored.heads is None else stored.heads
                maps = [stored.maps[i]] if stored.heads is None else stored.maps[i]
                pieces = dict(zip(heads, maps, strict=True)) | {name: array[i] for name, array in more.items()}
                found |= {f"{sample_id} {name}": about + plain(array) for name, array in pieces.items()}
        keys = sorted({entry.overlaps for own in store._entries.values() for entry in own if entry.overlaps})
        for group, of_pairs in itertools.product(groups, keys):
            found |= {f"{ids}": plain(overlaps) for ids, overlaps in store.read_overlaps(group, of_pairs)}
        return found

    return read


def read_note(path: Path) -> Value:
    """A damaged note is left out of timing.json."""
    with scratch(path) as folder:
        shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder)
        write_timing(folder, folder)
        return {"timing": plain((folder / "timing.json").read_text())} if (folder / "timing.json").exists() else {}


def read_answers(path: Path) -> Value:
    store = AnswerStore(path.parents[1], path.stem)
    return {sample_id: plain(answer) for (sample_id, _), answer in store._answers.items()}


def read_shard_progress(path: Path) -> Value:
    """One that is damaged is nobody's word: it never says that a shard is done."""
    found = read_progress(path)
    if found.state is ShardState.not_begun:
        raise StoreError("not begun")
    return {"progress": plain(found.content)}


def read_pocket(path: Path) -> Value:
    root = next(parent for parent in path.parents if parent.name.startswith("pocket-v"))
    if damage := dataset.find_damage(root, dataset.POCKET):
        raise StoreError(damage)
    files = [file for file in root.rglob("*") if file.is_file() and file.name != dataset.MANIFEST]
    return {str(file): plain(file.read_bytes()) for file in files}


def sweep_reader(path: Path) -> Value:
    rows = read_sweep(path.parents[1])
    for row in rows:
        if row.error:
            raise StoreError(row.error)
    return {str(row.folder): plain(row) for row in rows}


def read_pages(path: Path) -> Value:
    """Pages are read by nobody, but a sweep takes them over."""
    folder = path.parent if (path.parent / "status.json").exists() else path.parents[1]
    found = receipt.read_receipt(folder)
    return {"intact": "yes"} if found is not None and receipt._intact(folder, found) else {}


def read_records(path: Path) -> Value:
    folder = path
    while not (folder / "provenance.json").exists():
        folder = folder.parent
    return {"record": plain(read_run(folder))}


def read_study(path: Path) -> Value:
    return {"run": plain(find_runs([str(path.parent)]))}


def read_result(path: Path) -> Value:
    return {"scores": plain(read_scores(path.parent).rows.to_dict())}


# The files, made by runs of every kind.


@pytest.fixture(scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        # Files that are younger than two seconds are remembered, too, and the pocket data set is a small one.
        patch.setattr(digest, "SETTLED_NS", -1)
        splits = {"train": (4, (3, 4)), "val": (3, (3,)), "testA": (2, (3,))}
        patch.setattr(dataset, "POCKET", replace(dataset.POCKET, splits=splits, digest=""))
        yield patch


@pytest.fixture(scope="module")
def kinds(
    files: TinyFiles, finished: Finished, tmp_path_factory: pytest.TempPathFactory, quick: pytest.MonkeyPatch
) -> list[Kind]:
    root, opened = tmp_path_factory.mktemp("flips"), {}
    real = AttentionStore.__init__

    def watching(self: AttentionStore, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        opened[self.folder] = signature(real).bind(self, *arguments, **options).arguments

    def run(name: str, *overrides: str, cache: str = "cache") -> Path:
        arguments = files.arguments(root / name, root / cache)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AttentionStore, "__init__", watching)
            result = call(patch, [*overrides[:1], *arguments, *overrides[1:]])
        assert result.code == 0, result.err
        folders = sorted((root / name / "default").iterdir())
        return folders[-1]

    shutil.copytree(finished.cache, root / "cache")
    report = run("report", "stage=report", "discovery.sizes=[10]", "dataset.guard=[beside]")
    audit = run("audit", "stage=audit", "audit.mode=random", "audit.n=3", "audit.workers=1")
    asked = ("prompt=box_question_plain", "direct.box_format=xyxy_relative", "direct.frame=image")
    run("direct", "stage=direct", *asked, "prompt.max_new_tokens=4")
    for index in range(2):
        shard = ("shard.count=2", f"shard.index={index}")
        run("attend", "stage=attend", *shard, "engine.shard_images=4", cache="other/cache")
    run("top", "stage=evaluate", "engine.maps=top 4", "engine.shard_images=4", cache="top/cache")
    sweeps = root / "sweep" / "default"
    same = ("stage=evaluate", "evaluation.gallery=1", "explorer.samples=2")
    run("sweep", "-m", *same, "heads.k=1,2", f"hydra.sweep.dir={sweeps / 'sweep_1'}")
    run("sweep", "-m", *same, "heads.k=1,3", f"hydra.sweep.dir={sweeps / 'sweep_2'}")
    groups = [
        group for split in ("val", "train") for group in ReferDataSet(config_of(files), root / "tables").read(split)
    ]
    digest.files_digest(sorted(files.model.iterdir()), root / "cache")
    pocket = dataset.ensure_dataset(root / "pocket")
    found = [
        *stores(opened, groups),
        *caches(files, root),
        *hub(root / "hub"),
        Kind("pocket data", [path for path in pocket.rglob("*") if path.is_file()], read_pocket),
        *run_folder("run", report),
        Kind("audit run: its records", sorted(audit.glob("audit.*")), read_records),
        *sweep_files(sweeps),
    ]
    assert all(kind.files for kind in found), [kind.name for kind in found if not kind.files]
    return found


def config_of(files: TinyFiles) -> DatasetConfig:
    return DatasetConfig(folder=str(files.folder), images=str(files.images))


def stores(opened: dict[Path, dict[str, Any]], groups: list[ImageGroup]) -> Iterator[Kind]:
    for folder, key in opened.items():
        if list(folder.glob("*.safetensors")):
            where = folder.parents[2].name
            name = {"top": "store of few heads", "other": "store of a sharded pass"}.get(where, "store")
            yield Kind(f"{name}: arrays", list(folder.glob("*.safetensors")), store_reader(key, groups))
            yield Kind(f"{name}: listings", list(folder.glob("*.shard.json")), store_reader(key, groups))


def caches(files: TinyFiles, root: Path) -> Iterator[Kind]:
    cache = root / "cache"

    def samples(path: Path) -> Value:
        groups = ReferDataSet(config_of(files), cache).read(path.stem)
        return {"groups": plain(groups)}

    def guarded(path: Path) -> Value:
        keys = guarded_keys(["beside"], files.folder, "train", cache)
        return {file: plain(sorted(found)) for file, found in keys.items()}

    def remembered(path: Path) -> Value:
        return {"digest": digest.files_digest(sorted(files.model.iterdir()), cache)}

    yield Kind("converted tables", list(cache.glob("data/*/*.parquet")), samples)
    yield Kind("guard lists", list(cache.glob("data/guard-*.json")), guarded)
    yield Kind("digests.json", [cache / digest.REMEMBERED], remembered)
    yield Kind("notes of passes", list(cache.glob("*/*/*.pass.json")), read_note)
    yield Kind("answers", list(cache.glob("answers/*.jsonl")), read_answers)
    yield Kind("progress of shards", list(root.glob("other/cache/attention/*/work/*/*.json")), read_shard_progress)


def hub(root: Path) -> Iterator[Kind]:
    """A table with two images, which are kept as files."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(2):
        image = root / f"{i}.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(image)
        content = {"bytes": image.read_bytes(), "path": f"{i}.png"}
        rows.append({"name": f"{i}.png", "image": content, "text": "a", "bbox": [1.0, 2.0, 9.0, 9.0]})
    (root / "copy").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), root / "copy" / "val.parquet")
    columns = {"file_name": "name", "image": "image", "expressions": "text", "box": "bbox"}
    config = DatasetConfig(hub="our/copy", folder=str(root / "copy"), columns=columns, images=str(root))

    def read(path: Path) -> Value:
        groups = HubDataSet(config, root / "cache").read("val")
        return {group.image_id: plain([group, group.path.read_bytes()]) for group in groups}

    read(root)
    tables = [path for path in (root / "cache" / "datasets").rglob("*") if path.suffix in (".arrow", ".json")]
    yield Kind("tables of a hub copy", tables, read)
    yield Kind("images of a hub copy", [path for path in (root / "cache" / "data").rglob("*.png")], read)


def run_folder(name: str, folder: Path) -> Iterator[Kind]:
    """Each record by the reader that takes figures from it, all others by that of the pages."""
    unread = {"run.log", "tracker.json", "scores.parquet"}
    of_pages = [path for path in folder.rglob("*") if path.suffix == ".html" or path.parent.name == FOLDER]
    others = [path for path in folder.rglob("*") if path.is_file() and path.name not in unread and path not in of_pages]
    yield Kind(f"{name}: records, by a study", [folder / n for n in READ if (folder / n).exists()], read_study)
    yield Kind(f"{name}: scores, by compare", [folder / "scores.parquet"], read_result)
    yield Kind(f"{name}: receipt, by compare", [folder / "receipt.json"], read_result)
    yield Kind(f"{name}: heads.json, by heads.set", [folder / "heads.json"], lambda p: {"": plain(read_headset(p))})
    for kind in sorted({re.sub(r"\d+", "N", str(path.relative_to(folder))) for path in others}):
        matching = [path for path in others if re.sub(r"\d+", "N", str(path.relative_to(folder))) == kind]
        yield Kind(f"{name}: {kind}", matching, read_records)
    yield Kind(f"{name}: pages", of_pages, read_pages)


def sweep_files(folder: Path) -> Iterator[Kind]:
    names = ("overrides.yaml", "status.json", "metrics.json", "provenance.json", "done_before.json", "receipt.json")
    taken_over = [path.parent for path in folder.glob("*/*/done_before.json")]
    assert len(taken_over) == 1
    runs = [*taken_over, next(folder.glob("sweep_1/1_*"))]
    yield Kind("sweep: its runs", [run / n for run in runs for n in names if (run / n).exists()], sweep_reader)

    def group(path: Path) -> Value:
        config = _Settings()
        found = _group(config, runs[0])  # type: ignore[arg-type]
        return {} if found == config.study else {"group": found}

    yield Kind("sweep: sweep.json", [runs[0].parent / SweepFile.FILE], group)


class _Settings:
    """What the name of a group depends on."""

    study = "default"

    class tracker:
        group = None


# The damage.


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    folder = path.parent / "scratch"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def put_back(path: Path) -> Iterator[None]:
    """Whatever the reader does (sets aside, makes again), the folder is as before."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    try:
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        for file in [*path.parent.iterdir()]:
            if file.is_file() and file not in before:
                file.unlink()
            elif file.is_dir() and file.name.endswith(".damaged"):
                shutil.rmtree(file)
        for file, content in before.items():
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def outcome(kind: Kind, path: Path, base: Value, damage: Callable[[Path], object]) -> str:
    """What becomes of a damaged file: "harmless", "detected", "SILENT ..." or "TRACEBACK ..."."""
    handler, logger = _Warnings(), logging.getLogger("locheads")
    logger.addHandler(handler)
    try:
        with put_back(path):
            damage(path)
            value = kind.read(path)
    except LocHeadsError as error:
        return "detected" if str(error) else "SILENT error"
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {error}"
    finally:
        logger.removeHandler(handler)
    named = any(path.stem.removesuffix(".shard") in said or str(path.parent) in said for said in handler.said)
    if value == base:
        return "detected" if named else "harmless"
    if named and (value.items() <= base.items() or value.keys() == {"record"}):  # the page shows what there is
        return "detected"
    return f"SILENT {path}"


def flip(rng: random.Random) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return damage


def in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()[2:]),
    "another JSON": lambda path: path.write_bytes(b'{"files": 3, "splits": [], "checksum": "0"}'),
    "a folder": in_its_place,
}


BAD = ("SILENT", "TRACEBACK")


def bad(found: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    return [key for key in found if key[1].startswith(BAD)]


def test_no_flipped_bit_goes_unnoticed(kinds: list[Kind]) -> None:
    rng, found = random.Random(0), Counter[tuple[str, str]]()
    bases = {(kind.name, path): kind.read(path) for kind in kinds for path in kind.files}
    for number in range(FLIPS):
        kind = kinds[number % len(kinds)]
        path = rng.choice(kind.files)
        found[kind.name, outcome(kind, path, bases[kind.name, path], flip(rng))] += 1
    for kind in kinds:
        print(f"{kind.name:45}", {how: n for (name, how), n in found.items() if name == kind.name})
    print("all", sum(found.values()), {h: sum(n for (_, how), n in found.items() if how == h) for _, h in found})
    assert not bad(found)


def test_no_other_damage_goes_unnoticed(kinds: list[Kind]) -> None:
    found = Counter[tuple[str, str]]()
    for kind in kinds:
        path = kind.files[0]
        base = kind.read(path)
        for name, damage in DAMAGES.items():
            if (kind.name, name) != ("answers", "empty"):  # that is how a store begins
                found[kind.name, outcome(kind, path, base, damage)] += 1
    assert not bad(found)


def test_the_test_sees_what_is_not_noticed(kinds: list[Kind], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without the checksums, damage comes through."""
    monkeypatch.setattr("locheads.store.derived.checked", lambda content: content)
    monkeypatch.setattr("locheads.report.studies.runs.refuse_changed", lambda *_: True)
    monkeypatch.setattr("locheads.report.run_record.changed_files", lambda *_: [])
    names, rng = ("converted tables", "guard lists", "run: records, by a study"), random.Random(1)

    def goes_unnoticed(kind: Kind) -> bool:
        path = rng.choice(kind.files)
        return outcome(kind, path, kind.read(path), flip(rng)).startswith(BAD)

    for kind in (kind for kind in kinds if kind.name in names):
        # What a flip hits is chance: most of a compressed table's are noticed by its decoder.
        assert any(goes_unnoticed(kind) for _ in range(1000)), kind.name
