"""Agreement with the proposals that the authors' published code made."""

import pytest
import torch
import torch.nn.functional as F

from sizeloss_monai.proposals import LagrangianProposals


@pytest.mark.parametrize("name", ["over", "batch", "volume"])
@pytest.mark.parametrize(("method", "sides"), [("PathakUpper", "upper"), ("PathakLoss", "both")])
@pytest.mark.parametrize(("stop", "early_stop"), [("500 iterations", "none"), ("early stop", "as_published")])
def test_gradient_ascent(reference, name, method, sides, stop, early_stop):
    tensor = reference[name]
    expected = tensor["authors"][f"{method}, {stop}"]
    logits = torch.tensor(tensor["logits"])
    weak = torch.tensor(tensor["weak_label"])[:, None]
    weak = torch.where(weak == 0, 255, weak)  # the file has 0 where nobody annotated
    proposals = LagrangianProposals("gradient_ascent", classes=tensor["idc"], sides=sides, early_stop=early_stop)
    found = proposals(logits, weak, torch.tensor(tensor["bounds_bc_lo_hi"]))
    assert found.iterations.tolist() == expected["iterations"]
    assert found.probabilities[:, 1].sum((1, 2)).tolist() == pytest.approx(expected["soft_size"], rel=1e-4)
    labels = found.labels()[:, 0]
    assert labels.tolist() == torch.tensor(expected["hard_mask_class1"]).long().tolist()
    assert F.cross_entropy(logits, labels).item() == pytest.approx(expected["loss"], abs=1e-5)
