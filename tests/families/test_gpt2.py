"""GPT-2 against the published formulas, its caches, its tokens, and the floor of a known chain."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.process_floors import RegionChainFloor
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.families.gpt2.network import (
    END,
    GPT2,
    PRESETS,
    GPT2Config,
    TokenBatch,
    generate,
    text_of,
    tokens_of,
)
from model.interface.batch import Cursor
from model.layers.attention_masks import bidirectional_mask
from model.training.fit import FitConfig, fit, offending_windows

torch.set_num_threads(1)

SHAPE = GPT2Config(16, 3, 4, num_positions=24, num_tokens=30, dropout=0.0)
PUBLISHED = json.loads("""{
    "activation_function": "gelu_new", "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
    "n_positions": 1024, "resid_pdrop": 0.1, "vocab_size": 50257
}""")


def random_weights(config=SHAPE, family=GPT2):
    """A model none of whose parts is silent."""
    torch.manual_seed(5)
    model = family(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def tokens(num_rows=3, num_tokens=12, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SHAPE.num_tokens, (num_rows, num_tokens), generator=generator)


def batch_of(token_BT, num_pads=0):
    is_pad_BT = torch.zeros_like(token_BT, dtype=torch.bool)
    return TokenBatch(
        nn.functional.pad(token_BT, (0, num_pads), value=7),
        nn.functional.pad(is_pad_BT, (0, num_pads), value=True),
        torch.arange(len(token_BT)),
    )


# ------------------------------------------------------------------ the published network


def published_weights(model):
    """The weights under their published names; matrices stand as (inputs, outputs) there."""
    names = {
        "norm_attention": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "norm_forward": "ln_2",
        "widen": "mlp.c_fc",
        "narrow": "mlp.c_proj",
    }
    weights = {"wte": model.token.weight, "wpe": model.position.weight}
    weights |= {f"ln_f.{name}": value for name, value in model.transformer.norm.named_parameters()}
    for layer, block in enumerate(model.transformer.blocks):
        for ours, theirs in names.items():
            for name, value in block.get_submodule(ours).named_parameters():
                stored = value.T.contiguous() if value.ndim == 2 else value
                weights[f"h.{layer}.{theirs}.{name}"] = stored
    return {name: value.detach().double() for name, value in weights.items()}


def published_logits(weights, token_T, num_layers, num_heads):
    """GPT-2 written down once more, one row at a time, from plain operations."""

    def norm(x, name):
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / torch.sqrt((centered**2).mean(-1, keepdim=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def conv1d(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(x, name):
        query, key, value = conv1d(x, f"{name}.c_attn").split(x.shape[-1], dim=-1)
        size = x.shape[-1] // num_heads
        mixed = torch.zeros_like(x)
        for head in range(num_heads):
            own = slice(head * size, (head + 1) * size)
            score = query[:, own] @ key[:, own].T / math.sqrt(size)
            is_future = torch.ones_like(score, dtype=torch.bool).triu(1)
            mixed[:, own] = score.masked_fill(is_future, -torch.inf).softmax(-1) @ value[:, own]
        return conv1d(mixed, f"{name}.c_proj")

    def feed_forward(x, name):
        wide = conv1d(x, f"{name}.c_fc")
        cube = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
        return conv1d(0.5 * wide * (1 + torch.tanh(cube)), f"{name}.c_proj")

    x = weights["wte"][token_T] + weights["wpe"][: len(token_T)]
    for layer in range(num_layers):
        x = x + attention(norm(x, f"h.{layer}.ln_1"), f"h.{layer}.attn")
        x = x + feed_forward(norm(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp")
    return norm(x, "ln_f") @ weights["wte"].T


def test_equals_the_published_network():
    model = random_weights()
    weights = published_weights(model)
    token_BT = tokens()
    found = model.double()(token_BT)
    for row, token_T in enumerate(token_BT):
        expected = published_logits(weights, token_T, SHAPE.num_layers, SHAPE.num_heads)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-9)


def test_the_published_configuration_gives_the_published_size():
    config = GPT2Config.from_published(PUBLISHED)
    assert config == PRESETS["base"]
    with torch.device("meta"):
        model = GPT2(config)
    assert sum(value.numel() for value in model.parameters()) == 124_439_808


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_inner", 100),
        ("tie_word_embeddings", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("attn_pdrop", 0.2),
        ("activation_function", "relu"),
    ],
)
def test_what_would_be_another_network_is_refused(name, value):
    with pytest.raises(ValueError, match=name.removeprefix("attn_p")):
        GPT2Config.from_published(PUBLISHED | {name: value})


@pytest.mark.parametrize(
    "wrong",
    [{"width": 18}, {"num_layers": 0}, {"dropout": 1.0}, {"activation": "swiglu"}],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(SHAPE, **wrong)


def test_weights_begin_as_published():
    torch.manual_seed(0)
    model = GPT2(PRESETS["small"])
    block = model.requires_grad_(False).transformer.blocks[0]
    assert float(model.token.weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(block.widen.weight.std()) == pytest.approx(0.02, rel=0.02)
    assert float(block.narrow.weight.std()) == pytest.approx(0.02 / math.sqrt(8), rel=0.02)
    assert not block.widen.bias.any()
    logit_BTV = model(torch.randint(257, (2, 50)))
    assert float(logit_BTV.std()) < 0.5  # nothing is known yet


# ------------------------------------------------------------------ guards


class BothWays(GPT2):
    """Leaks: attention reads the future."""

    def encode(self, token_BQ, index_BQ, caches=None):
        x_BQD = self.token(token_BQ) + self.position(index_BQ)
        mask_BQT = bidirectional_mask(torch.ones_like(token_BQ, dtype=torch.bool))
        return self.transformer(x_BQD, index_BQ, mask_BQT)


def check_future_is_unseen(model, changed):
    token_BT = tokens()
    before = model(token_BT)
    token_BT[:, changed] = (token_BT[:, changed] + 1) % SHAPE.num_tokens
    after = model(token_BT)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(-1).all()


@pytest.mark.parametrize("changed", [1, 6, 11])
def test_future_tokens_cannot_change_the_past(changed):
    check_future_is_unseen(random_weights(), changed)
    with pytest.raises(AssertionError):
        check_future_is_unseen(random_weights(family=BothWays), changed)


def test_pads_never_count():
    model = random_weights()
    plain, padded = model.loss(batch_of(tokens())), model.loss(batch_of(tokens(), num_pads=6))
    assert int(plain.count) == int(padded.count) == 3 * 11
    torch.testing.assert_close(plain.total, padded.total)
    other = batch_of(tokens(), num_pads=6)
    nonsense = replace(other, token_BT=other.token_BT.masked_fill(other.is_pad_BT, -1))
    assert torch.equal(model.loss(nonsense).total, padded.total)


def test_the_loss_is_the_surprise_of_the_next_token():
    model = random_weights()
    token_BT = tokens()
    log_share_BTV = model(token_BT).log_softmax(-1)
    total = 0.0
    for row in range(3):
        for place in range(1, 12):
            total -= float(log_share_BTV[row, place - 1, token_BT[row, place]].detach())
    loss = model.loss(batch_of(token_BT))
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-5)


# ------------------------------------------------------------------ generation


def test_cached_generation_equals_reading_all_again():
    model = random_weights()
    token_BT = tokens(num_tokens=5)
    expected = token_BT
    for _ in range(10):
        best_B1 = model(expected)[:, -1].argmax(-1, keepdim=True)
        expected = torch.cat([expected, best_B1], dim=1)
    assert torch.equal(generate(model, token_BT, 10), expected[:, 5:])


def test_draws_follow_the_softmax():
    model = random_weights()
    token_BT = tokens(1, 4).expand(20_000, 4)
    share_V = (model(token_BT[:1])[0, -1].double() / 2.0).softmax(-1)
    count_V = generate(model, token_BT, 1, temperature=2.0).flatten().bincount(minlength=30)
    deviation_V = (20_000 * share_V * (1 - share_V)).sqrt()
    assert ((count_V - 20_000 * share_V).abs() < 4.5 * deviation_V + 1).all()
    few = generate(model, token_BT[:500], 1, temperature=2.0, top_k=3).unique()
    assert set(few.tolist()) == set(share_V.topk(3).indices.tolist())


def test_generation_is_repeatable_and_leaves_the_model_as_it_was():
    model = random_weights(replace(SHAPE, dropout=0.5)).train()
    token_BT = tokens(num_tokens=5)
    first = generate(model, token_BT, 8, temperature=1.0, seed=3)
    assert torch.equal(first, generate(model, token_BT, 8, temperature=1.0, seed=3))
    assert torch.equal(first[:2], generate(model, token_BT[:2], 8, temperature=1.0, seed=3))
    assert not torch.equal(first, generate(model, token_BT, 8, temperature=1.0, seed=4))
    assert model.training


def test_a_small_temperature_is_greedy():
    model, token_BT = random_weights(), tokens(num_tokens=5)
    assert torch.equal(generate(model, token_BT, 8), generate(model, token_BT, 8, 1e-4))


@pytest.mark.parametrize(("num_known", "num_new"), [(0, 3), (20, 5)])
def test_more_places_than_the_model_knows_are_refused(num_known, num_new):
    with pytest.raises(ValueError, match="1 to 24 places"):
        generate(random_weights(), tokens(num_tokens=num_known), num_new)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": 1.0, "top_k": 0}])
def test_senseless_choices_are_refused(wrong):
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        generate(random_weights(), tokens(), 2, **wrong)


@given(text=st.text())
def test_a_text_comes_back_from_its_tokens(text):
    found = tokens_of(text)
    assert all(0 <= token <= END for token in found)
    assert text_of(found) == text
    assert text_of([*found, 65, 66]) == text


def test_a_training_run_takes_batches_of_tokens(tmp_path):
    """As it takes batches of points, and names a row whose loss is no number."""
    config = FitConfig(max_steps=3, warmup_steps=1, log_every=1)
    batches = [replace(batch_of(tokens(seed=n), 2), cursor=Cursor(0, n + 1)) for n in range(3)]
    torch.manual_seed(0)
    result = fit(
        GPT2(SHAPE), lambda cursor: batches[cursor.batch :], lambda: batches, config, tmp_path
    )
    assert (result.steps, result.num_tokens) == (3, 3 * 3 * 12)
    assert offending_windows(random_weights(), batches[:1]) == [0, 1, 2]  # none alone is to blame


# ------------------------------------------------------------------ a chain with a known floor


def excess_over_the_chain(num_steps):
    """How far the surprise of fresh regions is above the chain's own, as a share of it."""
    chain = RegionChainFloor()
    torch.manual_seed(0)
    model = GPT2(replace(PRESETS["tiny"], num_tokens=chain.num_regions))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    regions = chain.draw(np.random.default_rng(0), num_steps * 32 * 32)
    for step, token_BT in enumerate(torch.from_numpy(regions).view(num_steps, 32, 32)):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / num_steps)
        optimiser.zero_grad()
        model.loss(batch_of(token_BT)).mean.backward()
        optimiser.step()
    fresh_BT = chain.draw(np.random.default_rng(1), 500 * 32).reshape(500, 32)
    with torch.no_grad():
        found = float(model.loss(batch_of(torch.from_numpy(fresh_BT))).mean)
    floor = float(np.mean([chain.nll(region_T).mean() for region_T in fresh_BT]))
    assert floor == pytest.approx(chain.entropy, rel=0.02)
    return found / floor - 1


def test_reaches_the_entropy_of_a_chain():
    assert 0 < excess_over_the_chain(600) < 0.02
