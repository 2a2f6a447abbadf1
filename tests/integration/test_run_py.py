"""`python run.py` as a process of its own: exit codes, streams, and what --help teaches."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import ROOT, Finished, TinyFiles


def launch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_a_whole_run_from_another_folder(files: TinyFiles, finished: Finished, tmp_path: Path) -> None:
    result = launch(*files.arguments(tmp_path / "out", finished.cache), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "Traceback" not in result.stdout
    (folder,) = (tmp_path / "out" / "default").iterdir()
    assert f"Report:     {folder / 'report.html'}" in result.stdout
    # Another process, the same bytes.
    for name in ("heads.json", "metrics.json", "predictions.parquet"):
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_a_mistake_is_one_line_on_stderr(files: TinyFiles, tmp_path: Path) -> None:
    result = launch(*files.arguments(tmp_path / "out", tmp_path / "cache"), "heads.kk=2", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "error: There is no setting heads.kk. Did you mean heads.k? See: python run.py --help\n"


def test_an_unwritable_folder_is_one_line_on_stderr(files: TinyFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = launch(*files.arguments(tmp_path / "file" / "out", tmp_path / "cache"), cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'file' / 'out'}")
    assert result.stderr.count("\n") == 1


def test_help_teaches_groups_and_five_commands(tmp_path: Path) -> None:
    result = launch("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.count("  python run.py") >= 5
    for group in ("model", "dataset", "prompt", "criterion", "selection", "grounding", "tracker", "experiment"):
        assert f"{group}: " in result.stdout
    assert not list(tmp_path.iterdir())


def test_help_is_hydras_own_with_the_overrides(tmp_path: Path) -> None:
    ours = launch("--help", "heads.k=7", "model=llava_1_5_7b", cwd=tmp_path).stdout
    hydras = launch("--help", "--config-name=config", "heads.k=7", "model=llava_1_5_7b", cwd=tmp_path).stdout
    assert "  k: 7\n" in ours
    assert ours.strip() == hydras.strip()
    assert launch("-h", "modl=x", cwd=tmp_path).stderr.startswith("error: There is no setting modl.")


def test_a_rerun_on_a_full_store_loads_neither_torch_nor_transformers(files: TinyFiles, tmp_path: Path) -> None:
    code = "import sys; from locheads.pipeline.cli import main; main(); print('LOADED', *(HEAVY & {*sys.modules}))"
    command = [sys.executable, "-c", code.replace("HEAVY", "{'torch', 'transformers'}")]
    arguments = files.arguments(tmp_path / "out", tmp_path / "cache")

    def loaded(*changed: str) -> set[str]:
        result = subprocess.run([*command, *arguments, *changed], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        return set(result.stdout.rpartition("LOADED")[2].split())

    assert loaded() == {"torch", "transformers"}  # negative control: this one runs the model
    assert loaded("grounding.sigma=1.5") == set()


def test_help_and_mistakes_load_no_heavy_package() -> None:
    code = "import sys, locheads.pipeline.cli; print([name for name in HEAVY if name in sys.modules])"
    heavy = ["torch", "transformers", "pandas", "pyarrow", "scipy.ndimage", "scipy.stats", "matplotlib", "cv2", "numpy"]
    found = subprocess.run([sys.executable, "-c", code.replace("HEAVY", repr(heavy))], capture_output=True, text=True)
    assert found.stdout.strip() == "['numpy']"


STAYS_IN_THE_PASS = """
import signal, sys, time
from pathlib import Path
from locheads.pipeline import attention_pass, cli

# Where the tests run in the background of a shell, it has told them to ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

def stays(*_):
    Path(begun).touch()
    time.sleep(600)

begun = sys.argv.pop(1)
attention_pass.attend_groups = stays
cli.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_with_130(files: TinyFiles, tmp_path: Path) -> None:
    begun, arguments = tmp_path / "begun", files.arguments(tmp_path / "out", tmp_path / "cache")
    process = subprocess.Popen(
        [sys.executable, "-c", STAYS_IN_THE_PASS, str(begun), *arguments, "stage=attend"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not begun.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted. What was finished is stored" in err
    assert "Traceback" not in out + err
