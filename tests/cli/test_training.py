"""``minitorch-flux train``, mostly on the digits, which take a second."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.cli import folders, main, recipes, training
from minitorch_flux.cli.program import WrongInput
from minitorch_flux.data import cifar
from minitorch_flux.data.idx import NAMES
from minitorch_flux.files import load, load_checkpoint, save_checkpoint
from minitorch_flux.losses import logitcrossentropy
from minitorch_flux.models import MLP

ROOT = Path(__file__).parents[2]
PYTHONPATH = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
FILES = {"weights.safetensors", "log.csv", "curves.png", "confusion.png", "predictions.png", "checkpoint.safetensors"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_draw", lambda *_: None)  # pictures take a second


def digits(*arguments, epochs=2):
    return main(["train", "--data", "digits", "--epochs", str(epochs), *map(str, arguments)])


def run(*arguments, program=None, **options):
    command = [sys.executable, *(program or ["-m", "minitorch_flux"]), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


def finished(*arguments, **options):
    process = run(*arguments, **options)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def wrong(capsys, *arguments):
    """The one line that wrong input ends with."""
    before = set(Path().rglob("*"))
    assert main(list(map(str, arguments))) == 2
    err = capsys.readouterr().err
    assert err.startswith("minitorch-flux: error: ")
    assert err.count("\n") == 1
    assert set(Path().rglob("*")) == before
    return err


# -- a run -------------------------------------------------------------------------------------------------------------


DRAW = training._draw


def test_what_a_run_leaves(capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(training, "_draw", DRAW)
    assert digits() == 0
    out, err = capsys.readouterr()
    assert err == ""
    folder = Path("runs/digits-mlp-1")
    assert {p.name for p in folder.iterdir()} == FILES
    log = rows(folder)
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert set(log[0]) == {"epoch", "step", "loss", "accuracy", "test_loss", "test_accuracy"}
    lines = out.splitlines()
    assert re.fullmatch(r"test accuracy \d\.\d{4}", lines[-1])
    assert lines[-1] == f"test accuracy {float(log[-1]['test_accuracy']):.4f}"
    assert lines[-2] == "results in runs/digits-mlp-1"
    assert lines[0] == "digits: 1,442 training and 355 test images of 1 x 8 x 8, 10 classes"
    assert lines[1].startswith("mlp: 17,226 parameters; adamw, one cycle up to 0.005; batches of 64, 2 epochs, seed 0")
    assert re.fullmatch(r"epoch 2/2  loss \d\.\d{4}  accuracy \d\.\d{4}  test_loss \d\.\d{4}  test_accuracy \d\.\d{4}  "
                        r"[\d,]+ images/s", lines[-3])


def test_the_weights_are_those_that_were_tested(capsys):
    digits()
    images = flux.data.digits()
    model = load("runs/digits-mlp-1/weights.safetensors", MLP((1, 8, 8)))
    accuracy = flux.training.accuracy(model(images.normalise(images.test.images)), images.test.labels)
    assert capsys.readouterr().out.splitlines()[-1] == f"test accuracy {accuracy:.4f}"
    assert accuracy > 0.6


def weights(folder):
    return Path(folder, "weights.safetensors").read_bytes()


def rows(folder):
    """The log, without the column that no run has twice."""
    with Path(folder, "log.csv").open() as f:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(f)]


def test_the_seed_decides_the_network():
    for i, seed in enumerate((0, 0, 1)):
        assert digits("--seed", seed, "--out", f"out{i}") == 0
    assert weights("out0") == weights("out1") != weights("out2")


def test_options_count(capsys):
    assert digits("--batch", 100, "--lr", 0.5, "--optimiser", "descent", "--seed", 7, "--model", "mlp", epochs=1) == 0
    assert "descent, one cycle up to 0.5; batches of 100, 1 epoch, seed 7" in capsys.readouterr().out
    settings = load_checkpoint("runs/digits-mlp-1/checkpoint.safetensors")["extra"]["settings"]
    assert settings == {"data": "digits", "model": "mlp", "epochs": 1, "batch": 100, "lr": 0.5, "optimiser": "descent",
                        "seed": 7, "precision": "float32"}  # fmt: skip


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_run_in_16_bits(precision, capsys, monkeypatch):
    """The weights have 16 bits, the optimiser has masters, and a run that is resumed goes on with all of it."""
    if precision == "bfloat16":
        pytest.importorskip("ml_dtypes")
    assert digits("--precision", precision, "--out", "whole", epochs=2) == 0
    out = capsys.readouterr().out
    assert f"batches of 64, 2 epochs, seed 0, {precision}\n" in out
    assert float(out.splitlines()[-1].split()[-1]) > 0.6
    assert Path("whole/weights.safetensors").stat().st_size < 2 * 17_226 + 1000
    saved = load_checkpoint("whole/checkpoint.safetensors")
    assert saved["extra"]["settings"]["precision"] == precision
    assert {str(a.dtype) for key, a in saved["optimiser"].items() if key.endswith(".master")} == {"float32"}
    assert ("loss_scale" in saved["optimiser"]) == (precision == "float16") == ("skipped" in rows("whole")[0])
    evaluate = training.evaluate

    def interrupted(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGINT)
        return evaluate(*arguments, **keywords)

    monkeypatch.setattr(training, "evaluate", interrupted)
    assert digits("--precision", precision, "--out", "part", epochs=2) == 130
    monkeypatch.setattr(training, "evaluate", evaluate)
    assert main(["train", "--resume", "part"]) == 0
    assert weights("part") == weights("whole")
    assert rows("part") == rows("whole")
    capsys.readouterr()
    err = wrong(capsys, "train", "--resume", "whole", "--precision", "float32")
    assert f"--precision float32: the run in whole was started with --precision {precision}, and a resumed run" in err


def test_a_run_that_overflows_for_good(capsys, monkeypatch):
    def infinite(self, model, x, y):
        return logitcrossentropy(model(self.prepare(x)), y) * np.float32(np.inf), {}

    monkeypatch.setattr(training.Run, "loss", infinite)
    monkeypatch.setattr(training, "StopOnNonFinite", flux.Callback)
    assert digits("--precision", "float16", epochs=1) == 1
    assert "the training has diverged: LossScale: gradients are infinite or NaN even at the" in capsys.readouterr().err


def test_bfloat16_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "--precision bfloat16: NumPy has no bfloat16 of its own: pip install ml_dtypes" in wrong(
        capsys, "train", "--data", "digits", "--precision", "bfloat16")  # fmt: skip


def test_checkpoints_of_before_there_was_a_precision():
    digits()
    path = Path("runs/digits-mlp-1/checkpoint.safetensors")
    saved = load_checkpoint(path)
    del saved["extra"]["settings"]["precision"]
    save_checkpoint(path, saved)
    assert main(["train", "--resume", str(path.parent), "--precision", "float32"]) == 0


@pytest.mark.parametrize("optimiser", recipes.OPTIMISERS)
def test_every_optimiser_learns(optimiser, capsys):
    assert digits("--optimiser", optimiser, epochs=6) == 0
    assert float(capsys.readouterr().out.split()[-1]) > 0.85


def test_lenet_on_a_part_of_the_clothes(capsys, monkeypatch):
    part = flux.data.fashion_mnist(dtype="uint8")
    small = type(part)(part.name, *(type(s)(s.images[:200], s.labels[:200]) for s in (part.train, part.test)),
                       part.classes, part.mean, part.std, part.scale)  # fmt: skip
    monkeypatch.setitem(recipes.DATASETS, "fashion-mini", recipes.Dataset(lambda: small, 1, shift=1, flip=True))
    assert main(["train"]) == 0
    assert "lenet: 61,706 parameters" in capsys.readouterr().out
    assert Path("runs/fashion-mini-lenet-1/weights.safetensors").is_file()


def test_the_default_is_lenet_and_the_data_augmented():
    recipe = recipes.DATASETS["fashion-mini"]
    run = training.Run(training.Settings("fashion-mini", "lenet", 1, 8, 0.1, "adamw", 0), recipe, recipe.load(), "cpu")
    assert recipes.default_model((1, 28, 28)) == "lenet"
    assert recipes.default_model((3, 32, 12)) == "lenet"
    assert recipes.default_model((1, 32, 11)) == "mlp"
    x, y = run.images.train.images[:4], run.images.train.labels[:4]
    flux.seed(0)
    values = {float(run.loss(lambda x: flux.Tensor(np.cumsum(x[:, 0, :10, 5], 1)), x, y)[0].item()) for _ in range(5)}
    assert len(values) > 1
    np.testing.assert_array_equal(x, recipe.load().train.images[:4])


@pytest.mark.slow
def test_the_first_command_reaches_what_it_promises(capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(training, "_draw", DRAW)
    assert main(["train"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"test accuracy 0\.\d{4}", last)
    assert float(last.split()[-1]) >= 0.84
    assert {p.name for p in Path("runs/fashion-mini-lenet-1").iterdir()} == FILES


# -- without matplotlib, in a pipe -------------------------------------------------------------------------------------


def test_without_matplotlib_all_but_the_pictures_is_written():
    program = "import sys; sys.modules['matplotlib'] = None\nfrom minitorch_flux.cli import main; sys.exit(main())"
    code, out, err = finished("train", "--data", "digits", "--epochs", 1, program=["-c", program])
    assert (code, err) == (0, "")
    assert {p.name for p in Path("runs/digits-mlp-1").iterdir()} == {f for f in FILES if not f.endswith(".png")}
    lines = out.splitlines()
    assert lines[-3] == "no pictures: they need matplotlib; pip install 'minitorch-flux[viz]'"
    assert re.fullmatch(r"test accuracy \d\.\d{4}", lines[-1])


def test_a_pipe_gets_plain_text():
    code, out, err = finished("train", "--data", "digits", "--epochs", 1)
    assert (code, err) == (0, "")
    assert not re.search(r"[\r\x1b\x08]", out)
    assert all(line.isprintable() and line.isascii() for line in out.split("\n"))


def test_a_reader_that_leaves(tmp_path):
    command = f"{shlex.quote(sys.executable)} -m minitorch_flux train --data digits --epochs 3 | head -n 1"
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, timeout=100)
    assert done.stdout.startswith("digits: ")
    assert done.stderr == ""


def test_a_name_that_the_terminal_cannot_show(tmp_path):
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "minitorch_flux", "train", "--data", "digits", "--epochs", "1", "--out", "läuft"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 0
    assert (tmp_path / "läuft" / "log.csv").is_file()


# -- the folder --------------------------------------------------------------------------------------------------------


def test_runs_are_numbered_and_never_overwritten():
    for _ in range(2):
        assert digits(epochs=1) == 0
    Path("runs/digits-mlp-3").write_text("a file")
    assert digits(epochs=1) == 0
    assert {p.name for p in Path("runs").iterdir()} == {f"digits-mlp-{i}" for i in (1, 2, 3, 4)}


def test_a_folder_may_exist_but_not_hold_a_run(capsys):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("kept")
    assert digits("--out", "mine", epochs=1) == 0
    before = {p: p.read_bytes() for p in Path("mine").iterdir()}
    capsys.readouterr()
    err = wrong(capsys, "train", "--data", "digits", "--out", "mine")
    assert "--out mine: the folder already holds a run (weights.safetensors, log.csv" in err
    assert "--resume mine" in err
    assert {p: p.read_bytes() for p in Path("mine").iterdir()} == before


def test_folders_that_cannot_be_made(capsys):
    Path("file").write_text("")
    for out in ("file", "file/below"):
        assert "there is a file where the folder should be" in wrong(capsys, "train", "--data", "digits", "--out", out)
    Path("runs").write_text("")
    assert "cannot make runs/digits-mlp-1: runs is a file" in wrong(capsys, "train", "--data", "digits")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_folders_that_cannot_be_written(monkeypatch):
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    folder.chmod(0o555)
    settings = training.Settings("digits", "mlp", 1, 1, 1.0, "adam", 0)
    try:
        if root:
            os.seteuid(65534)  # root may write anywhere
        with pytest.raises(WrongInput, match="--out .*: cannot write into this folder"):
            folders.make_folder(str(folder), settings, None)
        with pytest.raises(WrongInput, match=r"--out .*: cannot make this folder \(Permission denied\)"):
            folders.make_folder(str(folder / "below"), settings, None)
        with pytest.raises(WrongInput, match="--resume .*: cannot write into this folder"):
            folders.make_folder(None, settings, folder)
        monkeypatch.chdir(folder)
        with pytest.raises(WrongInput, match=r"cannot make runs/digits-mlp-1 \(Permission denied\); give a folder"):
            folders.make_folder(None, settings, None)
    finally:
        if root:
            os.seteuid(0)
        monkeypatch.undo()
        folder.chmod(0o755)
        folder.rmdir()


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0"], "argument --lr: expected a number above 0, got '0'"),
        (["--lr", "-1"], "argument --lr: expected a number above 0, got '-1'"),
        (["--lr", "nan"], "expected a number above 0, got 'nan'"),
        (["--lr", "inf"], "expected a number above 0, got 'inf'"),
        (["--lr", "fast"], "expected a number above 0, got 'fast'"),
        (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
        (["--epochs", "2.5"], "expected a whole number of at least 1, got '2.5'"),
        (["--batch", "-3"], "argument --batch: expected a whole number of at least 1, got '-3'"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to 2**64 - 1, got '-1'"),
        (["--seed", str(1 << 64)], "expected a whole number from 0 to"),
        (["--seed", "x"], "expected a whole number from 0 to 2**64 - 1, got 'x'"),
        (["--model", "resnet19"], "argument --model: there is no model 'resnet19'; there are resnet18, resnet"),
        (["--optimiser", "sgd"], "argument --optimiser: invalid choice: 'sgd' (choose from"),
        (["--precision", "float8"], "argument --precision: invalid choice: 'float8' (choose from"),
        (["--optimizer", "adam"], "unrecognized arguments: --optimizer adam"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["--lr"], "argument --lr: expected one argument"),
        (["extra"], "unrecognized arguments: extra"),
        (["--data", "mnist"], "--data mnist: no such dataset and no such folder; the datasets are fashion-mini"),
        (["--data", "."], "--data .: no MNIST-like idx files (train-images-idx3-ubyte and so on) and no CIFAR-10"),
        (["--device", "tpu"], "--device tpu: unknown device 'tpu': use 'cpu', 'cuda' or 'cuda:N'"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--data", "digits", "--model", "vgg16"], "--model vgg16: not for the 8 x 8 pixels of digits: vgg: images of 8 x 8"),
        (["--data", "digits", "--model", "alexnet"], "--model alexnet: not for the 8 x 8 pixels of digits: "),
        (["--model", "vit-tiny"], "--model vit-tiny: not for the 28 x 28 pixels of fashion-mnist mini: PatchEmbedding: "),
        (["--data", "digits", "--model", "lenet"], "the images of digits are 8 x 8 pixels, and LeNet needs at least "
         "12 x 12; use --model mlp"),
        (["--resume", "nowhere"], "--resume nowhere: there is no checkpoint nowhere"),
        (["--resume", "."], "--resume .: there is no checkpoint checkpoint.safetensors"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(arguments, message, capsys):
    assert message in wrong(capsys, "train", *arguments)


def test_a_dataset_that_is_not_there(capsys, monkeypatch):
    def absent():
        raise FileNotFoundError("Fashion-MNIST's four files are in none of\n these folders")

    monkeypatch.setitem(recipes.DATASETS, "fashion-mnist", recipes.Dataset(absent, 1))
    assert wrong(capsys, "train", "--data", "fashion-mnist").endswith("files are in none of these folders\n")


def test_a_damaged_dataset(capsys):
    for name in NAMES:
        Path(name).write_bytes(b"\0\0\x08\x03")
    assert "truncated inside its header" in wrong(capsys, "train", "--data", ".")
    for name in cifar.FILES:
        Path("c").mkdir(exist_ok=True)
        Path("c", name).write_bytes(b"x")
    assert "expected 30,730,000" in wrong(capsys, "train", "--data", "c")


def test_a_run_that_diverges_ends_in_one_line(capsys):
    assert digits("--optimiser", "descent", "--lr", "1e30") == 1
    out, err = capsys.readouterr()
    start, end = "minitorch-flux: error: the training has diverged (", "); try a lower learning rate than --lr 1e+30\n"
    assert err.startswith(start)
    assert err.endswith(end)
    assert re.search(r" is (nan|inf) ", err)
    assert err.count("\n") == 1
    assert "test accuracy" not in out
    assert not Path("runs/digits-mlp-1/weights.safetensors").exists()


def test_a_full_disk_ends_in_one_line(capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "save", full)
    assert digits(epochs=1) == 1
    assert capsys.readouterr().err == "minitorch-flux: error: [Errno 28] No space left on device\n"


# -- data of the user --------------------------------------------------------------------------------------------------


def idx(a):
    lengths = b"".join(n.to_bytes(4, "big") for n in a.shape)
    return b"\0\0\x08" + bytes([a.ndim]) + lengths + a.astype(np.uint8).tobytes()


def test_a_folder_of_idx_files(capsys):
    rng = np.random.default_rng(0)
    Path("my set").mkdir()
    for part, n in (("train", 60), ("t10k", 30)):
        labels = np.arange(n) % 3
        images = rng.integers(0, 50, (n, 14, 13))
        images[labels == 1, :7] += 150
        images[labels == 2, 7:] += 150
        Path("my set", f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        Path("my set", f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    assert main(["train", "--data", "my set", "--epochs", "10", "--batch", "10"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("my set: 60 training and 30 test images of 1 x 14 x 13, 3 classes\nlenet: ")
    assert float(out.split()[-1]) == 1.0
    assert "results in runs/my set-lenet-1" in out


def test_a_folder_of_cifar_files(capsys, monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", 20)
    rng = np.random.default_rng(0)
    Path("c").mkdir()
    for name in cifar.FILES:
        records = rng.integers(0, 256, (20, 3073))
        records[:, 0] = np.arange(20) % 10
        Path("c", name).write_bytes(records.astype(np.uint8).tobytes())
    assert main(["train", "--data", "c", "--epochs", "1"]) == 0
    assert capsys.readouterr().out.startswith("cifar-10: 100 training and 20 test images of 3 x 32 x 32, 10 classes\n")


# -- interrupted and resumed -------------------------------------------------------------------------------------------


def epochs_seen(process, n):
    """Read the process's lines until it has printed epoch n."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch") and int(line.split()[1].split("/")[0]) >= n:
            return lines
    raise AssertionError("".join(lines) + process.stderr.read())


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on_and_loses_nothing(number, code):
    options = ["train", "--data", "digits", "--epochs", 40, "--batch", 8, "--seed", 3]
    assert finished(*options, "--out", "whole")[0] == 0
    process = run(*options, "--out", "the parts")
    epochs_seen(process, 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == code
    assert err == "\nstopping after this step; once more stops at once\n"
    assert "test accuracy" not in out
    assert not Path("the parts/weights.safetensors").exists()
    command = out.splitlines()[-1].removeprefix("saved; go on with: ")
    assert command.endswith("-m minitorch_flux train --resume 'the parts'")

    process = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": PYTHONPATH}, start_new_session=True)  # fmt: skip
    first = epochs_seen(process, 5)
    os.killpg(process.pid, number)
    process.communicate(timeout=100)
    assert "epoch  2/40" not in "".join(first)
    code, out, err = finished("train", "--resume", "the parts/checkpoint.safetensors")
    assert (code, err) == (0, "")
    assert weights("the parts") == weights("whole")
    assert rows("whole") == rows("the parts")


def test_a_finished_run_can_be_resumed_again(capsys):
    digits()
    first = capsys.readouterr().out.splitlines()[-1]
    before = weights("runs/digits-mlp-1")
    assert main(["train", "--resume", "runs/digits-mlp-1", "--data", "digits", "--epochs", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first
    assert weights("runs/digits-mlp-1") == before


def test_resuming_into_another_folder():
    digits()
    assert main(["train", "--resume", "runs/digits-mlp-1/checkpoint.safetensors", "--out", "copy"]) == 0
    assert {p.name for p in Path("copy").iterdir()} >= {"weights.safetensors", "log.csv"}
    assert weights("copy") == weights("runs/digits-mlp-1")
    assert Path("copy/log.csv").read_text() == Path("runs/digits-mlp-1/log.csv").read_text()
    assert main(["train", "--resume", "runs/digits-mlp-1", "--out", "runs/digits-mlp-1"]) == 0


@pytest.mark.parametrize(
    ("option", "value", "old"),
    [("--epochs", 3, 2), ("--batch", 10, 64), ("--lr", 0.1, 0.005), ("--optimiser", "adam", "adamw"), ("--seed", 1, 0),
     ("--model", "lenet", "mlp"), ("--data", "fashion-mini", "digits")],
)  # fmt: skip
def test_a_resumed_run_keeps_its_settings(option, value, old, capsys):
    digits()
    capsys.readouterr()
    err = wrong(capsys, "train", "--resume", "runs/digits-mlp-1", option, value)
    assert f"{option} {value}: the run in runs/digits-mlp-1 was started with {option} {old}, and a resumed run" in err


def test_files_that_are_no_checkpoints_of_the_command(capsys):
    digits()
    capsys.readouterr()
    path = Path("runs/digits-mlp-1/checkpoint.safetensors")
    weights_file = path.with_name("weights.safetensors")
    assert "not a checkpoint of minitorch_flux" in wrong(capsys, "train", "--resume", weights_file)
    Path("log.txt").write_text("text")
    assert "the ending must be .safetensors or .npz" in wrong(capsys, "train", "--resume", "log.txt")
    for extra in ({}, {"extra": 5}, {"extra": {"settings": {"model": "mlp"}}}):
        save_checkpoint("c.npz", {"model": {}, **extra})
        assert "c.npz was not saved by minitorch-flux train" in wrong(capsys, "train", "--resume", "c.npz")
    saved = load_checkpoint(path)
    saved["extra"]["settings"]["model"] = "lenet"
    save_checkpoint("d.npz", saved)
    assert "--model lenet: the images of digits are 8 x 8" in wrong(capsys, "train", "--resume", "d.npz")
    saved["extra"]["settings"] |= {"model": "vgg"}
    save_checkpoint("d.npz", saved)
    assert "--resume d.npz: model vgg: this version does not have it" in wrong(capsys, "train", "--resume", "d.npz")
    saved["extra"]["settings"] |= {"model": "mlp", "data": "fashion-mini"}
    save_checkpoint("d.npz", saved)
    assert "--resume d.npz: " in wrong(capsys, "train", "--resume", "d.npz")
    path.write_bytes(path.read_bytes()[:-1])
    assert "not a whole safetensors file" in wrong(capsys, "train", "--resume", path.parent)


def test_a_run_that_is_interrupted_before_it_begins(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Run, "build_kernels", interrupt)
    assert digits() == 130
    assert capsys.readouterr().err == "minitorch-flux: interrupted\n"
    assert not list(Path("runs").iterdir())
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("kept")
    assert digits("--out", "mine") == 130
    assert Path("mine/notes.txt").is_file()
