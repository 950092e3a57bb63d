"""A model's preprocessing is what was given for it: by options, a YAML document, a profile's name, its own file."""

import re
from pathlib import Path

import pytest
import yaml

from fsf_core.config import INTERFACE_OPTIONS, ExportConfig
from fsf_core.errors import ConfigError
from fsf_core.export import interface
from fsf_core.export.families.found import FoundModel
from fsf_core.export.interface import FileInput, input_of_network, profile_of, read_given, with_found
from fsf_core.export.model_document import KEYS, option_of
from fsf_core.model.preprocess import PROFILES, Profile

FREE = FileInput(name="x", height_px=None, width_px=None, layout="NCHW", dtype="float32")
WIDE = FileInput(name="x", height_px=512, width_px=1024, layout="NCHW", dtype="float32")
BYTES = FileInput(name="x", height_px=224, width_px=224, layout="NHWC", dtype="uint8")
OPTIONS = {
    "input_size": "512x1024",
    "resize": "letterbox",
    "interpolation": "pil-bilinear",
    "channel_order": "bgr",
    "scale": 1.0,
    "mean": (104.0, 117.0, 123.0),
    "std": (57.5,),
    "padding": (114.0,),
}
DOCUMENT = {
    "input": {
        "size": "512x1024",
        "resize": "letterbox",
        "interpolation": "pil-bilinear",
        "channel_order": "bgr",
        "scale": 1,
        "mean": [104, 117, 123],
        "std": 57.5,
        "padding": 114,
    }
}
EXPECTED = Profile(
    name="custom",
    height_px=512,
    width_px=1024,
    mode="letterbox",
    interpolation="pil-bilinear",
    honour_exif=True,
    channel_order="bgr",
    scale=1,
    mean=(104, 117, 123),
    std=(57.5, 57.5, 57.5),
    padding=(114, 114, 114),
)


def profile(file=FREE, **options):
    model = {"onnx": "m.onnx"} if file else {"net": options.pop("net", "my.nets:build")}
    config = ExportConfig(**model, classes=("a", "b"), out="bundle", **options)
    return profile_of(config, read_given(config), file)


@pytest.fixture
def document(tmp_path):
    def write(content):
        path = tmp_path / "model.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


@pytest.mark.parametrize("file", [FREE, WIDE, None], ids=["free", "fixed", "network"])
def test_options_and_document_give_the_same_profile(file, document):
    assert profile(file, **OPTIONS) == EXPECTED
    assert profile(file, model_config=document(DOCUMENT)) == EXPECTED


def test_an_option_replaces_an_entry_of_the_document(document):
    assert profile(model_config=document(DOCUMENT), input_size="64x32", align="top-left") == Profile(
        **{name: getattr(EXPECTED, name) for name in EXPECTED.__slots__}
        | {"height_px": 64, "width_px": 32, "align": "top-left"}
    )


@pytest.mark.parametrize("missing", [*OPTIONS])
def test_each_missing_part_is_asked_for_by_its_name(missing):
    """Nothing is assumed: not the size, not the filter of the resize, not the order of the channels."""
    rest = {name: value for name, value in OPTIONS.items() if name != missing}
    with pytest.raises(
        ConfigError, match=rf"missing is the .*|missing is how images.*; pass --{missing.replace('_', '-')}"
    ):
        profile(**rest)


@pytest.mark.parametrize("file", [FREE, None], ids=["free", "network"])
def test_a_model_without_anything_given_is_asked_for_all_of_it(file):
    with pytest.raises(ConfigError) as caught:
        profile(file)
    message = str(caught.value)

    for word in ("size (height and width)", "mean", "std", "scale", "channel order", "resized", "interpolation"):
        assert word in message, word
    for option in ("--input-size", "--mean", "--std", "--scale", "--channel-order", "--resize", "--interpolation"):
        assert option in message, option
    assert "224x224 pixels, stretched by linear, RGB, levels / 255" in message
    assert "\n" not in message


def test_the_document_of_the_question_holds_what_the_file_shows_and_is_yaml_once_filled_in(document):
    with pytest.raises(ConfigError) as caught:
        profile(WIDE)
    template = re.search(r"\{input: \{.*\}\}", str(caught.value))[0]
    assert "size: 512x1024, layout: NCHW, dtype: float32" in template
    filled = re.sub(r"(\w|-)+(\|(\w|-)+)+", lambda choices: choices[0].partition("|")[0], template).replace("|…", "")

    assert profile(WIDE, model_config=document(filled)) == Profile(
        name="custom", height_px=512, width_px=1024, mode="stretch", interpolation="linear", honour_exif=True
    )


def test_the_networks_of_this_project_keep_their_profile():
    config = {"net": "fastsegformer-p", "checkpoint": "c.pth"}
    assert profile(None, **config) == PROFILES["fastsegformer"]
    assert profile(None, net="fsf_core.demo.model:build") == PROFILES["fastsegformer"]
    assert profile(None, **config, mean=(0.5,)).mean == (0.5, 0.5, 0.5)


def test_a_profile_by_name_is_a_complete_response_and_parts_of_it_can_be_replaced():
    assert profile(profile="fastsegformer-train") == PROFILES["fastsegformer-train"]
    assert profile(WIDE, profile="fastsegformer", input_size="512x1024").height_px == 512
    with pytest.raises(
        ConfigError, match="fixed at 512x1024, but profile 'fastsegformer' has 224x224; pass --input-size"
    ):
        profile(WIDE, profile="fastsegformer")


def test_a_size_in_the_files_of_the_model_that_is_not_that_of_its_graph_is_named_with_the_option():
    config = ExportConfig(onnx="m.onnx", classes=("a", "b"), out="bundle")
    for keys, option in (({"resize": "stretch", "size": "224x224"}, "--input-size"), ({"crop": "224x224"}, "--crop")):
        found = {"resize": "short-side", "short_side": 256, **keys}
        given = with_found(read_given(config), {"input": found}, "optimum")
        with pytest.raises(ConfigError, match=rf"1024, but the model's own files have 224x224; pass {option} 512x1024"):
            profile_of(config, given, WIDE)


def test_a_network_that_takes_levels_refuses_another_normalisation():
    """It casts its input: numbers of 0 to 1 would become 0, and the proof would compare one wrong mask with another."""
    file = input_of_network(FoundModel(family="torch_export", input_hw=(224, 224), takes_levels=True))
    config = ExportConfig(model="m.pt2", classes=("a", "b"), profile="fastsegformer", out="bundle")
    with pytest.raises(ConfigError, match=r"the input of m\.pt2 is uint8, which takes the levels 0 to 255 as they are"):
        profile_of(config, read_given(config), file)


def test_a_preprocessing_that_has_a_name_gets_it():
    """The same request in other terms is the same bundle."""
    given = {"resize": "stretch", "interpolation": "linear", "channel_order": "rgb", "scale": 255.0}
    assert profile(input_size="224x224", mean=(0.0,), std=(1.0,), **given) == PROFILES["fastsegformer"]


def test_a_uint8_input_takes_the_levels_as_they_are_and_is_asked_for_the_rest():
    given = {"resize": "stretch", "interpolation": "linear", "channel_order": "rgb"}
    found = profile(BYTES, **given)

    assert (found.scale, found.mean, found.std) == (1, (0, 0, 0), (1, 1, 1))
    assert (found.height_px, found.layout, found.dtype) == (224, "NHWC", "uint8")
    with pytest.raises(ConfigError, match=r"missing is the channel order \(rgb or bgr\)"):
        profile(BYTES, resize="stretch", interpolation="linear")
    for contradiction in ({"scale": 255.0}, {"mean": (0.5,)}, {"profile": "fastsegformer"}):
        with pytest.raises(ConfigError, match="uint8, which takes the levels 0 to 255 as they are"):
            profile(BYTES, **given | contradiction)


def test_a_layout_that_the_file_does_not_show_is_asked_for():
    unknown = FileInput(name="x", height_px=None, width_px=None, layout=None, dtype="float32")
    with pytest.raises(ConfigError, match=r"missing is the layout \(NCHW or NHWC\); pass --input-layout"):
        profile(unknown, **OPTIONS)
    assert profile(unknown, **OPTIONS, input_layout="NHWC").layout == "NHWC"
    assert profile(unknown, profile="fastsegformer").layout == "NCHW"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": "1024x512"}, "fixed at 512x1024, but the size is given as 1024x512"),
        ({"input_layout": "NHWC"}, "the layout of the input is given as NHWC, but the input of m.onnx is NCHW"),
    ],
)
def test_what_contradicts_the_file_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        profile(WIDE, **OPTIONS | options)


REST = {"interpolation": "linear", "channel_order": "rgb", "scale": 255.0, "mean": (0.0,), "std": (1.0,)}
SHORT = {"resize": "short-side", "short_side": 520, "rounding": "truncate"}
CENTRE = {**SHORT, "crop": "224x160", "uncovered": "stretch"}
PADDED = {"multiple_of": 32, "to_multiple": "pad", "align": "top-left", "padding": (0.0,)}


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (SHORT, {"mode": "short-side", "short_side_px": 520}),
        (
            {**SHORT, "max_long_side": 800, "rounding": "half-up"},
            {"mode": "short-side", "short_side_px": 520, "max_long_side_px": 800, "rounding": "half-up"},
        ),
        (
            CENTRE,
            {"mode": "short-side", "short_side_px": 520, "height_px": 224, "width_px": 160, "cropped": True},
        ),
        (
            {"resize": "stretch", "input_size": "256x200", "crop": "224x160", "uncovered": "a"},
            {"height_px": 224, "width_px": 160, "target_hw": (256, 200), "cropped": True, "uncovered": "a"},
        ),
        (
            {"resize": "own", **PADDED},
            {"mode": "own", "multiple_of": 32, "align": "top-left", "padding": (0, 0, 0)},
        ),
        (
            {"resize": "own", "multiple_of": 32, "to_multiple": "resize-down"},
            {"mode": "own", "multiple_of": 32, "to_multiple": "resize-down"},
        ),
        (
            {"resize": "letterbox", "input_size": "640x640", "padding": (114.0,), "multiple_of": 32},
            {"mode": "letterbox", "target_hw": (640, 640), "multiple_of": 32, "padding": (114, 114, 114)},
        ),
        (
            {"resize": "closest-side", "input_size": "384x384", "multiple_of": 32, "to_multiple": "resize"},
            {"mode": "closest-side", "target_hw": (384, 384), "multiple_of": 32, "to_multiple": "resize"},
        ),
        (
            {"resize": "stretch", "input_size": "64x32", "multiple_of": 32},
            {"height_px": 64, "width_px": 32},
        ),
    ],
)
def test_each_way_of_resizing_has_its_profile(options, fields):
    free = {"height_px": 0, "width_px": 0, "mode": "stretch", "interpolation": "linear", "honour_exif": True}
    assert profile(**REST, **options) == Profile(name="custom", **free | fields)


@pytest.mark.parametrize("way", [CENTRE, SHORT, {"resize": "own", **PADDED}], ids=["crop", "short", "own"])
def test_each_missing_part_of_a_way_of_resizing_is_asked_for_by_its_name(way):
    for missing in {*way} - {"resize", "crop", "multiple_of"}:
        rest = {name: value for name, value in way.items() if name != missing}
        with pytest.raises(ConfigError, match="missing is ") as caught:
            profile(**REST, **rest)
        assert f"; pass --{missing.replace('_', '-')}, or" in str(caught.value)
        assert f"{missing}: " in str(caught.value)


def test_the_interpolation_of_what_is_not_resized_is_not_asked_for():
    rest = {name: value for name, value in REST.items() if name != "interpolation"}
    assert profile(**rest, resize="own").interpolation == "linear"
    with pytest.raises(ConfigError, match="missing is the interpolation"):
        profile(**rest, resize="own", multiple_of=32, to_multiple="resize")


def test_padding_is_asked_for_where_a_crop_may_be_larger_than_the_image():
    for way in ({"resize": "own"}, {**SHORT, "short_side": 200}, {**SHORT, "max_long_side": 600}):
        with pytest.raises(ConfigError, match="missing is the levels of the padding; pass --padding,"):
            profile(**REST, **way, crop="224x160", uncovered="stretch")


def test_the_size_of_a_file_is_that_of_its_crop():
    fixed = {name: value for name, value in CENTRE.items() if name != "crop"}
    assert profile(WIDE, **REST, **fixed, padding=(0.0,)).cropped
    assert profile(WIDE, **REST, **fixed, padding=(0.0,)).height_px == 512
    with pytest.raises(ConfigError, match="fixed at 512x1024, but the crop is given as 224x160; leave it out"):
        profile(WIDE, **REST, **CENTRE)
    for way in ({"resize": "own"}, {"resize": "letterbox", "input_size": "512x1024", "multiple_of": 32}):
        with pytest.raises(ConfigError, match="whose size depends on the image; export the model again with free"):
            profile(WIDE, **REST, **way, padding=(0.0,))


def test_a_profile_by_name_is_left_where_another_way_of_resizing_is_given():
    found = profile(profile="fastsegformer", **SHORT)
    assert (found.mode, found.short_side_px, found.target_hw, found.scale) == ("short-side", 520, None, 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**SHORT, "input_size": "3x4"}, "found size with resize short-side, expected it with stretch or letterbox or"),
        ({"resize": "letterbox", "crop": "3x3"}, "found crop with resize letterbox, expected it with stretch or short"),
        ({"resize": "own", "short_side": 3}, "found short_side with resize own, expected it with short-side alone"),
        ({"resize": "own", "uncovered": "a"}, "found uncovered without crop, expected both or neither"),
        ({"resize": "own", "to_multiple": "pad"}, "found to_multiple without multiple_of, expected both or neither"),
        ({**SHORT, "max_long_side": 519}, "found max_long_side 519 below short_side 520"),
        ({"resize": "letterbox", "rounding": "detr"}, "found rounding detr with resize letterbox"),
        ({"resize": "stretch", "input_size": "64x33", "multiple_of": 32}, "found size 64x33 with multiple_of 32"),
        ({"resize": "letterbox", "input_size": "64x33", "multiple_of": 32}, "found size 64x33 with multiple_of 32"),
        ({"resize": "own", "crop": "64x33", "multiple_of": 32}, "found crop 64x33 with multiple_of 32"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        profile(**REST, **options)


@pytest.mark.parametrize("size", ["original", "512", "0x0", "512x", "512x1024x3", "shortest-edge"])
def test_a_size_that_is_not_one_size_for_all_images_is_refused(size):
    with pytest.raises(
        ConfigError, match=f"--input-size is '{size}', expected HEIGHTxWIDTH .*every image is brought to"
    ):
        profile(**OPTIONS | {"input_size": size})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a", "holds a list without sections"),
        ("input: 3", "holds a dict without sections"),
        ("inputs: {}", "has 'inputs', did you mean input?"),
        ("input: {sizes: 1}", "has 'sizes' below input"),
        ("output: {kinds: 1}", "has 'kinds' below output"),
        ("input: {resize: crop}", "resize of input in .* is 'crop', expected one of stretch, letterbox"),
        ("input: {multiple_of: 0}", "is 0, expected a whole number of pixels, such as 32"),
        ("input: {short_side: 100000}", "is 100000, expected a whole number of pixels, 1 or more"),
        ("input: {short_side: 1.5}", "is 1.5, expected a whole number of pixels, 1 or more"),
        ("input: {crop: 3}", "is 3, expected HEIGHTxWIDTH in pixels, such as 224x224"),
        ("input: {size: [512, true]}", "expected HEIGHTxWIDTH"),
        ("input: {mean: [1, 2]}", r"is \[1, 2\], expected one number, or three"),
        ("input: {mean: '0.5'}", "is '0.5', expected one number, or three"),
        ("input: {std: 0}", "is 0, expected one number above 0"),
        ("input: {scale: .nan}", "is nan, expected a number above 0"),
        ("input: {scale: true}", "is True, expected a number above 0"),
        ("input: {padding: 300}", "is 300, expected one level of 0 to 255"),
        ("input: {honour_exif: maybe}", "is 'maybe', expected true or false"),
        ("output: {kind: softmax}", "is 'softmax', expected one of logits, probabilities"),
        ("output: {resized: scores}", "is 'scores', expected one of probabilities, logits"),
        ("output: {threshold: 1}", "is 1, expected a probability between 0 and 1"),
        ("output: {name: 3}", "is 3, expected the name of an output"),
        ("input: [", "cannot be read: "),
    ],
)
def test_a_document_with_a_mistake_is_refused_with_its_place(content, message, document):
    with pytest.raises(ConfigError, match=message):
        profile(model_config=document(content))


def test_a_document_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read: .*; expected a YAML file"):
        profile(model_config=str(tmp_path / "gone.yaml"))


def test_what_is_given_of_the_output_is_read_too(document):
    content = {"kind": "binary_logit", "layout": "NHW", "name": "ids", "resized": "logits", "grid": "input"}
    path = document({"output": content | {"corners": "aligned"}})
    options = {"output_layout": "N1HW", "corners": "half-pixel", "threshold": 0.3}
    given = read_given(ExportConfig(onnx="m.onnx", classes=("a", "b"), out="b", model_config=path, **options))

    assert (given.kind, given.layout, given.output_name) == ("binary_logit", "N1HW", "ids")
    assert given.treatment == {"resized": "logits", "grid": "input", "threshold": 0.3}


def test_the_document_of_the_manual_is_read_and_its_table_has_every_key(document):
    manual = (Path(interface.__file__).parent / "README.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", manual, flags=re.DOTALL)[1]
    keys = {f"{section}.{key}" for section, known in KEYS.items() for key in known}
    options = {option_of(*key.split(".")) for key in keys} - {"--honour-exif", "--dtype"}

    assert profile(model_config=document(example)).mean == (0.485, 0.456, 0.406)
    assert set(re.findall(r"`((?:input|output)\.\w+)`", manual)) == keys
    assert {option for option in options if f"`{option}`" not in manual} == set()
    assert {name.replace("_", "-") for name in INTERFACE_OPTIONS} - {option[2:] for option in options} == {
        "profile",
        "model-config",
    }
