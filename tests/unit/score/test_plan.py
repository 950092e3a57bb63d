from fsf_core.score.plan import SMALL_JOB_BATCH, SMALL_JOB_ITEMS, _default_batch


def test_actors_on_gpus_measure_batches_in_jobs_that_are_large_enough_for_it():
    assert _default_batch(gpu=True, pending=SMALL_JOB_ITEMS - 1) == SMALL_JOB_BATCH
    assert _default_batch(gpu=True, pending=SMALL_JOB_ITEMS) is None
    assert _default_batch(gpu=False, pending=10**9) == 4
