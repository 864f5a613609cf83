"""The mathematics: pure functions of tensors. Equation numbers are those of arXiv:2303.01469."""
