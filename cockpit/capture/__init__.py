"""What is taken from a training step: layer inputs, output gradients, individual losses."""
