"""A step of several batches is that of one large batch; mixed precision comes close to float32."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from helpers.shards import write_shards
from helpers.toy_training import CONFIG, READING, Toy, outcome, run
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.options import Reading
from model.data.reading import read_batches
from model.families import build
from model.features.normaliser import Normaliser, Quantiles
from model.interface.batch import Batch, Cursor
from model.layers.transformer import Transformer
from model.training import fit as fit_module
from model.training import precision
from model.training.config import FitConfig
from model.training.fit import fit
from model.training.precision import computing_in, settled

LENGTHS = [50, 20, 33, 7, 90, 12, 41, 28, 16, 3]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, {"train": LENGTHS, "validation": [60, 45]})


def united(batches: list[Batch]) -> Batch:
    """Batches under each other, the shorter ones padded."""
    longest = max(batch.is_pad_BT.shape[1] for batch in batches)
    columns = {}
    for entry in fields(Batch):
        values = [getattr(batch, entry.name) for batch in batches]
        if not isinstance(values[0], torch.Tensor):
            continue
        if "_BT" in entry.name:
            values = [grown(value, longest, entry.name == "is_pad_BT") for value in values]
        columns[entry.name] = torch.cat(values)
    return Batch(**columns, cursor=batches[-1].cursor)


def grown(value: torch.Tensor, length: int, fill: bool) -> torch.Tensor:
    shape = (len(value), length - value.shape[1], *value.shape[2:])
    return torch.cat([value, value.new_full(shape, fill)], dim=1)


def quiet_toy() -> Toy:
    toy = Toy()
    toy.dropout.p = 0.0
    return toy


def fitted(folder: Path, batches: list[Batch], accumulate: int, max_steps: int) -> Toy:
    """A toy after some steps over given batches, none of which learns from the others' order."""
    toy = quiet_toy()
    config = replace(CONFIG, accumulate=accumulate, max_steps=max_steps, validate_every=max_steps)
    fit(toy, lambda cursor: iter(batches), lambda: batches[:1], config, folder)
    return toy


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@settings(max_examples=5)
@given(accumulate=st.integers(2, 4), batch_size=st.integers(1, 5), seed=st.integers(0, 99))
def test_n_batches_are_one_batch_n_times_as_large(
    shards, tmp_path_factory, accumulate, batch_size, seed
):
    root = tmp_path_factory.mktemp("runs")
    endless = read_batches(shards, Reading("train", seed, batch_size, 16))
    # Without the borders of epochs, which no step goes over.
    small = [replace(b, cursor=Cursor()) for b in itertools.islice(endless, 3 * accumulate)]
    large = [
        united(small[first : first + accumulate]) for first in range(0, len(small), accumulate)
    ]
    ours, theirs = fitted(root / "a", small, accumulate, 3), fitted(root / "b", large, 1, 3)
    assert distance(ours, theirs) < 1e-5
    assert distance(ours, quiet_toy()) > 1e-4


def test_a_mean_of_means_would_be_noticed(shards, tmp_path, monkeypatch):
    batches = list(itertools.islice(read_batches(shards, READING), 6))
    sizes = {int(batch.is_target_BT.sum()) for batch in batches}
    assert len(sizes) > 1
    batches = [replace(batch, cursor=Cursor()) for batch in batches]
    right = fitted(tmp_path / "right", batches, 2, 3)
    gradient = fit_module._Run._gradient

    def mean_of_means(self, taken):
        parts = []
        for batch in taken:
            gradient(self, [batch])
            parts.append([value.grad.clone() for value in self.model.parameters()])
        sums = gradient(self, taken)
        for value, *means in zip(self.model.parameters(), *parts, strict=True):
            value.grad = sum(means) / len(means)
        return sums

    monkeypatch.setattr(fit_module._Run, "_gradient", mean_of_means)
    assert distance(fitted(tmp_path / "wrong", batches, 2, 3), right) > 1e-4


def test_no_step_goes_over_the_border_of_an_epoch(shards, tmp_path):
    per_epoch = len(list(read_batches(shards, READING, num_epochs=1)))
    accumulate = next(n for n in (2, 3, 4) if per_epoch % n)
    steps = -(-per_epoch // accumulate)
    config = replace(CONFIG, accumulate=accumulate, max_steps=2 * steps)
    result = run(shards, tmp_path, config)
    assert (result.steps, result.epochs) == (2 * steps, 2)
    two_epochs = read_batches(shards, READING, num_epochs=2)
    assert result.num_tokens == sum(batch.num_points for batch in two_epochs)


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_a_batch_of_pads_adds_nothing(tmp_path, batching):
    """Such as a rank takes that finds no crop left."""
    few = write_shards(tmp_path, {"train": [5, 6]})
    model = chemin()
    [batch] = read_batches(few, Reading("train", 7, 8, 16, batching), num_epochs=1, world=4)
    assert batch.num_points == 0
    model.loss(batch).total.backward()
    assert all(not value.grad.any() for value in model.parameters())


class Stop(Exception):
    """Leaves a run in the middle, as a crash would."""


@pytest.mark.parametrize("step", [2, 3, 7, 11])
def test_accumulating_goes_on_exactly_from_any_step(shards, tmp_path, step):
    config = replace(CONFIG, accumulate=3)

    def crash(progress):
        if progress.step == step:
            raise Stop

    run(shards, tmp_path / "whole", config)
    with pytest.raises(Stop):
        run(shards, tmp_path / "cut", config, on_progress=crash)
    run(shards, tmp_path / "cut", config, Toy(seed=8))
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_what_was_given_is_validated_first_and_kept_if_nothing_is_better(shards, tmp_path):
    # The rate rises to the end, so that nothing mends what it spoils.
    config = replace(CONFIG, learning_rate=30.0, warmup_steps=CONFIG.max_steps, init="somewhere")
    given, model = Toy(), Toy()
    result = run(shards, tmp_path, config, model)
    assert result.best_step == 0
    assert distance(model, given) == 0
    assert run(shards, tmp_path / "not", replace(config, init="")).best_step > 0


# Precision


def chemin() -> torch.nn.Module:
    scale = Quantiles(1.0, 5.0, 20.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("chemin", "tiny", Normaliser(1, scale, scale, scale))


def course(shards, folder: Path, kind: str, model: torch.nn.Module) -> tuple[list[float], str]:
    config = FitConfig(max_steps=8, warmup_steps=2, validate_every=4, log_every=1, precision=kind)
    losses: list[float] = []
    result = fit(
        model,
        lambda cursor: read_batches(shards, READING, start=cursor),
        lambda: read_batches(shards, replace(READING, split="validation"), num_epochs=1),
        config,
        folder,
        lambda progress: losses.append(progress.loss),
    )
    return losses, result.precision


def test_bfloat16_comes_close_to_float32_and_leaves_float32_behind(shards, tmp_path):
    exact, exact_kind = course(shards, tmp_path / "exact", "float32", chemin())
    model = chemin()
    lower, lower_kind = course(shards, tmp_path / "lower", "bfloat16", model)
    assert (exact_kind, lower_kind) == ("float32", "bfloat16")
    assert lower != exact
    assert lower == pytest.approx(exact, rel=0.03)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert model.transformer.compute_dtype == torch.float32


def seen_types(model: torch.nn.Module, batch: Batch, kind: str) -> dict[str, set[torch.dtype]]:
    """The types of what linear layers give, in the blocks and outside of them."""
    seen: dict[str, set[torch.dtype]] = {"blocks": set(), "elsewhere": set()}

    def watch(name: str):
        place = "blocks" if ".blocks." in name else "elsewhere"
        return lambda module, given, made: seen[place].add(made.dtype)

    handles = [
        part.register_forward_hook(watch(name))
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear)
    ]
    with computing_in(model, kind):
        loss = model.loss(batch)
    for handle in handles:
        handle.remove()
    assert loss.total.dtype == torch.float32
    return seen


def test_only_the_blocks_compute_lower(shards):
    batch = next(read_batches(shards, READING))
    low = {"blocks": {torch.bfloat16}, "elsewhere": {torch.float32}}
    assert seen_types(chemin(), batch, "bfloat16") == low
    assert seen_types(chemin(), batch, "float32") == {
        "blocks": {torch.float32},
        "elsewhere": {torch.float32},
    }


def test_auto_does_what_the_probe_finds(monkeypatch):
    model = Transformer(32, 1, 2)
    for gain, expected in ((0.05, "float32"), (1.1, "float32"), (3.0, "bfloat16")):
        monkeypatch.setattr(precision, "gain", lambda model, device, gain=gain: gain)
        assert settled("auto", model, CPU) == expected
    for kind in ("float32", "bfloat16"):
        assert settled(kind, model, CPU) == kind


def test_the_probe_measures_and_changes_nothing():
    model, without_blocks = Transformer(32, 1, 2), torch.nn.Linear(2, 2)
    before = torch.get_rng_state()
    assert 0.01 < precision.gain(model, CPU) < 100
    assert precision.gain(without_blocks, CPU) == 1.0
    assert torch.equal(torch.get_rng_state(), before)
    assert all(value.grad is None for value in model.parameters())


def test_a_run_goes_on_in_the_precision_it_began_with(shards, tmp_path, monkeypatch):
    """A probe on a busy machine may find otherwise the second time."""
    monkeypatch.setattr(precision, "gain", lambda model, device: 2.0)
    assert course(shards, tmp_path, "auto", chemin())[1] == "bfloat16"
    monkeypatch.setattr(precision, "gain", lambda model, device: 0.5)
    assert course(shards, tmp_path, "auto", chemin())[1] == "bfloat16"
    assert course(shards, tmp_path / "new", "auto", chemin())[1] == "float32"
