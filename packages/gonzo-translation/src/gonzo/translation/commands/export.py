"""Write the vectors of both vocabularies in the shared space, for other programs.

Without --max-words the whole files are mapped, rarer words than those that the alignment was found
with too; both vocabularies are held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonzo.lab.terminal import remark
from gonzo.translation.commands.convert import check_output
from gonzo.translation.commands.folder import Chosen, opened
from gonzo.translation.commands.reading import keep_inputs


@dataclass(frozen=True, kw_only=True)
class Options(Chosen):
    """Options of gonzo-translation export.

    Args:
        out_src: The file for the source words: .vec, .vec.gz, .txt, .bin (word2vec's), .npz or
            .safetensors.
        out_tgt: The file for the target words.
        digits: Digits after the point, in text; 5 is what MUSE writes. By default as many as it
            takes to read the same numbers back.
    """

    out_src: Path | None = None
    out_tgt: Path | None = None
    digits: int | None = None


def command(options: Options) -> int:
    """Map and write."""
    from gonzo.translation.embeddings import write_embeddings

    if options.out_src is None and options.out_tgt is None:
        raise ValueError("expected where to write: --out-src FILE, --out-tgt FILE or both")
    written = [path for path in (options.out_src, options.out_tgt) if path is not None]
    for path in written:
        check_output(path, options.digits)
    if len({path.resolve() for path in written}) < len(written):
        raise ValueError(f"expected two files, got {written[0]} for --out-src and --out-tgt")
    found = opened(options, all_words=True)
    for path in written:
        keep_inputs(path, found.files)
    if options.out_src is not None:
        write_embeddings(
            found.alignment.mapped_source(found.source), options.out_src, digits=options.digits
        )
        remark(f"{len(found.source):,} words in {options.out_src}")
    if options.out_tgt is not None:
        write_embeddings(
            found.alignment.mapped_target(found.target), options.out_tgt, digits=options.digits
        )
        remark(f"{len(found.target):,} words in {options.out_tgt}")
    return 0
