"""What `gonzo-translation align` does once all is checked, and what it shows in the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gonzo.lab.progress import format_seconds
from gonzo.lab.terminal import print_table, remark
from gonzo.translation.commands import align as command
from gonzo.translation.commands.folder import ALIGNMENT, Opened, remember
from gonzo.translation.commands.precision import HEADER, judge, table
from gonzo.translation.commands.reading import fingerprint, read_pairs, read_vectors

if TYPE_CHECKING:
    from gonzo.lab.run import Run
    from gonzo.translation.hubness import Hubness
    from gonzo.translation.lexicon import Lexicon
    from gonzo.translation.stability import StabilityReport

HUBS_HEADER = ("retrieval", "largest hubs", "skewness", "never retrieved")


def reach(options: command.Options, run: Run) -> dict[str, Any]:
    """Align, save, judge and draw inside a run, and return the result as JSON.

    Raises:
        ValueError: the files do not fit each other or the method.
    """
    from gonzo.translation.aligning import align
    from gonzo.translation.commands.pictures import draw

    reading: dict[str, Any] = {
        name: getattr(options, name) for name in ("max_words", "lowercase", "partial")
    }
    source, target = (read_vectors(path, **reading) for path in (options.src, options.tgt))

    def pairs(path: Path | None) -> Lexicon | None:
        if path is None:
            return None
        return read_pairs(path, source, target, lowercase=options.lowercase)

    lexicon, gold = pairs(options.lexicon), pairs(options.eval_lexicon)
    chance = options.method == "adversarial"
    remark("refining two random rotations, to know what chance reaches" if chance else "aligning")
    aligned = align(
        source,
        target,
        method=options.method,
        lexicon=lexicon,
        normalize=options.normalize,
        adversarial=command.game_rules(options),
        refinement=command.refinement_rules(options),
        seeds=options.seeds,
        vocabulary=options.vocabulary or 20_000,
        loops=run,
    )
    found = aligned.stability is None or len(aligned.stability.failed) < len(options.seeds)
    result: dict[str, Any] = {
        "format": 1,
        "found": found,
        "method": options.method,
        "criterion": aligned.criterion,
        "pairs": len(aligned.pairs),
        "words": [len(source), len(target)],
        "stability": _seeds(aligned.stability),
        "evaluation": None,
        "hubs": [],
    }
    opened = Opened(aligned.alignment, source, target, (options.src.name, options.tgt.name))
    if found and gold is not None and options.eval_lexicon is not None:
        rows = gold.rows(source, target)
        results = judge(*opened.mapped(), rows, ("nn", "csls"))
        result["evaluation"] = {
            "lexicon": fingerprint(options.eval_lexicon),
            "rows": table(results),
            "outside": str(rows),
        }
    result["hubs"] = hub_rows(draw(run, opened, aligned), opened)
    result["seconds"] = round(run.seconds, 2)
    if found:
        folder = options.out / ALIGNMENT
        aligned.alignment.save_pretrained(folder)
        remember(folder, {"source": options.src, "target": options.tgt}, reading)
    _write_page(result, options)
    return result


def show(result: dict[str, Any], out: Path) -> None:
    """Print what a finished alignment is worth, and where it lies."""
    stability, judged = result["stability"], result["evaluation"]
    if stability is not None:
        print_table(*_table(stability["rows"]))
        print(f"\n{stability['said'][:1].upper()}{stability['said'][1:]}")
        if warning := _warning(result):
            remark(f"WARNING: {warning}")
    if not result["found"]:
        remark(f"No alignment was saved. The report is {out / 'report.html'}")
        return
    if judged:
        print_table(HEADER, judged["rows"])
        print(f"\n{judged['lexicon']['file']}: {judged['outside']}")
    print(f"{_lead(result)}\nAlignment in {out / ALIGNMENT}, report in {out / 'report.html'}")
    print(f"A dictionary of it: gonzo-translation dictionary {out}")
    if result["method"] == "self-learning" and not judged:
        remark(
            "Nothing here says whether it is right: look at some words with translate-word, or "
            "judge it by known translations with evaluate"
        )


def hub_rows(hubs: dict[str, Hubness], opened: Opened) -> list[tuple[str, ...]]:
    """Return a row of text for each retrieval, below `HUBS_HEADER`."""
    words = opened.target.words
    return [
        (
            name,
            ", ".join(f"{words[row]} {count:,}" for row, count in measured.top(5)),
            f"{measured.skewness:.2f}",
            f"{measured.anti_hubs:.1%}",
        )
        for name, measured in hubs.items()
    ]


def _seeds(stability: StabilityReport | None) -> dict[str, Any] | None:
    if stability is None:
        return None
    rows = [
        (
            f"{one.seed}",
            f"{max(epoch.criterion for epoch in one.epochs):.3f}",
            f"{one.criterion:.3f}",
            "failed" if one.failed else "kept" if one is stability.best else "found",
        )
        for one in stability.seeds
    ]
    header = ("seed", "criterion of the game", "refined", "outcome")
    return {
        "said": str(stability).replace("method='self-learning'", "--method self-learning"),
        "failed": list(stability.failed),
        "kept": stability.best.seed,
        "chance": list(stability.random),
        "rows": [header, *rows],
    }


def _warning(result: dict[str, Any]) -> str:
    stability = result["stability"]
    if stability is None or not stability["failed"]:
        return ""
    if not result["found"]:
        return "no seed found a mapping; what there is, is worth no more than chance"
    failed = ", ".join(map(str, stability["failed"]))
    return f"these seeds failed, and another could have too with other seeds: {failed}"


def _lead(result: dict[str, Any]) -> str:
    n, m = result["words"]
    return (
        f"{result['method']} on {n:,} and {m:,} words: mean cosine of translations "
        f"{result['criterion']:.3f}, {result['pairs']:,} pairs in the last fit, "
        f"{format_seconds(result['seconds'])}"
    )


def _table(rows: list[Any]) -> tuple[Any, list[Any]]:
    return rows[0], rows[1:]


def _write_page(result: dict[str, Any], options: command.Options) -> None:
    from gonzo.lab.report.run_page import write_run_page

    judged, stability = result["evaluation"], result["stability"]
    tables = {"hubs among the most frequent words": [HUBS_HEADER, *result["hubs"]]}
    if stability:
        tables = {stability["said"]: stability["rows"], **tables}
    if judged:
        title = f"precision, {judged['lexicon']['file']}: {judged['outside']}"
        tables = {title: [HEADER, *judged["rows"]], **tables}
    write_run_page(
        options.out,
        f"{options.src.name} to {options.tgt.name}",
        _lead(result),
        tables,
        warning=_warning(result),
    )
