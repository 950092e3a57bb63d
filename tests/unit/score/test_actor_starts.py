"""What becomes of a job whose nodes cannot load the model."""

from fsf_core.score.actor_starts import MAX_FAILURES, ActorStarts, describe


def fail(starts: ActorStarts, actor: str, times: int) -> list[bool]:
    """Fail starts of an actor; returns whether each was its last."""
    outcomes = []
    for _ in range(times):
        starts.begin(actor, "bad")
        outcomes.append(starts.fail(actor, "bad", "no CUDA").is_last)
    return outcomes


def test_an_actor_tries_again_and_again_while_others_do_the_work() -> None:
    starts = ActorStarts()
    starts.begin("good", "there")
    starts.end("good")

    assert not any(fail(starts, "other", 20))
    assert starts.failed_nodes == {"bad": "no CUDA"}


def test_a_model_that_no_node_loads_ends_the_job_after_three_starts() -> None:
    assert fail(ActorStarts(), "only", MAX_FAILURES) == [False, False, True]


def test_an_actor_that_holds_blocks_and_cannot_come_back_ends_the_job() -> None:
    """Ray keeps the blocks of a restarted actor for it, so nobody else does them."""
    starts = ActorStarts()
    for actor in ("good", "moved"):
        starts.begin(actor, "there")
        starts.end(actor)

    assert fail(starts, "moved", MAX_FAILURES) == [False, False, True]


def test_a_process_that_dies_while_it_loads_the_model_is_a_failed_start_of_its_node() -> None:
    starts = ActorStarts()
    outcomes = [starts.begin("only", "bad") for _ in range(MAX_FAILURES + 1)]

    assert outcomes[0] is None
    assert [outcome.is_last for outcome in outcomes[1:] if outcome] == [False, False, True]
    assert starts.failed_nodes == {"bad": "its process ended while it loaded the model"}


def test_the_pause_between_starts_grows() -> None:
    starts = ActorStarts()
    waits = [starts.fail("one", "bad", "").wait_s for _ in range(6)]

    assert waits == sorted(waits)
    assert waits[0] <= 1
    assert waits[-1] == waits[-2] == 60


def test_the_reason_names_every_node() -> None:
    assert describe({"10.0.0.2": "RuntimeError: no CUDA"}) == (
        "the model cannot be loaded (node 10.0.0.2: RuntimeError: no CUDA); repair the node, or take it out of the "
        "cluster"
    )
