"""Use an installed Cockpit as a stranger would: import all of it, run the demo, load the page, read the log.

Run with the environment's Python from a directory that is not the checkout.
"""

import importlib
import json
import pkgutil
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

import cockpit

EXTRAS = {"numba", "psycopg", "pyarrow", "tensorboard", "triton", "wandb"}
COMMAND = [str(Path(sys.executable).with_name("cockpit"))]


def import_everything() -> None:
    """Import every module of the package, from where it was installed; only what needs an extra may fail."""
    assert "site-packages" in cockpit.__file__, f"imported from {cockpit.__file__}, not from the installed wheel"
    modules = [module.name for module in pkgutil.walk_packages(cockpit.__path__, "cockpit.")]
    without = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:  # some say in words which extra is missing
            missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
            if not isinstance(missing, ModuleNotFoundError) or missing.name not in EXTRAS:
                raise
            without.append(f"{name} ({missing.name})")
    print(f"imported {len(modules) - len(without)} modules; not without their extra: {', '.join(without) or 'none'}")


def fetch(url: str) -> str:
    """The text at ``url``; an error status raises."""
    with urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def load_page(url: str) -> None:
    """Load the page, everything it refers to, and its layout."""
    page = fetch(url)
    links = [link for link in re.findall(r'(?:src|href)="([^"]+)"', page) if not link.startswith(("http", "data:"))]
    assert any(link.endswith(".css") or ".css?" in link for link in links), f"no stylesheet among {links}"
    for link in links:
        fetch(urljoin(url, link))
    json.loads(fetch(urljoin(url, "_dash-layout")))
    print(f"loaded {url} and {len(links)} files it refers to")


def run_demo() -> None:
    """Train briefly, load the page while the demo serves it, and end it as a user would, with Ctrl-C."""
    command = [*COMMAND, "demo", "--steps", "60", "--track", "5", "--port", "0", "--fault", "raw-pixels"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        try:
            url = next(found[0] for line in demo.stdout if (found := re.search(r"http://\S+", line)))
            load_page(url)
            next(line for line in demo.stdout if "Ctrl-C" in line)
        finally:
            demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0, f"the demo ended with {demo.returncode}"


def read_back() -> None:
    """List the demo's runs and export one."""
    table = subprocess.run([*COMMAND, "runs"], capture_output=True, text=True, check=True).stdout
    assert "demo-healthy" in table, table
    assert "demo-raw-pixels" in table, table
    export = [*COMMAND, "export", "runs/demo-healthy", "--to", "csv"]
    lines = subprocess.run(export, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 5, lines
    assert "norm_test" in lines[0].split(","), lines[0]
    print(f"exported {len(lines) - 1} steps of {len(lines[0].split(',')) - 1} series")


if __name__ == "__main__":
    import_everything()
    run_demo()
    read_back()
