"""Seeds: known answers, the scalar beside the vectorised, and what a good hash does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gonzo.neuroevo.seeds import Episodes, episode_seed, episode_seeds, splitmix64

KNOWN = ([887124022, 1578705578, 509723336], 1281621460, 949080401, 2022220704)

words = st.integers(0, 2**63 - 1)


def test_splitmix64_gives_the_published_stream():
    gamma = 0x9E3779B97F4A7C15
    stream = [splitmix64(1234567 + (i + 1) * gamma) for i in range(5)]
    assert stream == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_the_seeds_of_a_run_never_change():
    """Stored runs and published results name these: another value is another experiment."""
    assert [episode_seed(0, 0, 0, e) for e in range(3)] == KNOWN[0]
    assert episode_seed(7, 12, 149, 3) == KNOWN[1]
    assert episode_seed(7, 12, 149, 3, held_out=True) == KNOWN[2]
    assert episode_seed(2**64 - 1, 2**40, 2**62, 99) == KNOWN[3]


@given(words, words, st.lists(words, min_size=1, max_size=5), st.booleans())
def test_scalar_and_vectorised_agree(run_seed, generation, ids, held_out):
    many = episode_seeds(run_seed, generation, np.array(ids), 4, held_out=held_out)
    assert many.shape == (len(ids), 4)
    episodes = Episodes(run_seed, generation, tuple(ids), held_out=held_out)
    assert (episodes.seeds(4) == many).all()
    for row, genome_id in enumerate(ids):
        for episode in range(4):
            one = episode_seed(run_seed, generation, genome_id, episode, held_out=held_out)
            assert one == many[row, episode] == episodes.seed(row, episode)
            assert 0 <= one < 2**31


@given(words, words, words, st.integers(0, 1000))
def test_no_held_out_seed_is_a_training_seed(run_seed, generation, genome_id, episode):
    assert episode_seed(run_seed, generation, genome_id, episode) % 2 == 0
    assert episode_seed(run_seed, generation, genome_id, episode, held_out=True) % 2 == 1


def test_seeds_coincide_no_more_often_than_chance():
    # 100 generations × 100 genomes × 10 episodes in 2^30 values: 4.65 pairs by chance.
    seeds = np.concatenate([episode_seeds(3, g, np.arange(100), 10) for g in range(100)])
    pairs = seeds.size - np.unique(seeds).size
    assert pairs <= 15
    # Equal in every bit: 100 000 coins have a standard deviation of 0.0016.
    bits = (seeds.reshape(-1, 1) >> np.arange(1, 31)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.008


def test_every_bit_of_every_word_changes_half_of_the_seed():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**40, (40, 4))
    for word in range(4):
        for bit in range(0, 40, 3):
            changed = []
            for row in base.tolist():
                other = list(row)
                other[word] ^= 1 << bit
                changed.append((episode_seed(*row) ^ episode_seed(*other)).bit_count())
            # 40 × 30 coins: 15 ± 0.43 bits of a seed
            assert 13 < np.mean(changed) < 17, (word, bit)


def test_the_words_are_not_interchangeable():
    assert len({episode_seed(*w) for w in [(1, 2, 3, 4), (2, 1, 3, 4), (1, 2, 4, 3)]}) == 3
    assert len({episode_seed(*w) for w in [(0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0)]}) == 3


def test_episodes_take_arrays_and_tensors_and_select_by_position():
    episodes = Episodes(1, 2, torch.tensor([5, 9, 7]), held_out=True)
    assert episodes.ids == (5, 9, 7)
    assert Episodes(1, 2, np.array([5, 9, 7]), held_out=True) == episodes
    some = episodes.select([2, 0])
    assert some == Episodes(1, 2, (7, 5), held_out=True)
    assert some.seed(0, 3) == episodes.seed(2, 3)
    assert len(some) == 2


def test_bad_words_are_named():
    with pytest.raises(TypeError, match=r"run_seed: expected an integer, got 1\.5"):
        episode_seed(1.5, 0, 0, 0)
    with pytest.raises(
        ValueError, match=r"generation: expected an integer in 0 … 2\^64 - 1, got -1"
    ):
        Episodes(0, -1, (1,))
    with pytest.raises(ValueError, match="genome id: expected an integer in 0"):
        Episodes(0, 0, (1, -2))
    with pytest.raises(ValueError, match="genome_id: expected 0 or more, got -2"):
        episode_seeds(0, 0, np.array([1, -2]), 1)
