"""The texts that travel in a bundle: model card and licence notice."""

# ruff: noqa: E501 - prose in templates

from __future__ import annotations

from export.bundle import ATTRIBUTION

WEIGHTS_LICENCE = f"""\
The network weights in this folder (*.onnx) are licensed under
Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0).
The licence text: https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode

Attribution
-----------
{ATTRIBUTION}.

* S. D. Peter et al., "Automatic Note-Level Score-to-Performance Alignments in the ASAP Dataset",
  TISMIR 2023, doi:10.5334/tismir.149
* F. Foscarin et al., "ASAP: a dataset of aligned scores and performances for piano transcription",
  ISMIR 2020
* C. Hawthorne et al., "Enabling Factorized Piano Music Modeling and Generation with the MAESTRO
  Dataset", ICLR 2019

Changes: the performances were rendered to audio with piano soundfonts (those named in the model card;
FluidR3: MIT licence, (c) 2000-2002, 2008 Frank Wen; MuseScore_General's grand piano: public-domain
samples, MIT licence) and neural networks were trained on the result. The data set itself
is not contained.
"""


def model_card(training: dict) -> str:
    """Model card of a bundle from its ``training`` record, Markdown."""
    codec, curves, latents = (training[name] for name in ("codec", "curves", "latents"))
    return f"""\
# Model card

**What it does.** Performs piano scores. A curve network generates tempo, loudness, asynchrony, articulation and
pedal from the notes; a latent network generates codec latents of the performed audio from the performed notes
and the deadpan's latents; the codec turns latents into 44.1 kHz mono audio.

**Data.** (n)ASAP v2.1, CC BY-NC-SA 4.0, split by work.

| part | data | steps | minutes | parameters | validation loss |
|---|---|---|---|---|---|
{_codec_row(codec)}
| curves | {curves["performances"]} performances, {curves["hours"]:.1f} h{_variations(curves)} | {_cells(curves)} |
| latents | {latents["performances"]} performances, {latents["hours"]:.1f} h | {_cells(latents)} |

{_pianos(codec)}
The latent network's audio is the FluidR3 piano, at most {latents["seconds"]:.0f} s of a performance{_started(latents)}.
Composers from Bach to Ravel; performers are mostly competitors of the Yamaha e-Piano Competition. Nothing of the
validation and test works was trained on. Hardware: {training["hardware"]}. Seed {training["seed"]}.

**Numbers.** {_agreement(curves)}`docs/evaluation.md` of the project has correlations with human
performers, distances from their distributions, and note scores, all on works of the test split.

**Limits.** It performs on one piano sound, solo piano only, Western classical repertoire, no ornaments beyond what
is notated, no una corda. Of a score it knows notes, metre, tempo changes and written dynamics (velocities), not
slurs, articulation marks or words. Briefly trained on a CPU.

**Licence.** CC BY-NC-SA 4.0, because of the data; see `LICENSE.weights.txt`.
"""


def _codec_row(codec: dict) -> str:
    """Row of the codec: how it was trained, or whose it is."""
    if "weights" in codec:
        return f"| codec | {codec['weights']}, not trained here | – | – | {codec['parameters'] / 1e6:.1f} M | – |"
    audio = f"{codec['excerpts']} excerpts of {codec['seconds']:.0f} s"
    if "coarse" not in codec:
        return f"| codec | {audio} | {_cells(codec)} |"
    coarse, refined = codec["coarse"], codec.get("refined")
    rows = [
        f"| codec, coarse part | {coarse['excerpts']} excerpts of {coarse['seconds']:.0f} s | {_cells(coarse)} |"
    ]
    rows += [f"| codec, fine part | {audio} | fitted | – | {codec['parameters'] / 1e6:.1f} M in all | – |"]
    if refined:
        rows += [f"| codec, decoder | the same | {_cells(refined)} |"]
    return "\n".join(rows)


def _started(part: dict) -> str:
    """Where a network's training started, when it was not from nothing."""
    return f"; it started from the network of {part['started_from']}" if "started_from" in part else ""


def _agreement(curves: dict) -> str:
    """How far the curves that the network expects of validation scores are those that were performed."""
    found = curves.get("agreement")
    if not found:
        return ""
    listed = ", ".join(f"{name.removesuffix('_r')} {value:.2f}" for name, value in found.items())
    return (
        "Correlation of the expected with the performed curves, frame by frame, in windows of validation\n"
        f"works: {listed}.\n"
    )


def _variations(part: dict) -> str:
    count = part.get("variations", 1)
    return f", at {count} paces each and in any key" if count > 1 else ""


def _pianos(codec: dict) -> str:
    """What the codec heard, and how its decoder was refined, in sentences."""
    if "soundfonts" not in codec:
        return ""
    text = f"The codec heard {', '.join(codec['soundfonts'])} (varied: {codec.get('varied', 'level')})."
    if "refined" in codec and "coarse" not in codec:
        more = codec["refined"]
        text += (
            f"\nIts decoder alone was trained on for {more['steps']} steps, {more['minutes']:.0f} minutes."
        )
    return text


def _cells(part: dict) -> str:
    """Steps, minutes, parameters and validation loss of one part."""
    millions = f"{part['parameters'] / 1e6:.1f} M" if "parameters" in part else "–"
    return f"{part['steps']} | {part['minutes']:.0f} | {millions} | {part['val_loss']:.4f}"
