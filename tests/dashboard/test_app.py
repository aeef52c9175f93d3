import subprocess
import sys

import pytest
from dash.development.base_component import Component
from patience import LONG
from synthetic import write_run

from cockpit.dashboard import create_app
from cockpit.dashboard.layout import graph_config, grid_class
from cockpit.drawing.arrange import Arrangement
from cockpit.panel import Place
from cockpit.store import Store


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "digits", 40)
    return create_app(Store(tmp_path)).server.test_client()


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=LONG)


def test_neither_torch_nor_instruments_are_imported(tmp_path):
    write_run(tmp_path / "digits", 40)
    code = f"""
import sys
from cockpit.dashboard import create_app
from cockpit.dashboard.answer import answer
from cockpit.dashboard.page import Choice
from cockpit.dashboard.sources import Sources
from cockpit.store import Store
store = Store({str(tmp_path)!r})
create_app(store)
answer(Sources(store), Choice(), {{}}, [], list_runs=True)
unwanted = [name for name in sys.modules if name == "torch" or name.startswith("cockpit.instruments")]
assert not unwanted, unwanted
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_a_second_copy_is_refused(tmp_path):
    import cockpit.dashboard

    folder = cockpit.dashboard.__path__[0]
    (tmp_path / "dashboard").symlink_to(folder)
    done = run_python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import dashboard")
    assert "import this package as cockpit.dashboard" in done.stderr


def test_the_page_may_load_from_nowhere_else(client):
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "http://" not in answer.text.replace("http%3A//www.w3.org", "")
    assert "https://" not in answer.text


def test_the_stylesheet_and_the_script_are_served(client):
    for name in ("cockpit.css", "cockpit.js"):
        assert client.get(f"/assets/{name}", buffered=True).status_code == 200
        assert f"assets/{name}" in client.get("/").text


@pytest.mark.parametrize(("rows", "fills"), [(1, False), (2, True), (3, False)])
def test_two_rows_of_panels_fill_the_window(rows, fills):
    places = tuple(Place(f"panel{row}", 0, row) for row in range(rows))
    assert ("fills" in grid_class(Arrangement(1, places, ())).split()) is fills


def test_no_graph_sends_anything_to_a_cloud():
    config = graph_config("run", "panel")
    assert config["showSendToCloud"] is False
    assert config["showEditInChartStudio"] is False


def test_pictures_have_file_names_whatever_the_run_is_called():
    assert graph_config("a/../b <x>", "grad norm")["toImageButtonOptions"]["filename"] == "a-..-b--x--grad-norm"


def test_the_page_asks_for_one_answer_after_the_other(tmp_path):
    """A component that asks by the clock would do so while an answer is on its way; of two, the older may come last."""
    layout = create_app(Store(tmp_path)).layout
    assert isinstance(layout, Component)
    assert "Interval" not in [type(part).__name__ for part in layout._traverse()]
    client = create_app(Store(tmp_path)).server.test_client()
    (page,) = [
        entry
        for entry in client.get("/_dash-dependencies").json
        if "shown.data" in entry["output"] and not entry["clientside_function"]
    ]
    assert [wire["id"] for wire in page["inputs"]] == ["choice"]
