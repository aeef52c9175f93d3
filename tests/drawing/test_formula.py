"""Which formulas are set as TeX."""

import pytest

from cockpit.drawing.formula import LONGEST, equations, is_tex


@pytest.mark.parametrize(
    "equation",
    [r"\frac{1}{N} \sum_n l_n", r"\{\, g_{nj} \mid n = 1 \dots N \,\}", r"\lVert g \rVert < 1", r"\text{loss scale}",
     "x", r"\left( \frac{a}{b} \right)^2", "‖g‖"],
)  # fmt: skip
def test_symbols_are_set(equation):
    assert is_tex(equation)


@pytest.mark.parametrize(
    "equation",
    [r"\href{javascript:alert(1)}{x}", r"\url{x}", r"\require{html}", r"\class{a}{b}", r"\style{a}{b}", r"\def\a{b}",
     r"\newcommand{\a}{b}", r"\input{a}", r"\unicode{60}", r"\begin{matrix}a\end{matrix}", "a $ b", "a % b", "a & b",
     "`a`", "a\x00", "a\u202eb", r"{a", r"a}", r"}{", "a\\", "x" * (LONGEST + 1), r"\includegraphics{a}",
     r"\data{a}{b}"],
)  # fmt: skip
def test_everything_that_could_do_more_stays_text(equation):
    assert not is_tex(equation)


def test_each_line_is_an_equation_of_its_own():
    assert equations("a\n\n  b \n") == ["a", "b"]
    assert equations("") == []
