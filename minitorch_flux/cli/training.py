"""``minitorch-flux train``: one run, from its settings to its results."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import shapes_only, withgradient
from ..backend import DeviceError, default_generator, seed, to_device
from ..backend.threads import num_threads
from ..data import DataLoader, ImageDataset, random_crop, random_flip
from ..distributed import DistributedLoader, Group, sync_batch_norms
from ..distributed import init as join
from ..files import FileError, load_checkpoint, save
from ..losses import logitcrossentropy
from ..nn.module import named_parameters
from ..nn.output_sizes import outputsize
from ..optimisers import Rule, setup, update
from ..readings.rehearsal import build_ahead
from ..readings.toolchain import toolchain
from ..schedules import OneCycle
from ..training import (
    Checkpoint,
    CSVLog,
    Evaluate,
    Progress,
    Schedule,
    StopOnNonFinite,
    StopOnSignal,
    TrainState,
    accuracy,
    evaluate,
    train,
)
from .folders import CHECKPOINT, make_folder
from .program import Failure, WrongInput, called_as
from .recipes import (
    MODELS,
    OPTIMISERS,
    PRECISIONS,
    SMALLEST,
    Dataset,
    dataset,
    default_model,
    in_precision,
    rule_in_precision,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a run's numbers. A checkpoint holds them, and a resumed run keeps them."""

    data: str
    model: str
    epochs: int
    batch: int
    lr: float
    optimiser: str
    seed: int
    precision: str = "float32"  # checkpoints of earlier versions do not say


class Run:
    """Everything that a run works with."""

    def __init__(self, settings: Settings, recipe: Dataset, images: ImageDataset, device: str) -> None:
        self.settings, self.recipe, self.images, self.device = settings, recipe, images, device
        h, w = images.shape[1:]
        if settings.model == "lenet" and min(h, w) < SMALLEST:
            raise WrongInput(f"--model lenet: the images of {images.name} are {h} x {w} pixels, and LeNet needs at "
                             f"least {SMALLEST} x {SMALLEST}; use --model mlp")
        build = MODELS[settings.model]
        try:
            with shapes_only():
                outputsize(build(images.shape, len(images.classes)), (1, *images.shape))
        except ValueError as error:
            raise WrongInput(f"--model {settings.model}: not for the {h} x {w} pixels of {images.name}: {error}") from None
        seed(settings.seed)
        try:
            self.model = in_precision(build(images.shape, len(images.classes)), settings.precision).to(device)
        except ImportError as error:
            raise WrongInput(f"--precision {settings.precision}: {error}") from None
        self.group = join()
        self.loader = DataLoader(images.train, settings.batch, shuffle=True)
        if self.group.size > 1:
            sync_batch_norms(self.model)
            self.loader = DistributedLoader(images.train, settings.batch, shuffle=True)
        self.opt = setup(self.rule, self.model)

    @property
    def rule(self) -> Rule:
        """The optimiser."""
        return rule_in_precision(OPTIMISERS[self.settings.optimiser].make(self.settings.lr), self.settings.precision)

    @property
    def parameters(self) -> int:
        """The number of trainable numbers."""
        return sum(p.size for _, p in named_parameters(self.model))

    def prepare(self, x: np.ndarray) -> Any:
        """Stored images on the device, normalised."""
        return self.images.normalise(to_device(x, self.device))

    def loss(self, model: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, dict[str, float]]:
        """The loss of a training batch, with random changes to the images, and its accuracy."""
        if self.recipe.flip:
            x = random_flip(x)
        if self.recipe.shift:
            x = random_crop(x, pad=self.recipe.shift)
        labels = to_device(y, self.device)
        y_hat = model(self.prepare(x))
        return logitcrossentropy(y_hat, labels), {"accuracy": accuracy(y_hat, labels)}

    def scores(self) -> np.ndarray:
        """The model's logits (N, classes) for the test images."""
        outputs = [to_device(self.model(x).data, "cpu") for x, _ in TestBatches(self, Group())]
        return np.concatenate(outputs).astype(np.float32, copy=False)

    def build_kernels(self) -> None:
        """Compile what a step needs, all files at a time, before the clock of the first epoch runs; changes nothing."""
        if self.device != "cpu":
            return
        if self.group.rank:  # rank 0 builds them for all
            self.group.barrier("the building of the kernels")
        rng = default_generator()
        before = rng.state_dict()
        model = in_precision(MODELS[self.settings.model](self.images.shape, len(self.images.classes)), self.settings.precision)
        opt = setup(self.rule, model)
        x, y = (a[: self.settings.batch] for a in self.images.train)

        def work() -> None:
            withgradient(lambda m: self.loss(m, x, y)[0], model)
            for p in model.parameters():
                p.grad = np.zeros_like(p.data)  # finite ones, whatever was computed: every kernel of the step runs
            update(opt, model)

        said: list[int] = []

        def notice(n: int) -> None:
            if not said and self.group.rank == 0:
                print("building the kernels, once for this machine ...", flush=True)
            said.append(n)

        with np.errstate(all="ignore"):
            build_ahead(work, notice)
        rng.load_state_dict(before)
        if self.group.rank == 0:
            self.group.barrier("the building of the kernels")

    def train(self, out: Path, stopper: StopOnSignal, resume: Path | None) -> TrainState:
        """Train, or go on training."""
        settings = self.settings
        steps = len(self.loader) * settings.epochs
        callbacks = [
            Schedule(OneCycle(settings.lr, steps, pct_start=0.25)),
            Evaluate(lambda m: evaluate(m, TestBatches(self, self.group), loss=logitcrossentropy, accuracy=accuracy), "test_"),
            StopOnNonFinite(),
            CSVLog(out / "log.csv"),
            stopper,
            Progress(unit="images"),
            Checkpoint(out / CHECKPOINT, epochs=None, seconds=30, extra={"settings": dataclasses.asdict(settings)}),
        ]
        with np.errstate(all="ignore"):  # a run that diverges is stopped with a message of its own
            return train(self.loss, self.model, self.loader, self.opt, epochs=settings.epochs, callbacks=callbacks,
                         resume=resume)


class TestBatches:
    """The test images in their order, each rank's share of them."""

    __test__ = False  # for pytest

    def __init__(self, run: Run, group: Group) -> None:
        self.run, self.group = run, group
        self.loader = DistributedLoader(run.images.test, 500, group=group)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for x, y in self.loader:
            yield self.run.prepare(x), to_device(y, self.run.device)


def run_training(arguments: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    resume = None if arguments.resume is None else _checkpoint_path(arguments.resume)
    saved = None if resume is None else _saved_settings(resume, arguments)
    device = arguments.device or "cpu"
    try:
        to_device(np.zeros(1), device)
    except DeviceError as error:
        raise WrongInput(f"--device {device}: {error}") from None
    recipe = _wrong(lambda: dataset(saved.data if saved else arguments.data or "fashion-mini"))
    images = _wrong(recipe.load)
    settings = saved or _new_settings(arguments, recipe, images)
    run = Run(settings, recipe, images, device)
    first = run.group.rank == 0
    made = make_folder(arguments.out, settings, None if resume is None else resume.parent) if first else None
    out = Path(run.group.gather(None if made is None else str(made), "the folder of the results")[0])
    if first:
        _announce(run)
    try:
        run.build_kernels()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # a new folder in which nothing has happened
            out.rmdir()
        raise
    stopper = StopOnSignal()
    try:
        state = run.train(out, stopper, resume)
    except FloatingPointError as error:
        raise Failure(f"the training has diverged: {error}") from None
    except ValueError as error:
        if resume is None:
            raise
        raise WrongInput(f"--resume {arguments.resume}: {error}") from None
    if stopper.received is not None and not first:
        return 128 + stopper.received
    if stopper.received is not None:
        print(f"saved; go on with: {called_as()} train --resume {shlex.quote(str(out))}"
              + (f" --device {device}" if device != "cpu" else ""))
        return 128 + stopper.received
    if state.stop:
        raise Failure(f"the training has diverged ({state.stop}); try a lower learning rate than --lr {settings.lr:g}")
    return _finish(run, state, out) if first else 0


def _finish(run: Run, state: TrainState, out: Path) -> int:
    accuracy = state.history[-1]["test_accuracy"]
    save(out / "weights.safetensors", run.model)
    _draw(run, state, out, _title(run, accuracy))
    print(f"results in {out}")
    print(f"test accuracy {accuracy:.4f}")
    return 0


def _draw(run: Run, state: TrainState, out: Path, title: tuple[str, str]) -> None:
    try:
        from .pictures import draw
    except ImportError:
        print("no pictures: they need matplotlib; pip install 'minitorch-flux[viz]'")
    else:
        draw(out, state.history, run.images, run.scores(), title)


def _title(run: Run, accuracy: float) -> tuple[str, str]:
    s = run.settings
    model = {"lenet": "LeNet", "mlp": "MLP"}.get(s.model, s.model)
    data = run.images.name.replace("fashion-mnist", "Fashion-MNIST").replace("cifar", "CIFAR")
    about = f"{run.parameters:,} parameters, {s.optimiser}, {_plural(s.epochs, 'epoch')}, seed {s.seed}{_precision(s)}"
    return f"{model} on {data}", f"test accuracy {accuracy:.4f}, {about}"


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _announce(run: Run) -> None:
    s, images = run.settings, run.images
    size, (n, m) = " x ".join(map(str, images.shape)), (len(split.labels) for split in (images.train, images.test))
    print(f"{images.name}: {n:,} training and {m:,} test images of {size}, {len(images.classes)} classes")
    print(f"{s.model}: {run.parameters:,} parameters; {s.optimiser}, one cycle up to {s.lr:g}; batches of {s.batch}, "
          f"{_plural(s.epochs, 'epoch')}, seed {s.seed}{_precision(s)}")
    ranks = f"{run.group.size} ranks, each with " if run.group.size > 1 else ""
    if run.device == "cpu":
        print(f"cpu, {ranks}{_plural(num_threads(), 'thread')}, {_kernels()}", flush=True)
    else:
        print(f"{ranks}{run.device}", flush=True)


def _precision(s: Settings) -> str:
    return "" if s.precision == "float32" else f", {s.precision}"


def _kernels() -> str:
    """Whether the kernels run, for the run's first lines."""
    if isinstance(toolchain(), str):
        return "no C++ compiler and so the NumPy references (see minitorch-flux info)"
    return "kernels"


def _wrong(load: Callable[[], Any]) -> Any:
    """``load()``, with what it cannot find or read as wrong input."""
    try:
        return load()
    except (OSError, ValueError) as error:
        raise WrongInput(str(error)) from None


def _new_settings(arguments: argparse.Namespace, recipe: Dataset, images: ImageDataset) -> Settings:
    optimiser = arguments.optimiser or "adamw"
    data = arguments.data or "fashion-mini"
    return Settings(
        data=str(Path(data).resolve()) if Path(data).is_dir() else data,
        model=arguments.model or default_model(images.shape),
        epochs=arguments.epochs or recipe.epochs,
        batch=arguments.batch or recipe.batch,
        lr=arguments.lr or OPTIMISERS[optimiser].eta,
        optimiser=optimiser,
        seed=arguments.seed or 0,
        precision=arguments.precision or "float32",
    )


def _checkpoint_path(given: str) -> Path:
    path = Path(given)
    if path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise WrongInput(f"--resume {given}: there is no checkpoint {path}")
    return path


def _saved_settings(path: Path, arguments: argparse.Namespace) -> Settings:
    """The settings in a checkpoint; those given on the command line must be the same."""
    try:
        saved = load_checkpoint(path).get("extra")
        settings = Settings(**(saved or {})["settings"])
    except (FileError, OSError) as error:
        raise WrongInput(f"--resume {arguments.resume}: {error}") from None
    except (KeyError, TypeError):
        raise WrongInput(f"--resume {arguments.resume}: {path} was not saved by minitorch-flux train") from None
    for name, known in (("model", MODELS), ("optimiser", OPTIMISERS), ("precision", PRECISIONS)):
        if (value := getattr(settings, name)) not in known:
            raise WrongInput(f"--resume {arguments.resume}: {name} {value}: this version does not have it")
    for field in dataclasses.fields(Settings):
        name, old = field.name, getattr(settings, field.name)
        new = getattr(arguments, name)
        if name == "data" and new is not None and Path(new).is_dir():
            new = str(Path(new).resolve())
        if new is not None and new != old:
            raise WrongInput(f"--{name} {new}: the run in {path.parent} was started with --{name} {old}, and a resumed "
                             "run keeps its settings; leave the option out, or start a new run")
    return settings
