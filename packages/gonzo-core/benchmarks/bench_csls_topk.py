"""`csls_topk` beside MUSE's steps, faiss, and the bare product of the vocabularies.

``python benchmarks/bench_csls_topk.py [--long]``: with ``--long`` also 100,000 words a side, which
takes some minutes.
"""

import functools
import importlib.metadata
import importlib.util
import statistics
import sys
import time

import torch
from peers import muse

from gonzo.core.bench import ValueRow, at_most, main, peak_memory, times_peer
from gonzo.core.ops.csls_topk import (
    cosine_topk,
    csls_topk,
    csls_topk_both,
    inverted_softmax_topk,
    neighbourhood_means,
)
from gonzo.core.ops.csls_topk.cpu import _products

TESTS = ["tests/test_csls_topk.py"]
DICTIONARY = 15_000  # the most frequent source words, which MUSE looks up
MUSE = "MUSE's steps in torch"


def unrelated(words, d=300):
    """Directions without structure."""
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(words, d, generator=draw) for _ in range(2))
    return torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)


def clustered(words, d=300):
    """Noisy translations, drawn towards one common and twenty shared directions: many hubs."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(words, d, generator=draw)
    y = x[torch.randperm(words, generator=draw)] + 0.8 * torch.randn(words, d, generator=draw)
    shared = torch.randn(20, d, generator=draw)
    for vectors in (x, y):
        which = torch.randint(20, (words,), generator=draw)
        vectors += 3 * torch.rand(words, 1, generator=draw) * shared[which] + shared[0]
    return torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)


def same_pairs(found, scores, indices):
    """Assert that two dictionaries have the same words, but where a margin is below 1e-6."""
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
    differ = found.indices[:, 0] != indices[:, 0]
    margin = scores[:, 0] - scores[:, 1]
    assert (margin[differ] < 1e-6).all()


def checked(make, words):
    x, y = make(words)
    same_pairs(csls_topk(x, y, 2, rows=FIRST), *muse.candidates(x, y, DICTIONARY))
    return x, y


def seconds(call, times=3):
    """Turn a function into one that returns the CPU seconds it takes, as a median."""

    def measured(*arguments):
        spent = []
        for _ in range(times):
            start = time.process_time()
            call(*arguments)
            spent.append(time.process_time() - start)
        return statistics.median(spent)

    return measured


FIRST = torch.arange(DICTIONARY)


def forth(x, y):
    return csls_topk(x, y, 2, rows=FIRST)


def both(x, y):
    return csls_topk_both(x, y, 2, source_rows=FIRST, target_rows=FIRST)


def muse_forth(x, y):
    return muse.candidates(x, y, DICTIONARY)


def muse_both(x, y):
    return muse.candidates(x, y, DICTIONARY), muse.candidates(y, x, DICTIONARY)


def faiss_means(x, y):
    import faiss

    faiss.omp_set_num_threads(1)
    means = []
    for queries, keys in ((x, y), (y, x)):
        index = faiss.IndexFlatIP(keys.shape[1])
        index.add(keys.numpy())
        means.append(torch.from_numpy(index.search(queries.numpy(), 10)[0]).mean(1))
    return means


def faiss_checked():
    x, y = unrelated(20_000)
    for ours, theirs in zip(neighbourhood_means(x, y), faiss_means(x, y), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    return x, y


def bare(x, y):
    for _ in _products(x, y):
        pass


def muse_nearest(x, y):
    return [(block @ y.T).topk(2, dim=1) for block in x[:DICTIONARY].split(1024)]


def muse_inverted_softmax(x, y):
    """A softmax over source words in blocks of targets, then the best of each source word."""
    weights = [torch.softmax(30 * (block @ x.T), 1) for block in y.split(1024)]
    return torch.cat(weights).T[:DICTIONARY].topk(2, dim=1)


def large():
    return unrelated(100_000)


def rows():
    row = functools.partial(ValueRow, tests=TESTS, unit="s")
    small, hubs = (functools.partial(checked, make, 20_000) for make in (unrelated, clustered))
    has_faiss = importlib.util.find_spec("faiss") is not None
    faiss = (
        {
            "peer": seconds(faiss_means),
            "peer_name": f"faiss-cpu {importlib.metadata.version('faiss-cpu')}, flat",
            "setup": faiss_checked,
        }
        if has_faiss
        else {
            "no_peer": "faiss is not installed: pip install faiss-cpu",
            "setup": functools.partial(unrelated, 20_000),
        }
    )
    name = "csls_topk 20k × 20k × 300, 2 words of the first 15k"
    return [
        row(what=name, ours=seconds(forth), peer=seconds(muse_forth, 1), peer_name=MUSE,
            bar=at_most(5.5), setup=small),
        row(what=f"{name}, hubs", ours=seconds(forth), peer=seconds(muse_forth, 1), peer_name=MUSE,
            bar=at_most(5.5), setup=hubs),
        row(what=f"{name}, beside the product", ours=seconds(forth), peer=seconds(bare),
            peer_name="the bare product in the same blocks", setup=small),
        row(what=f"both directions of {name}", ours=seconds(both), peer=seconds(muse_both, 1),
            peer_name=MUSE, bar=at_most(7), setup=small),
        row(what=f"both directions of {name}, hubs", ours=seconds(both),
            peer=seconds(muse_both, 1), peer_name=MUSE, bar=at_most(7), setup=hubs),
        row(what="neighbourhood_means 20k × 20k × 300", ours=seconds(neighbourhood_means), **faiss),
        row(what="cosine_topk 20k × 20k × 300, 2 words of the first 15k",
            ours=seconds(functools.partial(cosine_topk, k=2, rows=FIRST)),
            peer=seconds(muse_nearest), peer_name="torch: product and topk by 1,024 rows",
            setup=functools.partial(unrelated, 20_000)),
        row(what="inverted_softmax_topk 20k × 20k × 300, 2 words of the first 15k",
            ours=seconds(functools.partial(inverted_softmax_topk, k=2, rows=FIRST)),
            peer=seconds(muse_inverted_softmax, 1), peer_name="torch: all weights in memory",
            setup=functools.partial(unrelated, 20_000)),
    ]  # fmt: skip


def long_rows():
    name = "csls_topk 100k × 100k × 300, 2 words of the first 15k"
    return [
        ValueRow(what=name, tests=TESTS, unit="s", ours=seconds(forth, 1), peer=seconds(bare, 1),
                 peer_name="the bare product in the same blocks", bar=times_peer(1.5), setup=large),
        ValueRow(what=f"{name}, memory beyond the vectors", tests=TESTS, unit="B",
                 ours=lambda: peak_memory(forth, setup=large), bar=at_most(1e9)),
    ]  # fmt: skip


if __name__ == "__main__":
    arguments = [text for text in sys.argv[1:] if text != "--long"]
    chosen = rows() + (long_rows() if "--long" in sys.argv else [])
    raise SystemExit(main(chosen, package="gonzo-core", script=__file__, arguments=arguments))
