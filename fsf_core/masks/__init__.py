"""Class scores to masks: softmax, class map, statistics, PNG, colours. Knows no model, no file and no video."""

from fsf_core.masks.blending import WindowBlend
from fsf_core.masks.class_map import (
    NOT_FINITE,
    ClassMap,
    FrameMask,
    GridWinners,
    class_map_dtype,
    make_mask,
    measure,
    nearest,
    softmax,
)
from fsf_core.masks.count_table import count_table
from fsf_core.masks.labels import decode_label
from fsf_core.masks.palette import colour_map, overlay, voc_colours, voc_palette
from fsf_core.masks.png import PNG_SIGNATURE, decode_png, encode_png
from fsf_core.masks.precompile import compile_kernels, load_kernels
from fsf_core.masks.regions import Regions, find_regions
from fsf_core.masks.row_scan import MapCounts, RowScan
from fsf_core.masks.windows import Side, plan_side

__all__ = [
    "NOT_FINITE",
    "PNG_SIGNATURE",
    "ClassMap",
    "FrameMask",
    "GridWinners",
    "MapCounts",
    "Regions",
    "RowScan",
    "Side",
    "WindowBlend",
    "class_map_dtype",
    "colour_map",
    "compile_kernels",
    "count_table",
    "decode_label",
    "decode_png",
    "encode_png",
    "find_regions",
    "load_kernels",
    "make_mask",
    "measure",
    "nearest",
    "overlay",
    "plan_side",
    "softmax",
    "voc_colours",
    "voc_palette",
]
