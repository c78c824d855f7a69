"""Each recipe runs end to end, three steps small, and again at once when it is done."""

import dataclasses

import pytest
import torch

from gonzo.core.testing import assert_close
from gonzo.ssm import S4Kernel, legs_dplr

pytestmark = pytest.mark.recipe


@pytest.fixture
def recipes():
    """The recipes import gonzo.lab, which is there with the extra [recipes] alone."""
    from gonzo.lab import training
    from gonzo.ssm.recipes import hippo_ablation, pixels, sequential_mnist

    return {
        "hippo": hippo_ablation,
        "mnist": sequential_mnist,
        "pixels": pixels,
        "training": training,
    }


def tiny(recipes, name, **more):
    pixels = recipes["pixels"]
    return recipes[name].Config(
        model=pixels.Model(d_model=4, d_state=4, n_layer=1),
        data=pixels.Data(subset=True, pool=7),
        training=recipes["training"].Training(steps=3, batch=5, warmup=1),
        **more,
    )


@pytest.mark.parametrize("name", ["mnist", "hippo"])
def test_it_runs_and_repeats(tmp_path, recipes, name):
    from gonzo.lab import Run

    recipe = recipes[name]
    config = tiny(recipes, name, **({"seeds": 1} if name == "hippo" else {}))
    results = []
    for _ in range(2):  # the second time, every finished loop is restored
        with Run(tmp_path / "run") as run:
            results.append(recipe.main(config, run))
    with Run(tmp_path / "another") as run:
        results.append(recipe.main(config, run))
    assert results[0] == results[1] == results[2]
    assert recipe.RECIPE.metrics.keys() <= results[0].keys()
    assert all(0 <= results[0][metric] <= 100 for metric in results[0] if metric != "gap")


@pytest.mark.parametrize("name", ["mnist", "hippo"])
def test_every_preset_is_a_config_that_says_what_it_reduces(recipes, name):
    recipe = recipes[name].RECIPE
    assert {"quick", "cpu"} <= recipe.presets.keys()
    for preset in recipe.presets.values():
        assert dataclasses.is_dataclass(preset.config)
    assert recipe.presets["quick"].reduced
    assert recipe.headline


@pytest.mark.parametrize("n", [4, 32, 64])
def test_the_random_a_has_hippos_shape_and_scale(recipes, n):
    random, hippo = recipes["hippo"].random_dplr(n), legs_dplr(n)
    for actual, expected in zip(random, hippo, strict=True):
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
    assert (random.a[:, 0] < 0).all()
    assert_close(random.p.square().sum(), hippo.p.square().sum())
    assert_close(random.b.square().sum(), hippo.b.square().sum())
    # Half of a matrix of HiPPO's norm; its eigenvalues have at most its norm.
    dense = torch.linalg.norm(recipes["hippo"].legs(n)[0])
    assert random.a.square().sum().sqrt() <= dense / 2**0.5
    assert not torch.equal(recipes["hippo"].random_dplr(n).a, random.a)


def test_replacing_a_leaves_the_rest(recipes, tmp_path):
    from gonzo.lab import Run

    with Run(tmp_path / "run") as run:
        classifier = recipes["pixels"].build(tiny(recipes, "mnist").model, run)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    random = recipes["hippo"].random_dplr(4)
    recipes["hippo"].replace_a(classifier, random)
    changed = {"log_a_real", "a_imag", "p", "b"}
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name]) == (name.rpartition(".")[2] not in changed), name
    (operator,) = [m for m in classifier.modules() if isinstance(m, S4Kernel)]
    assert_close(operator.p, random.p[:, None].float().expand_as(operator.p))
