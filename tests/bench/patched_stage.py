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

    map_batches = pipeline.Dataset.map_batches

    def replaced(dataset: Any, function: Any, **settings: Any) -> Any:
        if function is stage:
            function = replacement
            settings["fn_constructor_kwargs"] |= more
        return map_batches(dataset, function, **settings)

    pipeline.Dataset.map_batches = replaced
