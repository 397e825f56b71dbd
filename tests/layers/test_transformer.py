"""The transformer against torch's own, and what masks, caches and packing promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model.layers.attention_masks import bidirectional_mask, causal_mask
from model.layers.position_encodings import angles_of, index_frequencies
from model.layers.transformer import GATED, PLAIN, Block, BlockStyle, Transformer

WIDTH, HEADS, LAYERS = 16, 4, 3


def random_weights(style=PLAIN):
    torch.manual_seed(0)
    built = Transformer(WIDTH, LAYERS, HEADS, style=style).double().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


@pytest.fixture
def transformer():
    return random_weights()


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


def everyone(index_BT):
    return torch.ones_like(index_BT, dtype=torch.bool)


@pytest.mark.parametrize("is_causal", [True, False])
def test_equals_the_encoder_of_torch(is_causal):
    transformer = random_weights()
    x_BTD, index_BT = points()
    mask_TT = nn.Transformer.generate_square_subsequent_mask(x_BTD.shape[1], dtype=torch.float64)
    twin = torch_twin(transformer)
    expected = twin(x_BTD, mask=mask_TT if is_causal else None)
    mask_BQT = None if is_causal else bidirectional_mask(everyone(index_BT))
    torch.testing.assert_close(transformer(x_BTD, index_BT, mask_BQT), expected, rtol=0, atol=1e-9)
    x_BTD, index_BT = points(seed=2)
    assert not torch.allclose(transformer(x_BTD, index_BT, mask_BQT), expected)


def test_the_gated_block_equals_its_formulas():
    """RMS norms, SwiGLU and no bias, one row and one head at a time."""
    transformer = random_weights(GATED)
    x_BTD, index_BT = points()
    for row in range(2):
        x_TD = x_BTD[row].numpy()
        for block in transformer.blocks:
            weights = {name: value.detach().numpy() for name, value in block.named_parameters()}
            x_TD = gated_block(x_TD, weights)
        last_D = transformer.norm.weight.detach().numpy()
        expected = torch.from_numpy(root_mean_square_norm(x_TD, last_D))
        found = transformer(x_BTD, index_BT)[row]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_gated_block_has_the_matrices_of_a_plain_one():
    plain, gated = (
        sum(value.numel() for value in Block(96, 4, style=style).parameters() if value.ndim == 2)
        for style in (PLAIN, GATED)
    )
    assert gated == plain


def root_mean_square_norm(x_TD, gain_D):
    return x_TD / np.sqrt((x_TD**2).mean(-1, keepdims=True) + 1e-5) * gain_D


def gated_block(x_TD, weights):
    normed_TD = root_mean_square_norm(x_TD, weights["norm_attention.weight"])
    query, key, value = np.split(normed_TD @ weights["attention.qkv.weight"].T, 3, axis=1)
    mixed = []
    for head in np.split(np.arange(WIDTH), HEADS):
        score_TT = np.exp(query[:, head] @ key[:, head].T / np.sqrt(len(head)))
        share_TT = np.tril(score_TT) / np.tril(score_TT).sum(axis=1, keepdims=True)
        mixed.append(share_TT @ value[:, head])
    x_TD = x_TD + np.concatenate(mixed, axis=1) @ weights["attention.out.weight"].T
    normed_TD = root_mean_square_norm(x_TD, weights["norm_forward.weight"])
    gate, content = np.split(normed_TD @ weights["widen.weight"].T, 2, axis=1)
    return x_TD + (gate / (1 + np.exp(-gate)) * content) @ weights["narrow.weight"].T


@pytest.mark.parametrize("wrong", [{"norm": "batch"}, {"activation": "relu"}])
def test_unknown_styles_are_refused(wrong):
    with pytest.raises(ValueError, match="unknown"):
        BlockStyle(**wrong)


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
@pytest.mark.parametrize("style", [PLAIN, GATED])
@pytest.mark.parametrize("is_rotary", [True, False])
def test_cached_equals_uncached(known, style, is_rotary):
    transformer = random_weights(style)
    x_BTD, index_BT = points()
    turn = angles_of(index_BT.unsqueeze(-1).double(), index_frequencies(WIDTH // HEADS // 2))
    angle_BTP = turn if is_rotary else None
    expected = transformer(x_BTD, index_BT, angle_BQP=angle_BTP)
    assert is_rotary != torch.allclose(expected, transformer(x_BTD, index_BT))
    caches = transformer.empty_caches(2, 9)
    parts = []
    for part in (slice(0, known), *(slice(step, step + 1) for step in range(known, 9))):
        angle_BQP = turn[:, part] if is_rotary else None
        parts.append(
            transformer(x_BTD[:, part], index_BT[:, part], caches=caches, angle_BQP=angle_BQP)
        )
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
    both_ways = bidirectional_mask(everyone(index_BT), sequence_BT)
    for mask_BTT, is_causal in ((causal_mask(sequence_BT), True), (both_ways, False)):
        packed = transformer(x_BTD, index_BT, mask_BTT)
        for part in (slice(0, 4), slice(4, 9)):
            alone_BT = None if is_causal else bidirectional_mask(everyone(index_BT[:, part]))
            alone = transformer(x_BTD[:, part], index_BT[:, part], alone_BT)
            torch.testing.assert_close(packed[:, part], alone, rtol=0, atol=1e-9)
        assert not torch.allclose(transformer(x_BTD, index_BT)[:, 4:], packed[:, 4:])


def reached(transformer, mask_BTT):
    """Which points (T, T) each output depends on, by gradient."""
    rows = []
    for asked in range(mask_BTT.shape[-1]):
        x_BTD, index_BT = points(1)
        x_BTD.requires_grad_()
        transformer(x_BTD, index_BT, mask_BTT)[:, asked].square().sum().backward()
        rows.append((x_BTD.grad != 0).any(-1)[0])
    return torch.stack(rows)


HIDDEN = [2, 3, 8]


@pytest.mark.parametrize("style", [PLAIN, GATED])
def test_what_may_not_be_read_has_no_effect(style):
    """Each output depends on exactly what its mask lets it read, through any number of blocks."""
    transformer = random_weights(style)
    is_readable_BT = torch.ones(1, 9, dtype=torch.bool)
    is_readable_BT[:, HIDDEN] = False
    sequence_BT = torch.tensor([[0] * 4 + [1] * 5])
    for mask_BTT in (
        bidirectional_mask(is_readable_BT),
        bidirectional_mask(is_readable_BT, sequence_BT),
        causal_mask(sequence_BT),
    ):
        assert torch.equal(reached(transformer, mask_BTT), mask_BTT[0])


def test_bidirectional_masks_hide_what_is_not_readable():
    is_readable_T = torch.tensor([True, False, True])
    expected = [[True, False, True], [True, True, True], [True, False, True]]
    assert bidirectional_mask(is_readable_T.unsqueeze(0))[0].tolist() == expected
