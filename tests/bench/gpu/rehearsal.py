"""`fsf` on a CPU with what a job has beside a GPU: separate stages, the fused model split, batches of one size.

python -m tests.bench.gpu.rehearsal score --bundle B --provider cpu …
"""

import dataclasses
import sys
from typing import Any

from fsf_core.cli import app
from fsf_core.model.bundle import variant_of
from fsf_core.score import plan
from fsf_core.score.spec import PipelineSpec


class RehearsedSpec(PipelineSpec):
    """A specification whose actors call the model as on a GPU."""

    @property
    def model(self) -> dict[str, Any]:
        """Arguments of Infer."""
        return super().model | {"on_device": True}


def as_beside_a_gpu(spec: PipelineSpec, *, precision: Any) -> PipelineSpec:
    """Return the specification of a CPU's job as that of a GPU's."""
    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return RehearsedSpec(**fields | {"separate_stages": True, "variant": variant_of(precision, fused=True)})


def rehearse() -> None:
    """Plan every job of this process as beside a GPU."""
    plan_pipeline = plan.plan_pipeline
    plan.plan_pipeline = lambda config, **more: as_beside_a_gpu(
        plan_pipeline(config, **more), precision=config.precision
    )


def main() -> int:
    """Run the job; returns its exit code."""
    rehearse()
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
