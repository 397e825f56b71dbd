"""GPT-2 on real bytes: the best tracks of storms as text, beside models that count bytes."""

from __future__ import annotations

import lzma
import math
from collections import Counter

import pytest
import torch
from helpers.places import PROJECT
from test_gpt2 import batch_of

from model.families.gpt2.network import GPT2, PRESETS

SAMPLE = PROJECT / "tasks" / "ingest" / "samples" / "hurdat2-atlantic.txt.xz"
NUM_TOKENS, BATCH_SIZE, MAX_RATE = 256, 16, 1.5e-3
ORDERS = (0, 1, 2, 4, 6, 8, 12)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


def parts() -> tuple[bytes, bytes]:
    """The first nine tenths of the storms, to learn from, and the later ones."""
    text = lzma.decompress(SAMPLE.read_bytes())
    border = text.rindex(b"\nAL", 0, len(text) * 9 // 10) + 1
    return text[:border], text[border:]


def rows_of(text: bytes) -> torch.Tensor:
    token_N = torch.tensor(list(text))
    return token_N[: len(token_N) // NUM_TOKENS * NUM_TOKENS].view(-1, NUM_TOKENS)


def counted_bits(train: bytes, test: bytes, order: int) -> float:
    """Bits a byte of a count of what follows `order` bytes, backing off to fewer (Witten-Bell)."""
    counts: list[dict[bytes, Counter[int]]] = [{} for _ in range(order + 1)]
    for place, byte in enumerate(train):
        for length in range(min(order, place) + 1):
            counts[length].setdefault(train[place - length : place], Counter())[byte] += 1
    total = 0.0
    for place, byte in enumerate(test):
        share = 1 / 256
        for length in range(min(order, place % NUM_TOKENS) + 1):
            seen = counts[length].get(test[place - length : place])
            if seen is None:
                break
            num, kinds = seen.total(), len(seen)
            share = (seen[byte] + kinds * share) / (num + kinds)
        if place % NUM_TOKENS:  # the first of a row has no past to be told from
            total -= math.log2(share)
    return total / (len(test) - len(test) // NUM_TOKENS)


def trained(row_RT: torch.Tensor, num_epochs: int) -> GPT2:
    torch.manual_seed(0)
    model = GPT2(PRESETS["small"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=MAX_RATE, weight_decay=0.01)
    num_steps = num_epochs * (len(row_RT) // BATCH_SIZE)
    for step in range(num_steps):
        if step % (num_steps // num_epochs) == 0:
            order_R = torch.randperm(len(row_RT))
        place = step % (num_steps // num_epochs) * BATCH_SIZE
        warm, cool = (step + 1) / 50, (1 + math.cos(math.pi * step / num_steps)) / 2
        optimiser.param_groups[0]["lr"] = MAX_RATE * min(warm, cool)
        optimiser.zero_grad()
        model.loss(batch_of(row_RT[order_R[place : place + BATCH_SIZE]])).mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def test_tells_the_bytes_of_later_storms(capsys):
    """Each row of the test is told from itself alone, by all of them."""
    train, test = parts()
    row_RT = rows_of(test)
    test = bytes(row_RT.flatten().tolist())
    model = trained(rows_of(train), 1)
    with torch.no_grad():
        nats = sum(float(model.loss(batch_of(part)).total) for part in row_RT.split(64))
    found = nats / math.log(2) / (row_RT.numel() - len(row_RT))
    told = {order: counted_bits(train, test, order) for order in ORDERS}
    with capsys.disabled():
        words = ", ".join(f"order {order}: {bits:.3f}" for order, bits in told.items())
        print(f"\n{len(train):,} bytes read once; bits a byte: gpt2 small {found:.3f}; {words}")
    assert found < min(told.values())
