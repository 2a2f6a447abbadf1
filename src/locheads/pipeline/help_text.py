"""What --help prints: the template of conf/config.yaml, with the groups and the settings.

Hydra's own help takes a second longer, because it copies its whole configuration once per group and flag.
"""

from pathlib import Path
from string import Template

from omegaconf import DictConfig, OmegaConf


def help_text(conf: Path, hydra: DictConfig, own: DictConfig) -> str:
    """The help, with Hydra's settings and our own as the command line makes them."""
    return Template(hydra.help.template).substitute(APP_CONFIG_GROUPS=_groups(conf), CONFIG=OmegaConf.to_yaml(own))


def _groups(conf: Path) -> str:
    """A line per group with its members."""
    members: dict[str, list[str]] = {}
    for file in sorted(conf.rglob("*/*.yaml"), key=lambda file: file.with_suffix("")):
        members.setdefault(file.parent.relative_to(conf).as_posix(), []).append(file.stem)
    return "".join(f"{group}: {', '.join(names)}\n" for group, names in members.items() if "hydra" not in group)
