"""What public codes compute on a CPU, restated from their algorithms.

The chunked forms are those of flash-linear-attention's reference functions (commit bc3b101): a
state for every chunk, all of them at once, and every chunk's weights beside them. The parallel
forms build all (time, time) weights, and so does Hedgehog's in LoLCATs.
"""

import torch


def chunked(q, k, v, chunk=64):
    """Causal φ(q) φ(k)ᵀ v of features, normalised."""
    q, k, v = (x.unflatten(2, (-1, chunk)) for x in (q, k, v))
    states, sums = (k.mT @ v).cumsum(2), k.sum(3).cumsum(2)
    states, sums = (torch.cat([torch.zeros_like(s[:, :, :1]), s[:, :, :-1]], 2)
                    for s in (states, sums))  # fmt: skip
    weights = (q @ k.mT).tril()
    y = weights @ v + q @ states
    divisor = weights.sum(-1) + (q * sums[:, :, :, None]).sum(-1)
    return (y / (divisor.unsqueeze(-1) + 1e-6)).flatten(2, 3)


def chunked_taylor(q, k, v, chunk=256):
    """1 + s + s²/2, with the three orders kept apart and the second one written out in full."""
    q = q * q.shape[-1] ** -0.5
    squares = (k.unsqueeze(-1) * k.unsqueeze(-2)).cumsum(2)
    divisor = (q * k.cumsum(2)).sum(-1)
    divisor = divisor + 0.5 * (q.unsqueeze(-1) * q.unsqueeze(-2) * squares).sum((-1, -2))
    divisor = divisor + torch.arange(1, q.shape[2] + 1)
    constant = v.cumsum(2)
    q, k, v = (x.unflatten(2, (-1, chunk)) for x in (q, k, v))
    scores = q @ k.mT
    y = (scores + 0.5 * scores**2).tril() @ v

    def before(states):
        states = states.cumsum(2)
        return torch.cat([torch.zeros_like(states[:, :, :1]), states[:, :, :-1]], 2)

    second = before(torch.einsum("bhncx,bhncy,bhncz->bhnxyz", k, k, v))
    y = y + 0.5 * torch.einsum("bhnxyz,bhncx,bhncy->bhncz", second, q, q)
    y = y + q @ before(k.mT @ v)
    return (y.flatten(2, 3) + constant) / (divisor.unsqueeze(-1) + 1e-6)


def parallel(q, k, v, polynomial):
    """All weights at once: a polynomial of q·k / √d."""
    weights = polynomial(q * q.shape[-1] ** -0.5 @ k.mT).tril()
    return weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)


def taylor(s):
    return 1 + s + s**2 / 2


def square(s):
    return s**2


def hedgehog(q, k, v, wq, wk):
    """Projections of each head, two softmaxes each, and all weights at once."""

    def features(x, w):
        x = torch.einsum("hdf,bhld->bhlf", w, x)
        return torch.cat([x.softmax(-1), (-x).softmax(-1)], -1).clamp(min=1e-12)

    weights = torch.einsum("bhmd,bhnd->bhmn", features(q, wq), features(k, wk)).tril()
    return torch.einsum("bhmn,bhnd->bhmd", weights / weights.sum(-1, keepdim=True), v)
