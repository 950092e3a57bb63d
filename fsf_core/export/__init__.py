"""From a checkpoint to a bundle: build the network, convert it to ONNX, verify that both answer alike.

The only part of fsf_core that imports torch; scoring never comes here.
"""
