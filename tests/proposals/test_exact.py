import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from sizeloss_monai.proposals import exact_proposals, projected_gradient_ascent

INF = math.inf


def random_case(seed, channels=2, spatial=(5, 6), batch=2, scale=2.0, num_seeds=3, infinite=True):
    """Float64 logits, a weak label with seeds of every class, feasible bounds of several kinds."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(scale=scale, size=(batch, channels, *spatial)))
    weak = np.full((batch, 1, *spatial), 255)
    num_pixels = math.prod(spatial)
    bounds = np.zeros((batch, channels, 2))
    bounds[..., 1] = INF
    for b in range(batch):
        pixels = rng.permutation(num_pixels)
        weak[b].ravel()[pixels[:num_seeds]] = rng.integers(channels, size=num_seeds)
        # the sizes of some soft segmentation that has the seeds: bounds around them are feasible
        soft = rng.dirichlet(np.ones(channels), size=num_pixels)
        soft[pixels[:num_seeds]] = np.eye(channels)[weak[b].ravel()[pixels[:num_seeds]]]
        size = soft.sum(0)
        for c in range(1, channels):
            pairs = [(size[c], size[c]), (0.7 * size[c], 1.2 * size[c]), (0.0, size[c])]
            bounds[b, c] = pairs[rng.integers(3)] if not infinite else [*pairs, (size[c], INF)][rng.integers(4)]
    return logits, torch.from_numpy(weak), torch.from_numpy(bounds)


def numpy_prior(logits, weak):
    """log S with seeds at certainty, [C, N], of one item."""
    x = logits.numpy().reshape(logits.shape[0], -1)
    log_s = x - x.max(0)
    log_s = log_s - np.log(np.exp(log_s).sum(0))
    for p, c in enumerate(weak.numpy().ravel()):
        if c != 255:
            log_s[:, p] = -INF
            log_s[c, p] = 0
    return log_s


def numpy_dual(log_s, bounds, lower, upper):
    """g and the sizes of Q at multipliers [C]."""
    y = log_s + (lower - upper)[:, None]
    top = y.max(0)
    q = np.exp(y - top)
    log_sum = top + np.log(q.sum(0))
    linear = sum(m * x for m, x in zip(lower, bounds[:, 0], strict=True) if m > 0)
    linear -= sum(m * x for m, x in zip(upper, bounds[:, 1], strict=True) if m > 0)
    return linear - log_sum.sum(), (q / q.sum(0)).sum(1)


def unannotated(logits):
    return torch.full((logits.shape[0], 1, *logits.shape[2:]), 255)


def scipy_dual_maximum(log_s, bounds):
    """Maximum of the dual over multipliers >= 0 by L-BFGS-B; those of infinite bounds stay 0."""
    num_classes = len(log_s)
    ranges = [(0, 0 if math.isinf(bound) else 60) for bound in bounds.T.ravel()]

    def negative(x):
        value, size = numpy_dual(log_s, bounds, x[:num_classes], x[num_classes:])
        gradient = np.concatenate([bounds[:, 0] - size, size - bounds[:, 1]])
        return -value, -np.where(np.isinf(gradient), 0, gradient)

    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    start = np.zeros(2 * num_classes)
    return -minimize(negative, start, jac=True, method="L-BFGS-B", bounds=ranges, options=options).fun


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 4),
    st.sampled_from([(5, 6), (7, 3), (3, 2, 4)]),
    st.sampled_from([0.1, 2.0, 6.0]),
)
def test_reaches_the_maximum_that_scipy_finds(seed, channels, spatial, scale):
    logits, weak, bounds = random_case(seed, channels, spatial, scale=scale)
    found = exact_proposals(logits, weak, bounds, tolerance=1e-9)
    assert found.violation.max() < 1e-8
    for item in range(len(logits)):
        log_s, pairs = numpy_prior(logits[item], weak[item]), bounds[item].numpy()
        expected = scipy_dual_maximum(log_s, pairs)
        assert found.dual_value[item].item() >= expected - 1e-7
        multipliers = found.multipliers[item].numpy()
        assert (multipliers >= 0).all()
        if np.isfinite(multipliers).all():
            value, size = numpy_dual(log_s, pairs, multipliers[:, 0], multipliers[:, 1])
            assert found.dual_value[item].item() == pytest.approx(value, rel=1e-9, abs=1e-9)
            q = found.probabilities[item].flatten(1)
            np.testing.assert_allclose(q.sum(1).numpy(), size, rtol=1e-9)
            # no duality gap: the divergence of Q is the dual
            divergence = torch.xlogy(q, q) - torch.where(q > 0, q * torch.from_numpy(log_s), 0.0)
            assert divergence.sum().item() == pytest.approx(value, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 40.0), st.floats(0.02, 0.98), st.integers(2, 4))
def test_one_class_equals_the_root_that_brentq_finds(seed, scale, share, channels):
    logits, weak, _ = random_case(seed, channels, (4, 5), batch=1, scale=scale)
    log_s = numpy_prior(logits[0], weak[0])
    fixed, certain = (weak == 1).sum().item(), (weak != 255).sum().item()
    target = fixed + share * (20 - certain)
    bounds = torch.tensor([(0.0, INF), (target, target), (0, INF), (0, INF)], dtype=torch.float64)[None, :channels]
    found = exact_proposals(logits, weak, bounds, classes=[1], tolerance=1e-11)

    def miss(mu):
        shift = np.where(np.arange(channels) == 1, mu, 0.0)
        return numpy_dual(log_s, bounds[0].numpy(), shift.clip(0), (-shift).clip(0))[1][1] - target

    expected = brentq(miss, -1e4, 1e4, xtol=1e-12, rtol=1e-14)
    lower, upper = found.multipliers[0, 1]
    assert (lower - upper).item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found.probabilities[0, 1].sum().item() == pytest.approx(target, abs=1e-9)
    assert found.iterations.max() <= 60


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_gradient_ascent_converges_to_it(seed, channels):
    logits, weak, bounds = random_case(seed, channels, scale=1.0)
    exact = exact_proposals(logits, weak, bounds, tolerance=1e-10)
    ascent = projected_gradient_ascent(logits, weak, bounds, step_size=0.1, max_iterations=4000)
    assert (exact.dual_value >= ascent.dual_value - 1e-8).all()
    short = projected_gradient_ascent(logits, weak, bounds, max_iterations=20)
    assert (exact.dual_value >= short.dual_value - 1e-8).all()
    torch.testing.assert_close(exact.probabilities, ascent.probabilities, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("pair", "seed"), [((0.5, 1.0), 0), ((3.0, 3.2), 1), ((2.1, 2.1), 2)])
def test_least_divergence_among_all_q(pair, seed):
    # four pixels, the primal problem itself: nothing of its dual is used
    torch.manual_seed(seed)
    logits = torch.randn(1, 2, 2, 2, dtype=torch.float64)
    bounds = torch.tensor([[(0.0, INF), pair]]).double()
    s = torch.softmax(logits, 1)[0, 1].flatten().numpy()
    result = minimize(
        lambda q: np.sum(q * np.log(q / s) + (1 - q) * np.log((1 - q) / (1 - s))),
        np.full(4, sum(pair) / 8),
        bounds=[(1e-9, 1 - 1e-9)] * 4,
        constraints=[
            {"type": "ineq", "fun": lambda q: q.sum() - pair[0]},
            {"type": "ineq", "fun": lambda q: pair[1] - q.sum()},
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = exact_proposals(logits, unannotated(logits), bounds)
    np.testing.assert_allclose(found.probabilities[0, 1].flatten().numpy(), result.x, atol=1e-4)
    assert found.dual_value.item() == pytest.approx(result.fun, abs=1e-6)


@pytest.mark.parametrize("spatial", [(4, 5), (2, 5, 2)])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("bound", [0.001, 3.0, 19.5])
def test_constant_logits_give_the_same_share_everywhere(spatial, channels, bound):
    logits = torch.arange(channels).float().view(1, -1, *[1] * len(spatial)).repeat(1, 1, *spatial)
    bounds = torch.tensor([0.0, INF]).repeat(1, channels, 1)
    bounds[:, 1] = bound
    found = exact_proposals(logits, unannotated(logits), bounds, classes=[1], tolerance=1e-6)
    torch.testing.assert_close(found.probabilities[:, 1], torch.full((1, *spatial), bound / 20), rtol=1e-4, atol=0)
    assert found.iterations.item() <= 3


@pytest.mark.parametrize("channels", [2, 3])
def test_within_the_bounds_nothing_changes(channels):
    logits, weak, _ = random_case(0, channels, num_seeds=0)
    bounds = torch.tensor([0.1, 29.9]).expand(2, channels, 2)
    found = exact_proposals(logits, weak, bounds)
    torch.testing.assert_close(found.probabilities, torch.softmax(logits, 1))
    assert (found.multipliers == 0).all()
    assert found.iterations.tolist() == [1, 1]
    torch.testing.assert_close(found.dual_value, torch.zeros(2).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 3])
def test_an_absent_class_keeps_no_free_pixel(channels):
    logits, weak, _ = random_case(0, channels, num_seeds=0)
    bounds = torch.tensor([0.0, INF]).repeat(2, channels, 1).double()
    bounds[:, 1] = 0.0
    found = exact_proposals(logits, weak, bounds)
    assert (found.probabilities[:, 1] == 0).all()
    assert found.multipliers[:, 1].tolist() == [[0.0, INF]] * 2
    assert (found.violation == 0).all()
    expected = -torch.log1p(-torch.softmax(logits, 1)[:, 1]).flatten(1).sum(1)
    torch.testing.assert_close(found.dual_value, expected)
    weak[:, 0, 2, 3] = 1
    seeded = exact_proposals(logits, weak, bounds)
    torch.testing.assert_close(seeded.probabilities[:, 1], (weak[:, 0] == 1).double(), rtol=0, atol=0)
    assert seeded.violation[:, 1].tolist() == [1.0, 1.0]
    assert seeded.dual_value.tolist() == [INF, INF]


@pytest.mark.parametrize("channels", [2, 3])
def test_a_lower_bound_that_asks_for_all_pixels(channels):
    logits, weak, _ = random_case(0, channels, num_seeds=0)
    bounds = torch.tensor([0.0, INF]).repeat(2, channels, 1).double()
    bounds[:, 1] = torch.tensor([30.0, INF])
    found = exact_proposals(logits, weak, bounds)
    assert (found.probabilities[:, 1] == 1).all()
    assert found.multipliers[:, 1].tolist() == [[INF, 0.0]] * 2
    expected = -torch.log_softmax(logits, 1)[:, 1].flatten(1).sum(1)
    torch.testing.assert_close(found.dual_value, expected)
    weak[:, 0, 2, 3] = 0
    seeded = exact_proposals(logits, weak, bounds)
    torch.testing.assert_close(seeded.violation[:, 1], torch.ones(2).double())
    assert seeded.dual_value.tolist() == [INF, INF]


@pytest.mark.parametrize("channels", [3, 4])
def test_bounds_of_several_classes_that_do_not_fit_together(channels):
    logits, weak, _ = random_case(1, channels, num_seeds=0)
    bounds = torch.tensor([20.0, 25.0]).repeat(2, channels, 1).double()
    found = exact_proposals(logits, weak, bounds)
    assert torch.isfinite(found.probabilities).all()
    assert found.dual_value.tolist() == [INF, INF]
    # classes 1, 2 (and 3) want 20 each of 30 pixels
    assert found.violation[:, 1:].sum(1).tolist() == pytest.approx([20.0 * (channels - 1) - 30.0] * 2, abs=1e-2)
    all_classes = exact_proposals(logits, weak, torch.ones(2, channels, 2), classes=range(channels))
    assert torch.isfinite(all_classes.probabilities).all()
    assert all_classes.dual_value.tolist() == [INF, INF]


def test_all_classes_under_equal_bounds():
    logits, weak, _ = random_case(1, 3, num_seeds=0)
    sizes = torch.tensor([5.0, 8.0, 17.0]).double()
    found = exact_proposals(logits, weak, sizes[None, :, None].repeat(2, 1, 2), classes=[2, 0, 1], tolerance=1e-6)
    torch.testing.assert_close(found.probabilities.sum((2, 3)), sizes.repeat(2, 1), rtol=0, atol=1e-5)
    assert torch.isfinite(found.dual_value).all()


KINDS = [(0.0, 0.0), (0.0, INF), (1.0, 24.0), (24.0, 24.0), (7.5, 7.5), (30.0, INF), (-INF, 3.0), (0.0, 1e-6)]


@settings(deadline=None, max_examples=80)
@given(st.data(), st.integers(2, 4), st.sampled_from([(4, 6), (2, 3, 4)]), st.sampled_from([1e-3, 3.0, 100.0, 1e4]))
def test_extreme_input_gives_no_nan(data, channels, spatial, scale):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(scale=scale, size=(2, channels, *spatial))
    values[rng.random(values.shape) < data.draw(st.sampled_from([0.0, 0.3]))] = data.draw(
        st.sampled_from([1e30, -1e30])
    )
    weak = rng.choice(
        [0, 1, 255], p=data.draw(st.sampled_from([(0, 0, 1), (0.2, 0.2, 0.6), (0.5, 0.5, 0)])), size=(2, 1, *spatial)
    )
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=2 * channels, max_size=2 * channels))
    bounds = torch.tensor(kinds).reshape(2, channels, 2)
    logits, weak = (
        torch.from_numpy(values).to(data.draw(st.sampled_from([torch.float32, torch.float64]))),
        torch.from_numpy(weak),
    )
    classes = data.draw(st.sampled_from([None, [1], [0], list(range(channels))]))
    proposals = [
        exact_proposals(logits, weak, bounds, classes),
        projected_gradient_ascent(logits, weak, bounds, classes, max_iterations=5),
    ]
    for found in proposals:
        assert not any(t.isnan().any() for t in vars(found).values())
        torch.testing.assert_close(found.probabilities.sum(1), torch.ones(2, *spatial).to(logits), rtol=1e-5, atol=0)
        for c in (0, 1):
            assert (found.probabilities[:, c][weak[:, 0] == c] == 1).all()
            assert (found.labels()[weak == c] == c).all()
        assert (found.multipliers >= 0).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([30.0, 1e3, 1e4]), st.floats(0.1, 0.9))
def test_saturated_logits_of_one_class(seed, scale, share):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(scale * rng.choice([-1.0, 1.0], size=(1, 2, 6, 6)))
    bounds = torch.tensor([[(0.0, INF), (36 * share, 36 * share)]]).double()
    found = exact_proposals(logits, unannotated(logits), bounds)
    assert found.violation.max() <= 2e-3
    assert torch.isfinite(found.dual_value).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([30.0, 300.0, 1e4]))
def test_saturated_logits_of_several_classes(seed, scale):
    logits, weak, bounds = random_case(seed, 3, (6, 6), scale=scale, num_seeds=0)
    found = exact_proposals(logits, weak, bounds)
    assert found.violation.max() <= 2e-3


@pytest.mark.parametrize("channels", [2, 3])
def test_an_item_is_the_same_alone(channels):
    logits, weak, bounds = random_case(5, channels, batch=6, scale=4.0)
    bounds[0, 1:] = 0.0
    together = exact_proposals(logits, weak, bounds)
    for item in range(6):
        one = slice(item, item + 1)
        alone = exact_proposals(logits[one], weak[one], bounds[one])
        assert alone.iterations.tolist() == together.iterations[one].tolist()
        torch.testing.assert_close(alone.probabilities, together.probabilities[one])
        torch.testing.assert_close(alone.multipliers, together.multipliers[one])
        torch.testing.assert_close(alone.dual_value, together.dual_value[one])


def test_float32_on_a_large_image():
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 2, 256, 256)
    logits[:, 1] -= 4
    bounds = torch.tensor([[(0.0, INF), (1500.0, 2000.0)], [(0.0, INF), (30000.0, 40000.0)]])
    found = exact_proposals(logits, unannotated(logits), bounds)
    sizes = found.probabilities[:, 1].double().sum((1, 2))
    assert sizes.tolist() == pytest.approx([2000.0, 30000.0], rel=2e-6)
    assert found.iterations.max() <= 15


@pytest.mark.parametrize(
    ("sides", "expected"), [("both", [25.0, 5.0]), ("upper", [10.0, 5.0]), ("lower", [25.0, 10.0])]
)
def test_sides(sides, expected):
    logits = torch.zeros(2, 2, 4, 5, dtype=torch.float64).repeat(1, 1, 1, 2)
    logits[:, 0] += math.log(3)  # sizes of 10
    bounds = torch.tensor([[(0.0, INF), (25.0, 30.0)], [(0.0, INF), (0.0, 5.0)]])
    found = exact_proposals(logits, unannotated(logits), bounds, sides=sides)
    assert found.probabilities[:, 1].sum((1, 2)).tolist() == pytest.approx(expected, abs=1e-3)
    assert (found.violation < 1e-3).all()
