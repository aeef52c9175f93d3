"""The pictures in this folder, those of the dashboard in light and in dark colours: real trainings, a real browser.

python docs/images/make.py                    # trains for some minutes, below a temporary directory
python docs/images/make.py --runs runs        # trains what is missing there, and keeps it for the next time

Needs Chromium, and Playwright and Pillow, which come with the extra `test` and with matplotlib.
"""

import argparse
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from torch import Tensor, nn
from torch.nn import functional

from cockpit import Cockpit, load_run
from cockpit.commands import demo
from cockpit.dashboard import serve
from cockpit.formats.export import to_picture
from cockpit.store import Store

HERE = Path(__file__).parent
SIZE = {"width": 1440, "height": 900}
SCHEMES = ("light", "dark")
COLOURS = 256  # of a picture; more cannot be told apart
WORDS = "letters-transformer"
VIEWS = {
    "now": "run=demo-healthy&view=Now",
    "classic": "run=demo-healthy&view=Classic",
    "replay": "run=demo-healthy&view=Now&step=1600",
    "panel": "run=demo-healthy&view=Panel&panel=sharpness",
    "layers": f"run={WORDS}&view=Layers",
    "layer": f"run={WORDS}&view=Layers&layer=blocks.2.widen",
    "compare": "view=Compare&runs=demo-healthy|demo-frozen-layer",
    "runs": "view=Runs",
}
"""What each picture shows, as the address says it."""
REPORT, PAGE = "report", "plotter"  # the pictures of no view
REPORTED = "view=Now&step=4000"


class Block(nn.Module):
    """Causal attention and two dense layers, as in a small GPT."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.widen, self.act, self.narrow = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.register_buffer("mask", torch.ones(length, length).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attend(y, y, y, attn_mask=self.mask, need_weights=False)[0]
        return x + self.narrow(self.act(self.widen(self.norm2(x))))


class Letters(nn.Module):
    """A transformer that tells the next letter."""

    def __init__(self, letters: int, width: int = 48, length: int = 32, depth: int = 6) -> None:
        super().__init__()
        self.tokens = nn.Embedding(letters, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, length) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions)))


def snippets(length: int, batch: int) -> Iterator[Tensor]:
    """Random stretches of this documentation, as numbers from 0 to 127. Shape ``[batch, length + 1]``."""
    words = "".join(page.read_text(encoding="utf-8") for page in sorted(HERE.parent.glob("*.md")))
    text = torch.tensor(list(words.encode("ascii", errors="ignore")))
    while True:
        starts = torch.randint(len(text) - length, (batch, 1))
        yield text[starts + torch.arange(length + 1)]


def train_letters(run: Path, steps: int = 600) -> None:
    """A transformer whose first layers stop learning half way: their learning rate falls to a fiftieth."""
    torch.manual_seed(0)
    model = Letters(128)
    first = [*model.tokens.parameters(), model.positions]
    rest = [weights for weights in model.parameters() if all(weights is not other for other in first)]
    optimizer = torch.optim.Adam([{"params": first}, {"params": rest}], lr=3e-3)
    with Cockpit(model, optimizer, instruments="business", track=10, run=run, tags=("transformer",)) as cockpit:
        for step, text in zip(range(steps), snippets(32, 32), strict=False):
            optimizer.param_groups[0]["lr"] = 3e-3 if step < steps / 2 else 6e-5
            with cockpit.step():
                optimizer.zero_grad()
                functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
                optimizer.step()


def train(runs: Path) -> None:
    """The runs that the pictures show, as far as they are not there yet."""
    for faults in (("frozen-layer", "healthy"), ("sigmoid",), ("raw-pixels",)):
        if not (runs / f"demo-{faults[0]}").exists():
            steps = demo.Options.steps if "healthy" in faults else 1600
            demo.run(demo.Options(fault=faults[0], steps=steps, logdir=runs, port=0, exit=True))
    if not (runs / WORDS).exists():
        train_letters(runs / WORDS)


def settle(page: Page) -> None:
    """Wait until nothing is asked for any more, and the last answer is drawn."""
    for _ in range(2):
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)


def save(picture: bytes, target: Path) -> None:
    """A PNG of few colours, which none of these pictures' readers can tell from the whole one."""
    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    few = whole.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)  # rare colours too
    few.save(target, optimize=True)


def take(browser: Browser, address: str, target: Path, scheme: str) -> None:
    """One view."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.locator("main .panel, main .ag-row").first.wait_for()
    settle(page)
    page.get_by_text("Comparing all quantities").wait_for(state="hidden")
    save(page.screenshot(), target)
    context.close()


def take_page(run: Path, target: Path) -> None:
    """The static screen."""
    picture = io.BytesIO()
    to_picture(load_run(run), picture, "png")
    save(picture.getvalue(), target)


def address_of_report(run: Path, file: Path) -> str:
    """A report that is written for its picture."""
    load_run(run).report(file)
    return f"{file.as_uri()}#{REPORTED}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where the runs are, or will be")
    parser.add_argument(
        "--only", nargs="+", choices=[*VIEWS, REPORT, PAGE], default=[*VIEWS, REPORT, PAGE], help="pictures to take"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        runs = options.runs or Path(temporary)
        train(runs)
        healthy = runs / "demo-healthy"
        if PAGE in options.only:
            take_page(healthy, HERE / "plotter.png")
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        with serve(Store(runs), port=0) as server:
            addresses = {name: f"{server.url}/?{VIEWS[name]}" for name in VIEWS if name in options.only}
            if REPORT in options.only:
                addresses[REPORT] = address_of_report(healthy, Path(temporary) / "report.html")
            for name, address in addresses.items():
                for scheme in SCHEMES:
                    take(browser, address, HERE / f"{name}-{scheme}.png", scheme)
        browser.close()


if __name__ == "__main__":
    main()
