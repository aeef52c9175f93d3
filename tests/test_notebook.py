"""`show()` and the example notebook, executed as Jupyter would."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from patience import LONG
from synthetic import write_run

from cockpit import show

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"

# The kernel is a process of its own; what its client leaves open at its end is none of ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def executed(notebook, folder):
    patience = {"timeout": 4 * LONG, "startup_timeout": 2 * LONG, "iopub_timeout": LONG / 5}
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, **patience).execute()
    return notebook


def cells(*sources):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return notebook


def addresses(notebook):
    """The addresses of all frames that are displayed."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [
        address
        for output in outputs
        for address in re.findall(r'<iframe[^>]*src="([^"]*)"', output.get("data", {}).get("text/html", ""), flags=re.S)
    ]


@pytest.mark.slow
def test_the_example_runs_and_displays_its_screen(tmp_path):
    notebook = executed(nbformat.read(NOTEBOOK, as_version=4), tmp_path)
    (address,) = addresses(notebook)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?run=notebook", address)
    said = notebook.cells[-1].outputs[0]["data"]["text/plain"]
    assert said.startswith("('finished', ")
    assert float(re.findall(r"[01]\.\d+", said)[0]) > 0.8


def test_the_example_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)
    assert NOTEBOOK.stat().st_size < 10_000


def test_one_directory_has_one_server_which_may_be_shown_on_this_machine_alone(tmp_path):
    for name in ("one/a", "one/b", "two/c"):
        write_run(tmp_path / name, 20)
    ask = "from urllib.request import urlopen; from cockpit import notebook; servers = [*notebook._servers.values()]"
    policy = "urlopen(servers[0].url).headers['Content-Security-Policy'].partition('frame-ancestors ')[2]"
    notebook = executed(
        cells(
            "from cockpit import show; show('one/a'); show('one/b', height=300); show('one'); show('two/c')",
            f"{ask}; len(servers), {policy}",
        ),
        tmp_path,
    )
    shown = addresses(notebook)
    assert [address.partition("/?")[2] for address in shown] == ["run=a", "run=b", "", "run=c"]
    assert len({address.split("/")[2] for address in shown}) == 2
    count, ancestors = eval(notebook.cells[1].outputs[0]["data"]["text/plain"])
    assert count == 2
    assert all(origin.split("://")[1] in ("localhost:*", "127.0.0.1:*") for origin in ancestors.split())


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CellExecutionError, match="neither a run nor a directory of runs in nowhere"):
        executed(cells("from cockpit import show; show('nowhere')"), tmp_path)


def test_outside_a_notebook_it_is_said(tmp_path):
    with pytest.raises(RuntimeError, match="cockpit dashboard"):
        show(tmp_path)
