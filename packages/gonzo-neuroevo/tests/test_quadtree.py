"""Quadtrees against the paper's pseudo-code, node by node, and against functions one can see."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.neuroevo.quadtree import Quadtree


@dataclass
class Point:
    x: float
    y: float
    width: float
    level: int
    value: float = 0.0
    children: list["Point"] = field(default_factory=list)

    def leaves(self):
        if not self.children:
            return [self.value]
        return [value for child in self.children for value in child.leaves()]

    def variance(self):
        leaves = self.leaves()
        mean = sum(leaves) / len(leaves)
        return sum((value - mean) ** 2 for value in leaves) / len(leaves)


def by_the_paper(rules: Quadtree, function) -> set[tuple[float, float, float]]:
    """Algorithms 1 and 2 as they are written: a queue, then a recursion."""
    root = Point(0, 0, 1, 1)
    queue = [root]
    while queue:
        p = queue.pop(0)
        half = p.width / 2
        for dx, dy in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
            x, y = p.x + dx * half, p.y + dy * half
            p.children.append(Point(x, y, half, p.level + 1, function(x, y)))
        if p.level < rules.initial_depth or (
            p.level < rules.max_depth and p.variance() > rules.division
        ):
            queue.extend(p.children)
    found = set()

    def extract(p):
        for c in p.children:
            if c.children and c.variance() >= rules.variance:
                extract(c)
                continue
            left, right, top, bottom = (
                abs(c.value - function(c.x + dx * p.width, c.y + dy * p.width))
                for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))
            )
            if max(min(top, bottom), min(left, right)) > rules.band:
                found.add((c.x, c.y, c.value))

    extract(root)
    return found


def wave(numbers: list[float]):
    a, b, c, d = numbers
    return lambda x, y: math.sin(a * x + b * y) * math.exp(-((c * x + d * y) ** 2))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.tuples(*[st.floats(0, 0.2)] * 3),
)
def test_many_trees_are_each_the_paper_s(waves, initial, more, thresholds):
    rules = Quadtree(initial, initial + more, *thresholds)
    functions = [wave(numbers) for numbers in waves]

    def ask(tree, at):
        return np.array([functions[t](*place) for t, place in zip(tree, at.tolist(), strict=True)])

    spots = rules.find(ask, len(functions))
    assert (np.diff(spots.tree) >= 0).all()
    for tree, function in enumerate(functions):
        here = spots.tree == tree
        found = [(*at, value) for at, value in zip(spots.at[here], spots.value[here], strict=True)]
        assert len(found) == len(set(found))
        assert set(found) == by_the_paper(rules, function)


def test_a_constant_has_no_information():
    spots = Quadtree(2, 4).find(lambda tree, at: np.full(len(tree), 0.7), 3)
    assert len(spots.tree) == 0


def test_a_stripe_is_found_where_it_is():
    """0 but on a stripe around x = 0.1: what is kept is on it, at the finest resolution."""
    rules = Quadtree(3, 5)
    spots = rules.find(lambda tree, at: (np.abs(at[:, 0] - 0.1) < 0.05).astype(float), 1)
    assert len(spots.at) > 0
    assert (np.abs(spots.at[:, 0] - 0.1) < 0.05).all()
    assert (spots.value == 1).all()
    fine = 2**-5
    assert np.isin(np.arange(-31, 32, 2) * fine, spots.at[:, 1]).all()


def test_asks_in_few_calls():
    calls = []

    def ask(tree, at):
        calls.append(len(tree))
        return np.sin(9 * at[:, 0])

    Quadtree(2, 3, division=0.0).find(ask, 10)
    assert calls[:3] == [40, 160, 640]
    assert len(calls) == 4


def test_bad_input():
    with pytest.raises(
        ValueError, match="depths 1 <= initial_depth <= max_depth <= 12, got 3 and 2"
    ):
        Quadtree(3, 2)
    with pytest.raises(ValueError, match="expected band of at least 0, got -1"):
        Quadtree(band=-1)
