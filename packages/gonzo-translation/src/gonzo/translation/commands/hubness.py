"""Show the hubs: target words that are among the translations of too many source words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonzo.lab.terminal import print_table, remark
from gonzo.translation.commands.folder import Chosen, opened


@dataclass(frozen=True, kw_only=True)
class Options(Chosen):
    """Options of gonzo-translation hubness.

    Args:
        k: How many translations of each word count.
        picture: Draw how often words are retrieved to this file: .svg, .png or .pdf.
    """

    k: int = 10
    picture: Path | None = None


def command(options: Options) -> int:
    """Print a table of the most frequent words' hubs, by nearest neighbours and by CSLS."""
    from gonzo.translation.commands.outcome import HUBS_HEADER, hub_rows
    from gonzo.translation.commands.pictures import HUB_WORDS, count_hubs

    if options.k < 1:
        raise ValueError(f"expected --k of at least 1, got {options.k}")
    if options.picture is not None and options.picture.suffix not in (".svg", ".png", ".pdf"):
        raise ValueError(f"expected a picture .svg, .png or .pdf, got {options.picture.name!r}")
    found = opened(options)
    hubs = count_hubs(*found.mapped(), k=options.k)
    print_table(HUBS_HEADER, hub_rows(hubs, found), left=2)
    most = max(len(found.source), len(found.target))
    if most > HUB_WORDS:
        remark(f"among the {HUB_WORDS:,} most frequent words of each language")
    if options.picture is not None:
        from gonzo.translation.plots import plot_hubness

        plot_hubness(hubs).savefig(options.picture)
        remark(f"Picture: {options.picture}")
    return 0
