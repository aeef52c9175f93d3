import pytest

from cockpit.tracking.occasions import Evaluations, RateChanges


def told(*rates):
    changes = RateChanges()
    return [changes.told([rate] if isinstance(rate, float) else rate) for rate in rates]


def test_a_rate_that_stands_still_says_nothing():
    assert told(0.1, 0.1, 0.1) == ["", "", ""]


def test_a_step_of_the_schedule_is_told_every_time():
    assert told(0.1, 0.1, 0.01, 0.01, 0.001) == [
        "", "", "learning rate 0.1 → 0.01", "", "learning rate 0.01 → 0.001",
    ]  # fmt: skip


def test_a_rate_that_always_changes_is_told_where_it_begins_to():
    cosine = [0.1, 0.1, 0.0999, 0.0995, 0.0988, 0.0978, 0.0965]
    assert [bool(words) for words in told(*cosine)] == [False, False, True, False, False, False, False]


def test_a_restart_stands_out_of_a_schedule():
    words = told(0.1, 0.09, 0.08, 0.07, 0.1, 0.09, 0.08)
    assert [bool(said) for said in words] == [False, True, False, False, True, False, False]
    assert told(0.10, 0.09, 0.08, 0.07, 1.0)[-1] == "learning rate 0.07 → 1"


def test_warm_up_from_zero_is_told_once():
    assert [bool(words) for words in told(0.0, 0.01, 0.02, 0.03, 0.03, 0.03)] == [False, True] + [False] * 4


def test_a_change_of_one_group_names_it():
    assert told([0.1, 0.1], [0.1, 0.01])[1] == "learning rate of group 1 0.1 → 0.01"
    assert told([0.1, 0.2], [0.01, 0.02])[1] == "learning rate 0.1 → 0.01"


def test_another_number_of_groups_says_nothing():
    assert told([0.1], [0.1, 0.2], [0.1, 0.2]) == ["", "", ""]


@pytest.mark.parametrize("name", ["valid/accuracy", "val_loss", "test.f1", "Eval/Loss", "loss/dev"])
def test_evaluations_are_told_by_their_names(name):
    assert Evaluations().told(7, ["train/loss", name]) == f"logged {name}"


@pytest.mark.parametrize("name", ["train/loss", "accuracy", "latest", "validity", "lr"])
def test_metrics_of_training_are_no_evaluation(name):
    assert Evaluations().told(7, [name]) == ""


def test_an_evaluation_is_told_once_for_its_step():
    evaluations = Evaluations()
    assert evaluations.told(7, ["valid/loss"])
    assert not evaluations.told(7, ["valid/accuracy"])
    assert evaluations.told(20, ["valid/loss"])


def test_metrics_that_are_logged_step_by_step_are_told_once():
    evaluations = Evaluations()
    assert [bool(evaluations.told(step, ["valid/loss"])) for step in range(5)] == [True, False, False, False, False]
