"""stage=verify: is this checkpoint read rightly, on this machine? Prints a table of findings, from cheap to dear."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from locheads.config import Config, Stage
from locheads.discovery.headset import HeadSet, check_headset, differences, published_for, read_headset
from locheads.errors import LocHeadsError, ModelError
from locheads.fitted_table import Row, fitted_table, label, words
from locheads.models.attend import NO_MEMORY
from locheads.models.batching import free_memory, is_out_of_memory
from locheads.models.findings import Finding, Outcome
from locheads.models.folder_checks import TEMPLATE, check_folder
from locheads.models.identity import ModelIdentity, identify
from locheads.models.image_backend import INSTALL, PIL, TORCHVISION
from locheads.models.load import Lvlm
from locheads.models.placement import check_unloaded
from locheads.models.verification.eager_rows import check_attention
from locheads.models.verification.painted_cells import check_geometry
from locheads.models.verification.stock_prompt import check_prompt
from locheads.pipeline.error_messages import log_bug
from locheads.pipeline.known_answer import check_known_answer
from locheads.pipeline.loader import Loader
from locheads.pipeline.measured_cost import check_cost
from locheads.pipeline.run_life import Status, recorded_provenance
from locheads.pipeline.verified import kept_at, verification_digest
from locheads.records.command_files import VerifyFile
from locheads.terminal import console, track

log = logging.getLogger(__name__)

_COLOURS = {Outcome.passed: "green", Outcome.failed: "bold red", Outcome.not_applicable: "dim"}
CHECKS = ("prompt", "geometry", "attention", "known answer", "cost")
ASKING = CHECKS[2:]
"""Those that make no sense where no prompt can be made."""

Check = Callable[[], list[Finding]]


def verify_model(config: Config, folder: Path, status: Status) -> None:
    """Checks the model as far as it can be checked, prints the findings and writes verify.json, here and in the cache.

    Raises:
        ModelError: a check failed.
    """
    with status.stage(Stage.verify), recorded_provenance(folder):
        findings, digest = verify(config)
        points = [vars(finding) for finding in findings]
        when = datetime.now(UTC).isoformat(timespec="seconds")
        record = VerifyFile.parse({"model": config.model.id, "digest": digest, "when": when, "findings": points})
        record.write(folder)
        if digest is not None:
            record.write(kept_at(config, digest))
        console.print(table(config.model.id, findings))
        if record.failed:
            raise ModelError(
                f"{len(record.failed)} of the {len(findings)} checks of {config.model.id} failed: see the table above."
            )


def verify(config: Config) -> tuple[list[Finding], str | None]:
    """-> (what was found, the digest that it holds for). Never raises for what is wrong with the model."""
    findings = _guarded("folder", partial(check_folder, config.model, config.prompt))
    failed = {finding.name for finding in findings if finding.outcome == Outcome.failed}
    if failed - {TEMPLATE}:
        return [*findings, *_not_reached("the folder must be mended first")], None
    try:
        check_unloaded(config.model, config.engine)
        identity = identify(config.model, Path(config.paths.cache))
        lvlm = Loader(config).get(None)
    except LocHeadsError as error:
        return [
            *findings,
            Finding("loading", Outcome.failed, str(error)),
            *_not_reached("the model did not load"),
        ], None
    findings.append(Finding("loading", Outcome.passed, _loaded(lvlm, identity)))
    findings.append(Finding("image processor", Outcome.passed, _pixels(lvlm, identity)))
    checks = _checks(config, identity, lvlm)
    unasked = f"prompt={config.prompt.name} needs the chat template" if TEMPLATE in failed else ""
    for name in track(CHECKS, "verify", "checks"):
        if unasked and name in (CHECKS[0], *ASKING):
            findings.append(Finding(name, Outcome.not_applicable, unasked))
            continue
        findings += _guarded(name, checks[name])
        if (findings[-1].name, findings[-1].outcome) == (CHECKS[0], Outcome.failed):
            unasked = "the model cannot be asked in this prompt"
    return findings, verification_digest(config, identity)


def _loaded(lvlm: Lvlm, identity: ModelIdentity) -> str:
    dtype = str(lvlm.model.dtype).removeprefix("torch.")
    return f"{identity.model_type}, {identity.layers} x {identity.heads} heads, {dtype} on {lvlm.device}"


def _pixels(lvlm: Lvlm, identity: ModelIdentity) -> str:
    """Which image processor makes the pixels, and which backend is the checkpoint's own."""
    images = lvlm.adapter.processor.image_processor
    backend, own = getattr(images, "backend", "own"), identity.own_backend or "not known to transformers"
    lacking = f" ({INSTALL})" if (backend, own) == (PIL, TORCHVISION) else ""
    return f"{type(images).__name__} ({backend}); the checkpoint's own backend is {own}{lacking}"


def _checks(config: Config, identity: ModelIdentity, lvlm: Lvlm) -> dict[str, Check]:
    answer = partial(_known_answer, config, identity, lvlm)
    cost = partial(check_cost, lvlm, config.prompt, config.engine)
    checks: tuple[Check, ...] = (
        partial(check_prompt, lvlm, config.prompt), partial(check_geometry, lvlm),
        partial(check_attention, lvlm, config.prompt), answer, cost,
    )  # fmt: skip
    return dict(zip(CHECKS, checks, strict=True))


def _guarded(name: str, check: Check) -> list[Finding]:
    """What the check found; where it breaks, that is what was found, and the next one runs."""
    try:
        return check()
    except LocHeadsError as error:
        return [Finding(name, Outcome.failed, str(error))]
    except Exception as error:
        text = NO_MEMORY if is_out_of_memory(error) else log_bug(error)
    # Outside of the handler: the error's traceback kept the failed pass's tensors alive.
    free_memory()
    return [Finding(name, Outcome.failed, text)]


def _known_answer(config: Config, identity: ModelIdentity, lvlm: Lvlm) -> list[Finding]:
    found = _heads(config, identity)
    if found is None:
        text = f"no heads of {config.model.id} are known: after stage=discover give heads.set its folder"
        return [Finding("known answer", Outcome.not_applicable, text)]
    for sentence in differences(found, config.model, config.prompt):
        log.warning("heads.set: %s", sentence)
    return check_known_answer(lvlm, found.heads[: config.heads.k], config.prompt, config.grounding)


def _heads(config: Config, identity: ModelIdentity) -> HeadSet | None:
    """Of heads.set, else the published ones. Raises StoreError or ConfigError for a set that is not the model's."""
    found = published_for(config.model.id) if config.heads.set is None else read_headset(config.heads.set)
    if found is not None:
        check_headset(found, identity.layers, identity.heads)
    return found


def _not_reached(why: str) -> Iterator[Finding]:
    return (Finding(name, Outcome.not_applicable, why) for name in CHECKS)


def table(model: str, findings: list[Finding]) -> RenderableType:
    """The findings as a table for the terminal."""
    counts = (f"{sum(f.outcome == outcome for f in findings)} {outcome.value}" for outcome in Outcome)
    rows = []
    for finding in findings:
        text = f"{finding.text}\nWhat to do: {finding.advice}" if finding.advice else finding.text
        rows.append(Row([finding.name, Text(finding.outcome.value, style=_COLOURS[finding.outcome]), text]))
    return fitted_table(f"{model}: {', '.join(counts)}", [*label("check", "verdict"), *words("what was found")], rows)
