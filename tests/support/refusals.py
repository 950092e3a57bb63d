"""Every refusal of the commands: the words that cause it, the sentence that follows, and where the sources raise it.

Knows messages and files. Starts nothing.
"""

import ast
import dataclasses
import gzip
import hashlib
import json
import math
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from onnx import TensorProto, helper, numpy_helper

import fsf_core
from fsf_core import errors
from fsf_core.config import ExportConfig
from fsf_core.export.job import export
from fsf_core.export.model_files import MAX_FILES
from fsf_core.export.parity import ParityLimitError
from fsf_core.model.bundle import canonical_json
from tests.support import assets, clips
from tests.support.tiny_net import build
from tests.support.tiny_onnx import tiny_onnx

HOME = Path(fsf_core.__file__).parent

RUNS = ("runs/finished", "runs/unfinished", "runs/new/run")
"""The run folders at which a command is tried; nothing exists at the last one."""

NEW = RUNS[2:]
BEGUN = RUNS[:2]
FINISHED = RUNS[:1]

_SCORED = "--manifest items --provider cpu --segment-frames 8 --overlays --render blend --out {run}"
SCORE = f"score --bundle bundle {_SCORED}"
_TILED = f"{SCORE.replace('--render blend ', '')} --tile"
_MODEL = "export --out {run} --model"
_NET = "--net tests.support.tiny_net:build --classes background,sunburn,ulcer,wind_scarring"
CHECKPOINT = f"score {_NET} --profile fastsegformer --checkpoint weights/other.pth {_SCORED}"
_EXPORT = "export --exporter torchscript --profile fastsegformer --out {run}"
_TINY = f"{_EXPORT} {_NET}"
_NETS = f"{_EXPORT} --classes a,b,c,d --net refused_nets"
_ONNX = "export --profile fastsegformer --classes a,b,c,d --out {run} --onnx onnx"
_NOT_GIVEN = _ONNX.replace("--profile fastsegformer ", "")
_MANIFEST = "score --bundle bundle --provider cpu --out {run} --manifest"
_BUNDLE = f"score {_SCORED} --bundle bundles"
_PUBLISH = "publish {run} --to"
_WEIGHTS = f"{_TINY} --checkpoint"
_EVALUATE = "evaluate labels/ids --classes a,b"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A command that is refused."""

    error: type[errors.RunError]
    words: str
    """The command line; variables may come first. {run} is a run folder."""
    message: str
    """A part of the message that is printed."""
    source: str
    """A part of the call that raises it: of its constant text or of its code."""
    at: tuple[str, ...]


def _refusal(words: str, message: str, source: str = "", *, at: tuple[str, ...] = RUNS) -> tuple[str, str, str, tuple]:
    return words, message, source or message, at


_TABLE = {
    errors.ConfigError: (
        # sources of options
        _refusal(f"{SCORE} --config list.yaml --config list.yaml", "--config is given"),
        _refusal(f"{SCORE} --config gone.yaml", "expected a YAML file; check the path"),
        _refusal(f"{SCORE} --config items/good.jpg", "expected a YAML mapping"),
        _refusal(f"{SCORE} --config list.yaml", "expected a mapping of option to value"),
        _refusal(f"{SCORE} --config unknown.yaml", "unknown option bundel in unknown.yaml", "in {file}"),
        _refusal(f"{SCORE} --bundel bundle", "did you mean --bundle? See fsf score --help.", " See fsf "),
        _refusal("render {run} --stile mask", "See fsf render --help.", " See fsf "),
        _refusal("verify {run} --fix", "See fsf verify --help.", " See fsf "),
        _refusal(f"FSF_SCORE_BUNDEL=bundle {SCORE}", "unknown variable "),
        _refusal(f"--log-format xml {SCORE}", "expected text or json; correct it"),
        _refusal(f"{SCORE} --log-format text --log-format=json", "expected text or json once"),
        _refusal(f"{SCORE} --limit 4.5", "expected a whole number; correct it"),
        _refusal(
            f"{_MANIFEST} lists/labels.csv --mask-size model",
            "label is compared pixel by pixel; pass --mask-size original",
        ),
        # jobs for a cluster
        _refusal("submit -- demo {run}", ", expected a command of fsf after --"),
        _refusal("submit --attach one -- verify {run}", "found --attach with a command or --submission-id"),
        _refusal("submit --submission-id a/b -- verify {run}", "the job id is "),
        _refusal("submit --reconnect-s 0 -- verify {run}", "--reconnect-s is 0.0", " is …, expected at least …"),
        _refusal("submit -- verify {run}", ", a path of this machine that the cluster does not know; "),
        _refusal(
            "submit -- export --config attached.yaml --net x:y --classes a,b --out s3://a/b",
            "--model-config names unknown.yaml in a file or a variable",
            " in a file or a variable, expected it on the command line",
        ),
        _refusal("submit -- verify s3://scores/today", "no cluster is named, "),
        _refusal("submit --address HEAD:8265 -- verify s3://scores/today", "; pass it with --address"),
        _refusal(
            "submit --address http://127.0.0.1:9 --headers [] -- verify s3://scores/today",
            " is no JSON object of text",
        ),
        _refusal(
            "submit --address http://127.0.0.1:9 --verify gone.pem -- verify s3://scores/today",
            "expected true, false, or a file of certificates",
        ),
        # choices
        _refusal("select {run} --n 0", "--n is "),
        _refusal("select {run} --min-gap-s nan", "--min-gap-s is "),
        _refusal("select {run} --by change", "found --by change without --against"),
        _refusal("select {run} --against {run}", "expected --by change; leave one of them out"),
        _refusal("select {run} --out next.tsv", "expected a file that ends in "),
        _refusal("select {run} --out next.csv --exclude next.csv", ", which --exclude reads, expected another file"),
        _refusal("select {run} --where \"kamera == 'B'\"", ", the table masks of the run has ", at=BEGUN),
        # drift
        _refusal("diff {run} {run} --draws 5", "--draws is 5", " is …, expected at least …"),
        _refusal("trend", "no run is named, "),
        _refusal("trend runs/unfinished", " runs has finished, expected a reference; "),
        # series
        _refusal("prune runs", "nothing says what is kept; pass --keep 30d"),
        _refusal("prune runs --keep 30", ", expected an age such as 30d, 12w or 48h; correct it"),
        _refusal("prune runs --keep-last 0", "--keep-last is "),
        _refusal("prune / --keep 30d", " is no folder of runs; give the folder above"),
        _refusal("prune runs --keep 30d", " holds no runs with a date in their names"),
        _refusal("runs runs/gone", " holds no runs with a date in their names"),
        _refusal("prune {run} --keep 30d", " is one run, expected the folder above several", at=BEGUN),
        _refusal("prune runs/{{date:%d}} --keep 30d", " has folders that do not show their date"),
        _refusal("runs runs --last 0", "--last is "),
        # values of options
        _refusal("report {run} --pictures 61", "--pictures is 61, expected 0 to 60", "--pictures is "),
        _refusal("report {run} --picture-px 8", "--picture-px is 8, expected 64 to 2048", "--picture-px is "),
        _refusal("report {run} --out report.pdf", "expected a name that ends in .html"),
        _refusal(f"{_EXPORT} --net x:y --classes a,,b", "expected names between the commas"),
        _refusal(f"{_EXPORT} --net x:y --classes [a", ", expected a list of JSON such as "),
        _refusal(f"{_EXPORT} --net x:y --classes '\"a,b'", ", expected quotes around whole names; "),
        _refusal(f"{_EXPORT} --net x:y --classes @gone.txt", ", which cannot be read: ", "--classes names the file "),
        _refusal(f"{_EXPORT} --net x:y --classes @unknown.yaml", ", which holds no class names; "),
        _refusal(f"{_EXPORT} --net x:y --config classes.yaml", "; put yes, no and null in quotes"),
        _refusal(f"{_ONNX}/opset12.onnx".replace("--classes a,b,c,d", ""), "no class names are given, and "),
        _refusal(f"{_TINY} --palette red", "expected six hexadecimal digits per colour"),
        _refusal(f"{_TINY} --mean 0,half,0", "expected numbers between the commas"),
        _refusal(f"{_TINY} --net-option depth", "expected key=value; correct it"),
        _refusal(f"{_TINY} --net-option a=1 --net-option a=2", "is given twice, expected one value"),
        _refusal(f"{_TINY} --onnx m.onnx", "found --onnx with --net or --checkpoint"),
        _refusal(f"{_EXPORT} --classes a,b", "no model is named"),
        _refusal(
            f"{_TINY} --weights-key ema", "found --weights-key without --checkpoint", " without --checkpoint; add it"
        ),
        _refusal(f"{SCORE} --weights-key ema", "found --weights-key beside --bundle", "expected --bundle alone"),
        _refusal(f"{_EXPORT} --net fastsegformer-p --classes a,b", "comes without weights; pass --checkpoint"),
        _refusal(f"{_EXPORT} --net x:y --classes a,a", "expected at least two names, none empty, no two equal"),
        _refusal(f"{SCORE}/{{{{hour}}}}", "expected {date} or {date:FORMAT}; correct it"),
        _refusal(f"{SCORE} --date 2024-11-20", "expected a folder for every date; write {date} into --out"),
        _refusal(f"{SCORE} --reuse latest", "expected a folder for every date; write {date} into --out"),
        _refusal(f"{SCORE}/{{{{date:%d}}}} --reuse latest", "--reuse latest needs folders that show their date"),
        _refusal(f"{SCORE}/{{{{date}}}} --date 2999-01-01", ", which is in the future: it is "),
        _refusal(f"{SCORE}/{{{{date}}}} --date 2023-02-29", ", and there is no such day; correct it"),
        _refusal(f"{SCORE}/{{{{date}}}} --date 20.11.2024", ", expected a day such as 2026-11-20, today or "),
        _refusal(f"{SCORE}/{{{{date}}}} --date 2024-11-20..2024-11-18", ", whose first day is after its last"),
        _refusal(f"{SCORE}/{{{{date}}}} --date 2024-11-20T03..2024-11-21", ", expected days in a range; "),
        _refusal(f"{SCORE}/{{{{date:%F-%H}}}} --date 2024-11-20..2024-11-21", ", and --out has a time of the day"),
        _refusal(f"{SCORE}/{{{{date}}}} --timezone Mars/Olympus", ", expected UTC or a zone that this machine knows"),
        _refusal(f"{SCORE} --shard 3/2", "expected i/n with i from 1 to n"),
        _refusal(f"{SCORE} --sample 0", "expected a share above 0 and up to 1"),
        _refusal(f"{SCORE} --min-region-px 9", "expected both or neither; add --regions"),
        _refusal(f"{SCORE} --overlap 8", " without --tile, expected both or neither"),
        _refusal(f"{_TILED} --overlap=-1", "--overlap is -1, expected ", "--overlap is …, expected at least 0"),
        _refusal(
            f"{SCORE} --tile", " beside --render blend, expected one of them: windows ", ": windows are scored at "
        ),
        _refusal(
            f"{_TILED} --overlap 113", "--overlap is 113, expected at most 112, half a window ", ", half a window "
        ),
        _refusal(f"{SCORE} --checkpoint weights.pth", "expected one of them; give the model once"),
        _refusal(f"score {_SCORED} --checkpoint weights.pth", "found --checkpoint without --net or --classes"),
        _refusal(f"{SCORE} --net x:y", "expected --bundle alone; leave them out"),
        _refusal(f"{SCORE} --batch-frames 0", "expected at least 1", "flag(name)"),
        _refusal(f"{SCORE} --gpus-per-actor 2", " to 1: an actor runs on one card"),
        _refusal(f"{SCORE} --gpus-per-actor 0.5", " beside --provider cpu, expected a GPU to share"),
        _refusal(f"{SCORE.replace('cpu', 'cuda')} --precision int8", ", expected --provider cpu: it is quantized for "),
        _refusal(
            f"{SCORE} --engine-cache engines",
            " beside --provider cpu, expected --provider tensorrt",
            ", expected --provider tensorrt",
        ),
        _refusal(f"{SCORE.replace('cpu', 'tensorrt')} --engine-cache s3://b/e", ", expected a folder on each node; "),
        _refusal(f"{SCORE} --limit 0", "expected at least 1", "flag(name)"),
        _refusal(f"{SCORE} --actors 4-", "expected a number such as 8, or a range such as 4-32"),
        _refusal(f"{SCORE} --actors 8-4", "expected at least 1, and the smaller number first"),
        _refusal(f"{SCORE} --wait-s nan", "--wait-s is "),
        _refusal(f"{SCORE} --max-failed-share 2", "expected 0 to 1"),
        _refusal(f"{SCORE} --fps 2 --every-nth 2", "exclude each other", "; correct one of "),
        _refusal("bench --bundle bundle --manifest items --frames 0", "--frames is "),
        _refusal(
            "bench --bundle bundle --manifest items --actors 0",
            "--actors is 0, expected at least 1",
            "--actors is …, expected at least",
        ),
        # gates
        _refusal(f"{SCORE} --price-hour=-1", "--price-hour is -1, expected 0 to ", "--price-hour is ", at=FINISHED),
        _refusal(f"{SCORE} --fail-if 'frames < < 3'", "has '<' at character 9, ", "; write it like ", at=FINISHED),
        _refusal(f"{SCORE} --fail-if 'frames > limit'", "has `limit` at character 9", "; write it like ", at=FINISHED),
        _refusal(f"{SCORE} --fail-if 'ratio.leaf > 0.5'", "unknown name ratio.leaf", "; write it like ", at=FINISHED),
        _refusal(f"{SCORE} --fail-if 'frames < 3' --fail-if 'miou < 0.5'", "needs labels", "; write it like ", at=NEW),
        _refusal(f"{SCORE} --against {{run}}", ", which is --out too, expected another run", at=FINISHED),
        _refusal(f"{SCORE} --against runs/unfinished", " has not finished, expected a finished run", at=NEW),
        # options against the bundle, the list and the tables
        _refusal(f"{SCORE} --palette 000000", "different entries, expected one for each of the bundle's "),
        _refusal(f"{SCORE} --where label==", "write it like "),
        _refusal(f"{SCORE} --where \"color == 'red'\"", ", the manifest has "),
        _refusal(f"{SCORE} --where id>3", "; write a value of that type"),
        _refusal(f"{SCORE} --where \"{'(' * 200}label == 'a'{')' * 200}\"", "brackets and negations more than "),
        _refusal(f'{SCORE} --where "{" or ".join(["id == 1"] * 2000)}"', " conditions under one "),
        _refusal(f"{_MANIFEST} lists/text.csv --column-types n=number", "expected name=type with a type such as "),
        _refusal(f"{_MANIFEST} lists/text.csv --column-types id=int64", ", which is always text; leave it out"),
        _refusal(
            f"{_MANIFEST} lists/text.csv --column-types n=int64,n=int8", " twice, expected one type; give it once"
        ),
        _refusal(f"{_MANIFEST} lists/text.csv --column-types m=int64", "--column-types names the column "),
        _refusal(f"{SCORE} --column-types n=int64", " is for lists in CSV, TSV or JSON"),
        _refusal(f"{_MANIFEST} lists/text.csv --where n=={2**60}", "expected a number below 2**53; quote it"),
        _refusal(f"{SCORE} --exclude a**b", "--exclude is a**b, expected patterns", "expected patterns with *"),
        _refusal(f"{SCORE} --tar-ids name", "is for tar archives", "; leave the option out"),
        _refusal(f"{SCORE} --delta {{run}}/tables", "which is inside a run, expected a folder of its own"),
        _refusal(f"{SCORE} --delta runs/other", "which is inside a run, expected a folder of its own"),
        _refusal(f"{SCORE} --reuse {{run}}", "which is --out too; resuming needs no --reuse"),
        # items of a run
        _refusal("inspect {run} item", "; ids look like ", at=BEGUN),
        _refusal("render {run} item", "; ids look like ", at=BEGUN),
        _refusal("inspect {run} cut.jpg --png look.png", "in this run; see its failures with `fsf inspect`", at=BEGUN),
        _refusal("inspect {run} good.jpg --png look.jpg", "expected a name that ends in .png", at=BEGUN),
        # a run in another shape
        _refusal(f"{_PUBLISH} png --out out --segmentation rle", "found --segmentation with --to png", " with --to "),
        _refusal(f"{_PUBLISH} hf --out out --shard-mb 0", "--shard-mb is 0", "--shard-mb is …"),
        _refusal(f"{_PUBLISH} png --out {{run}}/below", "which is part of a run", at=FINISHED),
        _refusal(f"{_PUBLISH} delta --out {{run}}/below", "which is inside a run", at=FINISHED),
        _refusal(f"{_PUBLISH} label-studio --out out", "found frames of videos", at=FINISHED),
        _refusal(f"{_PUBLISH} png --out out --items lists/no_uri.csv", " items that are not in the run", at=FINISHED),
        _refusal(f"{_PUBLISH} png --out out --items lists/frame.csv", " frames that are not in the run", at=FINISHED),
        _refusal(f"{_PUBLISH} png --out out --items lists/nothing.csv", " lists nothing, ", at=FINISHED),
        # the network and its export
        _refusal(f"{_TINY} --model weights.pth", "found --model with --onnx, --net or --checkpoint"),
        _refusal(f"{_MODEL} gone", " does not exist, expected a file or a folder; "),
        _refusal(f"{_MODEL} empty", " is an empty folder, expected ", "_why_no_model"),
        _refusal(f"{_MODEL} weights.pth", "--model weights.pth is a checkpoint, ", "_why_no_model"),
        _refusal(f"{_MODEL} many", " expected the folder of one model; name that folder"),
        _refusal(_TINY.replace("--profile fastsegformer", "--profile none"), "is unknown; choose one of "),
        _refusal(_TINY.replace("--profile fastsegformer", ""), "is not known: missing are ", "_question"),
        _refusal(CHECKPOINT.replace("--profile fastsegformer", ""), "is not known: missing are ", "_question", at=NEW),
        _refusal(f"{_NOT_GIVEN}/plain.onnx --input-size 224x224 --scale 1", "missing are ", "ConfigError(_question("),
        _refusal(f"{_ONNX}/size.onnx", " is fixed at 512x512, but profile ", " too if only the size differs"),
        _refusal(
            f"{_ONNX}/size.onnx --input-size 224x224",
            ", but the size is given as ",
            " is given as …; leave it out ConfigError",
        ),
        _refusal(f"{_ONNX}/size.onnx --input-layout NHWC", " of the input is given as "),
        _refusal(f"{_NOT_GIVEN}/size.onnx --resize own", "; export the model again with free height and width"),
        _refusal(
            f"{_TINY} --short-side 256",
            "found short_side with resize stretch, expected it with",
            " alone; leave it out, or",
        ),
        _refusal(
            f"{_TINY} --uncovered stretch",
            "found uncovered without crop, expected both or neither",
            " without …, expected both or neither; add it",
        ),
        _refusal(
            f"{_TINY} --resize short-side --short-side 9 --max-long-side 8", " below short_side 9", " below short_side "
        ),
        _refusal(f"{_TINY} --resize letterbox --rounding detr", "found rounding detr with resize letterbox"),
        _refusal(
            f"{_TINY} --multiple-of 9", "found size 224x224 with multiple_of 9", "expected both sides to be multiples"
        ),
        _refusal(f"{_TINY} --crop 96x96 --uncovered sky", "uncovered is 'sky'", "uncovered is ", at=NEW),
        _refusal(f"{_ONNX}/uint8.onnx", ", which takes the levels 0 to 255 as they are"),
        _refusal(f"{_TINY} --input-size original", "expected HEIGHTxWIDTH in pixels", "KEYS[section][key].expected"),
        _refusal(f"{_TINY} --model-config gone.yaml", "; expected a YAML file"),
        _refusal(f"{_TINY} --model-config list.yaml", " without sections, expected "),
        _refusal(f"{_TINY} --model-config sections.yaml", ", expected the sections "),
        _refusal(f"{_TINY} --model-config keys.yaml", ", expected keys out of ", ", expected keys "),
        _refusal(f"{_NOT_GIVEN}/inputs.onnx", ", expected the images alone: "),
        _refusal(f"{_NOT_GIVEN}/integers.onnx", "; export the model with one of these"),
        _refusal(f"{_NOT_GIVEN}/grey.onnx", "; export the model with such an input"),
        _refusal(
            f"{_ONNX}/softmax.onnx --output-kind logits",
            "the output is given as logits",
            "the output is given as ",
            at=NEW,
        ),
        _refusal(
            f"{_ONNX}/softmax.onnx --resized logits", " holds no logits that could be resized", "leave out", at=NEW
        ),
        _refusal(
            f"{_ONNX}/no_resize.onnx --output-grid input",
            ", which opset 10 of the model cannot do",
            " of the model cannot do: ",
            at=NEW,
        ),
        _refusal(f"{_ONNX}/sigmoid.onnx", "; pass --output-kind probabilities or --output-kind logits", at=NEW),
        _refusal(f"{_ONNX}/plain.onnx --output-layout NHW", "the layout of the output is given as ", at=NEW),
        _refusal(f"{_ONNX.replace(',c,d', '')}/ids.onnx", "; pass --classes with one name for each id", at=NEW),
        _refusal(f"{_ONNX}/one.onnx", ": the scores of one foreground class", at=NEW),
        _refusal(f"{_ONNX}/zero.onnx", " everywhere on the drawn images", at=NEW),
        _refusal(f"{_ONNX}/nan.onnx", "the output holds NaN or infinity", at=NEW),
        _refusal(f"{_ONNX}/flat.onnx", ", expected numbers on a grid", at=NEW),
        _refusal(f"{_ONNX}/row.onnx", ": its cells seem to be in one row", at=NEW),
        _refusal(f"{_ONNX}/turned.onnx --input-size 320x224", ": rows and columns seem to be transposed", at=NEW),
        _refusal(f"{_ONNX}/percent.onnx", " channels that sum to 100 everywhere", " channels that sum to ", at=NEW),
        _refusal(f"{_ONNX.replace(',c,d', '')}/bytes.onnx", ": a probability with a factor, or a logit", at=NEW),
        _refusal(f"{_ONNX.replace(',c,d', '')}/overshot.onnx", ": probabilities behind a cubic resize, ", at=NEW),
        _refusal(f"{_ONNX}/square.onnx", "; pass --output-layout NKHW or NHWK", at=NEW),
        _refusal(f"{_ONNX}/classes3.onnx", "but 4 are named", "; pass --classes with one name for each class", at=NEW),
        _refusal(f"{_ONNX.replace('a,b,c,d', 'background')}/one.onnx", "expected the name of the foreground", at=NEW),
        _refusal(f"{_TINY} --palette 000000", "give one colour per class"),
        _refusal(f"{_WEIGHTS} weights.pth --net-option depth=1", "; correct --net-option", at=NEW),
        _refusal(f"{_NETS}:net --pyramid pooling --checkpoint weights.pth", "; correct --net-option", at=NEW),
        _refusal(
            "export --net fastsegformer-p --checkpoint weights.pth --classes a,b --net-option cnn_branch=x --out {run}",
            "net option cnn_branch is 'x'",
            "net option ",
        ),
        _refusal(f"{_TINY} --samples empty", "expected a folder of 1 to "),
        _refusal(f"{_TINY} --samples lists", "is not an image that OpenCV reads"),
        _refusal(f"{_TINY} --samples unreadable", "cannot be read: ", "; leave it out of the folder"),
        _refusal(f"{_EXPORT} --net none --checkpoint weights.pth --classes a,b", "no network is called ", at=NEW),
        _refusal(f"{_EXPORT} --net gone:net --classes a,b", ": importing "),
        _refusal(f"{_NETS}:gone", " has no 'gone'", "expected package.module:callable; name"),
        _refusal(f"{_NETS}:NUMBER", "; expected something to call"),
        _refusal(f"{_NETS}:fails", "; expected a network; "),
        _refusal(f"{_NETS}:number", "; expected a torch.nn.Module; "),
        _refusal(f"{_NETS}:needs", " needs width, which have no default", "which have no default"),
        _refusal(
            f"{_NETS}:two",
            "; expected one output to be chosen; give --output-name 0",
            "to be chosen; give --output",
            at=NEW,
        ),
        _refusal(f"{_NETS}:text", "or a mapping, a sequence or a record of tensors", at=NEW),
        _refusal(f"{_NETS}:half", "the network returns bfloat16", "though its weights are float32", at=NEW),
        _refusal(
            f"{_NETS}:small", "ValueError: 512 only; expected outputs", "the network fails for images of ", at=NEW
        ),
        _refusal(f"{_NETS}:branch", ", where a tensor becomes a Python boolean", "would write one path", at=NEW),
        _refusal(f"{_NETS}:flat", "expected scores [N, K, H, W] or class ids", at=NEW),
        _refusal(f"{_TINY} --opset 99", " exporter cannot write this network with opset ", "_why_not_written", at=NEW),
        _refusal(f"{_ONNX}/opset10.onnx", ", which has half-pixel centres, "),
        _refusal(f"{_ONNX}/opset99.onnx", " has opset 99, onnxruntime ", " reads up to "),
        _refusal(f"{_ONNX}/one_machine.onnx", ": onnxruntime optimised it for one kind of processor"),
        _refusal(f"{_ONNX}/outside.onnx", "outside its own folder "),
        _refusal(f"{_ONNX}/large.onnx", ", and a bundle keeps each model in one; "),
        _refusal(f"{_ONNX}/nothing.onnx", "the model takes neither one image nor a batch: ", at=NEW),
        _refusal(f"{_ONNX}/overflow.onnx --precisions fp16", "this network overflows in fp16: ", at=NEW),
        _refusal(f"{_ONNX}/random.onnx", "two calls with the same picture differ by up to ", at=NEW),
        _refusal(f"{_ONNX}/mixing.onnx", "depends on the other pictures of its batch", "_mixed(model)", at=NEW),
        _refusal(
            f"{_NETS}:coarse".replace("fastsegformer ", "fastsegformer-train "),
            ": the padding can be cropped only from an equal",
            at=NEW,
        ),
        _refusal(f"{_ONNX}/outputs.onnx", "; name the one with the logits with --output-name"),
        _refusal(f"{_ONNX}/opset12.onnx --precisions int8", " or above for int8; export with --opset 17", at=NEW),
        # metrics
        _refusal("evaluate labels/ids labels/ids", "masks and labels are both ", at=FINISHED),
        _refusal("evaluate labels/ids labels/others", "masks in a folder have no class names", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/others", "no label with the name of a mask", " masks (…) and …", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/void", "the labels hold no class", "the labels hold ", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/gone", "found nothing at labels/gone", "found nothing at ", at=FINISHED),
        _refusal(f"{_EVALUATE} empty", " holds no PNG, expected labels as PNG files", " holds no PNG", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/twice", " labels ('good', 'good') of one name", " of one ", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/void --by farm", "--by has farm, ", "--by has ", at=FINISHED),
        _refusal(
            f"{_EVALUATE} labels/void --palette 800000", "--palette has 1 colours", " colours, expected ", at=FINISHED
        ),
        _refusal("evaluate labels/ids labels/void --classes a,a", "no two are equal", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/void --draws -1", "--draws is -1, ", "--draws is ", at=FINISHED),
        _refusal(f"{_EVALUATE} labels/void --seed -1", "--seed is -1, ", "--seed is ", at=FINISHED),
        _refusal(
            f"{_EVALUATE} labels/void --max-failed-share 2", "expected 0 to 1", "--max-failed-share is ", at=FINISHED
        ),
        _refusal("evaluate {run} labels/ids --classes a,b,c,d", ", but the run has ", at=FINISHED),
        _refusal("evaluate {run}", " was scored without labels, ", at=FINISHED),
    ),
    errors.ManifestError: (
        _refusal(f"{_MANIFEST} lists/no_uri.csv", "expected one named `uri`; rename the column"),
        _refusal(f"{_MANIFEST} lists/repeated.csv", " more than once; rename or drop them"),
        _refusal(f"{_MANIFEST} lists/reserved.csv", ", which the masks table has too; rename them"),
        _refusal(f"{_MANIFEST} lists/capitals.csv", " for the addresses of labels; rename it"),
        _refusal(
            f"{_MANIFEST} lists/labels.csv --column-types label_uri=int64", "expected text: the path or the URI of each"
        ),
        _refusal(f"{_MANIFEST} lists/kinds.csv", ", expected image, video or an empty cell"),
        _refusal(f"{_MANIFEST} empty", " lists no items"),
        _refusal(f"{_MANIFEST} lists/gone.csv", "does not exist", "str(error)"),
        _refusal(f"{_MANIFEST} lists/schemas", ", which the files before it lack"),
        _refusal(f"{_MANIFEST} lists/types", "b.parquet has the column 'x' as int64", ", and no type holds both"),
        _refusal(
            f"{_MANIFEST} lists/mixed", "expected one kind of list; pass --exclude '*.parquet'", "one kind of list"
        ),
        _refusal(f"{_MANIFEST} lists/delta", "is a Delta table", " table, whose Parquet files also hold"),
        _refusal(f"{_MANIFEST} lists/pairs.parquet", "pass --image-column a or another", "or one column of images"),
        _refusal(f"{_MANIFEST} lists/pairs.parquet --image-column c", ", and --image-column is "),
        _refusal(f"{_MANIFEST} lists/albums.parquet", ", expected one image in a row; give each image"),
        _refusal(f"{_MANIFEST} lists/zipped.tar", "not an uncompressed tar archive, but one that is "),
        _refusal(f"{_MANIFEST} lists/list.tar.gz", " is a compressed archive or file, "),
        _refusal(f"{_MANIFEST} lists/list.doc", "and its bytes are no image and no video, "),
        _refusal(f"{_MANIFEST} lists/torn.parquet", " list: ", " is not a readable "),
        _refusal(f"{_MANIFEST} lists/blanks.csv", " has blanks around its name; remove them"),
        _refusal(f"{_MANIFEST} lists/quote.csv", " is not a readable .csv list: ", " is not a readable "),
        _refusal(f"{_MANIFEST} lists/text.csv --column-types n=int64", " as --column-types asks; correct the value"),
        _refusal(f"{_MANIFEST} lists/text.csv --where n>1", ", because --where compares it with one; correct"),
        _refusal(f"{_MANIFEST} /dev/null", " is a pipe or a device, expected a file: "),
        _refusal(f"{_MANIFEST} lists/names", ", expected names in UTF-8; rename the file"),
        _refusal(f"{_MANIFEST} lists/ids.csv", " ids more than once, e.g. "),
        _refusal(f"{_MANIFEST} lists/no_id.csv", " has no id in row "),
        _refusal("bench --bundle bundle --manifest lists/gone.csv", "does not exist", "str(error)"),
        _refusal("render {run} --manifest lists/gone.csv", "does not exist", "str(error)", at=BEGUN),
        _refusal(
            "evaluate {run} lists/unlabelled.csv",
            "expected one named `label_uri`",
            "with the path or URI of each item",
            at=FINISHED,
        ),
    ),
    errors.BundleError: (
        _refusal(f"{_BUNDLE}/gone", "expected a folder that fsf export wrote, check --bundle"),
        _refusal("bench --manifest items --bundle bundles/gone", "expected a folder that fsf export wrote"),
        _refusal(f"{_BUNDLE}/altered", " bytes with sha256 "),
        _refusal(f"{_BUNDLE}/no_description", " is not the description of a bundle"),
        _refusal(f"{_BUNDLE}/old", " has format version "),
        _refusal(f"{_BUNDLE}/edited", " was altered: its sha256 is "),
        _refusal(f"{_BUNDLE}/malformed", " is malformed: "),
        _refusal(f"{_BUNDLE}/identity", " names the identity "),
        _refusal(f"{SCORE} --precision int8", "; export it with --precisions "),
        _refusal(f"{_ONNX}/no_graph.onnx", " holds no graph; expected an ONNX model"),
        _refusal(f"{_ONNX}/gone.onnx", "the ONNX file cannot be read: "),
        _refusal(f"{_ONNX}/text.onnx", " is not an ONNX file ("),
        _refusal(f"{_ONNX}/weightless.onnx", "the weights of "),
        _refusal(f"{_ONNX}/invalid.onnx", " cannot load the model (", at=NEW),
    ),
    errors.CheckpointError: (
        _refusal(f"{_MODEL} weights/lfs.pth", " is a Git LFS pointer, expected the file "),
        _refusal(f"{_MODEL} weights/program.pt", " is a TorchScript archive that torch cannot load: ", at=NEW),
        _refusal(f"{_WEIGHTS} gone.pth", "the checkpoint cannot be read: "),
        _refusal(f"{_WEIGHTS} weights", "is a folder, expected one file; ", "the checkpoint cannot be read: "),
        _refusal(f"{_WEIGHTS} weights/empty.pth", "empty.pth is empty (0 bytes)", " is empty (0 bytes)", at=NEW),
        _refusal(f"{_WEIGHTS} weights/lfs.pth", "is a Git LFS pointer", "writes; …", at=NEW),
        _refusal(f"{_WEIGHTS} weights/text.pth", " is not a checkpoint, it begins with ", at=NEW),
        _refusal(f"{_WEIGHTS} weights/torn.pth", "it may be truncated or damaged", "_why_unreadable", at=NEW),
        _refusal(f"{_WEIGHTS} weights/list.pth", "; expected a mapping from names to tensors", at=NEW),
        _refusal(f"{_WEIGHTS} weights/nothing.pth", " holds an empty mapping", "from names to tensors", at=NEW),
        _refusal(f"{_WEIGHTS} weights/others.pth", " holds no tensors (a)", "from names to tensors", at=NEW),
        _refusal(f"{_WEIGHTS} weights/keys.pth", "keys.pth does not fit ", "_unfit(", at=NEW),
        _refusal(f"{_WEIGHTS} weights/infinite.pth", ": NaN or infinity in ", at=NEW),
        _refusal(f"{_WEIGHTS} weights/whole.pth", " are not plain floating-point weights ", at=NEW),
        _refusal(f"{_WEIGHTS} weights/sets.pth", "--weights-key model or --weights-key ema", " and differ: ", at=NEW),
        _refusal(
            f"{_WEIGHTS} weights/sets.pth --weights-key m", "expected one of model, ema", "--weights-key is ", at=NEW
        ),
    ),
    errors.ProviderError: (
        _refusal(
            f"{SCORE.replace('cpu', 'cuda')}", "asked for cuda, found no GPU in the cluster", ", found no GPU in "
        ),
        _refusal(f"{SCORE.replace('cpu', 'tensorrt')}", "found no GPU in the cluster"),
        _refusal("bench --bundle bundle --manifest items --provider cuda", "found no GPU in the cluster"),
    ),
    errors.ClusterError: (
        _refusal(f"{SCORE} --actors 999", "found room for "),
        _refusal("bench --bundle bundle --manifest items --actors 999", "found room for "),
        _refusal(f"{CHECKPOINT} --actors 999", "found room for ", at=NEW),
    ),
    ParityLimitError: (_refusal(f"{_NETS}:chance", "two calls of the network ", "(report, finding, advice)", at=NEW),),
    errors.OutputError: (
        _refusal(_TINY, "expected a new or empty folder; choose another --out or empty it", at=BEGUN),
        _refusal(_TINY, " is a file, expected a new or empty folder", at=("items/good.jpg",)),
        _refusal(f"{_WEIGHTS} weights.pth", " holds the bundle of another request", at=("bundle",)),
        _refusal(SCORE, " is a file, expected a folder; give another --out", at=("items/good.jpg",)),
        _refusal(SCORE, " and no run.json: it is not a run", at=("items", "bundle", "bundles")),
        _refusal(SCORE, " cannot be written: ", at=("items/good.jpg/run", "/proc/nowhere/run")),
        _refusal(SCORE, " is in use by process ", " is in use by …; wait for it", at=("in_use",)),
        _refusal("render {run}", " is in use by process ", " is in use by …; wait for it", at=("in_use",)),
        _refusal(f"{SCORE} --mask-size model", " is another run (", at=BEGUN),
        _refusal(CHECKPOINT, " is another run (", at=FINISHED),
        _refusal(SCORE, " has run layout ", at=("runs/layout",)),
        _refusal("render {run}", " has run layout ", at=("runs/layout",)),
        _refusal("inspect {run}", " has run layout ", at=("runs/layout",)),
        _refusal("verify {run}", " has run layout ", at=("runs/layout",)),
        _refusal(f"{SCORE} --reuse runs/layout", " has run layout "),
        _refusal(f"{SCORE} --reuse runs/gone", " holds no run (run.json is missing)"),
        _refusal("inspect {run}", " holds no run (run.json is missing)", at=NEW),
        _refusal("pin {run}", " holds no run (run.json is missing)", at=NEW),
        _refusal("inspect pointers/removed", " is being removed by `fsf prune`"),
        _refusal("pin pointers/removed", " is being removed by `fsf prune`"),
        _refusal(f"{SCORE} --reuse pointers/removed", " is being removed by `fsf prune`"),
        _refusal("inspect pointers/gone/latest", ", which is no finished run; give"),
        _refusal("inspect pointers/two/latest", " series, expected one for "),
        _refusal("verify {run}", " holds no run (run.json is missing)", at=NEW),
        _refusal("render {run}", " holds no finished run (_SUCCESS is missing)", at=("runs/unfinished",)),
        _refusal("render {run}", " holds no run (run.json is missing)", at=("items", *NEW)),
        _refusal(SCORE, "; give the --out of a score job", at=("runs/damaged",)),
        _refusal("verify {run}", "; give the --out of a score job", at=("runs/damaged",)),
        _refusal("verify {run}", " is not a receipt: ", at=("runs/receipt",)),
        _refusal("inspect {run}", " is not a receipt: ", at=("runs/receipt",)),
        _refusal("render {run}", " has a damaged part (", at=("runs/receipt",)),
        _refusal("inspect {run}", " has a damaged part (", at=("runs/short",)),
        _refusal("inspect {run}", " has _SUCCESS and no manifest.json", at=("runs/listless",)),
        _refusal("diff {run} runs/gone", " holds no run (run.json is missing)"),
        _refusal("diff {run} {run} --out items/good.jpg", "expected a folder for the document", at=FINISHED),
        _refusal("inspect {run} good.jpg", " has a receipt but cannot be read: ", at=("runs/torn",)),
        _refusal("inspect {run}", "the run has no scored frames", at=("runs/failed",)),
        _refusal(f"{SCORE} --delta items/good.jpg/tables", " cannot take the rows of this run"),
        _refusal(f"{_PUBLISH} png --out out", " is not finished (_SUCCESS is missing)", at=("runs/unfinished",)),
        _refusal(
            f"{_PUBLISH} png --out items/good.jpg", " is a file, expected a folder; give another --out", at=FINISHED
        ),
        _refusal(f"{_PUBLISH} png --out items", ": it is no publication; ", at=FINISHED),
        _refusal(f"{_PUBLISH} png --out published/other", "holds hf of run", "_description(found)", at=FINISHED),
        _refusal(f"{_PUBLISH} png --out published/torn", " cannot be read: ", "; give another folder", at=FINISHED),
    ),
    errors.StorageError: (
        _refusal(
            _TINY, " cannot be written: ", "StorageError(message)", at=("items/good.jpg/run", "/proc/nowhere/run")
        ),
        _refusal(SCORE, " cannot be opened: ", at=("nostore://bucket/run",)),
        _refusal(
            "inspect {run} good.jpg --png items/good.jpg/look.png",
            " cannot be written: ",
            "StorageError(message)",
            at=BEGUN,
        ),
    ),
}
"""Type of error to commands: words, part of the message, part of the raising call where that differs, folders."""

REFUSALS = tuple(
    Refusal(error=error, words=words, message=message, source=source, at=at)
    for error, rows in _TABLE.items()
    for words, message, source, at in rows
)

_FILES = "in tests/unit/export/families"
_LIBRARIES = "in tests/integration/export/test_smp.py and test_torchvision.py"

_PROGRAM = "takes a program of torch; in tests/unit/export/test_programs.py"

UNTRIED = {
    "ClusterError(describe(": "takes a node that cannot load the model; in tests/drills",
    " or _dependence_on_the_batch(compared)": "takes an exporter with a fault; in tests/unit/export",
    "the model does not take every size": "takes a graph that holds a size as a number; in tests/unit/export",
    "(error.report, advice=ADOPTED)": "takes a fault of the import",
    "(report, advice=OTHER_PICTURES)": "takes weights that a small precision spoils",
    " has neither uncertain_share nor class probabilities": "takes a model of class maps; in tests/unit/analysis",
    ", … was scored by …; give that bundle": "takes a second bundle; in tests/integration/test_rescoring.py",
    " holds … series, expected one; give ": "takes a folder of two series; in tests/unit/analysis",
    "expected at least one name in both: classes are ": "takes runs of other classes; in tests/unit/analysis",
    "; export the project as JSON": "only Python asks for it",
    "expected Label Studio's format JSON": "only Python asks for it",
    " has a task for frame ": "only Python asks for it",
    "expected brush strokes (brushlabels)": "only Python asks for it",
    " has the label …, expected one of ": "only Python asks for it",
    " was drawn on a picture of ": "only Python asks for it",
    " has a stroke that cannot be read: ": "only Python asks for it",
    "the current folder cannot be used: ": "takes a process whose folder is deleted",
    ", expected those of this job: ": "takes a run of other classes; in tests/unit/score/test_against.py",
    "expected one that `ray job list` shows": "takes a cluster",
    "…; pass --verify with the file of its certificate authority": "takes a cluster",
    "no dashboard responds at ": "waits for seconds, tried with a cluster",
    "the cluster refuses this client: ": "takes a cluster",
    " is no dashboard of Ray ": "takes another server",
    ", this machine has …, expected the same; install ": "takes a cluster",
    ", expected an id that no job of this cluster had": "takes a cluster",
    " exists where the command was submitted": "raised on a cluster",
    " on the head of the cluster is another ": "raised on a cluster",
    ", expected Ray and the libraries of fsf; ": "raised on a cluster",
    " has … bytes, expected at most …": "takes a large file of options",
    "ConfigError(f'{path} cannot be read: ": "takes a file without permission, which a superuser always has",
    "names a profile of this machine's ~/.aws": "takes a variable of a store",
    " names …, which cannot be read: ": "takes a variable of a store",
    " names …, expected a file of at most ": "takes a variable of a store",
    " names …, an external account": "takes a variable of a store",
    " exists, expected to create it: another job": "takes a job whose lock was deleted",
    "fp32 is always exported": "checked by the parser of options before",
    "asked for opset ": "takes a network that needs a newer opset",
    "the graph violates the ONNX standard: ": "takes an exporter with a fault",
    " cannot become a bundle: ": "takes a folder that appears meanwhile",
    "num_classes is ": "checked by the options before",
    "expected a checkpoint file that can be read": "a path, which only Python passes; commands read the bytes first",
    "the model cannot be read: ": "a path, which only Python passes",
    " has the variants ": "checked by the job before",
    "; pass the path of a local file beside them": "a file in a store",
    " has no fused model: ": "checked by the export before",
    "the model has … bytes": "takes 2 GB",
    "export needs ": "takes an installation without torch",
    "is a model of QGIS Deepness with model_type ": _FILES,
    " is a model of MMDeploy for the task ": _FILES,
    "expected an ONNX file; export it with tools/deploy.py and ": _FILES,
    " class names are given, but ": _FILES,
    "which is not supported; expected …; pass the ONNX file with --onnx and give ": _FILES,
    " has no steps of preprocessing and the step ResizeMask ": _FILES,
    "expected what MMDeploy writes with --dump-info": _FILES,
    "expected a mapping as MMDeploy writes it": _FILES,
    " is a model of nnU-Net v2 ": _FILES,
    "; give one of them with --model": _FILES,
    " is a model of PaddleSeg without an ONNX file": _FILES,
    "the network cannot be copied as float64: ": "is no refusal: the proof goes on without it",
    ", whose masks are made of queries behind the graph; ": _FILES,
    "expected one of a model that transformers ": _FILES,
    " has the ONNX files ": _FILES,
    " is an export of Ultralytics for another runtime": _FILES,
    "expected a model for semantic segmentation, such as SegformerForSemanticSegmentation": _FILES,
    " runs code that comes with it (auto_map)": _FILES,
    " holds an adapter (adapter_config.json)": _FILES,
    " has quantised weights (quantization_config)": _FILES,
    "; expected all files that save_pretrained wrote; copy it again": _FILES,
    ", which would get random values; expected every weight": _FILES,
    " needs a library that is not installed: ": "takes an installation without timm",
    " is of an architecture that transformers ": _FILES,
    "expected whole files of save_pretrained; copy it again": _FILES,
    " lacks its tokenizer, or it cannot be loaded: ": "takes a model of OneFormer, whose tests are a command",
    " is a model of Ultralytics as pickled Python objects": _FILES,
    " is a model of Ultralytics for ": _FILES,
    "expected the one of a semantic model of Ultralytics": _FILES,
    " has no class names in its metadata, by whose number ": _FILES,
    "expected … or above; export it again with a later ": _FILES,
    "expected boxes of three axes and prototypes of four": _FILES,
    "the boxes of the model are ": _FILES,
    ", which could run any code while torch loads it; ": _PROGRAM,
    " cannot be read as an exported program (": _PROGRAM,
    " is an exported program that torch … cannot load: ": _PROGRAM,
    "the program in … takes ": _PROGRAM,
    "the TorchScript program cannot become a graph: ": _PROGRAM,
    "the program becomes a graph for a single size": _PROGRAM,
    " is a TorchScript program that calls torch.": _PROGRAM,
    " names the architecture ": _LIBRARIES,
    " names the encoder ": _LIBRARIES,
    "expected the 3 of a colour image": _LIBRARIES,
    ": segmentation_models.pytorch … cannot build ": _LIBRARIES,
    " and no weights, expected ": _LIBRARIES,
    "the head of the checkpoint has ": _LIBRARIES,
    "torchvision has no segmentation network ": _LIBRARIES,
    "this model is read by the library ": "takes an installation without it",
    "expected a version that works with the torch": "takes an installation of another version",
    "--model … cannot be read: ": "takes a file without permission, or a store that loses one meanwhile",
    "is a run of an earlier version, or of other --column-types": "tried with a run of an earlier version elsewhere",
    "needs the package deltalake": "takes an installation without deltalake",
    " have the size of the network's output, and ": "takes a run of another --mask-size; in tests/unit/publish",
    "this network cannot be converted to ": "takes a network that onnxruntime's tools reject",
    "its attention has one weight per distance": "takes the pretrained size of a network and another profile",
    "this network takes sides that divide by ": "takes another profile",
    "requested …, found ": "the job finds the GPU missing before it loads the model",
    "requested …, this onnxruntime has ": "takes a GPU",
    "requested …, the session runs on ": "takes a GPU",
    "requested …, but ": "takes a GPU",
    ", the GPU does not run the model: ": "takes a GPU; in tests/unit/model/test_warm_up.py",
    "expected a GPU, found ": "the job finds the GPU missing before; in tests/unit/model/test_cuda_driver.py",
    "the NVIDIA driver does not describe its GPU": "takes a GPU; in tests/unit/model/test_cuda_driver.py",
    "requested tensorrt, ": "takes a GPU; in tests/unit/model/test_engine_cache.py",
    " GB are CUDA's own; pass ": "takes a GPU; in tests/unit/score/test_placement.py",
    "the engine cache … cannot be used: ": "takes a GPU; in tests/unit/model/test_engine_cache.py",
    "; remove …, and its engines are built again": "takes a GPU; in tests/unit/model/test_engine_cache.py",
    " belong to user …, expected to user ": "takes a GPU; in tests/unit/model/test_engine_cache.py",
    " groups, expected at most ": "takes 1,001 labels, each with a value of its own",
    "no item ": "only Python asks for it",
    " has no frame … in ": "only Python asks for it",
    " has no mask in ": "only Python asks for it",
    " has not finished, expected a finished run: video_stats": "only Python asks for it",
    "the run has no frames of ": "ends one video, not the job",
    " cannot be locked: ": "takes a file system without locks",
    " cannot be listed: ": "takes a folder without permission, which a superuser always has",
    "no Ray cluster can be joined at ": "takes a process without a cluster",
    "no Ray cluster responds at ": "takes a process without a cluster",
    "the Ray address is ": "takes a process without a cluster",
    "no Ray cluster runs on this machine ": "takes a process without a cluster",
    "; start the same command again later, or raise ": "takes a cluster that other jobs use",
    " requires a token, and this process has none": "takes a process without a cluster",
    "; expected the same versions: install ": "takes a cluster of another version of Ray",
    "; expected nodes that can work on one run: ": "takes a cluster of several nodes",
    "_describe_left(probe, left)": "becomes a line of the doctor",
    " returns other bytes than were written to it ": "becomes a line of the doctor",
    "the temporary directory ": "takes a process without a cluster",
    "Ray did not start on this machine: ": "takes a process without a cluster",
    " in the cluster…, expected room for ": "takes a cluster that another process started",
    "waited … s for ": "takes a cluster whose autoscaler adds nothing",
    " differs from its receipt; ": "ends work that had begun, which scores the part again",
    "; it has a receipt: ": "ends work that had begun, which scores the part again",
    " is no Parquet file; ": "ends work that had begun, which scores the part again",
    " was published again while it was read": "takes a job that publishes meanwhile",
    ", the job was started with ": "ends work that had begun",
    "; score without --reuse, or without --overlays": "ends work that had begun",
    "…; score without --reuse": "ends work that had begun",
    "--tile needs a model whose input has one size ": "takes another bundle; in tests/unit/score/test_tiling.py",
    "--tile needs a model of scores, ": "takes another bundle; in tests/unit/score/test_tiling.py",
    " was scored with --tile, and items are scored again whole": "takes such a run; in tests/integration/test_tiles.py",
    ", and publish the other items alone": "takes a run of a large picture; in tests/integration/test_tiles.py",
    "OutputError(f'{storage.redact(uri)} cannot be read: {error}')": "takes a large picture; in tests/unit/runs",
    " could not be deleted; start again": "ends work that had begun",
}
"""A part of a raising call that no row of the table causes, and the reason."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A call in the sources that creates a RunError, or names its type for another that does."""

    place: str
    error: type[errors.RunError]
    text: str
    """Its constant texts, with … for what is inserted, and its code."""


def sites() -> Iterator[Site]:
    """Yield every call below fsf_core that raises a RunError."""
    kinds = {kind.__name__: kind for kind in _subclasses(errors.RunError)}
    for path in sorted(HOME.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", getattr(call.func, "attr", "")) in _HARMLESS:
                continue
            for node in (call.func, *call.args):
                if isinstance(node, ast.Name) and node.id in kinds:
                    place = f"{path.relative_to(HOME)}:{call.lineno}"
                    yield Site(place=place, error=kinds[node.id], text=f"{_constant_text(call)} {ast.unparse(call)}")


_HARMLESS = {"isinstance", "issubclass", "suppress"}
"""Calls that name an error and raise nothing."""


def _subclasses(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def _constant_text(call: ast.Call) -> str:
    """Return the texts of a call; … for what is inserted."""
    joined = [node for node in ast.walk(call) if isinstance(node, ast.JoinedStr)]
    inner = {id(value) for node in joined for value in node.values}
    texts = [
        "".join(getattr(value, "value", "…") if isinstance(value, ast.Constant) else "…" for value in node.values)
        for node in joined
    ]
    texts += [
        node.value
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
    ]
    return " ".join(texts)


NETS = """
import torch
from torch import nn
from tests.support.tiny_net import TinyNet

NUMBER = 3

class Two(TinyNet):
    def forward(self, batch):
        return super().forward(batch), batch

class Coarse(TinyNet):
    def forward(self, batch):
        return super().forward(batch)[:, :, ::4, ::4]

class Chance(TinyNet):
    def forward(self, batch):
        return nn.functional.dropout(super().forward(batch), 0.3, training=True)

class Flat(TinyNet):
    def forward(self, batch):
        return super().forward(batch).flatten(1)

class Text(TinyNet):
    def forward(self, batch):
        return "logits"

class Half(TinyNet):
    def forward(self, batch):
        return super().forward(batch).bfloat16()

class Small(TinyNet):
    def forward(self, batch):
        raise ValueError("512 only")

class Branch(TinyNet):
    def forward(self, batch):
        return super().forward(batch) if batch.mean() < 9 else batch

def net(num_classes): return TinyNet(num_classes)
def text(num_classes): return Text(num_classes)
def half(num_classes): return Half(num_classes)
def small(num_classes): return Small(num_classes)
def branch(num_classes): return Branch(num_classes)
def needs(num_classes, width): return TinyNet(num_classes)
def two(num_classes): return Two(num_classes)
def flat(num_classes): return Flat(num_classes)
def coarse(num_classes): return Coarse(num_classes)
def chance(num_classes): return Chance(num_classes)
def number(): return 3
def fails(num_classes): raise OSError("gone")
"""


def export_fast(config: ExportConfig) -> tuple[str, ...]:
    """Export by the faster of the exporters; runs on a worker."""
    return export(dataclasses.replace(config, exporter="torchscript")).notes


def write_inputs(folder: Path, bundle: Path) -> None:
    """Write the items, and the files that the refused commands name."""
    (folder / "empty").mkdir()
    (folder / "refused_nets.py").write_text(NETS)
    (folder / "list.yaml").write_text("- a\n")
    (folder / "unknown.yaml").write_text("bundel: b\n")
    (folder / "attached.yaml").write_text("model_config: unknown.yaml\n")
    (folder / "classes.yaml").write_text("classes: [yes, no]\n")
    (folder / "sections.yaml").write_text("inputs: {scale: 1}\n")
    (folder / "keys.yaml").write_text("input: {sizes: 1}\n")
    torch.save(build().state_dict(), folder / "weights.pth")
    _write_items(folder / "items")
    _write_labels(folder / "labels")
    (folder / "many").mkdir()
    for number in range(MAX_FILES + 1):
        (folder / "many" / str(number)).touch()
    _write_lists(folder / "lists")
    _write_weights(folder / "weights", (folder / "weights.pth").read_bytes())
    _write_onnx(folder / "onnx")
    shutil.copytree(bundle, folder / "bundle")
    _write_pointers(folder / "pointers")
    for name, text in (("other", '{"identity": {"to": "hf"}}'), ("torn", "{")):
        (folder / "published" / name).mkdir(parents=True)
        (folder / "published" / name / "publication.json").write_text(text)
    _write_bundles(folder / "bundles", bundle)
    (folder / "unreadable").mkdir()
    (folder / "unreadable" / "dangling.png").symlink_to(folder / "gone.png")


def _write_pointers(folder: Path) -> None:
    """Write the pointer of a series whose run is gone, and those of two series."""
    for name in ("gone/latest", "two/a-latest", "two/b-latest"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps({"template": "{date}", "run": "2024-11-20"}))
    (folder / "removed").mkdir()
    (folder / "removed" / "run.json").write_text(json.dumps({"layout": 2, "removed": {}}))


def _write_items(items: Path) -> None:
    """Write an image, a broken one and a video."""
    items.mkdir()
    (items / "good.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG"))
    (items / "cut.jpg").write_bytes(assets.pillow(assets.picture(), "JPEG")[:200])
    (items / "clip.mp4").write_bytes(clips.clip(frames=12))


def _write_labels(labels: Path) -> None:
    """Write masks, and labels that do not fit them."""
    ids = np.zeros((4, 4), np.uint8)
    files = {"ids/good.png": ids, "others/zzz.png": ids, "void/good.png": ids + 255}
    files |= {"twice/good.png": ids, "twice/good.PNG": ids}
    for name, values in files.items():
        path = labels / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(assets.pillow(values, "PNG"))


def _write_lists(lists: Path) -> None:
    """Write lists of items that are refused."""
    tables = {
        "no_uri.csv": "id,path\na,b.jpg\n",
        "repeated.csv": "uri,x,x\na.jpg,1,2\n",
        "reserved.csv": "uri,mask\na.jpg,1\n",
        "kinds.csv": "uri,kind\na.jpg,audio\n",
        "list.doc": "a.jpg",
        "blanks.csv": "id, uri\n1, a.jpg\n",
        "capitals.csv": "uri,Label_URI\na.jpg,a.png\n",
        "labels.csv": "uri,label_uri\na.jpg,1\n",
        "text.csv": "uri,n\na.jpg,1\nb.jpg,many\n",
        "quote.csv": 'uri,n\na.jpg,1\nb.jpg,"never closed\n',
        "torn.parquet": "PAR1",
        "ids.csv": "id,uri\na,a.jpg\na,b.jpg\n",
        "no_id.csv": "id,uri\n,a.jpg\nb,b.jpg\n",
        "nothing.csv": "id\n",
        "frame.csv": "id,frame_index\ngood.jpg,1\n",
        "frames.csv": "id,frame_index\nclip.mp4,first\n",
        "unlabelled.csv": "uri\na.jpg\n",
    }
    lists.mkdir()
    for name, text in tables.items():
        (lists / name).write_text(text)
    (lists / "schemas").mkdir()
    pq.write_table(pa.table({"uri": ["a.jpg"]}), lists / "schemas" / "a.parquet")
    pq.write_table(pa.table({"uri": ["b.jpg"], "more": [1]}), lists / "schemas" / "b.parquet")
    for name, values in (("a", [True]), ("b", [1])):
        (lists / "types").mkdir(exist_ok=True)
        pq.write_table(pa.table({"uri": [name], "x": values}), lists / "types" / f"{name}.parquet")
    for folder, beside in (("mixed", "logo.png"), ("delta", "_delta_log/0.json")):
        (lists / folder / beside).parent.mkdir(parents=True)
        (lists / folder / beside).touch()
        pq.write_table(pa.table({"uri": ["a.jpg"]}), lists / folder / "a.parquet")
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"]}), lists / "pairs.parquet")
    pq.write_table(pa.table({"images": [[b"1", b"2"]]}), lists / "albums.parquet")
    for name in ("zipped.tar", "list.tar.gz"):
        (lists / name).write_bytes(gzip.compress(bytes(1024)))
    (lists / "names").mkdir()
    Path(f"{lists}/names/\udcff.jpg").touch()


def _write_weights(folder: Path, whole: bytes) -> None:
    """Write checkpoints that are refused."""
    folder.mkdir()
    files = {
        "empty": b"",
        "lfs": b"version https://git-lfs.github.com/spec/v1",
        "text": b"weights",
        "torn": whole[:500],
    }
    for name, data in files.items():
        (folder / f"{name}.pth").write_bytes(data)
    with zipfile.ZipFile(folder / "program.pt", "w") as archive:
        for name in ("constants.pkl", "data.pkl", "code/net.py"):
            archive.writestr(f"program/{name}", "")
    infinite = build().state_dict()
    infinite["head.bias"] = infinite["head.bias"] * float("inf")
    other = build().state_dict()
    other["head.bias"] = other["head.bias"] + 1
    torch.save(other, folder / "other.pth")
    values = {
        "list": [1],
        "nothing": {},
        "others": {"a": 3},
        "keys": {"a": torch.zeros(1)},
        "infinite": infinite,
        "whole": build().state_dict() | {"head.bias": torch.zeros(4, dtype=torch.int8)},
        "sets": {"model": build().state_dict(), "ema": other},
    }
    for name, value in values.items():
        torch.save(value, folder / f"{name}.pth")


def _write_onnx(folder: Path) -> None:
    """Write ONNX files that are refused."""
    folder.mkdir()
    models = {
        "opset10": tiny_onnx(),
        "no_resize": tiny_onnx(),
        "opset99": tiny_onnx(),
        "one_machine": tiny_onnx(),
        "nothing": tiny_onnx(last="Reshape"),
        "random": tiny_onnx(last="RandomNormalLike"),
        "mixing": tiny_onnx(last="CumSum"),
        "overflow": tiny_onnx(last="Mul"),
        "opset12": tiny_onnx(opset=12),
        "classes3": tiny_onnx(num_classes=3),
        "softmax": tiny_onnx(last="Softmax"),
        "sigmoid": tiny_onnx(last="Sigmoid"),
        "ids": tiny_onnx(last="ArgMax"),
        "one": tiny_onnx(num_classes=1, last="Sigmoid"),
        "zero": tiny_onnx(num_classes=1, last="Mul"),
        "nan": tiny_onnx(last="Mul"),
        "flat": tiny_onnx(last="Flatten"),
        "square": tiny_onnx(last="AveragePool"),
        "row": tiny_onnx(last="Reshape"),
        "turned": tiny_onnx(last="Transpose"),
        "percent": tiny_onnx(last="Softmax"),
        "bytes": tiny_onnx(num_classes=1, last="Sigmoid"),
        "overshot": tiny_onnx(num_classes=1, last="Clip"),
        **{
            name: tiny_onnx() for name in ("plain", "inputs", "outputs", "uint8", "integers", "grey", "size", "invalid")
        },
    }
    models["opset10"].opset_import[0].version = 10
    models["no_resize"].opset_import[0].version = 10
    models["no_resize"].graph.node[-1].input[0] = "c"
    del models["no_resize"].graph.node[3]
    models["no_resize"].graph.output[0].type.tensor_type.ClearField("shape")
    models["opset99"].opset_import[0].version = 99
    models["overflow"].graph.node[-1].input.append("constant")
    models["overflow"].graph.initializer.append(numpy_helper.from_array(np.float32(1e5), "constant"))
    models["one_machine"].graph.node[0].domain = "com.microsoft.nchwc"
    for name, constant in (("nothing", [7, 7, 7, 7]), ("mixing", 0), ("row", [0, 4, -1, 1])):
        models[name].graph.node[-1].input.append("constant")
        models[name].graph.initializer.append(numpy_helper.from_array(np.array(constant, np.int64), "constant"))
    models["ids"].graph.output[0].CopyFrom(helper.make_tensor_value_info("seg/scores", TensorProto.INT64, None))
    for name, factor in (("zero", 0), ("nan", math.nan)):
        models[name].graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
        models[name].graph.node[-1].input.append("factor")
    for name, factor in (("percent", 100), ("bytes", 255)):
        models[name].graph.node[-1].output[0] = "e"
        models[name].graph.node.append(helper.make_node("Mul", ["e", "factor"], ["seg/scores"]))
        models[name].graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
    for name, limit in (("low", -0.1), ("high", 1.1)):
        models["overshot"].graph.node[-1].input.append(name)
        models["overshot"].graph.initializer.append(numpy_helper.from_array(np.float32(limit), name))
    models["turned"].graph.node[-1].attribute.append(helper.make_attribute("perm", [0, 1, 3, 2]))
    models["turned"].graph.input[0].type.tensor_type.shape.dim[2].dim_value = 320
    for name in ("flat", "square", "row", "turned"):
        models[name].graph.output[0].CopyFrom(helper.make_tensor_value_info("seg/scores", TensorProto.FLOAT, None))
    sides = [helper.make_attribute(name, [56, 56]) for name in ("kernel_shape", "strides")]
    models["square"].graph.node[-1].attribute.extend(sides)
    models["inputs"].graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    models["outputs"].graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    for name, kind, channels, side_px in (
        ("uint8", TensorProto.UINT8, 3, 224),
        ("integers", TensorProto.INT32, 3, 224),
        ("grey", TensorProto.FLOAT, 1, 224),
        ("size", TensorProto.FLOAT, 3, 512),
    ):
        image = helper.make_tensor_value_info("images:0", kind, ["n", channels, side_px, side_px])
        models[name].graph.input[0].CopyFrom(image)
    models["invalid"].graph.node[1].op_type = "NoSuchOperator"
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / "text.onnx").write_text("no model")
    (folder / "no_graph.onnx").write_bytes(b"")
    external = {"save_as_external_data": True, "size_threshold": 0}
    onnx.save_model(tiny_onnx(), folder / "weightless.onnx", location="m.bin", **external)
    (folder / "m.bin").unlink()
    outside = onnx.load(folder / "weightless.onnx", load_external_data=False)
    for tensor in outside.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "../secret.bin"
    (folder / "outside.onnx").write_bytes(outside.SerializeToString())
    large = onnx.load(folder / "weightless.onnx", load_external_data=False)
    large.graph.initializer[0].dims[0] = 1 << 26
    (folder / "large.onnx").write_bytes(large.SerializeToString())


def _write_bundles(folder: Path, bundle: Path) -> None:
    """Write bundles that are refused."""
    whole = json.loads((bundle / "bundle.json").read_bytes())

    def copy(name: str, **changes: object) -> None:
        """Copy the bundle with changes of its description; signed anew, except where only the date changes."""
        shutil.copytree(bundle, folder / name)
        content = {key: value for key, value in (whole | changes).items() if value is not None}
        if "created_at" not in changes:
            del content["document_sha256"]
            content["document_sha256"] = hashlib.sha256(canonical_json(content)).hexdigest()
        (folder / name / "bundle.json").write_text(json.dumps(content))

    copy("altered")
    with (folder / "altered" / "model.onnx").open("ab") as file:
        file.write(b"!")
    copy("old", format_version=0)
    copy("edited", created_at="yesterday")
    copy("malformed", classes=None)
    copy("identity", sha256="0" * 64)
    copy("no_description")
    (folder / "no_description" / "bundle.json").write_text("{}")
