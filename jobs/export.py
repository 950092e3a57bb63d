"""Checkpoint to bundle: build the network, convert it to ONNX, prove that both answer the same, save.

Here:
    fsf export --net fastsegformer-p --checkpoint WEIGHTS.pth --classes background,sunburn,ulcer,wind_scarring
        --out bundles/oranges
On a cluster:
    ray job submit --working-dir . -- python -m jobs.export --net … --checkpoint s3://… --out s3://…

Reads weights (.pth, .pt, .safetensors) or an ONNX file; needs the `export` extra (torch, onnx).
Writes a folder: model.onnx, model.fused.onnx for GPUs, bundle.json, parity.json. The same request changes nothing.
A model that does not equal the original leaves nothing behind, and the job ends with exit code 2.
The last line on stdout is the bundle's identity and the verdict as one JSON document.
"""

import sys

from fsf_core.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
