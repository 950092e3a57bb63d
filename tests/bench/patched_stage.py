"""The job with one of its stages swapped for a form that a bench made of it. Knows how a pipeline names its stages."""

from typing import Any


def swap(theirs: type, ours: type, **more: Any) -> None:
    """Let ours run wherever the pipeline names theirs.

    Args:
        theirs: class of a stage.
        ours: under the name of a module that workers can import.
        more: what ours is made from beside what theirs is made from.
    """
    from fsf_core.score import pipeline

    map_batches = pipeline.Dataset.map_batches

    def swapped(dataset: Any, stage: Any, **settings: Any) -> Any:
        if stage is theirs:
            stage = ours
            settings["fn_constructor_kwargs"] |= more
        return map_batches(dataset, stage, **settings)

    pipeline.Dataset.map_batches = swapped
