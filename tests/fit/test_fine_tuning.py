"""Going on from a registered model: named by what it holds, refused where it does not fit."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers import ships

from flows import cli
from model.data.shards import Shards, read_group, row_groups
from model.inference.serving import load_trained
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import ModelConfig
from tasks.pretrain.train import train
from tasks.registry.initial_weights import initial_digest, kind_of
from tasks.release import register
from tasks.release.model_card import model_card
from tasks.report.report import report
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

CANDIDATE = "models:/trajfoundry-chemin-hurdat2@candidate"
STORED = ("weights.safetensors", "normaliser.json", "config.json", "seen_points.safetensors")


_folder = tempfile.TemporaryDirectory(prefix="tuned-")


@cache
def registered() -> ships.Assessed:
    """A good model, which is the candidate, in a store of its own, where others are judged too."""
    others = {ships.good().store.root, ships.bad().store.root}
    assert len(others) == 1
    root = Path(_folder.name) / "store"
    shutil.copytree(others.pop(), root, ignore=shutil.ignore_patterns("mlflow*", "mlartifacts"))
    made = replace(ships.good(), store=Store(root))
    register.register(made, made.reported)
    return made


def tuned(address: str, max_steps: int = 2, **changes: object) -> PipelineConfig:
    config = ships.config_of(max_steps=max_steps)
    fields = {"init": address, "learning_rate": 1e-5, **changes}
    return config.model_copy(update={"train": config.train.model_copy(update=fields)})


def trained(config: PipelineConfig, shards: Receipt, store: Store) -> tuple[Receipt, Path]:
    with without_orchestrator():
        receipt = train(config, shards, store)
    return receipt, store.folder(receipt)


def first_validation(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next(line["validation_loss"] for line in lines if "validation_loss" in line)


def test_it_begins_with_the_loss_of_the_registered_model():
    made = registered()
    loss = float(made.trained.counts["best_validation_loss"])
    _, folder = trained(tuned(CANDIDATE), made.shards, made.store)
    assert first_validation(folder) == pytest.approx(loss, abs=1e-5)
    _, fresh = trained(tuned(""), made.shards, made.store)
    assert first_validation(fresh) > loss + 0.1


def test_the_content_names_the_training_and_not_its_address():
    made = registered()
    by_alias, _ = trained(tuned(CANDIDATE), made.shards, made.store)
    folder = str(made.store.folder(made.trained))
    by_folder, _ = trained(tuned(folder), made.shards, made.store)
    other = str(made.store.folder(ships.bad().trained))
    by_other, _ = trained(tuned(other), made.shards, made.store)
    assert by_alias.recipe == by_folder.recipe
    assert len({by_alias.recipe, by_other.recipe, made.trained.recipe}) == 3
    inputs = made.store.manifest(by_alias).recipe.inputs
    assert inputs["init"] == initial_digest(CANDIDATE, made.store)
    assert CANDIDATE not in made.store.manifest(by_alias).model_dump_json()


@pytest.mark.parametrize("name", STORED)
def test_a_changed_byte_is_another_content(tmp_path, name):
    made = registered()
    for stored in STORED:
        shutil.copyfile(made.store.folder(made.trained) / stored, tmp_path / stored)
    same = initial_digest(str(tmp_path), made.store)
    assert same == initial_digest(CANDIDATE, made.store)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + b" ")
    assert initial_digest(str(tmp_path), made.store) != same


def test_nothing_better_gives_the_weights_back_as_they_came():
    made = registered()
    config = tuned(CANDIDATE, learning_rate=1.0, validate_every=1, patience=2)
    receipt, folder = trained(config, made.shards, made.store)
    assert receipt.counts["best_step"] == 0
    ours, theirs = (
        (place / "weights.safetensors").read_bytes()
        for place in (folder, made.store.folder(made.trained))
    )
    assert ours == theirs


def test_the_normaliser_goes_with_the_weights(store):
    made = registered()
    shards = ships.stored_shards(store)
    path = store.folder(shards) / "normaliser.json"
    before = json.loads(path.read_bytes())
    address = str(made.store.folder(made.trained))
    other = {**before, "speed_mps": {"p10": 40.0, "p50": 60.0, "p90": 80.0}}
    assert other != before
    folder = store.root / "other"
    folder.mkdir()
    for stored in STORED:
        shutil.copyfile(Path(address) / stored, folder / stored)
    (folder / "normaliser.json").write_text(json.dumps(other))
    _, result = trained(tuned(str(folder)), shards, store)
    assert json.loads((result / "normaliser.json").read_bytes()) == other


def test_card_and_report_say_what_it_went_on_from():
    made = registered()
    config = tuned(CANDIDATE)
    receipt, _ = trained(config, made.shards, made.store)
    digest = initial_digest(CANDIDATE, made.store)
    steps = replace(made, config=config, trained=receipt)
    card = model_card(steps, made.reported)
    assert f"`{CANDIDATE}`, content `{digest}`" in card
    with without_orchestrator():
        written = report(steps, made.proved, {})
    for name in ("report.md", "report.html"):
        text = (made.store.folder(written) / name).read_text()
        assert digest in text
        assert "went on from an earlier model" in text
    fresh = model_card(made, made.reported)
    assert "Initial weights" not in fresh


def test_weights_from_before_there_were_inputs_are_gone_on_from(tmp_path):
    made = registered()
    for stored in STORED:
        shutil.copyfile(made.store.folder(made.trained) / stored, tmp_path / stored)
    described = json.loads((tmp_path / "config.json").read_bytes())
    del described["config"]["inputs"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    _, folder = trained(tuned(str(tmp_path)), made.shards, made.store)
    loss = float(made.trained.counts["best_validation_loss"])
    assert first_validation(folder) == pytest.approx(loss, abs=1e-5)
    assert kind_of(tmp_path, "")["inputs"] == "kinematic"


def test_plain_inputs_keep_the_scales_of_their_first_train_split(store):
    made = registered()
    plain = ModelConfig(preset="tiny", inputs="plain")
    config = ships.config_of(max_steps=2).model_copy(update={"model": plain})
    receipt, folder = trained(config, made.shards, made.store)
    groups = row_groups(Shards.open(made.store.folder(made.shards)), "train")
    lat_deg_N = np.concatenate([read_group(group).lat_deg_N for group in groups])
    scales = load_trained(folder).model.plain
    assert float(scales.mean_deg_C[1]) == pytest.approx(lat_deg_N.mean(), abs=lat_deg_N.std() / 4)
    assert float(scales.spread_deg_C[1]) == pytest.approx(lat_deg_N.std(), rel=0.25)
    assert ModelConfig.model_validate(kind_of(folder, "")) == plain
    others = ships.stored_shards(store, seed=1)
    later = tuned(str(folder)).model_copy(update={"model": plain})
    _, gone_on = trained(later, others, store)
    assert all(
        ours.equal(theirs)
        for ours, theirs in zip(
            load_trained(gone_on).model.plain.buffers(), scales.buffers(), strict=True
        )
    )
    with pytest.raises(ConfigError, match=r"another shape than chemin tiny: .*'inputs': 'plain'"):
        trained(tuned(str(folder)), made.shards, made.store)
    card = model_card(replace(made, config=config, trained=receipt), made.reported)
    assert "# chemin (tiny with plain inputs) trained on" in card


# What is refused


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("models:/nobody-knows-it@candidate", "no model models:/nobody-knows-it@candidate"),
        ("models:/trajfoundry-chemin-hurdat2@nothing", "no model models:/"),
        ("models:/trajfoundry-chemin-hurdat2/99", "no model models:/"),
        ("models:/", "no model models:/"),
        ("/nowhere/at/all", "no weights.safetensors in /nowhere/at/all"),
    ],
)
def test_an_unknown_address_is_an_error_that_names_it(address, words):
    made = registered()
    with pytest.raises(ConfigError, match=words):
        trained(tuned(address), made.shards, made.store)


def test_another_preset_or_family_or_content_is_refused(tmp_path):
    made = registered()
    source = made.store.folder(made.trained)
    config = tuned(str(source))
    small = config.model_copy(update={"model": config.model.model_copy(update={"preset": "small"})})
    with pytest.raises(ConfigError, match=r"train.init: .* has another shape than chemin small"):
        trained(small, made.shards, made.store)
    for stored in STORED:
        shutil.copyfile(source / stored, tmp_path / stored)
    described = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(described | {"family": "masked_chemin"}))
    with pytest.raises(ConfigError, match="is a masked_chemin, not a chemin"):
        trained(tuned(str(tmp_path)), made.shards, made.store)
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="weights to begin with do not fit"):
        trained(tuned(str(tmp_path)), made.shards, made.store)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="no trained model to begin with"):
        trained(tuned(str(tmp_path)), made.shards, made.store)


def test_the_command_line_and_the_form_take_it(monkeypatch):
    seen = []
    monkeypatch.setattr(cli.Run, "execute", lambda self: seen.append(self.config))
    assert cli.main(["run", "--train.init", CANDIDATE, "--train.accumulate", "4"]) == 0
    assert (seen[0].train.init, seen[0].train.accumulate) == (CANDIDATE, 4)
    form = PipelineConfig.model_json_schema()["$defs"]["TrainConfig"]["properties"]
    assert {"init", "accumulate", "precision"} <= form.keys()
    assert form["init"]["title"] == "Begin with"
