"""The screens that come with Cockpit, and the panels that read more than one instrument."""

from __future__ import annotations

from cockpit.panel import Panel, Place, Screen

PANELS: dict[str, Panel] = {
    "distances": Panel(
        title="Distance and update size",
        kind="lines",
        keys=("distance", "update_size"),
        group="steps",
        yscale="log",
        how_to_read="A distance that stalls while updates go on means diffusion; tiny updates mean a stuck optimizer.",
    ),
    "gradient_tests": Panel(
        title="Gradient tests",
        kind="gauge",
        keys=("norm_test", "inner_test", "ortho_test"),
        group="gradients",
        how_to_read="The further the circle and bands reach, the more of the mean gradient is sampling noise.",
    ),
    "hyperparameters": Panel(
        title="Hyperparameters",
        kind="lines",
        keys=("learning_rate", "batch_size"),
        group="bottom",
        how_to_read="What the schedule did: look here first when every other panel bends at the same step.",
    ),
    "performance": Panel(
        title="Performance",
        kind="lines",
        keys=("loss",),
        user_metrics=True,
        group="bottom",
        ylabel="loss",
        how_to_read="Mini-batch loss, raw and smoothed, above whatever the training script logs.",
    ),
    "overhead": Panel(
        title="Cost of the cockpit",
        kind="lines",
        keys=("cockpit.overhead",),
        group="bottom",
        ylabel="extra time",
        how_to_read="Share of the training time spent in instruments so far: 0.1 means ten percent.",
    ),
}

CLASSIC = Screen(
    name="Classic",
    columns=3,
    places=(
        Place("alpha", column=0, row=0),
        Place("distances", column=0, row=1),
        Place("grad_norm", column=0, row=2),
        Place("gradient_tests", column=1, row=0),
        Place("grad_hist_1d", column=1, row=1),
        Place("grad_hist_2d", column=1, row=2),
        Place("hess_max_ev", column=2, row=0),
        Place("hess_trace", column=2, row=1),
        Place("tic_diag", column=2, row=2),
        Place("hyperparameters", column=0, row=3),
        Place("performance", column=1, row=3, width=2),
    ),
    headings=("Step size", "Gradients", "Curvature"),
)

SCREENS = (CLASSIC,)
