"""Where the samples are in the tensors of a step: measured once, and remembered."""
