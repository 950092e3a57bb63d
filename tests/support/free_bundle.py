"""A bundle whose input has the size of the image, of a tiny ONNX graph, and its class maps by onnxruntime directly."""

import cv2
import numpy as np
import onnxruntime as ort

from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse, why_not_fusible
from fsf_core.export.graph import model_bytes, opset_of, signature_of
from fsf_core.model.bundle import FUSED, PLAIN, Bundle, Origin, Signature
from fsf_core.model.bundle_files import save_bundle
from fsf_core.model.preprocess import Profile
from tests.support.tiny_onnx import tiny_onnx

OWN = Profile(name="custom", height_px=0, width_px=0, mode="own", interpolation="linear", honour_exif=True)
CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")


def free_onnx(*, opset=17, batch="n"):
    """Return the tiny model for any height and width; its grid is the next multiples of 4."""
    model = tiny_onnx(opset=opset, batch=batch)
    for value in (model.graph.input[0], model.graph.output[0]):
        for axis, name in ((2, "h"), (3, "w")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    return model


def free_bundle(uri: str, profile: Profile = OWN, model=None) -> Bundle:
    """Write the bundle of a model for any height and width."""
    model = model or free_onnx()
    plain = from_onnx(read_onnx(model.SerializeToString()), profile)
    models = {PLAIN: model_bytes(plain)}
    if not why_not_fusible(profile, opset_of(plain)):
        models[FUSED] = model_bytes(fuse(plain, profile))
    found = signature_of(plain)
    signature = Signature(
        input_name=found.input_name,
        input_shape=found.input_shape,
        output_name=found.output_name,
        output_shape=found.output_shape,
        grid_stride=1.0,
    )
    origin = Origin(
        network="onnx", network_options={}, weights_sha256="", exporter="", opset=17, ir_version=8, tools={}, request={}
    )
    return save_bundle(
        uri,
        classes=CLASSES,
        palette=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)),
        profile=profile,
        signature=signature,
        origin=origin,
        models=models,
        parity="{}",
    )


def class_map(image_HWC, model=None, *, multiple_of=1, top_left=False):
    """Return the class map of a BGR image, and where no two classes nearly tie; one picture, alone."""
    session = ort.InferenceSession((model or free_onnx()).SerializeToString(), providers=["CPUExecutionProvider"])
    height, width = image_HWC.shape[:2]
    rows, columns = (-(-side // multiple_of) * multiple_of for side in (height, width))
    top, left = (0, 0) if top_left else ((rows - height) // 2, (columns - width) // 2)
    padded = np.full((rows, columns, 3), 128, np.uint8)
    padded[top : top + height, left : left + width] = image_HWC[..., ::-1]
    batch_NCHW = (padded.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
    [logits] = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(batch_NCHW)})
    powers = np.exp(logits[0] - logits[0].max(0))
    probabilities = powers / powers.sum(0)
    if multiple_of > 1:
        probabilities = probabilities[:, top : top + height, left : left + width]
    planes = np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in probabilities])
    ordered = np.sort(planes, axis=0)
    return planes.argmax(0), ordered[-1] - ordered[-2] > 1e-4
