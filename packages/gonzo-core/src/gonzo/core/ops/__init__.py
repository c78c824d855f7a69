"""Differentiable tensor operations, each with a reference and kernels tested against it."""
