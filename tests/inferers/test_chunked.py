"""The gradient of chunks is the gradient of one pass."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet

from sizeloss_monai.constraints import VolumeSizeConstraintLoss
from sizeloss_monai.inferers import ChunkedInferer
from sizeloss_monai.losses import PartialCrossEntropyLoss


def make_network(norm, dropout=0.0):
    torch.manual_seed(0)
    return UNet(2, 1, 2, (4, 8), (2,), norm=norm, num_res_units=1, dropout=dropout).train()


def make_batch(slices=7):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(slices, 1, 16, 16, generator=generator)
    bounds = torch.tensor([[0.0, torch.inf], [5.0, 9.0]]).expand(slices, 2, 2)
    weak_label = torch.full((slices, 1, 16, 16), 255)
    weak_label[::2, :, 4:6, 4:6] = 1
    volume = torch.tensor([0, 0, 1, 1, 1, 0, 1])[:slices]
    return image, weak_label, bounds, volume


def gradient(network, inferer):
    image, weak_label, bounds, volume = make_batch()
    logits = inferer(image, network)
    size = VolumeSizeConstraintLoss(scale="image")(logits, bounds, volume)
    loss = PartialCrossEntropyLoss()(logits, weak_label) + 0.01 * size
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 20])
def test_exact_without_batch_statistics(chunk_size):
    network = make_network("instance")
    whole = gradient(copy.deepcopy(network), lambda image, net: net(image))
    chunked = gradient(copy.deepcopy(network), ChunkedInferer(chunk_size))
    assert (whole - chunked).norm() <= 1e-5 * whole.norm()


class Counting(torch.nn.Module):
    """Counts the items of each pass, and whether a graph is built for them."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.passes = []

    def forward(self, x):
        self.passes.append(len(x))
        return x * self.weight


def test_never_more_than_a_chunk_at_a_time():
    network = Counting()
    out = ChunkedInferer(3)(torch.ones(7, 1), network)
    assert network.passes == [3, 3, 1]
    (out**2).sum().backward()
    assert network.passes[:3] == [3, 3, 1]
    assert sorted(network.passes[3:]) == [1, 3, 3]  # run again, chunk after chunk
    assert network.weight.grad.item() == 14


def test_no_second_pass_without_gradients():
    network = Counting()
    with torch.no_grad():
        ChunkedInferer(3)(torch.ones(7, 1), network)
    assert network.passes == [3, 3, 1]


def test_dropout_draws_the_same_mask_twice():
    network = torch.nn.Dropout(0.5)
    image = torch.ones(6, 1, 4, 4, requires_grad=True)
    out = ChunkedInferer(2)(image, network)
    out.sum().backward()
    assert torch.equal(image.grad, out.detach())  # 0 or 2 in both


def test_running_statistics_are_those_of_one_pass_over_each_chunk():
    network = make_network("batch")
    expected = copy.deepcopy(network)
    image = make_batch()[0]
    for chunk in image.split(3):
        expected(chunk)
    ChunkedInferer(3)(image, network).square().sum().backward()
    for (name, found), wanted in zip(network.named_buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(found, wanted, msg=name)


def test_chunk_size_is_positive():
    with pytest.raises(ValueError, match="chunk_size must be >= 1, got 0"):
        ChunkedInferer(0)


PROCESSES = """
import copy, os, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from sizeloss_monai.inferers import ChunkedInferer

def gradient(network, inferer, image):
    network.zero_grad()
    size = inferer(image, network).softmax(dim=1)[:, 1].sum()
    ((size - 50) ** 2 / 100).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
alone = copy.deepcopy(network)
# volumes of three chunks and of one
images = [torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(size)) for size in (7, 3)]
together = DistributedDataParallel(network, broadcast_buffers=False)
for step in range(2):
    found = gradient(together, ChunkedInferer(3), images[rank])
    wanted = sum(gradient(alone, lambda image, net: net(image), image) for image in images) / 2
    assert (found - wanted).norm() <= 1e-5 * wanted.norm(), f"rank {rank}, step {step}"

# batch normalisation has buffers; broadcast, they would be waited for
normalised = DistributedDataParallel(torch.nn.Sequential(network, torch.nn.BatchNorm2d(2)), broadcast_buffers=False)
assert gradient(normalised, ChunkedInferer(3), images[rank]).isfinite().all()
dist.destroy_process_group()
os._exit(0)  # beside other work torch's threads now and then abort the interpreter that ends under them
"""


def test_processes_average_the_gradients_of_their_batches(tmp_path):
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, *launch], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
