"""Weights that are too many for an ONNX file, in a file beside it."""
