import pytest

from gonzo.core.fft_sizes import fast_size


def largest_factor(n):
    factor = 2
    while factor * factor <= n:
        if n % factor:
            factor += 1
        else:
            n //= factor
    return n


@pytest.mark.parametrize("at_least", [*range(1, 300), 784, 1567, 1620, 4095, 16_383, 1_000_003])
def test_sizes_are_even_smooth_and_not_far_above(at_least):
    size = fast_size(at_least)
    assert size % 2 == 0
    assert largest_factor(size) <= 5
    assert at_least <= size <= max(2, 1.35 * at_least + 2)


def test_large_sizes_have_six_factors_of_two():
    assert all(fast_size(n) % 64 == 0 for n in range(1024, 20_000, 97))


def test_powers_of_two_are_kept():
    assert [fast_size(1 << k) for k in range(1, 20)] == [1 << k for k in range(1, 20)]


def test_sizes_grow_with_what_is_asked_for():
    sizes = [fast_size(n) for n in range(1, 5000)]
    assert sizes == sorted(sizes)
