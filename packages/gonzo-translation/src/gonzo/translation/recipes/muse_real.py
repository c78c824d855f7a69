"""Words translated with and without a dictionary, on embeddings trained here from real text.

Claim: word vectors of two languages, trained apart on text that is not aligned, can be mapped onto
each other without a single known translation, as well as with thousands of them; CSLS retrieves
more translations than nearest neighbours do; refinement makes a rough mapping good.

Every way to a mapping is judged on the same English words, a quarter of the 3,000 most frequent
ones that Wiktionary's word list translates; supervised ones learn from the words that are left.

    supervised     Procrustes on the pairs of the word list; and refined; and by relaxed CSLS
    identical      from the words that are spelt alike, refined
    self-learning  from nothing (Artetxe, Labaka and Agirre 2018)
    adversarial    from nothing, several seeds, refined (the paper's own)

What differs from the paper: embeddings of 100 dimensions from some 3 million words a language
instead of 300 from Wikipedia's; the judge is Wiktionary, of which some senses are wrong or missing,
where the paper had a dictionary made for it; the adversarial game is reduced as `Config` says.
Sentences are paragraphs of LibreOffice's help; its pages, unaligned, are among the text that the
embeddings are trained on, so that their words are at home there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.data.lohelp import lohelp
from gonzo.lab.training import require
from gonzo.translation.adversarial import AdversarialConfig
from gonzo.translation.aligning import Aligned, Method, align
from gonzo.translation.clouds import plot_clouds
from gonzo.translation.frequency_bands import by_frequency, without_identical
from gonzo.translation.hubness import measure_hubness
from gonzo.translation.lexicon import Lexicon
from gonzo.translation.plots import plot_frequency_bands, plot_hubness, plot_stability
from gonzo.translation.recipes.language_pair import LanguagePair, shipped_pair, trained_pair
from gonzo.translation.refinement import RefinementConfig
from gonzo.translation.retrieval import Method as Score
from gonzo.translation.sentence_scores import idf_weights, sentence_retrieval, sentence_vectors
from gonzo.translation.tokenizing import Tokenizer
from gonzo.translation.word_translation_scores import WordTranslation, word_translation


@dataclass(frozen=True)
class Config:
    """Which languages, and how long the game is."""

    languages: tuple[str, ...] = ("fr", "de")
    """Beside English."""
    shipped: bool = False
    """Take the few thousand words that the package ships, French only, instead of training."""
    dim: int = 100
    epochs: int = 10
    """Of training the embeddings."""
    seeds: int = 5
    """Adversarial games; 0 leaves the adversarial way out."""
    game_languages: tuple[str, ...] = ("fr",)
    """In which games are played: they take most of the time."""
    vocabulary: int = 6000
    """Words of each side from which self-learning induces its pairs."""
    game_epochs: int = 12
    epoch_steps: int = 2500
    hidden: int = 256
    batch: int = 64
    dropout: float = 0.5
    """Of the discriminator's input."""
    mapping_rate: float = 3.0
    """Learning rate of W, whose vectors have length one here."""

    def __post_init__(self) -> None:
        require(len(self.languages) >= 1, "at least one language beside English")
        require(set(self.languages) <= {"fr", "de"}, f"languages fr and de, got {self.languages}")
        require(
            not self.shipped or self.languages == ("fr",), "languages fr alone with shipped words"
        )
        require(self.seeds >= 0, f"seeds of at least 0, got {self.seeds}")

    @property
    def game(self) -> AdversarialConfig:
        """The reduced game."""
        return replace(
            AdversarialConfig.small(),
            epochs=self.game_epochs,
            epoch_steps=self.epoch_steps,
            hidden=self.hidden,
            batch=self.batch,
            dropout=self.dropout,
            mapping_learning_rate=self.mapping_rate,
        )


def _percent(text: str, paper: float | None = None) -> Metric:
    """Describe a precision at 1 from English, by CSLS where nothing else is said."""
    return Metric(text, unit="%", digits=1, paper=paper)


RECIPE = Recipe(
    claim="Word vectors of two languages, trained apart, are mapped onto each other from nothing",
    paper=Paper(
        "Conneau, Lample, Ranzato, Denoyer and Jégou, Word Translation Without Parallel Data, "
        "ICLR 2018",
        where="table 1, en-fr and en-de; 300 dimensions from Wikipedia, another dictionary",
        url="https://arxiv.org/abs/1710.04087",
    ),
    metrics={
        "fr_supervised_nn": _percent("French: Procrustes on a word list, nearest neighbour", 74.9),
        "fr_supervised_isf": _percent("the same, inverted softmax", 81.1),
        "fr_supervised_csls": _percent("the same, CSLS", 81.1),
        "fr_refined_csls": _percent("refined"),
        "fr_relaxed_csls": _percent("relaxed CSLS on the word list"),
        "fr_identical_csls": _percent("from words spelt alike"),
        "fr_self_nn": _percent("self-learning from nothing, nearest neighbour"),
        "fr_self_csls": _percent("self-learning from nothing, CSLS"),
        "fr_self_csls_at_5": _percent("the same, among the first 5"),
        "fr_adversarial_nn": _percent("adversarial, refined, nearest neighbour", 78.1),
        "fr_adversarial_csls": _percent("adversarial, refined, CSLS", 82.3),
        "fr_failed_seeds": _percent("adversarial seeds that failed"),
        "fr_frequent": _percent("self-learning, ranks 1 to 300"),
        "fr_rare": _percent("self-learning, ranks above 1000"),
        "fr_not_identical": _percent("self-learning, words not spelt alike"),
        "fr_hubs_nn": Metric("skewness of the k-occurrence, nearest neighbour"),
        "fr_hubs_csls": Metric("skewness of the k-occurrence, CSLS"),
        "fr_sentences": _percent("self-learning, sentence retrieval in the help texts"),
        "de_supervised_nn": _percent("German: Procrustes on a word list, nearest neighbour", 68.4),
        "de_supervised_csls": _percent("the same, CSLS", 73.5),
        "de_identical_csls": _percent("from words spelt alike"),
        "de_self_csls": _percent("self-learning from nothing, CSLS"),
    },
    presets={
        "quick": Preset(
            Config(languages=("fr",), shipped=True, seeds=0, vocabulary=2000),
            time="30 s",
            targets=[
                Target("fr_supervised_csls", ">=", 35),
                Target("fr_self_csls", ">=", 35),
                Target("fr_hubs_csls", "<=", 3),
            ],
            reduced=["a few thousand words, shipped", "French alone", "no adversarial game"],
        ),
        "cpu": Preset(
            Config(),
            time="35 min on one core, 8 of them once for the embeddings",
            targets=[
                Target("fr_supervised_csls", ">=", 34.1),
                Target("fr_self_csls", ">=", 34.1),
                Target("de_self_csls", ">=", 30),
            ],
            reduced=[
                "embeddings of 100 dimensions from 2.5 million words a language",
                "30,000 steps of a smaller adversarial game, with its own learning rate of W, in "
                "French alone",
                "self-learning on 6,000 words of each side",
            ],
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Run every way to a mapping on every language."""
    torch.set_num_threads(1)
    results: dict[str, float] = {}
    for language in config.languages:
        if config.shipped:
            pair = shipped_pair()
        else:
            pair = trained_pair(language, config.dim, config.epochs, run.data_dir)
        with run.part(language):
            found = _language(pair, language, config, run)
        results |= {f"{language}_{name}": value for name, value in found.items()}
    nan = float("nan")
    return {name: results.get(name, nan) for name in RECIPE.metrics}


def _language(pair: LanguagePair, language: str, config: Config, run: Run) -> dict[str, float]:
    train, test = pair.split()
    results: dict[str, float] = {}
    unrefined = RefinementConfig(steps=0)

    def attempt(
        name: str, method: Method, lexicon: Lexicon | None, refinement: RefinementConfig | None
    ) -> Aligned:
        with run.part(name):
            aligned = align(
                pair.english,
                pair.other,
                method=method,
                lexicon=lexicon,
                refinement=refinement,
                adversarial=config.game,
                vocabulary=config.vocabulary,
                seeds=[1000 * run.seed + seed for seed in range(max(1, config.seeds))],
                loops=run,
            )
        scores = _scores(aligned, pair, test)
        results.update({f"{name}_{way}": 100 * s.precision[1] for way, s in scores.items()})
        results[f"{name}_csls_at_5"] = 100 * scores["csls"].precision[5]
        return aligned

    supervised = attempt("supervised", "supervised", train, unrefined)
    attempt("refined", "supervised", train, None)
    attempt("relaxed", "rcsls", train, None)
    attempt("identical", "identical", None, None)
    learnt = attempt("self", "self-learning", None, None)
    if config.seeds and language in config.game_languages:
        game = attempt("adversarial", "adversarial", None, None)
        results |= _stability(game, pair, test, language, run)
    results |= _closer_look(supervised, learnt, pair, test, language, run)
    if not config.shipped:
        results["sentences"] = _sentences(learnt, pair, language, run)
    return results


def _scores(aligned: Aligned, pair: LanguagePair, test: Tensor) -> dict[str, WordTranslation]:
    ways: tuple[Score, ...] = ("nn", "isf", "csls")
    mapped = aligned.alignment.map_source(pair.english.vectors)
    target = aligned.alignment.map_target(pair.other.vectors)
    return {way: word_translation(mapped, target, test, method=way) for way in ways}


def _stability(
    aligned: Aligned, pair: LanguagePair, test: Tensor, language: str, run: Run
) -> dict[str, float]:
    report = aligned.stability
    assert report is not None
    run.figure(
        f"{language}-stability",
        plot_stability(
            {seed.seed: [epoch.criterion for epoch in seed.epochs] for seed in report.seeds},
            failed=set(report.failed),
            chosen=report.best.seed,
        ),
    )
    return {"failed_seeds": 100 * len(report.failed) / len(report.seeds)}


def _closer_look(
    supervised: Aligned,
    learnt: Aligned,
    pair: LanguagePair,
    test: Tensor,
    language: str,
    run: Run,
) -> dict[str, float]:
    scores = _scores(learnt, pair, test)
    bands = {
        name: by_frequency(scores[way], edges=(300, 1000))
        for way, name in (("nn", "nearest neighbours"), ("csls", "CSLS"))
    }
    run.figure(f"{language}-frequency-bands", plot_frequency_bands(bands))
    other = without_identical(scores["csls"], pair.english.words, pair.other.words)
    mapped = learnt.alignment.map_source(pair.english.vectors)
    target = learnt.alignment.map_target(pair.other.vectors)
    hubs = {way: measure_hubness(mapped, target, method=way) for way in ("nn", "csls")}
    run.figure(
        f"{language}-hubness",
        plot_hubness({"nearest neighbours": hubs["nn"], "CSLS": hubs["csls"]}),
    )
    run.figure(
        f"{language}-clouds",
        plot_clouds(
            learnt.alignment.source_normalization.apply(pair.english.vectors),
            supervised.alignment.map_source(pair.english.vectors),
            supervised.alignment.map_target(pair.other.vectors),
            source_words=pair.english.words,
            target_words=pair.other.words,
            pairs=test,
            names=("English", {"fr": "French", "de": "German"}[language]),
        ),
    )
    return {
        "frequent": 100 * bands["CSLS"][0].scores.precision[1],
        "rare": 100 * bands["CSLS"][2].scores.precision[1],
        "not_identical": 100 * other.precision[1],
        "hubs_nn": hubs["nn"].skewness,
        "hubs_csls": hubs["csls"].skewness,
    }


def _sentences(learnt: Aligned, pair: LanguagePair, language: str, run: Run) -> float:
    """P@1 of finding the translation of a paragraph of the test pages among all of them."""
    words = Tokenizer()
    paragraphs = {
        split: [
            (words(p.en), words(getattr(p, language))) for p in lohelp(split, data_dir=run.data_dir)
        ]
        for split in ("train", "test")
    }
    vectors = []
    for side, (embeddings, mapped) in enumerate(
        (
            (pair.english, learnt.alignment.map_source(pair.english.vectors)),
            (pair.other, learnt.alignment.map_target(pair.other.vectors)),
        )
    ):
        idf = idf_weights(paragraph[side] for paragraph in paragraphs["train"])
        unit = torch.nn.functional.normalize(mapped)
        test = [paragraph[side] for paragraph in paragraphs["test"]]
        vectors.append(sentence_vectors(test, embeddings.index, unit, idf))
    return 100 * sentence_retrieval(vectors[0], vectors[1]).precision[1]
