"""Runs studies at pocket size, by the first block of commands in their README: `python experiments/pocket_size.py
[STUDY ...] [SETTING=VALUE ...]`. Without names all of them; settings are added to every command but the reports."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "experiments"


def studies() -> list[str]:
    """Those whose README ends its first commands with the study's tables."""
    names = sorted(path.parent.name for path in STUDIES.glob("*/README.md"))
    return [name for name in names if any("stage=report" in words for words in commands(name))]


def commands(study: str) -> list[list[str]]:
    """The arguments of run.py in the first block of commands of the study's README."""
    blocks = (STUDIES / study / "README.md").read_text().split("```")
    lines = blocks[1].replace("\\\n", " ").splitlines() if len(blocks) > 1 else []
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[2:] for words in split if words[1:2] == ["run.py"]]


def made_first(study: str) -> list[list[str]]:
    """The arguments of Python in the lines of that block that make the data of the study."""
    lines = (STUDIES / study / "README.md").read_text().split("```")[1].splitlines()
    return [shlex.split(line)[1:] for line in lines if " -m locheads." in line]


def main(arguments: list[str]) -> int:
    """Runs them one after the other, the rest also where one fails. Returns the exit code."""
    settings = [argument for argument in arguments if "=" in argument]
    names = [argument for argument in arguments if "=" not in argument] or studies()
    failed = []
    for name in names:
        for made in made_first(name):
            subprocess.run([sys.executable, *made], cwd=ROOT, check=True)
        for command in commands(name):
            own = [] if "stage=report" in command else settings
            print("python run.py", shlex.join([*command, *own]), flush=True)
            if subprocess.run([sys.executable, "run.py", *command, *own], cwd=ROOT).returncode:
                failed.append(name)
    print(f"{len(names)} studies, failed: {', '.join(dict.fromkeys(failed)) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
