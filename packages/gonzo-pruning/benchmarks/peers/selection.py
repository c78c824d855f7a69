"""How others pick the weights to prune, restated from what their code does.

All rank alive weights by magnitude and compare with a threshold, so all ties go or stay together.
Weights and masks are dictionaries of tensors; the part to prune is a float.
"""

import math

import torch


def kth_value(weights, masks, part):
    """floor(part · n) by ``torch.kthvalue`` of the concatenation: exact but for ties."""
    alive = _alive(weights, masks)
    return _above(weights, masks, alive.kthvalue(int(part * len(alive))).values)


def lottery_ticket_hypothesis(weights, masks, part):
    """google-research/lottery-ticket-hypothesis: what is not above sorted[round(part · n)] goes."""
    alive = _alive(weights, masks).sort().values
    return _above(weights, masks, alive[round(part * len(alive))])


def open_lth(weights, masks, part):
    """facebookresearch/open_lth: what is not above sorted[ceil(part · n)] goes."""
    alive = _alive(weights, masks).sort().values
    return _above(weights, masks, alive[math.ceil(part * len(alive))])


def _alive(weights, masks):
    return torch.cat([weight[masks[name]].abs() for name, weight in weights.items()])


def _above(weights, masks, threshold):
    return {name: masks[name] & (weight.abs() > threshold) for name, weight in weights.items()}
