"""`stage=verify`: a table, verify.json and an exit code; and what later runs say of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import Result, TinyFiles

from locheads.config import Config
from locheads.models.findings import Finding, Outcome
from locheads.pipeline import verify
from locheads.records.command_files import VerifyFile
from locheads.report.facts import facts
from locheads.report.run_record import read_run

NOT_VERIFIED = "was not verified with these settings: stage=verify"


def _verified(tmp_path: Path) -> VerifyFile:
    (folder,) = (path.parent for path in (tmp_path / "out" / "default").glob("*/verify.json"))
    return VerifyFile.read(folder)


def _ask(command: Callable[..., Result], tmp_path: Path, *overrides: str) -> Result:
    return command(
        "stage=verify", f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}", "engine.device=cpu",
        *overrides,
    )  # fmt: skip


def test_the_pocket_model_passes(tmp_path: Path, command: Callable[..., Result]) -> None:
    result = _ask(command, tmp_path)
    assert result.code == 0, result.err
    found = _verified(tmp_path)
    assert f"pocket: {found.passed} passed, 0 failed, " in result.out and found.passed >= 16
    shown = {point.name: point.text for point in found.findings}["image processor"]
    assert shown == "LlavaImageProcessorPil (pil); the checkpoint's own backend is pil"
    assert [point.name for point in found.findings if "geometry" in point.name] == [
        f"geometry, {aspect} image" for aspect in ("wide", "square", "tall")
    ]
    assert found.digest and VerifyFile.read(tmp_path / "cache" / "verifications" / found.digest[:16]) == found


def test_what_fails_stops_no_later_check(
    tmp_path: Path, files: TinyFiles, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(verify, "check_geometry", broken)
    result = _ask(command, tmp_path, f"model.id={files.model}")
    assert result.code == 1 and f"of {files.model} failed: see the table above." in result.err
    found = {point.name: point for point in _verified(tmp_path).findings}
    assert found["geometry"].outcome == Outcome.failed and "This is a bug of LocHeads" in found["geometry"].text
    assert found["rows = eager attention"].outcome == Outcome.passed
    assert found["known answer"].outcome == Outcome.not_applicable
    assert "no heads of" in found["known answer"].text and found["cost"].outcome == Outcome.passed


def test_without_a_model_or_a_prompt_the_rest_is_not_applicable(tmp_path: Path, command: Callable[..., Result]) -> None:
    result = _ask(command, tmp_path, f"model.id={tmp_path}")
    assert result.code == 1
    found = _verified(tmp_path)
    assert (len(found.failed), found.digest) == (1, None)
    assert [point.name for point in found.findings[-5:]] == list(verify.CHECKS)
    assert {point.outcome for point in found.findings[-5:]} == {"not applicable"}
    assert not (tmp_path / "cache" / "verifications").exists()
    _ask(command, tmp_path / "long", f"prompt.template='<image>{'word ' * 600}{{expression}}'")
    found = _verified(tmp_path / "long")
    assert found.failed == ["prompt"] and "the model reads 1024 at most" in str(found)
    assert [point.name for point in found.findings if "cannot be asked" in point.text] == list(verify.ASKING)
    assert "geometry, tall image" in [point.name for point in found.findings if point.outcome == "passed"]


def test_without_a_chat_template_what_needs_none_is_checked(tmp_path: Path, command: Callable[..., Result]) -> None:
    result = _ask(command, tmp_path, "prompt=chat")
    assert result.code == 1
    found = _verified(tmp_path)
    points = {point.name: point for point in found.findings}
    assert found.failed == ["chat template"] and "prompt=referseg" in points["chat template"].advice
    for name in ("loading", "image processor", "geometry, tall image"):
        assert points[name].outcome == Outcome.passed
    for name in (verify.CHECKS[0], *verify.ASKING):
        assert points[name].outcome == Outcome.not_applicable
        assert points[name].text == "prompt=chat needs the chat template"


def test_a_run_refers_to_the_last_verification_of_what_it_asks(
    tmp_path: Path, files: TinyFiles, run: Callable[[Config], Path], command: Callable[..., Result],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO")
    config = files.config(tmp_path / "out", tmp_path / "cache")
    before = run(config)
    assert caplog.text.count(NOT_VERIFIED) == 1 and read_run(before).provenance.verification is None
    assert dict(facts(read_run(before)))["Model verified"] == "no (stage=verify)"
    _ask(command, tmp_path, f"model.id={files.model}")
    (kept,) = (tmp_path / "cache" / "verifications").iterdir()
    caplog.clear()
    record = read_run(run(config))
    verified = record.provenance.verification
    last = VerifyFile.read(kept)
    assert verified is not None and (verified.when, verified.passed) == (last.when, last.passed)
    assert last.passed > 9
    assert NOT_VERIFIED not in caplog.text
    assert dict(facts(record))["Model verified"].startswith(f"{verified.when}: {verified.passed} checks passed")
    other = replace(config, prompt=replace(config.prompt, template="<image>{expression}"))
    assert read_run(run(other)).provenance.verification is None and NOT_VERIFIED in caplog.text


def test_a_run_warns_of_a_failed_verification(
    tmp_path: Path, files: TinyFiles, run: Callable[[Config], Path], command: Callable[..., Result],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pixels = Finding("pixels", Outcome.failed, "they differ", "download them again")
    monkeypatch.setattr(verify, "check_prompt", lambda *_: [pixels])
    _ask(command, tmp_path, f"model.id={files.model}")
    record = read_run(run(files.config(tmp_path / "out", tmp_path / "cache")))
    assert "and failed: pixels" in caplog.text
    assert record.provenance.verification and "pixels" in record.provenance.verification.failed
    (kept,) = (tmp_path / "cache" / "verifications").iterdir()
    (kept / "verify.json").write_text("{")
    assert read_run(run(files.config(tmp_path / "out", tmp_path / "cache"))).provenance.verification is None
