"""What is taken of a loss while its graph is whole: products with its Hessian, and gradients on the side."""
