import itertools
import json
import shutil

import numpy as np
import pytest
from synthetic import write_run
from test_theme import luminance

from cockpit.dashboard.compare import Compare, pairs_of
from cockpit.dashboard.page import Choice
from cockpit.dashboard.side_by_side import DASHES, RUNS, Compared, split
from cockpit.dashboard.sources import MOST_RUNS, Sources
from cockpit.dashboard.theme import DARK, LIGHT
from cockpit.dashboard.view import Look
from cockpit.reading import Reading
from cockpit.store import Header, Store, Writer

HOSTILE = "<img src=x onerror=alert(1)>|b"


@pytest.fixture
def sources(tmp_path):
    write_run(tmp_path / "healthy", 400, seed=0)
    write_run(tmp_path / "faulty", 400, seed=1, fault=True)
    return Sources(Store(tmp_path))


def shown(runs="healthy|faulty", **more):
    return {"view": "Compare", "scheme": "light", "more": {"runs": runs, **more}}


def ranked(sources, **more):
    view, state = Compare(), shown(**more)
    view.rank(sources, state)
    return view, Compared.of(sources, state)


def text_of(component):
    """All text of components, in order."""
    if component is None or isinstance(component, (int, float, dict)):
        return ""
    if isinstance(component, str):
        return component + " "
    if isinstance(component, (list, tuple)):
        return "".join(map(text_of, component))
    return text_of(getattr(component, "children", None))


def test_names_with_a_bar_are_found_where_their_parts_are_no_runs():
    known = {"a", "b", "a|b", "c|d", "e|f|g"}.__contains__
    assert split("a|b", known) == ("a", "b")
    assert split("c|d|a", known) == ("c|d", "a")
    assert split("a|e|f|g|a", known) == ("a", "e|f|g")
    assert split("x|a", known) == ("x", "a")
    assert split("", known) == ()


def test_keys_that_all_runs_have_are_offered_the_loss_first(sources, tmp_path):
    writer = Writer(tmp_path / "other", Header("other", 0.0))
    writer.put(0, 0.0, {"own": Reading(1.0), "grad_norm": Reading(1.0), "loss": Reading(1.0)})
    writer.close()
    assert Compared.of(sources, shown("healthy|other")).available == ("loss", "grad_norm")
    assert Compared.of(sources, shown("other")).available == ("loss", "own", "grad_norm")


def test_layers_that_both_runs_have_are_keys_too(tmp_path):
    for name, layers in (("a", {"fc1": 1.0, "fc2": 2.0}), ("b", {"fc1": 3.0})):
        writer = Writer(tmp_path / name, Header(name, 0.0))
        for step in range(3):
            writer.put(step, 0.0, {"dead": Reading(None, layers)})
        writer.close()
    compared = Compared.of(Sources(Store(tmp_path)), shown("a|b"))
    assert compared.available == ("dead[fc1]",)
    assert [(curve.run, curve.column.values.tolist()) for curve in compared.curves("dead[fc1]")] == [
        ("a", [1.0] * 3),
        ("b", [3.0] * 3),
    ]


def test_a_run_keeps_its_colour_when_another_cannot_be_read(sources):
    compared = Compared.of(sources, shown("healthy|gone|faulty"))
    assert compared.colour("faulty") == RUNS["light"][2]
    assert "gone" in compared.trouble
    assert [curve.colour for curve in compared.curves("loss")] == [RUNS["light"][0], RUNS["light"][2]]


def test_there_are_as_many_colours_and_dashes_as_runs_may_be_compared():
    assert {len(colours) for colours in RUNS.values()} == {MOST_RUNS}
    assert len(set(DASHES)) == MOST_RUNS


def test_lines_and_their_samples_are_dashed_alike(sources):
    compared = Compared.of(sources, {"more": {"runs": "healthy|faulty"}})
    assert [curve.dash for curve in compared.curves("loss")] == ["solid", "9px,4px"]
    solid, dashed = (compared.sample(name) for name in compared.names)
    colours = RUNS["light"]
    assert solid == {"backgroundColor": colours[0]}
    stops = f"{colours[1]} 0px 9px, transparent 9px 13px"
    assert dashed == {"backgroundImage": f"repeating-linear-gradient(90deg, {stops})"}


@pytest.mark.parametrize(("scheme", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_colours_of_runs_stand_out_from_the_paper(scheme, palette):
    for colour in RUNS[scheme]:
        low, high = sorted((luminance(palette.paper), luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


# Machado, Oliveira and Fernandes, A physiologically-based model for simulation of color vision deficiency (2009)
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("scheme", RUNS)
def test_colours_of_runs_are_told_apart_by_colour_blind_readers(scheme, deficiency):
    rgb = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in RUNS[scheme]]) / 255
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    seen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2)) > 0.3


@pytest.mark.parametrize("measure", ["step", "log", "samples", "relative", "wall"])
def test_readings_are_placed_on_every_axis(sources, measure):
    compared = Compared.of(sources, shown(over=measure))
    healthy, _ = compared.curves("loss")
    created = sources.get("healthy").header.created
    last = {
        "step": 391,
        "log": 391,
        "samples": 128 * 392,
        "relative": 0.03 * 391,
        "wall": 1000 * (created + 0.03 * 391),
    }
    assert healthy.x[-1] == pytest.approx(last[measure])
    assert healthy.timeline.of(healthy.column)[-1] == healthy.x[-1]
    assert "learning_rate" in {event.kind for event in healthy.events}
    assert compared.across().title


def test_the_unit_of_time_suits_the_longest_run(tmp_path):
    for name, seconds in (("short", 60.0), ("long", 7200.0)):
        writer = Writer(tmp_path / name, Header(name, 0.0))
        writer.put(0, 0.0, {"loss": Reading(1.0)})
        writer.put(1, seconds, {"loss": Reading(1.0)})
        writer.close()
    compared = Compared.of(Sources(Store(tmp_path)), shown("short|long", over="relative"))
    assert compared.across().title == "minutes of training"
    assert [curve.x[-1] for curve in compared.curves("loss")] == [1, 120]


def test_a_run_without_batch_sizes_is_left_out_of_an_axis_of_samples_in_words(sources, tmp_path):
    writer = Writer(tmp_path / "other", Header("other", 0.0))
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    writer.close()
    view, compared = ranked(sources, runs="healthy|other", over="samples")
    assert "other has not logged its batch size" in view.drawing(compared, "loss").words


def test_the_ranking_names_the_step_and_the_figure_marks_it(sources):
    view, compared = ranked(sources)
    (table,) = view.parting(compared)
    assert "First divergence of healthy and faulty" in text_of(table)
    (pair,) = pairs_of(compared)
    step = next(finding.step for finding in view.rankings.known(compared, pair)[1].apart if finding.key == "loss")
    assert 200 < step < 262
    drawing = view.drawing(compared, "loss")
    assert f"apart for good from step {step} on" in drawing.words
    assert drawing.figure["layout"]["shapes"][0]["x0"] == step


def test_before_it_is_ranked_the_page_says_that_it_is_being_compared(sources):
    assert "Comparing all quantities" in text_of(Compare().parting(Compared.of(sources, shown())))


def test_a_ranking_is_kept_until_a_run_grows(sources):
    view, compared = ranked(sources)
    (pair,) = pairs_of(compared)
    number = view.rankings.known(compared, pair)[0]
    view.rank(sources, shown())
    assert view.rankings.known(compared, pair)[0] == number


def test_runs_that_have_the_names_of_others_from_before_are_ranked_at_once(sources, tmp_path):
    view, compared = ranked(sources)
    (pair,) = pairs_of(compared)
    shutil.rmtree(tmp_path / "faulty")
    write_run(tmp_path / "faulty", 400, seed=0)
    compared = Compared.of(sources, shown())
    assert view.rankings.known(compared, pair) is None
    view.rank(sources, shown())
    assert view.rankings.known(compared, pair)[1].apart == ()


def test_an_unchanged_page_is_not_drawn_again(sources):
    view, compared = ranked(sources)
    drawn = json.loads(json.dumps(view.drawn(compared)))
    assert view.answer(sources, shown(), drawn, list(compared.keys)) is None


def test_other_keys_lay_the_page_out_anew_and_another_scheme_draws_what_is_there(sources):
    view, compared = ranked(sources)
    drawn = view.drawn(compared)
    other = view.answer(sources, shown(key="grad_norm|loss"), drawn, list(compared.keys))
    assert other["keys"] == ["grad_norm", "loss"]
    assert len(other["panels"]) == 2
    dark = view.answer(sources, {**shown(), "scheme": "dark"}, drawn, list(compared.keys))
    assert "panels" not in dark
    assert len(dark["figures"]) == len(compared.keys)


def test_a_run_that_grows_is_drawn_by_changes(sources, tmp_path):
    writer = Writer(tmp_path / "live", Header("live", 0.0))
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    view, compared = ranked(sources, runs="healthy|live", key="loss")
    drawn = view.drawn(compared)
    writer.put(1, 0.1, {"loss": Reading(0.5)})
    writer.close()
    found = view.answer(sources, shown("healthy|live", key="loss"), drawn, ["loss"])
    assert len(found["figures"]) == 1
    assert "panels" not in found


@pytest.mark.parametrize(
    ("runs", "said"), [("", "Choose two runs or more"), ("gone", "None of these runs can be read")]
)
def test_without_runs_the_page_says_what_to_do(sources, runs, said):
    choice = Choice(view="Compare", more={"runs": runs})
    assert said in text_of(Compare().build(Look(sources, choice, None)))


def test_where_no_run_is_named_the_two_newest_are_compared(tmp_path):
    for began, name in enumerate(("oldest", "newer", "newest")):
        Writer(tmp_path / name, Header(name, float(began))).close()
    sources = Sources(Store(tmp_path))
    sources.listing.look()
    assert Compared.of(sources, {"view": "Compare"}).names == ("newest", "newer")
    assert Compared.of(sources, {"run": "oldest"}).names == ("oldest",)


def test_where_no_run_is_named_and_there_is_but_one_the_reader_chooses(tmp_path):
    Writer(tmp_path / "only", Header("only", 0.0)).close()
    sources = Sources(Store(tmp_path))
    sources.listing.look()
    assert Compared.of(sources, {"view": "Compare"}).names == ()


def test_one_run_is_drawn_and_another_asked_for(sources):
    components = Compare().build(Look(sources, Choice(view="Compare", more={"runs": "healthy"}), None))
    assert "Choose another run" in text_of(components)


def test_settings_that_differ_stand_first_and_the_others_unfold(tmp_path):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        Writer(tmp_path / name, Header(name, 0.0, config={"seed": 0, "lr": rate})).close()
    words = text_of(Compare().build(Look(Sources(Store(tmp_path)), Choice(more={"runs": "a|b"}), None)))
    assert words.index("config lr 0.1 0.2") < words.index("1 settings are the same") < words.index("config seed 0")
    assert "These runs have no quantity in common yet" in words


def test_of_very_many_settings_that_differ_the_first_stand_there_and_the_others_unfold(tmp_path):
    for name in ("a", "b"):
        Writer(tmp_path / name, Header(name, 0.0, config={f"s{n:02}": f"{name}{n}" for n in range(30)})).close()
    words = text_of(Compare().build(Look(Sources(Store(tmp_path)), Choice(more={"runs": "a|b"}), None)))
    assert words.index("s19 a19 b19") < words.index("10 more are different") < words.index("s20 a20 b20")


def test_names_stay_text(tmp_path):
    write_run(tmp_path / HOSTILE.replace("/", "-"), 40)
    write_run(tmp_path / "plain", 40)
    sources = Sources(Store(tmp_path))
    compared = Compared.of(sources, shown(f"{HOSTILE.replace('/', '-')}|plain"))
    assert compared.names == (HOSTILE.replace("/", "-"), "plain")
    assert HOSTILE.replace("/", "-") in text_of(Compare().build(Look(sources, Choice(more=shown_more(compared)), None)))


def shown_more(compared):
    return {"runs": "|".join(compared.names)}
