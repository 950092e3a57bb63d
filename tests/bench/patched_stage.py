"""Replaces a stage of the job by a subclass that a bench defines. Knows where a pipeline names its stages."""

from typing import Any


def replace_stage(stage: type, replacement: type, **more: Any) -> None:
    """Run another class wherever the pipeline names a stage.

    Args:
        stage: class of the stage.
        replacement: class in a module that workers can import.
        more: constructor arguments of the replacement beyond those of the stage.
    """
    from fsf_core.score import pipeline

    for name in ("map_batches", "map_batches_internal"):
        _replace(pipeline.Dataset, name, stage, replacement, more)


def _replace(dataset_class: Any, name: str, stage: type, replacement: type, more: dict[str, Any]) -> None:
    map_batches = getattr(dataset_class, name)

    def replaced(dataset: Any, function: Any, **settings: Any) -> Any:
        if function is stage:
            function = replacement
            settings["fn_constructor_kwargs"] |= more
        return map_batches(dataset, function, **settings)

    setattr(dataset_class, name, replaced)
