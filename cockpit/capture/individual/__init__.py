"""Individual gradients, each kind of layer by its closed form, and by vectorising where there is none."""
