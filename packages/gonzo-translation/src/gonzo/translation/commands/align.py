"""Find the maps of two languages into one space, with or without known translations.

It goes on where it was interrupted: give the same command again. A finished one shows its result.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gonzo.lab.errors import LabError
from gonzo.lab.terminal import remark
from gonzo.translation.commands.reading import fingerprint

if TYPE_CHECKING:
    from gonzo.translation.adversarial import AdversarialConfig
    from gonzo.translation.refinement import RefinementConfig

NEEDS_LEXICON = ("supervised", "semi-supervised", "rcsls")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of gonzo-translation align.

    Args:
        src: Vectors of the source language, most frequent word first: .vec, .vec.gz, .bin of
            word2vec or fastText, .npz or .safetensors.
        tgt: Vectors of the target language, of as many numbers.
        out: The folder for the alignment, the metrics and the report.
        method: Without translations: self-learning, the robust one; adversarial, with several
            seeds; identical, from words spelt alike. With a lexicon: supervised, rcsls, or
            semi-supervised, for which 25 pairs can do.
        lexicon: Known translations, a pair of words a line.
        eval_lexicon: Translations to judge by at the end. Nothing is learnt from them.
        preset: Rules of the adversarial game and of refinement. small: for some ten thousand words,
            minutes a seed; paper and muse: the paper's text and MUSE's code, hours a seed.
        seeds: Of the adversarial games, of which the best is kept. The other methods use the first.
        normalize: What is done to both vocabularies first, in order: unit, center. None with
            --normalize alone.
        max_words: Read the first so many words of each; 0 reads all.
        lowercase: Lower-case all words.
        partial: Use what an interrupted download has.
        epochs: Of an adversarial game.
        epoch_steps: Mapping steps of an epoch; 31250 in the paper.
        hidden: Units of the discriminator's layers; 2048 in the paper.
        refine_steps: Of the refinement that follows adversarial, identical and supervised.
        vocabulary: Words of each side that self-learning takes its pairs from; 20000 by default.
        threads: CPU threads; 0 leaves it to torch.
        fresh: Start over.
    """

    src: Path
    tgt: Path
    out: Path
    method: Literal[
        "self-learning", "adversarial", "identical", "supervised", "semi-supervised", "rcsls"
    ] = "self-learning"
    lexicon: Path | None = None
    eval_lexicon: Path | None = None
    preset: Literal["small", "paper", "muse"] = "small"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    normalize: tuple[Literal["unit", "center"], ...] = ("unit", "center", "unit")
    max_words: int = 200_000
    lowercase: bool = False
    partial: bool = False
    epochs: int | None = None
    epoch_steps: int | None = None
    hidden: int | None = None
    refine_steps: int | None = None
    vocabulary: int | None = None
    threads: int = 0
    fresh: bool = False


def command(options: Options) -> int:
    """Align, save, judge, draw; 1 if no adversarial seed found a mapping."""
    identity = _checked(options)

    from gonzo.lab.atomic import read_json, write_json
    from gonzo.lab.run import Run
    from gonzo.translation.commands import outcome
    from gonzo.translation.commands.folder import ALIGNMENT, RESULT

    try:
        with Run(
            options.out,
            identity=identity,
            seed=options.seeds[0],
            threads=options.threads or None,
            fresh=options.fresh,
        ) as run:
            file = options.out / RESULT
            if file.exists():
                remark(f"{options.out} is finished; --fresh starts over")
                result = read_json(file, way_out="Start over with --fresh.")
                _say_how_to_judge(options, result)
            else:
                # One of an earlier run must not be taken for that of this one.
                shutil.rmtree(options.out / ALIGNMENT, ignore_errors=True)
                try:
                    result = outcome.reach(options, run)
                except ValueError:
                    _forget(options.out)
                    raise
                write_json(file, result)
    except LabError as error:
        raise LabError(str(error).replace("--run-dir", "--out")) from error
    outcome.show(result, options.out)
    return 0 if result["found"] else 1


def game_rules(options: Options) -> AdversarialConfig:
    """Return the preset's rules of the adversarial game with what the options change."""
    from gonzo.translation.adversarial import AdversarialConfig

    preset = getattr(AdversarialConfig, options.preset)()
    changes = {name: getattr(options, name) for name in ("epochs", "epoch_steps", "hidden")}
    return replace(preset, **{k: v for k, v in changes.items() if v is not None})


def refinement_rules(options: Options) -> RefinementConfig:
    """Return the preset's rules of refinement with what the options change."""
    from gonzo.translation.refinement import RefinementConfig

    preset = RefinementConfig.muse() if options.preset == "muse" else RefinementConfig.paper()
    return preset if options.refine_steps is None else replace(preset, steps=options.refine_steps)


def _checked(options: Options) -> dict[str, Any]:
    """Refuse what cannot work before gigabytes are read, and return what the run is."""
    method = options.method
    if method in NEEDS_LEXICON and options.lexicon is None:
        raise ValueError(
            f"--method {method} needs known translations: --lexicon FILE. Without any, use "
            "self-learning, adversarial or identical"
        )
    if method not in NEEDS_LEXICON and options.lexicon is not None:
        raise ValueError(
            f"--method {method} learns from no lexicon; use one with supervised, rcsls or "
            "semi-supervised, or give it as --eval-lexicon to judge by"
        )
    if not options.seeds or min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        raise ValueError(
            f"expected --seeds of at least 0 that differ, at least one, got {list(options.seeds)}"
        )
    for names, methods in (
        (("epochs", "epoch_steps", "hidden"), ("adversarial",)),
        (("refine_steps",), ("adversarial", "identical", "supervised")),
        (("vocabulary",), ("self-learning", "semi-supervised")),
    ):
        for name in names:
            value, least = getattr(options, name), 0 if name == "refine_steps" else 1
            if value is None:
                continue
            option = f"--{name.replace('_', '-')}"
            if method not in methods:
                raise ValueError(
                    f"{option} is of --method {' and '.join(methods)}; {method} does not use it"
                )
            if value < least:
                raise ValueError(f"expected {option} of at least {least}, got {value}")
    if options.max_words < 0 or options.threads < 0:
        raise ValueError("expected --max-words and --threads of at least 0")
    sides = {"source": fingerprint(options.src), "target": fingerprint(options.tgt)}
    if sides["source"]["digest"] == sides["target"]["digest"]:
        raise ValueError(
            f"--src and --tgt are the same vectors, {options.src} and {options.tgt}: expected two "
            "languages"
        )
    lexicon = None if options.lexicon is None else fingerprint(options.lexicon)
    if options.eval_lexicon is not None:
        fingerprint(options.eval_lexicon)
    left_out = ("src", "tgt", "out", "lexicon", "eval_lexicon", "threads", "fresh")
    chosen = {k: v for k, v in asdict(options).items() if k not in left_out}
    return {"command": "align", **sides, "lexicon": lexicon, "config": chosen}


def _forget(out: Path) -> None:
    # What was refused before its first step shall not stand in the way of the corrected command.
    if {entry.name for entry in out.iterdir()} <= {"lock", "run.json"}:
        (out / "run.json").unlink(missing_ok=True)


def _say_how_to_judge(options: Options, result: dict[str, Any]) -> None:
    wanted = options.eval_lexicon
    if wanted is None or not result["found"]:
        return
    if (result["evaluation"] or {}).get("lexicon") != fingerprint(wanted):
        remark(
            f"It was not judged by {wanted}: gonzo-translation evaluate {options.out} --lexicon "
            f"{wanted}"
        )
