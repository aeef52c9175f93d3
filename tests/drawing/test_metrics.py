from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.metrics import alike, strips_of

words = st.text(st.sampled_from("ab/"), min_size=1, max_size=4)


def test_metrics_of_one_name_share_a_strip():
    assert strips_of(["valid/loss", "train/loss", "train/lr", "f1"]) == {
        "f1": {"": "f1"},
        "loss": {"train": "train/loss", "valid": "valid/loss"},
        "train/lr": {"": "train/lr"},
    }


@given(st.lists(words, unique=True))
def test_every_metric_is_drawn_once_and_a_curve_beside_others_can_be_told_from_them(keys):
    strips = strips_of(keys)
    assert sorted(key for curves in strips.values() for key in curves.values()) == sorted(keys)
    assert all(len(curves) == 1 or len(set(curves)) == len(curves) for curves in strips.values())


def test_metrics_like_a_word_have_it_in_their_last_part():
    keys = ["valid/loss", "val_loss", "Test-Loss", "lossless", "loss/scale", "accuracy"]
    assert alike(keys, "loss") == ["Test-Loss", "val_loss", "valid/loss"]
    assert alike(keys, "") == []
