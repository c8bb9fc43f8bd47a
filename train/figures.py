"""Figures of a codec: spectrograms of originals and what comes back (needs the ``evaluate`` extra)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.codec_metrics import SAMPLE_RATE, level_db, spectrum


def spectrogram_pair(original: np.ndarray, decoded: np.ndarray, path: Path, title: str) -> None:
    """Draw original, decoded and their difference above each other, up to 8 kHz, as a PNG file.

    Parameters
    ----------
    original, decoded : ndarray
        ``[n]`` at 44.1 kHz.
    path : Path
    title : str
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image  # matplotlib needs it itself

    top, hop = 8000, 256
    bins = round(top / SAMPLE_RATE * 2048)
    a, b = (level_db(spectrum(x, 2048, hop), 2048)[:, :bins].T - 54 for x in (original, decoded))
    extent = (0, len(original) / SAMPLE_RATE, 0, top / 1000)
    figure, axes = pyplot.subplots(3, 1, figsize=(10, 8), sharex=True, layout="constrained")
    for axis, image, name in zip(axes, (a, b, b - a), ("original", "decoded", "difference"), strict=True):
        limits = (-15, 15) if name == "difference" else (-90, 0)
        colours = "RdBu_r" if name == "difference" else "magma"
        drawn = axis.imshow(
            image, origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=limits[0], vmax=limits[1]
        )
        axis.set_ylabel(f"{name}\nkHz")
        figure.colorbar(drawn, ax=axis, label="dB", pad=0.01)
    axes[0].set_title(title)
    axes[-1].set_xlabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    Image.open(path).convert("RGB").quantize(96).save(path, optimize=True)
