"""MUSE's adversarial step, dictionary and Procrustes, restated from their description as a peer.

Conneau, Lample, Ranzato, Denoyer and Jégou, Word Translation Without Parallel Data, ICLR 2018, with
what MUSE's code does where it differs: words drawn uniformly from the 75,000 most frequent, one
smoothing value for both halves, β = 0.001, whole blocks of scores for a top-2 of each source word.
It is written with torch's modules, losses and optimizers, as the original is; random draws come
from a generator, so that the same draws can be given to what it is compared with.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Draws:
    """The random numbers of adversarial steps: words of both sides, masks of the input dropout."""

    def __init__(self, sizes, dim, *, most_frequent=75_000, batch=32, dropout=0.1, seed=0,
                 dtype=torch.float32):  # fmt: skip
        self.sizes = [min(size, most_frequent) for size in sizes]
        self.shape = (2 * batch, dim)
        self.batch, self.dropout, self.dtype = batch, dropout, dtype
        self.generator = torch.Generator().manual_seed(seed)

    def words(self):
        """Return the rows of the source and of the target, ``batch`` each."""
        return [torch.randint(n, (self.batch,), generator=self.generator) for n in self.sizes]

    def mask(self):
        """Return zeros and 1 / (1 - dropout) for the discriminator's input, source words first."""
        kept = torch.empty(self.shape, dtype=self.dtype)
        kept.bernoulli_(1 - self.dropout, generator=self.generator)
        return kept.div_(1 - self.dropout)


class AdversarialTrainer:
    """A mapping and a discriminator trained by plain stochastic gradient descent in turn."""

    def __init__(self, source, target, draws, *, hidden=2048, rate=0.1, smoothing=0.1, beta=0.001):
        dim, dtype = source.shape[1], source.dtype
        self.source, self.target, self.draws = source, target, draws
        self.smoothing, self.beta = smoothing, beta
        self.mapping = nn.Linear(dim, dim, bias=False, dtype=dtype)
        with torch.no_grad():
            self.mapping.weight.copy_(torch.eye(dim))
        self.discriminator = nn.Sequential(
            nn.Linear(dim, hidden, dtype=dtype),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden, dtype=dtype),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1, dtype=dtype),
            nn.Sigmoid(),
        )
        self.mapping_optimizer = torch.optim.SGD(self.mapping.parameters(), lr=rate)
        self.discriminator_optimizer = torch.optim.SGD(self.discriminator.parameters(), lr=rate)

    def weights(self):
        """Return the discriminator's six parameters by the names w1, b1 … b3; w3 is (hidden,)."""
        linear = [layer for layer in self.discriminator if isinstance(layer, nn.Linear)]
        found = {}
        for number, layer in enumerate(linear, 1):
            found[f"w{number}"], found[f"b{number}"] = layer.weight.detach(), layer.bias.detach()
        found["w3"] = found["w3"][0]
        return found

    def take_weights(self, weights):
        """Copy the discriminator's parameters from others of the same names."""
        for name, own in self.weights().items():
            own.copy_(weights[name])

    def batch(self, *, mapping_learns):
        """Return mapped source words above target words, and the smoothed labels."""
        rows = self.draws.words()
        with torch.no_grad():
            x, y = F.embedding(rows[0], self.source), F.embedding(rows[1], self.target)
        with torch.set_grad_enabled(mapping_learns):
            both = torch.cat([self.mapping(x), y])
        labels = torch.full((len(both),), self.smoothing, dtype=both.dtype)
        labels[: len(x)] = 1 - self.smoothing
        return both, labels

    def discriminator_step(self):
        """Learn to tell mapped source words from target words; returns the loss."""
        both, labels = self.batch(mapping_learns=False)
        guess = self.discriminator(both * self.draws.mask()).view(-1)
        loss = F.binary_cross_entropy(guess, labels)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        return loss.item()

    def mapping_step(self):
        """Learn to fool the discriminator, which drops nothing here; then orthogonalise."""
        both, labels = self.batch(mapping_learns=True)
        loss = F.binary_cross_entropy(self.discriminator(both).view(-1), 1 - labels)
        self.mapping_optimizer.zero_grad()
        loss.backward()
        self.mapping_optimizer.step()
        orthogonalize(self.mapping.weight.data, self.beta)
        return loss.item()

    def step(self):
        """Five steps of the discriminator and one of the mapping."""
        losses = [self.discriminator_step() for _ in range(5)]
        self.mapping_step()
        return losses


def orthogonalize(weight, beta):
    """Pull ``weight`` towards the orthogonal matrices, in place: (1 + β) W - β (W Wᵀ) W."""
    weight.copy_((1 + beta) * weight - beta * weight.mm(weight.t()).mm(weight))


def procrustes(source, target):
    """The orthogonal matrix that turns paired rows of ``source`` to those of ``target``."""
    left, _, right = torch.linalg.svd(target.t().mm(source))
    return left.mm(right)


def mean_similarity(vectors, others, neighbours=10, block=1024):
    """Mean cosine of each row to its nearest ``others``; rows have norm 1."""
    means = []
    for start in range(0, len(vectors), block):
        scores = vectors[start : start + block].mm(others.t())
        means.append(scores.topk(neighbours, dim=1).values.mean(1))
    return torch.cat(means)


def candidates(source, target, *, max_rank=15_000, neighbours=10, block=128):
    """Best and second-best CSLS target of each source word, as pairs (p, 2) and scores (p, 2).

    Pairs come sorted by the margin between the two; none whose rank exceeds ``max_rank``.
    """
    source = source / source.norm(2, 1, keepdim=True)
    target = target / target.norm(2, 1, keepdim=True)
    count = len(source) if max_rank <= 0 else min(max_rank, len(source))
    source_means = mean_similarity(source, target, neighbours)
    target_means = mean_similarity(target, source, neighbours)
    scores, best = [], []
    for start in range(0, count, block):
        rows = slice(start, min(start + block, count))
        block_scores = 2 * source[rows].mm(target.t())
        block_scores -= source_means[rows, None] + target_means[None]
        top = block_scores.topk(2, dim=1)
        scores.append(top.values)
        best.append(top.indices)
    scores = torch.cat(scores)
    pairs = torch.stack([torch.arange(count), torch.cat(best)[:, 0]], 1)
    order = (scores[:, 0] - scores[:, 1]).sort(descending=True).indices
    pairs, scores = pairs[order], scores[order]
    if max_rank > 0:
        kept = pairs.max(1).values <= max_rank
        pairs, scores = pairs[kept], scores[kept]
    return pairs, scores


def dictionary(source, target, *, direction="source-to-target", max_rank=15_000, neighbours=10):
    """Pairs (p, 2) of source and target rows found from aligned embeddings.

    Both directions are made where both are asked for; the union and the intersection come in
    ascending order of the pairs.
    """
    settings = {"max_rank": max_rank, "neighbours": neighbours}
    if direction != "target-to-source":
        forward, _ = candidates(source, target, **settings)
        if direction == "source-to-target":
            return forward
    backward, _ = candidates(target, source, **settings)
    backward = backward.flip(1)
    if direction == "target-to-source":
        return backward
    one = {(a, b) for a, b in forward.tolist()}
    other = {(a, b) for a, b in backward.tolist()}
    both = one | other if direction == "union" else one & other
    return torch.tensor(sorted(both)).view(-1, 2)
