"""The transformer against torch's own, and what causality and caching promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.transformer import Transformer, sinusoidal_positions

WIDTH, HEADS, LAYERS = 16, 4, 3


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    built = Transformer(WIDTH, LAYERS, HEADS).double().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def points(num_rows=2, num_points=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x_BTD = torch.randn(num_rows, num_points, WIDTH, dtype=torch.float64, generator=generator)
    return x_BTD, torch.arange(num_points).expand(num_rows, num_points)


def torch_twin(transformer):
    """torch's encoder with the same weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
    )
    twin = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    twin = twin.double().eval()
    pairs = [("norm1", "norm_attention"), ("norm2", "norm_forward")]
    pairs += [("linear1", "widen"), ("linear2", "narrow"), ("self_attn.out_proj", "attention.out")]
    for theirs, ours in zip(twin.layers, transformer.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data.copy_(ours.attention.qkv.weight)
        theirs.self_attn.in_proj_bias.data.copy_(ours.attention.qkv.bias)
        for their_name, our_name in pairs:
            source = ours.get_submodule(our_name).state_dict()
            theirs.get_submodule(their_name).load_state_dict(source)
    twin.norm.load_state_dict(transformer.norm.state_dict())
    return twin


def test_equals_the_encoder_of_torch(transformer):
    x_BTD, index_BT = points()
    mask_TT = nn.Transformer.generate_square_subsequent_mask(x_BTD.shape[1], dtype=torch.float64)
    expected = torch_twin(transformer)(x_BTD, mask=mask_TT)
    torch.testing.assert_close(transformer(x_BTD, index_BT), expected, rtol=0, atol=1e-9)
    x_BTD, index_BT = points(seed=2)
    assert not torch.allclose(transformer(x_BTD, index_BT), expected)


@pytest.mark.parametrize("changed", [0, 4, 8])
def test_future_cannot_change_the_past(transformer, changed):
    x_BTD, index_BT = points()
    before = transformer(x_BTD, index_BT)
    x_BTD[:, changed] += 1.0
    after = transformer(x_BTD, index_BT)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(-1).all()


@pytest.mark.parametrize("asked", [0, 3, 8])
def test_gradient_to_the_future_is_exactly_zero(transformer, asked):
    x_BTD, index_BT = points()
    x_BTD.requires_grad_()
    transformer(x_BTD, index_BT)[:, asked].square().sum().backward()
    is_reached_T = (x_BTD.grad != 0).any(-1).all(0)
    assert is_reached_T.tolist() == [index <= asked for index in range(9)]


@pytest.mark.parametrize("known", [1, 5, 8])
def test_cached_equals_uncached(transformer, known):
    x_BTD, index_BT = points()
    expected = transformer(x_BTD, index_BT)
    caches = transformer.empty_caches(2, 9)
    parts = [transformer(x_BTD[:, :known], index_BT[:, :known], caches=caches)]
    for step in range(known, 9):
        one = slice(step, step + 1)
        parts.append(transformer(x_BTD[:, one], index_BT[:, one], caches=caches))
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=1e-9)


def test_new_points_overwrite_the_pads_in_a_cache(transformer):
    """Rows of 3 and 6 known points, padded to 6, then each goes on from its own end."""
    x_BTD, index_BT = points()
    expected = transformer(x_BTD, index_BT)
    caches = transformer.empty_caches(2, 9)
    padded = x_BTD[:, :6].clone()
    padded[0, 3:] = 1e3
    transformer(padded, index_BT[:, :6], caches=caches)
    row_B, end_B = torch.arange(2), torch.tensor([3, 6])
    for step in range(3):
        index_B = end_B + step
        new_B1D = x_BTD[row_B, index_B].unsqueeze(1)
        new = transformer(new_B1D, index_B.unsqueeze(1), caches=caches)
        torch.testing.assert_close(new[:, 0], expected[row_B, index_B], rtol=0, atol=1e-9)


def test_sequences_of_a_packed_row_do_not_see_each_other(transformer):
    x_BTD, index_BT = points()
    sequence_BT = torch.tensor([[0] * 4 + [1] * 5] * 2)
    packed = transformer(x_BTD, index_BT, sequence_BT)
    for part in (slice(0, 4), slice(4, 9)):
        alone = transformer(x_BTD[:, part], index_BT[:, part])
        torch.testing.assert_close(packed[:, part], alone, rtol=0, atol=1e-9)
    assert not torch.allclose(transformer(x_BTD, index_BT)[:, 4:], packed[:, 4:])


def test_sinusoidal_positions_follow_the_formula():
    table_ND = sinusoidal_positions(50, 8)
    for index in (0, 1, 17, 49):
        for pair in range(4):
            angle = torch.tensor(index / 10_000 ** (2 * pair / 8), dtype=torch.float64)
            assert float(table_ND[index, 2 * pair]) == pytest.approx(float(angle.sin()), abs=1e-6)
            assert float(table_ND[index, 2 * pair + 1]) == pytest.approx(
                float(angle.cos()), abs=1e-6
            )
