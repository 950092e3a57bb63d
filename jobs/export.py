"""Export a checkpoint or an ONNX file to a bundle: model.onnx, its metadata, and a parity report.

On this machine:
    fsf export --net fastsegformer-p --checkpoint weights.pth --classes background,sunburn,ulcer,wind_scarring
        --out bundles/oranges
On a cluster, from a checkout, with the extra `export` (torch, onnx) installed there:
    ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.export --net fastsegformer-p
        --checkpoint s3://models/weights.pth --classes background,sunburn,ulcer,wind_scarring --out s3://models/oranges

Reads   weights (.pth, .pt, .safetensors) with --net, or an ONNX file with --onnx.
Writes  model.onnx, model.fused.onnx (for GPUs, unless the profile is a letterbox), the same per --precisions,
        bundle.json and parity.json. The same request again changes nothing.
Fails   with exit code 2 if the weights do not fit or a parity limit is violated; nothing is left behind then.
Prints  identity of the bundle and result of the parity check as one JSON document, the last line on stdout.
"""

import sys

from fsf_core.cli.app import run

if __name__ == "__main__":
    run(["export", *sys.argv[1:]])
