"""Measuring a model on labelled data: metrics, curves, the images that go worst, and the choice of a threshold."""
