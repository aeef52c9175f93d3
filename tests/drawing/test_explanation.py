"""What panels say about each other's quantities."""

from cockpit.drawing.explanation import words_of_panel
from cockpit.panel import Panel


def panel(title, *keys, **words):
    return Panel(title, "lines", f"Read {title}.", keys, **words)


def test_a_panel_speaks_for_itself():
    panels = {"a": panel("A", "a", formula="x"), "b": panel("B", "a", formula="y")}
    assert [words.formula for words in words_of_panel("b", panels)] == ["y"]


def test_a_panel_without_words_has_those_of_its_keys():
    panels = {
        "both": panel("Both", "b", "a", "c"),
        "a": panel("A", "a", formula="x"),
        "again": panel("Again", "a", formula="z"),
        "b": panel("", formula="y", source="a paper"),
    }
    assert [(words.title, words.formula) for words in words_of_panel("both", panels)] == [("b", "y"), ("A", "x")]


def test_where_nobody_says_anything_there_are_no_words():
    assert words_of_panel("a", {"a": panel("A")}) == []
