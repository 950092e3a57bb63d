"""From a checkpoint to a bundle: build the network, convert it to ONNX, verify that both are equal.

The only part of fsf_core that imports torch, beside the demo's model; scoring never imports it.
"""
