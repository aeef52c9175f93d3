import subprocess
import sys
import types

import matplotlib as mpl
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg, FigureManagerBase
from matplotlib.figure import Figure
from paper import curve_run, lines, texts

import cockpit
from cockpit import Cockpit, CockpitPlotter, load_run

PLOT = CockpitPlotter().plot


@pytest.fixture
def run(tmp_path):
    return curve_run(tmp_path / "runs" / "first", [3.0, 2.0, 1.0])


def model_and_optimizer():
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def train(cockpit, model, optimizer, steps=3):
    for _ in range(steps):
        with cockpit.step():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
            optimizer.step()


def test_a_path_a_text_and_a_run_give_the_same_picture(run):
    pictures = [lines(PLOT(source, show_plot=False)) for source in (run, str(run), load_run(run))]
    assert pictures == [{"a": ([0, 1, 2], [3.0, 2.0, 1.0])}] * 3


def test_a_live_cockpits_picture_has_its_latest_step(tmp_path):
    model, optimizer = model_and_optimizer()
    with Cockpit(model, optimizer, run=tmp_path / "run", instruments="loss", track=1) as live:
        train(live, model, optimizer)
        figure = PLOT(live, show_plot=False)
        assert lines(figure)["loss"][0] == [0, 1, 2]
        assert any("running" in text for text in texts(figure))
        train(live, model, optimizer)
        assert lines(PLOT(live, show_plot=False))["loss"][0] == [0, 1, 2, 3, 4, 5]
    assert any("finished" in text for text in texts(PLOT(live, show_plot=False)))


def test_a_panel_of_what_did_not_happen_is_left_out(tmp_path):
    model, optimizer = model_and_optimizer()
    with Cockpit(model, optimizer, run=tmp_path / "run", instruments="loss+clip+amp", track=1) as live:
        train(live, model, optimizer)
    words = texts(PLOT(tmp_path / "run", show_plot=False))
    assert not {"Clipping", "Loss scale"} & set(words)
    assert "Performance" in words


def test_drawing_leaves_training_and_its_random_numbers_alone(tmp_path):
    def weights(draw):
        model, optimizer = model_and_optimizer()
        with Cockpit(model, optimizer, run=tmp_path / f"run {draw}", track=1) as live:
            for _ in range(3):
                train(live, model, optimizer)
                if draw:
                    PLOT(live, show_plot=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(draw=True), weights(draw=False))


def test_a_cockpit_that_is_turned_off_has_no_picture(tmp_path):
    assert PLOT(Cockpit(*model_and_optimizer(), enabled=False), savedir=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused_in_words(tmp_path):
    with pytest.raises(TypeError, match="a cockpit, a run or the path of a run was expected, got int"):
        PLOT(3)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        PLOT(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings", "name", "start"), [(None, "p__x.png", b"\x89PNG"), ({"format": "pdf"}, "p__x.pdf", b"%PDF")]
)
def test_a_picture_is_written_as_png_or_pdf(run, tmp_path, capsys, settings, name, start):
    directory = tmp_path / "pictures" / "new"
    PLOT(run, show_plot=False, savedir=directory, savename="p", savename_append="x", savefig_kwargs=settings)
    assert (directory / name).read_bytes().startswith(start)
    assert str(directory / name) in capsys.readouterr().err


def test_it_is_written_only_where_wanted_and_by_default_beside_the_log(run, tmp_path):
    PLOT(run, show_plot=False)
    PLOT(run, show_plot=False, savedir=tmp_path / "none", save_plot=False)
    assert not (tmp_path / "none").exists()
    assert not list(run.glob("*.png"))
    PLOT(run, show_plot=False, save_plot=True)
    assert (run / "cockpit.png").is_file()


def test_a_long_runs_pdf_stays_small(tmp_path):
    run = curve_run(tmp_path / "run", [0.5 * (k % 7) for k in range(20_000)])
    PLOT(run, show_plot=False, savedir=tmp_path, savefig_kwargs={"format": "pdf"})
    assert (tmp_path / "cockpit.pdf").stat().st_size < 100_000


def test_what_comes_after_the_last_step_that_counts_is_left_out(run):
    figure = PLOT(run, show_plot=False, discard=1)
    assert lines(figure)["a"] == ([0, 1], [3.0, 2.0])
    assert any("step 1" in text for text in texts(figure))


def test_the_title_is_the_runs_name_or_what_is_given(run):
    assert "run" in texts(PLOT(run, show_plot=False))
    assert "Mine" in texts(PLOT(run, show_plot=False, plot_title="Mine"))


def test_the_users_settings_of_matplotlib_neither_change_nor_matter(run, tmp_path):
    plain = tmp_path / "plain.png"
    PLOT(run, show_plot=False, savedir=tmp_path, savename="plain")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9, "savefig.dpi": 10}):
        before = dict(mpl.rcParams)
        PLOT(run, show_plot=False, savedir=tmp_path, savename="other")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "other.png").read_bytes() == plain.read_bytes()


def test_without_a_window_to_show_it_in_this_is_said(run, capsys):
    mpl.use("agg")
    assert isinstance(PLOT(run), Figure)
    assert "no window" in capsys.readouterr().err


def test_a_window_is_used_again(run, monkeypatch):
    import matplotlib.pyplot as plt

    shown = []

    class Manager(FigureManagerBase):
        @classmethod
        def pyplot_show(cls, *, block=None):
            shown.append((block, plt.get_fignums()))

    class Canvas(FigureCanvasAgg):
        manager_class = Manager

    backend = types.ModuleType("windows_of_a_test")
    backend.FigureCanvas, backend.FigureManager = Canvas, Manager
    monkeypatch.setitem(sys.modules, "windows_of_a_test", backend)
    try:
        plt.close("all")  # what other tests have left
        mpl.use("module://windows_of_a_test")
        first = PLOT(run, block=True)
        assert PLOT(run, block=True, discard=0) is first
        assert lines(first)["a"] == ([0], [3.0])
        assert shown == [(True, plt.get_fignums())] * 2
        assert len(plt.get_fignums()) == 1
    finally:
        plt.close("all")
        mpl.use("agg")


def test_drawing_imports_neither_torch_nor_plotly_nor_pyplot(run):
    code = (
        "import sys\nfrom cockpit import CockpitPlotter\n"
        f"CockpitPlotter().plot({str(run)!r}, show_plot=False, save_plot=True)\n"
        "sys.exit(bool({'torch', 'plotly', 'dash', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert cockpit.CockpitPlotter is CockpitPlotter
