"""Every file in conf/ fits the schema, and a typo in one does not."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from running import ROOT

from locheads.config import Config, check
from locheads.pipeline import cli
from locheads.pipeline.error_messages import explain

CONF = ROOT / "conf"
GROUPS = sorted(
    (path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name not in ("experiment", "hydra")
)
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))


def composed(conf: Path, *overrides: str) -> Config:
    assert cli.run  # its module registers what conf/config.yaml resolves with
    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = OmegaConf.to_object(compose("config", list(overrides)))
    assert isinstance(config, Config)
    return config


def test_the_list_of_files_is_not_empty() -> None:
    assert len(GROUPS) > 15
    assert len(EXPERIMENTS) >= 3


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_group_file_composes_to_a_valid_config(group: str, name: str) -> None:
    config = composed(CONF, f"{group}={name}")
    check(config)
    # A file that says another name than its own would mislabel results.
    assert getattr(getattr(config, group), "name", name) == name


def test_no_override_is_the_schemas_own_default() -> None:
    """The library's users get what the command line gets."""
    assert composed(CONF) == composed(CONF, "criterion=paper", "grounding=paper", "prompt=referseg")
    default, schema = composed(CONF), OmegaConf.to_object(OmegaConf.structured(Config))
    assert default == schema


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_under_its_own_study(name: str) -> None:
    config = composed(CONF, f"experiment={name}")
    check(config)
    assert config.study == name


def test_an_experiment_beats_the_defaults_and_the_command_line_beats_it() -> None:
    config = composed(CONF, "experiment=released_c1", "criterion.candidates=7")
    assert config.discovery.trials == 10
    assert config.criterion.name == "released_c1"
    assert config.grounding.component.value == "all_cells"
    assert config.criterion.candidates == 7


def test_table_5_differs_only_in_the_criterion() -> None:
    paper, entropy, s_img = (composed(CONF, f"criterion={name}").criterion for name in ("paper", "entropy", "s_img"))
    assert {paper.score, entropy.score, s_img.score} == {"s_img_entropy", "entropy", "s_img"}
    assert paper.candidates == entropy.candidates == s_img.candidates == 10
    assert paper.skip_layers == entropy.skip_layers == s_img.skip_layers == 2


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("criterion/paper.yaml", "candidatse: 5", "criterion.candidatse. Did you mean criterion.candidates?"),
        ("grounding/paper.yaml", "kernel: wide", "grounding.kernel needs a whole number, not 'wide'"),
        ("prompt/bare.yaml", "full_stop: perhaps", "prompt.full_stop needs true or false, not 'perhaps'"),
    ],
)
def test_a_mistake_in_a_group_file_is_one_sentence(file: str, line: str, named: str, tmp_path: Path) -> None:
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    path = conf / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    group, name = file.removesuffix(".yaml").split("/")
    with pytest.raises(ConfigCompositionException) as caught:
        composed(conf, f"{group}={name}")
    sentence = explain(caught.value)
    assert sentence is not None
    assert sentence.startswith(f"conf/{file}: ")
    assert named in sentence


def test_the_same_files_without_the_mistake_compose(tmp_path: Path) -> None:
    conf = Path(shutil.copytree(CONF, tmp_path / "conf"))
    assert composed(conf) == composed(CONF)
