"""The screens that come with Cockpit, and the panels that read more than one instrument."""

from __future__ import annotations

from cockpit.panel import LayerColumn, Panel, Place, Screen

PANELS: dict[str, Panel] = {
    "loss_curves": Panel(
        title="Loss",
        kind="lines",
        keys=("loss", "learning_rate"),
        heights=(2.4, 0.8),
        group="now",
        like="loss",
        thresholds=(("loss.chance", "guessing, ln C"),),
        how_to_read="Below the dashed line the network knows more than chance; train and valid part where it overfits.",
        formula=r"L = \frac{1}{N} \sum_n l_n, \qquad L_{\text{guess}} = \ln C",
        good="The mini-batch curve falls below the dashed line within the first steps, and validation follows it.",
        bad="At the dashed line for long: nothing is learned; look at the gradients and the input. "
        "Validation that rises while the mini-batch loss falls: the network overfits.",
        source="As the training computed it; ln C is the loss of equal scores for C classes.",
    ),
    "layer_updates": Panel(
        title="Update over weight, by layer",
        kind="heatmap",
        keys=("update_weight_ratio",),
        group="now",
        yscale="log",
        ylabel="‖s‖ / ‖θ‖",
        limits=(1e-5, 1e-1),
        how_to_read="Around 0.001 is often healthy; a dark row is a layer that stands still, a bright one jumps.",
        formula=r"\frac{\lVert \theta(t+1) - \theta(t) \rVert_2}{\lVert \theta(t) \rVert_2}",
        good="All rows of much the same colour, a little darker as the learning rate falls.",
        bad="A dark row: a layer that nothing trains, or that its learning rate does not reach. A "
        "bright one: weights that are replaced rather than adjusted.",
        source="The measured step of each parameter over its norm before the step, whatever optimizer made it.",
    ),
    "layer_gradients": Panel(
        title="Gradients by layer",
        kind="ridgelines",
        keys=("grad_log_hist",),
        group="now",
        xlabel="log₂ |element|",
        thresholds=(("amp.smallest", "float16 rounds to 0"), ("amp.largest", "float16 overflows")),
        how_to_read="Ridges that drift left from layer to layer are gradients that vanish; outlined: the first step.",
        formula=r"\log_2 |g_{nj}|",
        good="Ridges above each other, far from the limits of the number format.",
        bad="Ridges that move left from the last layer to the first: gradients vanish on their way. A "
        "growing share of zeros: units that are dead, or numbers too small for the format.",
        source="Elements of all individual gradients by floating-point exponent; zeros are counted apart.",
    ),
    "batch_and_noise": Panel(
        title="Batch size and noise",
        kind="lines",
        keys=("noise_scale",),
        group="now",
        yscale="log",
        ylabel="samples",
        band=("noise_scale.low", "noise_scale.high"),
        thresholds=(("batch_size", "batch"),),
        caption="The batch is {} × the noise scale",
        how_to_read="A batch below the noise scale gains from more samples; one far above it wastes computation.",
        formula=r"\frac{S}{|G|^2}, \quad S = \frac{N}{N-1} "
        r"\left( \frac{1}{N} \sum_n \lVert g_n \rVert^2 - \lVert g \rVert^2 \right)",
        good="A noise scale that crosses the batch size during training: small batches early, larger ones later.",
        bad="A batch far above it from the beginning: most samples are wasted. Far below it at the end:"
        " the loss stalls in noise; take a larger batch or a smaller learning rate.",
        source="McCandlish et al., An empirical model of large-batch training (2018), appendix A.1; the "
        "band is two standard errors.",
    ),
    "gradient_sizes": Panel(
        title="Gradient norm and its samples",
        kind="lines",
        keys=("grad_norm",),
        group="now",
        yscale="log",
        ylabel="‖g‖",
        band=("sample_grad_norm.q05", "sample_grad_norm.q95"),
        thresholds=(("clip.threshold", "clipped here"),),
        shares=(("clip", "of the steps clipped"),),
        how_to_read="The band holds 90 % of the samples' norms; a mean far below it is what noise leaves over.",
        formula=r"\lVert g \rVert_2, \quad \lVert g_n \rVert_2",
        good="A norm that changes slowly, below the band of its samples.",
        bad="A jump: look at the batch of that step. Clipped at most steps: the threshold sets the step"
        " size, not the gradient.",
        source="The gradient before clipping and at loss scale 1; 5 and 95 percent quantiles of the samples' norms.",
    ),
    "alpha_strip": Panel(
        title="Alpha over time",
        kind="density",
        keys=("alpha",),
        group="now",
        ylabel="normalised step",
        how_to_read="Below 0 steps end before the valley's floor, above it beyond: good runs lie a little above.",
        formula=r"\alpha = \frac{1}{u_{\min}} - 1",
        good="A median at or a little above 0: steps that reach the valley's floor and go on.",
        bad="A median near −1: the learning rate is too small. Far above 0, or above 1: steps that "
        "climb the other side; the learning rate is too large.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural "
        "networks (2021), section 7.2.2 and appendix C.3.1.",
    ),
    "sharpness": Panel(
        title="Largest curvature and stability",
        kind="lines",
        keys=("hess_max_ev",),
        group="now",
        yscale="log",
        ylabel="λ max",
        error="hess_max_ev.residual",
        thresholds=(("hess_max_ev.stable", "stable below"),),
        how_to_read="Above the dashed line gradient descent diverges; adaptive optimizers have no such line.",
        formula=r"\lambda_{\max}(H) < \frac{2 (1 + \beta)}{\eta}",
        good="A curvature that rises to the dashed line and stays there, or well below it.",
        bad="Above the line for long: the loss is about to rise; lower the learning rate.",
        source="Lanczos' method; the limit of SGD with momentum after Cohen et al., Gradient descent on "
        "neural networks typically occurs at the edge of stability (2021).",
    ),
    "distances": Panel(
        title="Distance and update size",
        kind="lines",
        keys=("distance", "update_size"),
        group="steps",
        yscale="log",
        how_to_read="A distance that stalls while updates go on means diffusion; tiny updates mean a stuck optimizer.",
        formula=r"\text{distance} = \lVert \theta(t) - \theta(0) \rVert_2"
        "\n"
        r"\text{update size} = \lVert \theta(t+1) - \theta(t) \rVert_2",
        good="A distance that grows like the root of the steps and flattens as the learning rate falls.",
        bad="A distance that stands still beside large updates: the optimizer jumps to and fro. An update size of 0 "
        "in one layer: nothing trains it.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks (2021), "
        "section 7.2.3.",
    ),
    "gradient_tests": Panel(
        title="Gradient tests",
        kind="gauge",
        keys=("norm_test", "inner_test", "ortho_test"),
        group="gradients",
        how_to_read="The further the circle and bands reach, the more of the mean gradient is sampling noise.",
        formula=r"\theta_{\text{norm}} = \sqrt{\frac{1}{N (N - 1)} "
        r"\left[ \frac{\sum_n \lVert g_n \rVert^2}{\lVert g \rVert^2} - N \right]}"
        "\n"
        r"\theta_{\text{inner}} = \sqrt{\frac{1}{N (N - 1)} "
        r"\left[ \frac{\sum_n \langle g_n, g \rangle^2}{\lVert g \rVert^4} - N \right]}"
        "\n"
        r"\nu_{\text{ortho}} = \sqrt{\frac{1}{N (N - 1)} \sum_n "
        r"\left( \frac{\lVert g_n \rVert^2}{\lVert g \rVert^2} "
        r"- \frac{\langle g_n, g \rangle^2}{\lVert g \rVert^4} \right)}",
        good="Areas well within the arrow's length early in training, growing slowly as the loss falls.",
        bad="A norm test at 1: the mean gradient is nothing but noise. A larger batch or a smaller learning rate "
        "makes progress cheaper; at 0.7 noise and signal are equal.",
        source="Byrd et al., Sample size selection in optimization methods for machine learning (2012), eq. (3.9); "
        "Bollapragada et al., Adaptive sampling strategies for stochastic optimization (2017), eqs. (2.6) and (3.3); "
        "eqs. (C.20), (C.26) and (C.33) of the Cockpit paper.",
        layers=(
            LayerColumn(
                "Noise",
                "norm_test.mean_sq_norm",
                over="norm_test.grad_sq_norm",
                scale="log",
                place=30,
                how_to_read="Mean ‖g_n‖² over ‖g‖²: 1 where all samples agree, the batch size for pure noise.",
            ),
        ),
    ),
    "hyperparameters": Panel(
        title="Hyperparameters",
        kind="lines",
        keys=("learning_rate", "batch_size"),
        group="bottom",
        how_to_read="What the schedule did: look here first when every other panel bends at the same step.",
        formula=r"\eta(t), \; N(t)",
        good="The schedule that you meant.",
        bad="A learning rate that falls too early or never; a last batch of another size in every epoch.",
        source="The learning rate of the optimizer's first group; the batch size is that of the model's input.",
    ),
    "performance": Panel(
        title="Performance",
        kind="lines",
        keys=("loss",),
        user_metrics=True,
        group="bottom",
        ylabel="loss",
        how_to_read="Mini-batch loss, raw and smoothed, above whatever the training script logs.",
        formula=r"L = \frac{1}{N} \sum_n l_n",
        good="Falling, and the validation metrics with it.",
        bad="Flat from the beginning: look at the gradients and the input. Falling while validation gets worse: the "
        "network overfits. NaN: look at what grew just before.",
        source="As the training computed it; with a sum reduction the sum.",
    ),
    "overhead": Panel(
        title="Cost of the cockpit",
        kind="lines",
        keys=("cockpit.overhead",),
        group="bottom",
        ylabel="extra time",
        how_to_read="Share of the training time spent in instruments so far: 0.1 means ten percent.",
        formula=r"\frac{t_{\text{with instruments}}}{t_{\text{without}}} - 1",
        good="At or below the budget, by default 0.1.",
        bad="Far above it for long: fix the schedule with track=, or choose a smaller configuration.",
        source="Tracked steps against the plain steps between them, medians of each.",
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

NOW = Screen(
    name="Now",
    columns=3,
    places=(
        Place("loss_curves", column=0, row=0),
        Place("layer_updates", column=1, row=0),
        Place("layer_gradients", column=2, row=0),
        Place("batch_and_noise", column=0, row=1),
        Place("gradient_sizes", column=1, row=1),
        Place("sharpness", column=2, row=1),
        Place("alpha_strip", column=2, row=1),  # where the curvature is not tracked
    ),
    paper=False,
)

SCREENS = (NOW, CLASSIC)
