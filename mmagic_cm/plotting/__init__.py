"""Figures on axes: the curves of runs, metrics against evaluations."""
