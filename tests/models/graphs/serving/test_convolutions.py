"""What serves in numpy is what PyTorch Geometric has trained."""

from typing import get_args

import numpy as np
import pytest
import torch

from models.graphs.channels import channels
from models.graphs.sampling.blocks import gather
from models.graphs.sampling.sampler import Draw
from models.graphs.serving.convolutions import Convolution
from models.graphs.training.networks import GraphNetwork
from tests.models.graphs.made import RELATIONS, graph

WIDTH, FEATURES = 16, 10
CONVOLUTIONS = get_args(Convolution)


def network(convolution: Convolution, hops: int = 2) -> GraphNetwork:
    torch.manual_seed(3)
    made = GraphNetwork(convolution, FEATURES, WIDTH, hops, len(RELATIONS)).eval()
    with torch.no_grad():  # biases and norms begin as if they were not there
        for parameter in made.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) / 3)
    return made


def blocks_of(convolution: Convolution, asked, fan_outs=(4, 3), seed: int = 0):
    of = graph(seed)
    merging = "apart" if convolution == "rsage" else "together"
    return of, gather(channels(of, RELATIONS, merging), of.keys, asked, fan_outs, Draw(5))


def inputs(of, blocks, seed: int = 1):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(len(of) + 1, FEATURES)).astype(np.float32)
    return table[blocks.rows], of.is_query(blocks.rows)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_numpy_says_what_torch_says(convolution, hops):
    of, blocks = blocks_of(convolution, np.array([0, 7, -1, 35, -1, 41, 12]), (4, 3, 2)[:hops])
    features, is_query = inputs(of, blocks)
    trained = network(convolution, hops)
    with torch.no_grad():
        expected = trained(torch.from_numpy(features), torch.from_numpy(is_query), blocks)
    served = trained.served()
    assert (served.hops, served.width) == (hops, WIDTH)
    found = served.states(features, is_query, blocks)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_a_node_says_the_same_alone_and_among_others(convolution):
    served = network(convolution).served()
    asked = np.array([3, 40, 0, 29, 11, -1])

    def states(nodes):
        of, blocks = blocks_of(convolution, nodes)
        return served.states(*inputs(of, blocks), blocks)

    together = states(asked)
    for place, node in enumerate(asked):
        alone = states(np.array([node]))
        np.testing.assert_allclose(alone[0], together[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_what_a_neighbour_is_reaches_who_hears_it_and_nobody_else(convolution):
    served = network(convolution).served()
    of, blocks = blocks_of(convolution, np.array([5]))
    features, is_query = inputs(of, blocks)
    before = served.states(features, is_query, blocks)
    for place in range(1, len(blocks.rows)):
        changed = features.copy()
        changed[place] += 1
        assert not np.allclose(served.states(changed, is_query, blocks), before, atol=1e-6)
    lonely = gather(channels(of, RELATIONS, "together"), of.keys, np.array([-1]), (4, 3), Draw(5))
    assert lonely.sizes == (1, 1, 1)


@pytest.mark.parametrize("convolution", ["gatv2"])
def test_numbers_of_edges_are_heard(convolution):
    of, blocks = blocks_of(convolution, np.array([5, 6]))
    features, is_query = inputs(of, blocks)
    served = network(convolution).served()
    before = served.states(features, is_query, blocks)
    for heard in blocks.layers[-1]:
        heard.attributes[:] += 1.0
    assert not np.allclose(served.states(features, is_query, blocks), before, atol=1e-5)
