"""A user's own family and reader, named by their dotted paths, go through the pipeline without an edit of it."""

import json
from pathlib import Path

import pytest

from locheads.data.config import DatasetConfig
from locheads.data.refer import ReferDataSet
from locheads.pocket.dataset import ensure_dataset
from locheads.report.run_record import read_run

OWN = Path(__file__).parents[1] / "own"
FEW = ("heads.set=pocket", "dataset.limit=6", "explorer.samples=0", "evaluation.resamples=10", "engine.threads=1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def table(cache):
    """The pocket data's val and train in the form of `own_parts.TableReader`, but for masks."""
    root = ensure_dataset(cache)
    folder, images = cache / "table", root / "images/train2014"
    folder.mkdir()
    for split in ("val", "train"):
        config = DatasetConfig(folder=str(root / "pocket"), images=str(images))
        groups = ReferDataSet(config, cache).read(split)
        content = {
            g.path.name: {
                "size": [g.width, g.height],
                "expressions": [[s.sample_id, s.expression, s.box] for s in g.samples],
            }
            for g in groups
        }
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder, images


@pytest.fixture
def own(command, cache, tmp_path, monkeypatch):
    """`python run.py` on a few expressions, from a folder beside which the user's module lies."""
    monkeypatch.syspath_prepend(str(OWN))

    def run(*arguments):
        result = command(*FEW, f"paths.outputs={tmp_path}/outputs", f"paths.cache={cache}", *arguments)
        folders = sorted((tmp_path / "outputs/default").iterdir()) if result.code == 0 else []
        return result, folders[-1] if folders else None

    return run


def answers(folder):
    import pandas as pd

    table = pd.read_parquet(folder / "predictions.parquet")
    return table[table["method"] == "localization_heads"][["sample_id", "x0", "y0", "x1", "y1", "peak_x", "peak_y"]]


def test_an_own_reader_gives_the_figures_of_the_same_data(own, table):
    folder, images = table
    mine, mine_folder = own(
        "dataset.reader=own_parts:TableReader", f"dataset.folder={folder}", f"dataset.images={images}"
    )
    assert mine.code == 0, mine.err
    stock, stock_folder = own()
    assert stock.code == 0, stock.err
    assert answers(mine_folder).equals(answers(stock_folder))
    assert read_run(mine_folder).setting("dataset.reader") == "own_parts:TableReader"


def test_an_own_family_has_maps_of_its_own(own):
    stock, stock_folder = own()
    mine, mine_folder = own("model.adapter=own_parts:LoudAdapter")
    assert (stock.code, mine.code) == (0, 0), mine.err
    assert not answers(mine_folder).equals(answers(stock_folder))
    stores = [json.loads((f / "provenance.json").read_text()) for f in (stock_folder, mine_folder)]
    assert stores[0]["maps"]["store"] != stores[1]["maps"]["store"]
    assert stores[0]["digest"] != stores[1]["digest"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.adapter=own_parts", "model.adapter=own_parts is no dotted path"),
        ("model.adapter=no_such_module:Family", "the module no_such_module cannot be imported"),
        ("model.adapter=own_parts:a_number", "neither a subclass nor an instance of"),
        ("model.adapter=own_parts:absent", "holds no absent"),
        ("dataset.reader=own_parts:LoudAdapter", "neither a subclass nor an instance of"),
        ("dataset.reader=own_parts:Half", "is no complete reader: it lacks digest, read"),
        ("dataset.reader=own_parts:Twice", "has the id of another sample"),
        ("dataset.reader=own_parts:Elsewhere", "which leaves its image of"),
        ("dataset.reader=own_parts:Broken", "dataset.reader=own_parts:Broken cannot read val"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_model")
def test_what_does_not_fit_is_one_sentence_before_any_model_loads(own, table, setting, said):
    folder, images = table
    result, _ = own(setting, f"dataset.folder={folder}", f"dataset.images={images}")
    assert result.code == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert said in line
    assert "Traceback" not in result.err
