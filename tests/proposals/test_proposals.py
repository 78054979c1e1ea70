import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from sizeloss_monai.proposals import (
    LagrangianProposals,
    NonFiniteLogitsError,
    Proposals,
    exact_proposals,
    projected_gradient_ascent,
)

INF = math.inf
SOLVERS = ["exact", "gradient_ascent"]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    weak = torch.full((2, 1, 8, 8), 255)
    weak[:, :, 2, 3], weak[:, :, 0, 0] = 1, 0
    return torch.randn(2, 2, 8, 8), weak, torch.tensor([(0.0, INF), (10.0, 20.0)]).repeat(2, 1, 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_hands_its_options_on(solver, batch):
    found = LagrangianProposals(solver, classes=[0], sides="lower", tolerance=0.1)(*batch)
    if solver == "exact":
        expected = exact_proposals(*batch, classes=[0], sides="lower", tolerance=0.1)
    else:
        expected = projected_gradient_ascent(*batch, classes=[0], sides="lower", tolerance=0.1)
        options = {"early_stop": "sound", "step_size": 1e-2, "max_iterations": 50, "tolerance": 1.0}
        one = LagrangianProposals(solver, **options)(*batch)
        other = projected_gradient_ascent(*batch, **options)
        assert torch.equal(one.iterations, other.iterations)
        assert torch.equal(one.probabilities, other.probabilities)
    assert torch.equal(found.probabilities, expected.probabilities)


@pytest.mark.parametrize("solver", SOLVERS)
def test_from_a_config(solver, batch):
    config = {
        "proposals": {
            "_target_": "sizeloss_monai.proposals.LagrangianProposals",
            "solver": solver,
            "sides": "upper",
            "classes": [1],
        }
    }
    proposals = ConfigParser(config).get_parsed_content("proposals")
    found = proposals(*batch)
    assert torch.equal(found.probabilities, LagrangianProposals(solver, sides="upper")(*batch).probabilities)


@pytest.mark.parametrize("solver", SOLVERS)
def test_shapes_types_and_no_graph(solver, batch):
    logits, weak, bounds = batch
    found = LagrangianProposals(solver)(logits.requires_grad_(), weak, bounds)
    assert found.probabilities.shape == (2, 2, 8, 8)
    assert found.multipliers.shape == (2, 2, 2)
    assert found.iterations.shape == found.dual_value.shape == (2,)
    assert found.violation.shape == (2, 2)
    assert found.iterations.dtype == torch.int64
    assert found.labels().shape == (2, 1, 8, 8)
    assert found.labels().dtype == torch.int64
    assert not any(value.requires_grad for value in vars(found).values())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_equals_float32(solver, channels, dtype, autocast):
    logits = torch.randn(1, channels, 64, 64).to(dtype)
    weak, bounds = torch.full((1, 1, 64, 64), 255), torch.tensor([0.0, 500.0]).repeat(1, channels, 1)
    proposals = LagrangianProposals(solver, max_iterations=20)
    expected = proposals(logits.float(), weak, bounds)
    with torch.autocast("cpu", dtype, enabled=autocast):
        found = proposals(logits, weak, bounds)
    for name, value in vars(found).items():
        assert torch.equal(value, getattr(expected, name)), name
        assert value.dtype == (torch.int64 if name == "iterations" else torch.float32)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float64_is_kept(solver, batch):
    logits, weak, bounds = batch
    found = LagrangianProposals(solver)(logits.double(), weak, bounds)
    assert found.probabilities.dtype == found.multipliers.dtype == found.dual_value.dtype == torch.float64


@pytest.mark.parametrize("solver", SOLVERS)
def test_meta_tensors_and_input_untouched(solver, batch):
    copies = [tensor.clone() for tensor in batch]
    expected = LagrangianProposals(solver)(*batch)
    found = LagrangianProposals(solver)(*[MetaTensor(tensor) for tensor in batch])
    assert torch.equal(found.probabilities, expected.probabilities)
    assert not isinstance(found.probabilities, MetaTensor)
    assert all(torch.equal(before, after) for before, after in zip(copies, batch, strict=True))


@pytest.mark.parametrize("solver", SOLVERS)
def test_another_ignore_index_and_label_type(solver, batch):
    logits, weak, bounds = batch
    expected = LagrangianProposals(solver)(logits, weak, bounds).probabilities
    assert torch.equal(LagrangianProposals(solver)(logits, weak.to(torch.uint8), bounds).probabilities, expected)
    other = torch.where(weak == 255, -1, weak)
    assert torch.equal(LagrangianProposals(solver, ignore_index=-1)(logits, other, bounds).probabilities, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "newton"}, "solver"),
        ({"sides": "none"}, "sides"),
        ({"early_stop": "late"}, "early_stop"),
        ({"early_stop": "sound"}, "early_stop"),
        ({"step_size": 0.0}, "step_size"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"classes": []}, "classes"),
        ({"classes": [-1]}, "classes"),
        ({"classes": [1, 1]}, "classes"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        LagrangianProposals(**options)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("pair", [(math.nan, 1.0), (0.0, math.nan), (3.0, 2.0), (INF, INF), (-INF, -INF)])
def test_wrong_values_of_bounds(solver, pair, batch):
    logits, weak, bounds = batch
    bounds[1, 1] = torch.tensor(pair)
    with pytest.raises(ValueError, match="bounds must be pairs"):
        LagrangianProposals(solver)(logits, weak, bounds)


@pytest.mark.parametrize("solver", SOLVERS)
def test_wrong_input(solver, batch):
    logits, weak, bounds = batch
    proposals = LagrangianProposals(solver)
    with pytest.raises(ValueError, match="bounds must have shape"):
        proposals(logits, weak, bounds[:, 1:])
    for wrong in (weak[:, 0], weak[:1], weak[..., 1:], weak.repeat(1, 2, 1, 1)):
        with pytest.raises(ValueError, match="weak_label must have shape"):
            proposals(logits, wrong, bounds)
    for wrong in (logits[:, :1], logits.long(), logits[:, :, 0, 0]):
        with pytest.raises(ValueError, match="logits must be floating"):
            proposals(wrong, weak, bounds)
    with pytest.raises(ValueError, match=r"classes must be at least one distinct class id in 0\.\.1"):
        LagrangianProposals(solver, classes=[2])(logits, weak, bounds)
    for value in (2, -1):
        weak[0, 0, 5, 5] = value
        with pytest.raises(ValueError, match="weak_label must hold"):
            proposals(logits, weak, bounds)


@settings(deadline=None, max_examples=60)
@given(
    solver=st.sampled_from(SOLVERS),
    channels=st.integers(2, 4),
    spatial=st.sampled_from([(4, 6), (2, 3, 4)]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    autocast=st.booleans(),
    bad=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 10**6), st.sampled_from([math.nan, INF, -INF])),
        min_size=1,
        max_size=4,
        unique_by=lambda triple: triple[0],
    ),
    annotated=st.booleans(),
)
def test_logits_that_are_not_finite_are_refused(solver, channels, spatial, dtype, autocast, bad, annotated):
    logits = torch.randn(2, channels, *spatial).to(dtype)
    for item, place, value in bad:
        logits[item].view(-1)[place % logits[item].numel()] = value
    weak = torch.full((2, 1, *spatial), 1 if annotated else 255)  # where annotated, the logits would not even be used
    bounds = torch.tensor([0.0, INF]).repeat(2, channels, 1)
    num_nan = sum(math.isnan(value) for _, _, value in bad)
    found = f"got {num_nan} NaN and {len(bad) - num_nan} infinite values in the batch's items "
    items = str(sorted(item for item, _, _ in bad))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), pytest.raises(NonFiniteLogitsError) as error:
        LagrangianProposals(solver)(logits, weak, bounds)
    assert str(error.value).startswith(f"logits must be finite, {found}{items}. ")
    assert "lower the learning rate" in str(error.value)
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    scale=st.sampled_from([0.1, 3.0, 100.0, 6e4]),
    share=st.floats(0.05, 0.95),
)
def test_a_bound_that_can_be_met_is_met_at_any_finite_logits(seed, dtype, scale, share):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * (2 * torch.rand(2, 2, 6, 6, generator=generator) - 1)).to(dtype)
    bounds = torch.tensor([(0.0, INF), (36 * share, 36 * share + 1)]).repeat(2, 1, 1)
    found = LagrangianProposals()(logits, torch.full((2, 1, 6, 6), 255), bounds)
    size = found.probabilities.double().sum((2, 3))[:, 1]
    # half a unit in the last place of a multiplier as large as the logits moves the size in float32
    slack = 2e-3 + 36 * scale * 2.0**-22 * (dtype != torch.float64)
    assert (size >= 36 * share - slack).all()
    assert (size <= 36 * share + 1 + slack).all()
    assert torch.isfinite(found.dual_value).all()


def test_labels_are_the_first_likeliest_class() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 4, 6, 5, generator=generator)
    probabilities[0, :, 0] = 0.25
    nothing = torch.zeros(2)
    labels = Proposals(probabilities, nothing, nothing, nothing, nothing).labels()
    assert labels.dtype == torch.int64
    assert (labels[0, 0, 0] == 0).all()
    largest = torch.gather(probabilities, 1, labels)
    assert torch.equal(largest, probabilities.amax(1, keepdim=True))
