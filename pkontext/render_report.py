"""What ``pkontext render`` says when a take, a candidate or a check is done, to people and to scripts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pkontext.best_of import Candidate
from pkontext.bundle import Bundle
from pkontext.expressive_midi import TakeNotes
from pkontext.selfcheck import CheckReport, check_plan
from pkontext.sinks import SinkReport, SinkSpec

if TYPE_CHECKING:
    from pkontext.cli_common import Reporter

#: Findings of a check that are shown to people; ``--json`` has all of them.
SHOWN_FINDINGS = 20


def say_done(
    reporter: Reporter, report: SinkReport, spec: SinkSpec, began: float, bundle: Bundle, chosen: bool = False
) -> None:
    """Say what was written and how long it took, and the seed where it was chosen."""
    elapsed, duration = time.perf_counter() - began, report.frames / spec.sample_rate
    factor = elapsed / duration if duration else 0.0
    reporter.event(
        "done",
        output=report.name,
        format=spec.format,
        bits=spec.bits,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        frames=report.frames,
        duration_sec=round(duration, 3),
        elapsed_sec=round(elapsed, 3),
        real_time_factor=round(factor, 4),
        peak=report.peak,
        clipped=report.clipped,
        seed=spec.dither_seed,
        bundle={"id": bundle.manifest.id, "version": bundle.manifest.version, "sha256": bundle.sha256},
    )
    minutes, seconds = divmod(round(duration), 60)
    shown = f"seed {spec.dither_seed}, " if chosen else ""
    shown += f"{minutes}:{seconds:02d} of audio, real-time factor {factor:.2f}"
    reporter.line(f"{report.name}: {shown}", "green")
    if report.clipped:
        reporter.line(
            f"{report.clipped} samples were beyond full scale and are clipped. Use --bits 32f to keep them.",
            "yellow",
        )


def say_candidate(reporter: Reporter, candidate: Candidate, count: int) -> None:
    """Say how well a take of --best-of sounds its notes."""
    report = candidate.report
    found = {kind: report.count(kind) for kind in ("missing", "extra", "wrong")}
    moved = len(report.displaced)
    reporter.event(
        "candidate",
        candidate=candidate.number,
        candidates=count,
        seed=candidate.seed,
        f1=round(report.f1, 4),
        **found,
        displaced=moved,
    )
    listed = ", ".join(f"{number} {kind}" for kind, number in found.items())
    reporter.line(
        f"Candidate {candidate.number} of {count}, seed {candidate.seed}: note F1 {report.f1:.3f}"
        f" ({listed}, {moved} early or late)"
    )
    if report.f1 == 1.0 and candidate.number < count:
        reporter.line("Every note is right, so no other candidate can be better.")


def say_check(reporter: Reporter, take: TakeNotes, audio: CheckReport | None) -> None:
    """List what is not as it should be in a take's notes and, where it was listened to, in its audio."""
    plan = check_plan(take)
    reporter.event("check", notes=plan.to_dict(), audio=None if audio is None else audio.to_dict())
    reporter.line(
        f"Notes: {plan.matched} of the score's {plan.expected} are played once, at their pitch and in order."
    )
    if audio is None:
        reporter.line("What is written sounds just these notes, so there is no need to listen to it.")
    else:
        counts = ", ".join(f"{audio.count(kind)} {kind}" for kind in ("missing", "extra", "wrong"))
        reporter.line(
            f"Heard: {audio.matched} of {audio.expected} notes; {counts},"
            f" {len(audio.displaced)} early or late (note F1 {audio.f1:.3f})."
        )
    findings = [*plan.findings, *(audio.findings if audio is not None else ())]
    for finding in findings[:SHOWN_FINDINGS]:
        reporter.line(f"  {finding.text()}")
    if len(findings) > SHOWN_FINDINGS:
        reporter.line(f"  and {len(findings) - SHOWN_FINDINGS} more (--json lists all)")
