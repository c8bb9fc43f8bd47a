"""The networks of a bundle, opened once and shared by takes."""

from __future__ import annotations

from dataclasses import dataclass

from pkontext.bundle import Bundle
from pkontext.codec import Codec, open_codec
from pkontext.runtime import Graph


@dataclass(frozen=True)
class Networks:
    """The open networks of a bundle; takes that are rendered on one thread share them."""

    codec: Codec
    curves: Graph
    latents: Graph


def open_networks(bundle: Bundle, threads: int = 0, provider: str = "auto") -> Networks:
    """Open a bundle's networks.

    Parameters
    ----------
    bundle : Bundle
        Verified, see `pkontext.bundle.open_bundle`.
    threads : int
        Threads of the networks, 0 for all cores.
    provider : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    BundleError, ProviderError
        When they cannot be opened.
    """
    return Networks(
        open_codec(bundle, threads, provider),
        Graph(bundle.graph_path("dit_curves"), threads, provider),
        Graph(bundle.graph_path("dit_latents"), threads, provider),
    )
