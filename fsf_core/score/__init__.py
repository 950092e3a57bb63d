"""The scoring job: manifest and bundle to a run. The only package that knows Ray.

`job` is the order of events. `plan` decides what the options mean on the cluster and returns a `spec`; `partition` cuts
manifest rows into decode tasks; `pipeline` runs them with Ray Data, on CPUs in one `actor`. `recovery` decodes and
commits on workers and reports to the `tracker`; `progress` shows what it counted, `gates` judge the summary. `reuse`
copies from an earlier run, `render` draws videos, `cluster` joins or starts Ray, with the patches of `local_ray`.
What a stage does is in `fsf_core.stages`.

Imports none of them: every worker would pay for all.
"""
