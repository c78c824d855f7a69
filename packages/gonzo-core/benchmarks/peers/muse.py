"""How MUSE (facebookresearch/MUSE, 3159355) finds the candidates of a CSLS dictionary, restated.

Means come from blocks of 1,024 words against the whole other vocabulary, scores from blocks of 128
source words, of which the best two are taken. Vectors are normalised before.
"""

import torch


def mean_of_nearest(queries, keys, neighbours=10):
    """(n,) mean cosine of each query with its nearest keys."""
    means = []
    for block in queries.split(1024):
        nearest, _ = (block @ keys.T).topk(neighbours, dim=1)
        means.append(nearest.mean(1))
    return torch.cat(means)


def best_two(source, target, own, other, words):
    """Scores and indices, (words, 2), of the first source words; own and other are means."""
    scores, indices = [], []
    for block, r in zip(source[:words].split(128), own[:words].split(128), strict=True):
        best = (2 * (block @ target.T) - r[:, None] - other).topk(2, dim=1)
        scores.append(best.values)
        indices.append(best.indices)
    return torch.cat(scores), torch.cat(indices)


def candidates(source, target, words):
    """The whole step from source to target."""
    own, other = mean_of_nearest(source, target), mean_of_nearest(target, source)
    return best_two(source, target, own, other, words)
