"""Folders of Hugging Face's transformers, as `save_pretrained` writes them: segmentation models of every architecture.

The network is the library's own, the preprocessing that of the image processor, the classes those of `id2label`.
"""

from pathlib import Path

from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.families.optional import load
from fsf_core.export.families.transformers.classes import read_classes
from fsf_core.export.families.transformers.folder import CONFIG, read_json, require_loadable, task_of

EXTRA = "transformers"


def recognises(path: Path) -> bool:
    """Return whether the folder has a config.json of transformers, whatever the model is for."""
    if not path.is_dir() or not (path / CONFIG).is_file():
        return False
    try:
        config = read_json(path / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(config.get("model_type"), str)


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the model, in float32.

    Raises:
        ConfigError: it is of another task, or needs code that comes with it.
        CheckpointError: weights are missing, damaged, or do not fit.
    """
    config = read_json(path / CONFIG)
    require_loadable(path, config, request.source)
    task = task_of(config, request.source)
    load("transformers", EXTRA)

    from fsf_core.export.families.transformers import networks
    from fsf_core.export.families.transformers.preprocessing import read_preprocessing
    from fsf_core.export.families.transformers.weights import load_model

    model, weight_notes = load_model(path, task, request.source)
    preprocessing = read_preprocessing(path, config)
    classes, class_notes, about_classes = read_classes(config, model.config, given=request.classes)
    return FoundModel(
        family="transformers",
        network=networks.network_of(model, task, path, preprocessing.size, request.source),
        document={"input": preprocessing.document, "output": networks.output_of(model, task)},
        classes=classes,
        about_classes=about_classes,
        notes=(*weight_notes, *networks.notes_of(model, task), *preprocessing.notes, *class_notes),
        sources={"input": preprocessing.file, "output": CONFIG, "classes": CONFIG},
        exporter=networks.exporter_of(model),
        advice=preprocessing.why_not,
    )
