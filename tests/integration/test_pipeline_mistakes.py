"""What a user gets wrong is one sentence that names it, exit code 1, no traceback, and no model is loaded."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from running import Result, TinyFiles
from transformers.utils import is_torchvision_available


@pytest.fixture
def complaint(files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None) -> Callable[..., str]:
    """The sentence after "error: " of the tiny run with these overrides."""

    def print_error(*overrides: str, at: TinyFiles = files) -> str:
        result = command(*at.arguments(tmp_path / "out", tmp_path / "cache"), *overrides)
        assert result.code == 1, result.out
        assert result.err.count("\n") == 1, result.err
        assert "Traceback" not in result.out + result.err
        assert "Error executing job" not in result.out + result.err
        assert result.err.startswith("error: ")
        assert not (tmp_path / "cache" / "attention").exists() or not list((tmp_path / "cache").rglob("*.safetensors"))
        return result.err.removeprefix("error: ").strip()

    return print_error


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("heads.kk=2", "There is no setting heads.kk. Did you mean heads.k?"),
        ("+heads.kk=2", "There is no setting heads.kk. Did you mean heads.k?"),
        ("head.k=2", "There is no setting head. Did you mean heads?"),
        ("sede=1", "There is no setting sede. Did you mean seed?"),
        ("criterio=paper", "There is no setting criterio. Did you mean criterion?"),
        ("criterion=papre", "There is no criterion=papre. Did you mean paper? There are: "),
        ("experiment=table", "There is no experiment=table."),
        ("heads.k=three", "heads.k needs a whole number, not 'three'."),
        ("heads.k=1.5", "heads.k needs a whole number, not '1.5'."),
        ("heads.k=null", "heads.k needs a value, not null."),
        ("heads=3", "heads is a group of settings"),
        ("grounding.sigma=wide", "grounding.sigma needs a number, not 'wide'."),
        ("criterion.floor=men", "criterion.floor: Invalid value 'men', expected one of [mean, relu_mean_eps,"),
        ("stage=atend", "stage: Invalid value 'atend', expected one of [attend, discover,"),
        ("runs=outputs", "runs needs a list, such as runs=[A,B]."),
        ("runs=[a,k=1]", "[a,k= cannot be read: quote special characters, such as 'runs=["),
        ("heads.k=1,2", "heads.k=1,2 holds several values: add -m"),
        ("heads.k", "heads.k is not of the form setting=value"),
        ("heads.k=0", "heads.k must be at least 1, not 0."),
        ("absence.score=flatness", "absence.score: Invalid value 'flatness', expected one of [off, peak, entropy,"),
        ("absence.threshold=0.3", "absence.threshold=0.3 is the threshold of one score: name it as absence.score"),
        ("absence.false_alarm=1", "absence.false_alarm must lie between 0 and 1, not 1.0."),
        ("absence.score=mass", "absence.score=mass is calibrated on train, and the 100 images drawn there"),
        ("discovery.draw=picture", "discovery.draw: Invalid value 'picture', expected one of [expression, image]"),
        ("discovery.n_samples=0", "discovery.n_samples must be at least 1, not 0."),
        ("criterion.tau=-inf", "criterion.tau must be a number or null, not -inf."),
        ("criterion.max_bottom_row=inf", "criterion.max_bottom_row must be a number or null, not inf."),
        ("paths.cache=", "paths.cache is empty: give it a value"),
        ("model.id=", "model.id is empty: give it a value"),
        ("study=../elsewhere", "study=../elsewhere leads out of paths.outputs"),
        ("heads.k=13", "heads.k=13 is more than the 12 heads that can be chosen: the model has 5 layers of 4 heads"),
        ("criterion.skip_layers=5", "heads.k=3 is more than the 0 heads that can be chosen"),
        ("heads.k=???", "heads.k needs a value: ??? stands for one that is missing."),
        ("dataset.links=???", "dataset.links needs a value: ??? stands for one that is missing."),
        ("paths.outputs=???", "paths.outputs needs a value"),
        ("grounding.kernel=4", "grounding.kernel must be odd and positive, not 4."),
        ("grounding.sigma=-1", "grounding.sigma must be a number of cells, from 0 to 1000, not -1.0."),
        ("grounding.sigma=1e308", "grounding.sigma must be a number of cells, from 0 to 1000, not 1e+308."),
        ("dataset.split=tset", "There is no split 'tset' in "),
        ("dataset.split=train", "dataset.split and dataset.discovery_split are both train"),
        ("dataset.reader=cocoa", "dataset.reader=cocoa is unknown: use one of agd20k, coco, flickr30k, "),
        ("dataset.folder=/no/such/folder", "/no/such/folder is not there"),
        ("dataset.images=/no/such/images", "The image folder /no/such/images is not there"),
        ("dataset.refs=refs(umd).p", "refs(umd).p is not there"),
        ("model.id=/no/such/model", "/no/such/model"),
        ("model.id=no-such-user/no-such-model", "Cannot load the model no-such-user/no-such-model"),
        ("model.image_backend=slow", "Invalid value 'slow', expected one of [own, pil, torchvision]"),
        ("engine.device=gpu", "engine.device=gpu is no device: use auto, cpu, cuda or cuda:N."),
        ("prompt.template=look", "prompt.template has no {expression}"),
        ("dataset=null", "dataset=null chooses no file (NoneType): write GROUP=NAME"),
        ("=1", "=1 chooses no file (int): write GROUP=NAME"),
        ("experiment=null", "experiment=null chooses no file"),
        ("model=", "There is no model=. There are: "),
        ("dataset=[a,b]", "There is no file dataset/b.yaml in the configuration."),
        ("++x", "++x is not of the form setting=value"),
        ("~nope", "nope: Could not delete from config"),
        ("", "A setting on the command line is empty or ends too early"),
        ("study=größe", "study=größe cannot be read: put the value in quotes"),
        ("study=\x1b[31m", "study=\\x1b[31m cannot be read"),
        ("study=${oops}", "Interpolation key 'oops' not found (in study=${oops})."),
        ("study=${oc.env:NOPE}", "Environment variable 'NOPE' not found"),
        ("heads.k=${heads.k}", "Recursive interpolation detected (in heads.k=${heads.k})."),
        ("hydra/launcher=nope", "There is no hydra/launcher=nope. There are: "),
        ("dataset=/etc/passwd", "There is no dataset=/etc/passwd. There are: "),
        ("hydra.mode=nope", "hydra.mode: Invalid value 'nope'"),
        (f"study={'x' * 300}", "File name too long"),
        ("tracker.project=a/b", "tracker.project must be 1 to 128 characters, none of them of / \\ # ? % :, not"),
        ("--resolve", "The --resolve flag can only be used in conjunction with --cfg or --help"),
        ("--config-name=nope", "There is no file nope.yaml in the configuration."),
        ("--config-dir=/nope", "Additional config directory '/nope' not found"),
    ],
)  # fmt: skip
def test_a_wrong_override(override: str, sentence: str, complaint: Callable[..., str]) -> None:
    assert sentence in complaint(override if "(" not in override else override.replace("=", "='", 1) + "'")


FIRST = "dataset.expressions=first"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["dataset.asked=in_text", "dataset.reader=jsonl"], "which dataset.reader=jsonl does not know: use"),
        (["dataset.asked=in_text"], "dataset.asked=in_text joins the expressions of all objects of an image"),
        (["dataset.asked=in_text", FIRST], "where prompt.query=last is the same for all of them: use"),
        (["dataset.asked=in_text", FIRST, "prompt.query=expression_mean", "stage=steer"],
         "stage=steer asks an expression alone: use dataset.asked=alone."),
    ],
)  # fmt: skip
def test_expressions_in_a_text_that_cannot_be_told_apart(
    overrides: list[str], sentence: str, complaint: Callable[..., str]
) -> None:
    assert sentence in complaint(*overrides)


def test_runs_that_the_stage_does_not_read(complaint: Callable[..., str]) -> None:
    sentence = complaint("runs=[a,b]", "stage=discover")
    assert sentence == "runs are read by stage=compare and stage=report, not by stage=discover."


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
def test_an_image_processor_whose_package_is_not_there(complaint: Callable[..., str]) -> None:
    sentence = complaint("model.image_backend=torchvision")
    assert sentence == (
        "model.image_backend=torchvision needs the package torchvision: make install EXTRAS=families brings it."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there(complaint: Callable[..., str]) -> None:
    assert "engine.device=cuda was asked for, but torch sees no CUDA device" in complaint("engine.device=cuda")


def test_a_model_folder_that_is_no_checkpoint(files: TinyFiles, complaint: Callable[..., str]) -> None:
    assert f"{files.folder} has no config.json" in complaint(f"model.id={files.folder}")


def test_a_model_that_sees_no_image(tmp_path: Path, complaint: Callable[..., str]) -> None:
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    assert "is a 'gpt2' model, which reads text alone" in complaint(f"model.id={tmp_path / 'gpt'}")


@pytest.mark.parametrize("key", ["paths.outputs", "paths.cache"])
def test_an_output_folder_that_cannot_be_written(key: str, tmp_path: Path, complaint: Callable[..., str]) -> None:
    # Below a file: nobody can write there, root neither.
    (tmp_path / "file").write_text("")
    sentence = complaint(f"{key}={tmp_path / 'file' / 'below'}")
    assert str(tmp_path / "file" / "below") in sentence
    assert "Not a directory" in sentence
    assert key in sentence


def test_refs_that_name_a_missing_annotation(files: TinyFiles, tmp_path: Path, complaint: Callable[..., str]) -> None:
    copy = files.copy(tmp_path / "copy")
    refs = tiny.read_refs(copy.folder)
    refs[-1]["ann_id"] = 999
    tiny.write_refs(copy.folder, refs)
    assert f"ref {refs[-1]['ref_id']} of {copy.folder / 'refs(unc).p'} names annotation 999" in complaint(at=copy)


def test_a_missing_instances_file(files: TinyFiles, tmp_path: Path, complaint: Callable[..., str]) -> None:
    copy = files.copy(tmp_path / "copy")
    (copy.folder / "instances.json").unlink()
    assert f"{copy.folder / 'instances.json'} is not there" in complaint(at=copy)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("the refs file ran code",)


def test_refs_that_would_run_code(files: TinyFiles, tmp_path: Path, complaint: Callable[..., str]) -> None:
    copy = files.copy(tmp_path / "copy")
    (copy.folder / "refs(unc).p").write_bytes(pickle.dumps([_Bomb()]))
    assert "is refused because it names the global" in complaint(at=copy)


def test_more_heads_than_any_sample_chose(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], store: Path, no_model: None
) -> None:
    # Known only from the attention, so this one needs the store.
    result = command(*files.arguments(tmp_path / "out", store), "heads.k=12", "criterion.candidates=1")
    assert result.code == 1
    assert "heads.k=12 is more than the " in result.err
    assert "lower heads.k, or raise criterion.candidates" in result.err
    assert result.err.count("\n") == 1


def test_the_reason_is_in_the_run_folder(files: TinyFiles, tmp_path: Path, command: Callable[..., Result]) -> None:
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"), "heads.k=0")
    (folder,) = (tmp_path / "out" / "default").iterdir()
    assert "ERROR heads.k must be at least 1, not 0." in (folder / "run.log").read_text()
    assert '"state": "failed"' in (folder / "status.json").read_text()
    assert "heads.k must be" not in result.out


def test_a_bug_keeps_its_traceback(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    """The negative control of all the above: only what a user can mend is shortened."""
    result = command(*files.arguments(tmp_path / "out", tmp_path / "cache"))
    (folder,) = (tmp_path / "out" / "default").iterdir()
    log = folder / "run.log"
    assert result.code == 70
    assert result.err == (
        f"error: This is a bug of LocHeads, not yours: the traceback is in {log}; please report it.\n"
    )
    assert "Traceback (most recent call last):" in log.read_text()
    assert "AssertionError: the model was loaded" in log.read_text()


def test_a_bug_in_a_sweep_is_a_failed_row_with_its_traceback_in_the_runs_log(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    result = command("-m", *files.arguments(tmp_path / "out", tmp_path / "cache"), "heads.k=1")
    (log,) = (tmp_path / "out").rglob("run.log")
    assert result.code == 1
    assert "1 of the sweep's runs failed" in result.err
    assert "AssertionError: the model was loaded" in log.read_text()
    assert f"the traceback is in {log}" in log.read_text()
    assert "Traceback" not in result.out + result.err


def test_what_a_library_raised_is_in_the_log(
    files: TinyFiles, tmp_path: Path, command: Callable[..., Result], no_model: None
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    arguments = files.arguments(tmp_path / "out", tmp_path / "cache")
    result = command(*arguments, f"model.id={tmp_path / 'model'}")
    (log,) = (tmp_path / "out").rglob("run.log")
    assert result.code == 1 and result.err.count("\n") == 1
    assert "config.json cannot be read (Expecting property name" in result.err
    assert "Traceback (most recent call last):" in log.read_text()


def test_two_modes_at_once(command: Callable[..., Result]) -> None:
    result = command("--multirun", "--cfg", "job")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "Only one of --run, --multirun, --cfg, --info" in result.err
