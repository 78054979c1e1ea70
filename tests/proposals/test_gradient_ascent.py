import math
from itertools import pairwise

import pytest
import torch

from sizeloss_monai.proposals import exact_proposals, projected_gradient_ascent

INF = math.inf


def unannotated(logits):
    return torch.full((logits.shape[0], 1, *logits.shape[2:]), 255)


def sizes(proposals):
    return proposals.probabilities.flatten(2).sum(2)


def slow_ascent(logits, bounds, step, updates):
    """The multipliers of one item after that many updates, written down on probabilities."""
    lower, upper = torch.zeros(2, logits.shape[0], dtype=torch.float64)
    for _ in range(updates):
        size = torch.softmax(logits + (lower - upper).view(-1, 1, 1), 0).sum((1, 2))
        lower = (lower + step * (bounds[:, 0] - size)).clamp(min=0)
        upper = (upper + step * (size - bounds[:, 1])).clamp(min=0)
    return torch.stack([lower, upper], -1)


@pytest.mark.parametrize(("channels", "classes"), [(2, [1]), (3, [1]), (3, [1, 2]), (4, [3, 1, 2])])
@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_equals_the_update_written_down(channels, classes, iterations):
    torch.manual_seed(0)
    logits = torch.randn(3, channels, 6, 5, dtype=torch.float64)
    bounds = torch.tensor([0.0, INF]).double().repeat(3, channels, 1)
    for item, pair in enumerate([(20.0, 25.0), (1.0, 3.0), (-1.0, 0.0)]):
        bounds[item, classes] = torch.tensor(pair).double()
    given = bounds.clone()
    given[2, classes] = 0.0  # becomes (-1, 0)
    found = projected_gradient_ascent(
        logits, unannotated(logits), given, classes, step_size=1e-2, max_iterations=iterations
    )
    assert found.iterations.tolist() == [iterations] * 3
    for item in range(3):
        expected = slow_ascent(logits[item], bounds[item], 1e-2, iterations - 1)
        torch.testing.assert_close(found.multipliers[item], expected)
        shift = (expected[:, 0] - expected[:, 1]).view(-1, 1, 1)
        torch.testing.assert_close(found.probabilities[item], torch.softmax(logits[item] + shift, 0))


@pytest.mark.parametrize("channels", [2, 3])
def test_published_stop_never_lets_a_lower_bound_act(channels):
    logits = torch.zeros(2, channels, 8, 8)
    size = 64 / channels
    bounds = torch.tensor([0.0, INF]).repeat(2, channels, 1)
    bounds[0, 1:] = torch.tensor([size + 10, size + 20])
    bounds[1, 1:] = torch.tensor([1.0, size - 10])
    found = projected_gradient_ascent(
        logits, unannotated(logits), bounds, classes=[1], early_stop="as_published", step_size=1e-3
    )
    assert found.iterations[0] == 1
    assert found.iterations[1] > 1
    assert (found.multipliers[0] == 0).all()
    torch.testing.assert_close(found.probabilities[0], torch.full((channels, 8, 8), 1 / channels))
    assert found.violation[0, 1].item() == pytest.approx(10, rel=1e-5)
    full = projected_gradient_ascent(logits, unannotated(logits), bounds, classes=[1], step_size=1e-3)
    assert full.violation[0, 1] < 1  # without the stop the lower bound acts


def test_published_stop_is_at_a_relative_change_below_1e_3():
    logits = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    bounds = torch.tensor([[(0.0, INF), (0.0, 10.0)]])
    found = projected_gradient_ascent(
        logits, unannotated(logits), bounds, early_stop="as_published", step_size=1e-2, max_iterations=5000
    )
    count = found.iterations.item()
    assert count < 200
    history = [slow_ascent(logits[0], bounds[0].double(), 1e-2, updates)[1, 1].item() for updates in range(count + 1)]
    changes = [abs(new - old) / (old + 1e-10) for old, new in pairwise(history)]
    assert [change < 1e-3 for change in changes] == [False] * (count - 1) + [True]
    assert found.multipliers[0, 1, 1].item() == pytest.approx(history[count - 1])


@pytest.mark.parametrize("classes", [[1], [1, 2]])
@pytest.mark.parametrize("tolerance", [0.5, 1e-3])
def test_sound_stop_fulfils_the_kkt_conditions(classes, tolerance):
    torch.manual_seed(1)
    logits = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    bounds = torch.tensor([0.0, INF]).double().repeat(4, 3, 1)
    for item, pair in enumerate([(25.0, 28.0), (2.0, 10.0), (0.1, 63.0), (12.0, 12.0)]):
        bounds[item, classes] = torch.tensor(pair).double()
    found = projected_gradient_ascent(
        logits,
        unannotated(logits),
        bounds,
        classes,
        early_stop="sound",
        step_size=2e-2,
        max_iterations=3000,
        tolerance=tolerance,
    )
    assert found.iterations.max() < 3000
    assert found.iterations[2] == 1
    size = sizes(found)
    for side, gradient in enumerate([bounds[..., 0] - size, size - bounds[..., 1]]):
        acting = found.multipliers[..., side] > 0
        assert (gradient[acting].abs() <= tolerance + 1e-9).all()
        assert (gradient[~acting] <= tolerance + 1e-9).all()
    # one evaluation earlier it was not yet so
    for item in (0, 1, 3):
        one = slice(item, item + 1)
        earlier = projected_gradient_ascent(
            logits[one],
            unannotated(logits[one]),
            bounds[one],
            classes,
            step_size=2e-2,
            max_iterations=found.iterations[item].item() - 1,
        )
        gradient = torch.stack([bounds[one, :, 0] - sizes(earlier), sizes(earlier) - bounds[one, :, 1]], -1)
        residual = torch.where(earlier.multipliers > 0, gradient.abs(), gradient.clamp(min=0))
        assert residual.max() > tolerance


@pytest.mark.parametrize("early_stop", ["none", "sound", "as_published"])
@pytest.mark.parametrize("classes", [[1], [1, 2]])
def test_an_item_is_the_same_alone(early_stop, classes):
    torch.manual_seed(2)
    logits = torch.randn(5, 3, 7, 9, dtype=torch.float64)
    bounds = torch.tensor([0.0, INF]).repeat(5, 3, 1)
    for item, pair in enumerate([(24.0, 25.0), (0.0, 0.0), (1.0, 62.0), (2.0, 12.0), (21.0, 22.0)]):
        bounds[item, classes] = torch.tensor(pair)
    options = {"early_stop": early_stop, "step_size": 1e-2, "max_iterations": 200, "tolerance": 0.1}
    together = projected_gradient_ascent(logits, unannotated(logits), bounds, classes, **options)
    if early_stop != "none":
        assert len(together.iterations.unique()) > 2
    for item in range(5):
        one = slice(item, item + 1)
        alone = projected_gradient_ascent(logits[one], unannotated(logits[one]), bounds[one], classes, **options)
        for name, value in vars(alone).items():
            torch.testing.assert_close(value, getattr(together, name)[one], msg=lambda text, n=name: f"{n}: {text}")
        # a frozen item has the Q of the evaluation it stopped at
        exactly = {**options, "early_stop": "none", "max_iterations": alone.iterations.item()}
        again = projected_gradient_ascent(logits[one], unannotated(logits[one]), bounds[one], classes, **exactly)
        torch.testing.assert_close(again.probabilities, alone.probabilities)


@pytest.mark.parametrize(("sides", "lower_acts", "upper_acts"), [("both", 1, 1), ("upper", 0, 1), ("lower", 1, 0)])
def test_sides(sides, lower_acts, upper_acts):
    logits = torch.zeros(2, 2, 8, 8)
    bounds = torch.tensor([[(0.0, INF), (40.0, 50.0)], [(0.0, INF), (5.0, 20.0)]])
    found = projected_gradient_ascent(logits, unannotated(logits), bounds, sides=sides, max_iterations=10)
    assert (found.multipliers[0, 1] > 0).tolist() == [bool(lower_acts), False]
    assert (found.multipliers[1, 1] > 0).tolist() == [False, bool(upper_acts)]
    assert (found.violation[:, 1] > 0).tolist() == [bool(lower_acts), bool(upper_acts)]


def test_one_class_and_several_are_one_rule():
    # an unconstrained second class: the softmax form must give what the one-dimensional one gives
    torch.manual_seed(3)
    logits, bounds = torch.randn(2, 3, 6, 6).double(), torch.tensor([0.0, INF]).repeat(2, 3, 1)
    bounds[:, 1] = torch.tensor([2.0, 4.0])
    options = {"step_size": 1e-2, "max_iterations": 100}
    single = projected_gradient_ascent(logits, unannotated(logits), bounds, [1], **options)
    several = projected_gradient_ascent(logits, unannotated(logits), bounds, [1, 2], **options)
    torch.testing.assert_close(single.probabilities, several.probabilities)
    torch.testing.assert_close(single.dual_value, several.dual_value)


def test_seeds_stay_certain_and_count():
    logits = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    weak = unannotated(logits)
    weak[..., 0, :2], weak[..., 3, :] = 1, 0
    bounds = torch.tensor([[(0.0, INF), (0.0, 4.0)]])
    found = projected_gradient_ascent(logits, weak, bounds, step_size=0.1, max_iterations=1000)
    # 2 voxels are left to 10 free pixels
    expected = torch.full((4, 4), 0.2).double()
    expected[0, :2], expected[3, :] = 1, 0
    torch.testing.assert_close(found.probabilities[0, 1], expected, rtol=1e-6, atol=0)
    assert found.dual_value.item() == pytest.approx(exact_proposals(logits, weak, bounds).dual_value.item(), rel=1e-6)
