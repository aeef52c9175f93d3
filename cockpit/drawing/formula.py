r"""Formulas that a run brings as text: which of them are set as TeX, and which are shown as they were written.

A run may come from anywhere, and TeX in a browser can link, style, load and loop. So only what is known to do nothing
but set symbols is set: the commands of :data:`COMMANDS`, symbols escaped by a backslash, ``^``, ``_`` and braces that
balance. There are no environments, no definitions, no ``$`` and no comments.
"""

from __future__ import annotations

import re

LONGEST = 400  # characters of one equation

_LETTERS = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell nabla partial "
    "infty emptyset top bot"
)
_SIGNS = (
    "cdot cdots dots ldots vdots ddots times circ odot otimes oplus pm mp le leq ge geq ne neq approx sim simeq equiv "
    "propto ll gg in notin subset subseteq cup cap setminus mid parallel perp to mapsto leftarrow rightarrow "
    "Rightarrow implies iff forall exists land lor neg colon prime"
)
_BUILT = (
    "frac tfrac dfrac sqrt sum prod int lim max min sup inf argmax argmin log ln exp sin cos tan tanh det dim ker Pr "
    "operatorname mathrm mathbf mathbb mathcal mathit text hat bar tilde vec dot ddot overline underline overset "
    "underset overbrace underbrace binom left right big Big bigl bigr Bigl Bigr lVert rVert lvert rvert langle rangle "
    "lfloor rfloor lceil rceil Vert vert quad qquad limits displaystyle"
)
COMMANDS = frozenset(f"{_LETTERS} {_SIGNS} {_BUILT}".split())
SYMBOLS = frozenset("{},;:!|_# ")  # what may follow a backslash by itself

_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)


def equations(formula: str) -> list[str]:
    """The formula's equations, one from each line that is not blank."""
    return [line.strip() for line in formula.splitlines() if line.strip()]


def is_tex(equation: str) -> bool:
    r"""Whether an equation may be set as TeX; any other is shown as the text that it is.

    Example:
        >>> is_tex(r"\frac{1}{N} \sum_n l_n"), is_tex(r"\href{https://example.com}{L}")
        (True, False)
    """
    if len(equation) > LONGEST or not equation.isprintable() or equation.endswith("\\"):
        return False
    commands = _COMMAND.findall(equation)
    if not all(command in COMMANDS or command in SYMBOLS for command in commands):
        return False
    rest = _COMMAND.sub("", equation)
    return not set(rest) & set("$%&#~`\\") and _balanced(rest)


def _balanced(text: str) -> bool:
    """Whether every brace is closed, and none before it is opened."""
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0
