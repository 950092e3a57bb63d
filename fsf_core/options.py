"""Every choice that an option or a record offers, named once. Knows no parser, no job and no library."""

from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]
"""Arithmetic of the model that scores."""
SmallPrecision = Literal["fp16", "int8"]
"""Precisions that a bundle may hold beside float32."""

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]
"""Requested execution provider; auto takes the fastest that works."""
ResolvedProvider = Literal["cpu", "cuda", "tensorrt"]
"""Execution provider that a session runs on."""

Pages = Literal["first", "all"]
"""Which pages of a TIFF are scored: the first, or each one as a frame."""

Exporter = Literal["dynamo", "torchscript"]
"""Which of torch's exporters writes the graph."""
PyramidKind = Literal["multiscale", "pooling"]
"""Context module of FastSegFormer."""

FitMode = Literal["stretch", "letterbox", "short-side", "closest-side", "own"]
"""How the resize of an image finds its size: a size without the aspect ratio, or inside a size, by the shorter side,
by the side of a size that changes the image least, or the image's own size."""
Align = Literal["centre", "centre-even", "top-left"]
"""Where an image is placed in its padding, and a crop in the image: odd rests truncated, halves to even, or at the top
left."""
Rounding = Literal["truncate", "half-up", "half-even", "detr"]
"""How the sides of an evenly scaled image become whole numbers: as torchvision, mmcv, Ultralytics, and DETR do it."""
ToMultiple = Literal["pad", "resize", "resize-up", "resize-down"]
"""How a side becomes a multiple: by padding, or by a resize to the nearest, the next, or the previous multiple."""
PaddingMode = Literal["constant", "reflect", "edge"]
"""What padding holds: a colour, the image mirrored without its edge, or its edge."""
Interpolation = Literal[
    "linear",
    "nearest",
    "cubic",
    "area",
    "lanczos",
    "pil-nearest",
    "pil-box",
    "pil-bilinear",
    "pil-hamming",
    "pil-bicubic",
    "pil-lanczos",
    "torch-nearest",
    "torch-nearest-exact",
    "torch-bilinear",
    "torch-bicubic",
    "torch-uint8-bilinear",
    "torch-uint8-bicubic",
    "torchvision-bilinear",
    "torchvision-bicubic",
    "torchvision-lanczos",
    "torchvision-float-bilinear",
    "torchvision-float-bicubic",
]
"""How an image is resized to the network's input: by OpenCV, by Pillow, or as torch and torchvision do it."""
ChannelOrder = Literal["rgb", "bgr"]
"""Order of the channels in the network's input."""
InputLayout = Literal["NCHW", "NHWC"]
"""Order of the axes of a model's input."""
InputType = Literal["float32", "float16", "float64", "uint8"]
"""Type of a model's input."""

OutputKind = Literal["logits", "probabilities", "binary_logit", "binary_probability", "class_map"]
"""What a model's output holds; the binary ones have one channel, of the foreground."""
OutputLayout = Literal["NKHW", "NHWK", "NHW", "N1HW"]
"""Order of the axes of a model's output; K are the classes."""
Resized = Literal["probabilities", "logits"]
"""What is resized to the image before the largest is taken."""
OutputGrid = Literal["own", "input"]
"""Whether the scores stay on the model's own grid, or are enlarged to that of its input first."""
Corners = Literal["half-pixel", "aligned", "asymmetric"]
"""How a resize places its samples: by centres of cells, or with the outermost ones on each other; of a class map also
by the upper left corners of pixels and cells, as `nearest` of PyTorch and OpenCV."""

TarIds = Literal["key", "name"]
"""Ids of the members of tar archives: the path up to the first dot of the name, or the whole path."""

MaskSize = Literal["original", "model"]
"""Size of masks: the image's, or the network's output grid."""
SameBy = Literal["sha256", "version"]
"""How sources are compared: by content, or by size and time (or etag)."""
Style = Literal["blend", "mask"]
"""How a frame is rendered: class colours blended over the image, or alone."""

SelectBy = Literal["uncertainty", "rare", "change", "random", "diversity"]
"""What `fsf select` chooses frames by."""
PublishForm = Literal["delta", "coco", "hf", "png", "label-studio", "cvat"]
"""What a finished run is published as."""
Segmentation = Literal["rle", "rle-uncompressed", "polygon"]
"""How COCO's document holds the pixels of a region."""

Ship = Literal["auto", "always", "never"]
"""Whether a submitted job gets this program's code: if the cluster lacks it, always, or never."""

SCHEMES = ("file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "hf", "memory")
"""URI schemes that may be opened unless a run narrows them."""
