"""`fsf` with separate stages, as beside a GPU, on a machine without one."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fsf_core.cli import app
from fsf_core.score import plan
from fsf_core.score.spec import PipelineSpec


def with_separate_stages(planned: Callable[..., PipelineSpec]) -> Callable[..., PipelineSpec]:
    """Return `plan.plan_pipeline` with separate stages, but for windows, which have none beside a GPU either."""

    def plan_pipeline(*args: Any, **more: Any) -> PipelineSpec:
        spec = planned(*args, **more)
        return replace(spec, separate_stages=spec.tile is None)

    return plan_pipeline


def main() -> int:
    plan_pipeline: Any = with_separate_stages(plan.plan_pipeline)
    plan.plan_pipeline = plan_pipeline
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
