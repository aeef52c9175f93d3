"""``cockpit demo``: a small network on real images under the cockpit, and beside it one with a bug to look for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from cockpit.dashboard import serve
from cockpit.datasets import DataError, Images, digits, mnist
from cockpit.session import Cockpit
from cockpit.store import Store

Fault = Literal["raw-pixels", "sigmoid", "frozen-layer"]

BATCH_SIZE = 64
LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-3
DROPS, DROP = (0.5, 0.8), 0.2  # shares of the training after which the learning rate falls, and to what part of it
CLIP = 2.0  # largest norm of a gradient
VALIDATE_EVERY = 200
CANVAS, COPIES = 12, 16  # pixels of a side, and how often each small image is put on one


@dataclass(frozen=True)
class Options:
    """What the user may choose; the fields are the command's options."""

    data: str = "digits"
    data_dir: Path | None = None
    fault: Fault | None = None
    steps: int = 8000
    seed: int = 0
    track: int | None = None
    logdir: Path = Path("runs")
    port: int | None = None
    exit: bool = False


class Trainee:
    """One network in training, with its own batches and its own cockpit.

    Args:
        images: What it is trained on.
        fault: The bug it is given; ``None`` for the healthy network.
        options: Of the demo.
    """

    def __init__(self, images: Images, fault: Fault | None, options: Options) -> None:
        torch.manual_seed(options.seed)  # twins start from the same parameters
        self.model = network(images, nn.Sigmoid if fault == "sigmoid" else nn.ReLU)
        self.optimizer = _optimizer(self.model, frozen=fault == "frozen-layer")
        drops = [round(share * options.steps) for share in DROPS]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, drops, DROP)
        self.loss_fn = nn.CrossEntropyLoss()
        prepare = Images.raw if fault == "raw-pixels" else Images.scaled
        self.batches = _batches(prepare, images, options.seed)
        self.x_valid = torch.from_numpy(prepare(images.x_valid[:1000]))
        self.y_valid = torch.from_numpy(images.y_valid[:1000])
        self.cockpit = Cockpit(
            self.model,
            self.optimizer,
            self.loss_fn,
            instruments="full",
            track=options.track or "auto",
            run=options.logdir / f"demo-{fault or 'healthy'}",
            config={
                "data": images.name,
                "fault": fault,
                "batch_size": BATCH_SIZE,
                "lr": LEARNING_RATE,
                "momentum": MOMENTUM,
                "weight_decay": WEIGHT_DECAY,
                "clip": CLIP,
                "steps": options.steps,
                "seed": options.seed,
            },
            tags=("demo",),
        )

    def step(self) -> float:
        """One training step under the cockpit; returns the loss."""
        x, y = next(self.batches)
        with self.cockpit.step():
            self.optimizer.zero_grad()
            loss: Tensor = self.loss_fn(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def validate(self) -> None:
        """Log the loss of the validation images and the share of them that is classified correctly."""
        with torch.no_grad():
            scores = self.model(self.x_valid)
        correct = scores.argmax(dim=1) == self.y_valid
        loss = self.loss_fn(scores, self.y_valid)
        self.cockpit.log({"valid/loss": loss.item(), "valid/accuracy": correct.float().mean().item()})


def network(images: Images, activation: type[nn.Module]) -> nn.Sequential:
    """Three convolutions and two dense layers, for images whose sides are at least 4 pixels."""
    channels, height, width = images.shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 8, 3, padding=1), act1=activation(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(8, 16, 3, padding=1), act2=activation(), pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(16, 16, 3, padding=1), act3=activation(), flatten=nn.Flatten(),
            fc1=nn.Linear(16 * (height // 4) * (width // 4), 32), act4=activation(),
            fc2=nn.Linear(32, images.classes),
        )
    )  # fmt: skip


def scattered(images: Images, seed: int) -> Images:
    """Small images, each of them several times somewhere on a larger, noisy canvas: more of them, and harder to tell.

    Args:
        images: With sides of at most :data:`CANVAS` pixels.
        seed: Of places and noise.
    """
    random = np.random.default_rng(seed)

    def put(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        count, channels, height, width = pixels.shape
        canvas = random.integers(0, 128, (count, channels, CANVAS, CANVAS))
        places = zip(random.integers(0, CANVAS - height + 1, count), random.integers(0, CANVAS - width + 1, count),
                     strict=True)  # fmt: skip
        for image, small, (top, left) in zip(canvas, pixels, places, strict=True):
            image[:, top : top + height, left : left + width] += small
        return canvas.clip(0, 255).astype(np.uint8)

    train, valid = (np.tile(pixels, (COPIES, 1, 1, 1)) for pixels in (images.x_train, images.x_valid))
    y_train, y_valid = (np.tile(classes, COPIES) for classes in (images.y_train, images.y_valid))
    return Images(f"{images.name}, scattered", put(train), y_train, put(valid), y_valid)


def _optimizer(model: nn.Sequential, frozen: bool) -> torch.optim.SGD:
    """SGD with momentum; ``frozen`` leaves the learning rate of the second convolution at 0."""
    layers = [layer for layer in model if isinstance(layer, (nn.Conv2d, nn.Linear))]
    groups = [{"params": list(layer.parameters()), "lr": LEARNING_RATE} for layer in layers]
    if frozen:
        groups[1]["lr"] = 0.0
    return torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def _batches(
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: Images, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled mini-batches of one size, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    x, y = images.x_train, torch.from_numpy(images.y_train)
    whole = len(x) // BATCH_SIZE * BATCH_SIZE
    while True:
        for chosen in torch.randperm(len(x), generator=generator)[:whole].split(BATCH_SIZE):
            yield torch.from_numpy(prepare(x[chosen.numpy()])), y[chosen]


def train(trainees: Sequence[Trainee], steps: int) -> None:
    """Train all in turn, step by step, so that their runs grow side by side; draws a progress bar."""
    # The delay lets each cockpit say its one line before the bar is drawn.
    with tqdm(total=steps, unit="step", dynamic_ncols=True, delay=0.1) as bar:
        for step in range(steps):
            losses = [trainee.step() for trainee in trainees]
            if step % VALIDATE_EVERY == 0:
                for trainee in trainees:
                    trainee.validate()
            bar.set_postfix_str(_status(trainees, losses), refresh=False)
            bar.update()


def _status(trainees: Sequence[Trainee], losses: Sequence[float]) -> str:
    shown = " and ".join(f"{loss:.3f}" for loss in losses)
    overheads = [trainee.cockpit.overhead for trainee in trainees]
    known = [overhead for overhead in overheads if overhead is not None]
    return f"loss {shown}, cockpit +{max(known):.0%}" if known else f"loss {shown}"


def load(options: Options) -> Images:
    """The images that the options ask for.

    Raises:
        DataError: If a directory is needed and not given, or given and not needed, or its files are damaged.
        FileNotFoundError: If a file is not there.
    """
    if options.data == "digits":
        if options.data_dir is not None:
            raise DataError("the digits come with scikit-learn and need no --data-dir; did you mean --data mnist?")
        return scattered(digits(), options.seed)
    if options.data_dir is None:
        raise DataError("MNIST is read from its IDX files: say where they lie with --data-dir DIR")
    return mnist(options.data_dir)


def run(options: Options) -> None:
    """Serve the dashboard, train under it, and keep serving until Ctrl-C unless ``options.exit``.

    Raises:
        DataError: If the images cannot be used.
        OSError: If the images, the log directory or the port cannot be used.
    """
    images = load(options)
    options.logdir.mkdir(parents=True, exist_ok=True)
    with _one_thread(), serve(Store(options.logdir), port=options.port) as server:
        print(server.announcement(), flush=True)
        with ExitStack() as runs:
            trainees = []
            for fault in (None, options.fault) if options.fault else (None,):
                trainees.append(Trainee(images, fault, options))
                runs.enter_context(trainees[-1].cockpit)
            train(trainees, options.steps)
        if not options.exit:
            with suppress(KeyboardInterrupt):  # it may come as soon as it is offered
                print("Training is done; the dashboard stays until Ctrl-C.", flush=True)
                server.wait()


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network gains nothing from more threads, and the dashboard needs a processor too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
