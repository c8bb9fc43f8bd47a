"""Torch models to ONNX: graph export, parity check, bundle writer."""
