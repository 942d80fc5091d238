"""The history in files."""

import csv
import json
import math
import stat

import pytest

from minitorch_flux.optimisers import Adam
from minitorch_flux.training import Callback, Checkpoint, CSVLog, Evaluate, JSONLog, train

from .small import loss, make_loader, make_model


def run(*callbacks, epochs=3, resume=None):
    return train(loss, make_model(), make_loader(), Adam(1e-2), epochs=epochs, callbacks=callbacks, resume=resume)


def read(path):
    if path.suffix == ".csv":
        with path.open(newline="") as f:
            return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(f)]
    return [json.loads(line) for line in path.read_text().splitlines()]


logs = pytest.mark.parametrize(("make", "name"), [(CSVLog, "log.csv"), (JSONLog, "log.jsonl")])


@logs
def test_the_log_is_the_history(make, name, tmp_path):
    state = run(Evaluate(lambda m: {"test": 0.125}), make(tmp_path / name))
    assert read(tmp_path / name) == state.history
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o600 == 0o600


@logs
def test_it_is_whole_after_every_epoch(make, name, tmp_path):
    lengths = []

    class Look(Callback):
        def on_epoch_end(self, state):
            lengths.append(len(read(tmp_path / name)))

    run(make(str(tmp_path / name)), Look())
    assert lengths == [1, 2, 3]


@logs
def test_a_new_run_begins_a_new_log(make, name, tmp_path):
    for _ in range(2):
        run(make(tmp_path / name))
    assert len(read(tmp_path / name)) == 3


@logs
def test_a_resumed_run_has_all_its_epochs_once(make, name, tmp_path):
    """Also where the log has rows that the checkpoint does not know of, or was lost."""
    path = tmp_path / "c.npz"
    run(make(tmp_path / name), Checkpoint(path), epochs=2)
    kept = path.read_bytes()
    run(make(tmp_path / name), Checkpoint(path), epochs=3, resume=path)
    path.write_bytes(kept)
    state = run(make(tmp_path / name), Checkpoint(path), epochs=4, resume=path)
    assert read(tmp_path / name) == state.history
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4]
    (tmp_path / name).unlink()
    run(make(tmp_path / name), Checkpoint(path), epochs=4, resume=path)
    assert read(tmp_path / name) == state.history


def test_a_column_that_comes_later(tmp_path):
    class Late(Callback):
        def on_epoch_end(self, state):
            if state.epoch > 1:
                state.metrics["late"] = 5

    run(Late(), CSVLog(tmp_path / "log.csv"))
    assert [row["late"] for row in read(tmp_path / "log.csv")] == [None, 5, 5]


def test_numbers_that_json_does_not_have(tmp_path):
    values = iter([math.nan, math.inf, 1.0])
    run(Evaluate(lambda m: {"v": next(values)}), JSONLog(tmp_path / "log.jsonl"))
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["v"] for line in lines] == ["nan", "inf", 1.0]


@logs
def test_a_folder_that_is_not_there(make, name, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot save .*: the folder .* does not exist"):
        run(make(tmp_path / "nowhere" / name))
