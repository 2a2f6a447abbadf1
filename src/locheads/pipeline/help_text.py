"""What --help prints: the template of conf/config.yaml, with the groups and the settings.

Hydra's own help takes a second longer, because it copies its whole configuration once per group and flag.
"""

from pathlib import Path
from string import Template

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict


def help_text(conf: Path, overrides: list[str]) -> str:
    """The help, with the settings as the overrides make them. Raises what Hydra does for a wrong override."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf.absolute())):
        composed = compose("config", overrides, return_hydra_config=True)
    template = Template(composed.hydra.help.template)
    with open_dict(composed):
        del composed["hydra"]
    return template.substitute(APP_CONFIG_GROUPS=_groups(conf), CONFIG=OmegaConf.to_yaml(composed))


def _groups(conf: Path) -> str:
    """A line per group with its members."""
    members: dict[str, list[str]] = {}
    for file in sorted(conf.rglob("*/*.yaml"), key=lambda file: file.with_suffix("")):
        members.setdefault(file.parent.relative_to(conf).as_posix(), []).append(file.stem)
    return "".join(f"{group}: {', '.join(names)}\n" for group, names in members.items() if "hydra" not in group)
