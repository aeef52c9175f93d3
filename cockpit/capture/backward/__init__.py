"""The backward passes of a step: what they started from, and what each parameter's individual gradients are."""
