"""Weights and training state on disk: what comes back is what was written, or a typed refusal."""

from __future__ import annotations

import json
import logging
import os
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.interface.weights import (
    CheckpointError,
    CorruptCheckpoint,
    MismatchedCheckpoint,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)
from model.training import checkpoint
from model.training.checkpoint import (
    Checkpoint,
    load_json,
    optimiser_tensors,
    restore_optimiser,
    save_json,
    sound_checkpoints,
    write_checkpoint,
)


def network(width=5, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def trained(model, num_steps=3):
    """An optimiser that has seen a few steps of the model."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for number in range(num_steps):
        optimiser.zero_grad()
        model(torch.full((4, 3), float(number + 1))).square().sum().backward()
        optimiser.step()
    return optimiser


def saved_state(number):
    tensors = {"model": {"a": torch.full((2,), float(number))}, "optimiser": {}}
    return Checkpoint(tensors, {"step": number})


def steps(folder):
    return [item.state["step"] for item in sound_checkpoints(folder)]


def test_weights_come_back_bit_for_bit(tmp_path):
    model, other = network(seed=1), network(seed=2)
    trained(model)
    digest = save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors", digest)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert digest == save_weights(other, tmp_path / "again.safetensors")


def test_tied_weights_are_kept_under_both_names(tmp_path):
    def tied():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    model, other = tied(), tied()
    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other[1].weight, model[0].weight)
    assert other[1].weight is other[0].weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("0.bias"), r"missing \['0.bias'\]"),
        (lambda t: t.update(extra=torch.zeros(1)), r"not known \['extra'\]"),
        (lambda t: t.update({"0.bias": torch.zeros(6)}), r"0.bias is torch.float32 \(6,\)"),
        (lambda t: t.update({"0.bias": torch.zeros(5).double()}), r"0.bias is torch.float64"),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path, change, message):
    model = network()
    tensors = dict(model.state_dict())
    change(tensors)
    save_tensors(tensors, tmp_path / "w.safetensors")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MismatchedCheckpoint, match=message):
        load_weights(model, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def header(value, num_bytes=None):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(text) if num_bytes is None else num_bytes) + text


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        header(b"{}", 200 * 1024**2),
        header(b"{}", 2**63),
        header(b"not json"),
        header({"a": F32, "b": F32}) + bytes(8),
        header({"a": {**F32, "data_offsets": [0, 80]}}) + bytes(8),
        header({"a": {**F32, "dtype": "PICKLE"}}) + bytes(8),
        header({"a": {**F32, "shape": [2**62, 4]}}) + bytes(8),
        b"\x80\x04\x95" + bytes(50),  # how a pickle begins
        b"PK\x03\x04" + bytes(50),  # how a torch archive begins
    ],
)
def test_hostile_weights_are_refused_without_being_believed(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match=r"w.safetensors"):
        load_weights(network(), tmp_path / "w.safetensors")


def test_a_missing_file_is_a_corrupt_checkpoint(tmp_path):
    with pytest.raises(CorruptCheckpoint, match="no such file"):
        load_weights(network(), tmp_path / "w.safetensors")


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_flipped_bit_of_tensors_is_noticed(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("flip") / "w.safetensors"
    digest = save_weights(network(), path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint):
        load_tensors(path, digest)


def test_json_comes_back_and_every_flipped_bit_of_it_is_noticed(tmp_path):
    value = {"step": 12, "loss": 0.1 + 0.2, "none": None, "nested": {"a": [1, 2.5e-300]}}
    path = tmp_path / "state.json"
    save_json(value, path)
    assert load_json(path) == value
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x01
        path.write_bytes(damaged)
        try:
            found = load_json(path)
        except CorruptCheckpoint:
            continue
        assert found == value  # white space between the two fields


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"1", b'{"sha256": 1, "body": 2}', b"\xff"])
def test_other_json_is_refused(tmp_path, content):
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(CorruptCheckpoint):
        load_json(tmp_path / "state.json")


def test_numbers_that_json_lacks_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_json({"loss": float("nan")}, tmp_path / "state.json")
    assert list(tmp_path.iterdir()) == []


def test_the_optimiser_goes_on_as_if_never_stopped(tmp_path):
    model = network()
    optimiser = trained(model)
    save_tensors(optimiser_tensors(optimiser), tmp_path / "o.safetensors")
    save_weights(model, tmp_path / "w.safetensors")
    other = network(seed=9)
    load_weights(other, tmp_path / "w.safetensors")
    restored = torch.optim.AdamW(other.parameters(), lr=0.1, fused=True)
    forgetful_model = network(seed=9)
    load_weights(forgetful_model, tmp_path / "w.safetensors")
    forgetful = torch.optim.AdamW(forgetful_model.parameters(), lr=0.1, fused=True)
    restore_optimiser(restored, load_tensors(tmp_path / "o.safetensors"))
    for net, opt in ((model, optimiser), (other, restored), (forgetful_model, forgetful)):
        opt.zero_grad()
        net(torch.ones(4, 3)).square().sum().backward()
        opt.step()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    # An optimiser that forgot its state goes elsewhere.
    pairs = zip(model.parameters(), forgetful_model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("0.exp_avg"),
        lambda t: t.update({"99.step": torch.zeros(())}),
        lambda t: t.update({"0.evil": torch.zeros(())}),
        lambda t: t.update(evil=torch.zeros(())),
        lambda t: t.update({"0.exp_avg": torch.zeros(1)}),
        lambda t: t.update({"0.step": torch.zeros(2)}),
    ],
)
def test_the_state_of_another_optimiser_is_refused(change):
    optimiser = trained(network())
    tensors = optimiser_tensors(optimiser)
    change(tensors)
    with pytest.raises(MismatchedCheckpoint):
        restore_optimiser(optimiser, tensors)


def test_two_checkpoints_are_kept_newest_first(tmp_path):
    for number in range(1, 6):
        write_checkpoint(tmp_path, saved_state(number))
    assert len(list(tmp_path.iterdir())) == 2
    assert steps(tmp_path) == [5, 4]


def test_what_a_checkpoint_holds_comes_back(tmp_path):
    write_checkpoint(tmp_path, saved_state(3))
    found = next(sound_checkpoints(tmp_path))
    assert found.tensors["model"]["a"].tolist() == [3.0, 3.0]
    assert found.tensors["optimiser"] == {}
    assert found.state == {"step": 3}


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_a_damaged_newest_falls_back_with_a_warning(tmp_path, caplog, name, damage):
    write_checkpoint(tmp_path, saved_state(1))
    path = write_checkpoint(tmp_path, saved_state(2)) / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes({"cut": content[:-7], "flip": flipped, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert next(sound_checkpoints(tmp_path)).state == {"step": 1}
    assert "checkpoint-00000002" in caplog.text
    write_checkpoint(tmp_path, saved_state(7))
    assert steps(tmp_path) == [7, 1]


@pytest.mark.parametrize("operation", ["fsync", "rename", "replace"])
def test_a_write_that_fails_anywhere_leaves_the_last_checkpoint(tmp_path, monkeypatch, operation):
    write_checkpoint(tmp_path, saved_state(1))
    owner = os if operation == "fsync" else checkpoint.Path
    original = getattr(owner, operation)
    newest = 1
    for failing in range(1, 40):
        calls = []

        def failing_call(*args, failing=failing, calls=calls):
            calls.append(args)
            if len(calls) == failing:
                raise OSError(5, "planted")
            return original(*args)

        with monkeypatch.context() as patched:
            patched.setattr(owner, operation, failing_call)
            try:
                write_checkpoint(tmp_path, saved_state(failing + 1))
            except OSError:
                pass
            else:
                break
        found = next(sound_checkpoints(tmp_path)).state["step"]
        assert found in (newest, failing + 1)  # the one before, or the new one: never neither
        newest = found
        assert not list(tmp_path.glob(".*"))
    assert failing > 1
    assert steps(tmp_path)[0] == failing + 1


def test_all_refusals_are_one_family():
    assert issubclass(CorruptCheckpoint, CheckpointError)
    assert issubclass(MismatchedCheckpoint, CheckpointError)
