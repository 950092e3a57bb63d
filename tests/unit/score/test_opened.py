"""A run says on which cards it was made: in its log, its summary and its metrics."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fsf_core.model.cuda_driver import Card
from fsf_core.score import measured, opened
from fsf_core.score.metric_table import BATCH_FRAMES
from fsf_core.score.opened import OpenedModel, count_cards, describe_card
from fsf_core.score.tracker import JobTracker


def _opened(monkeypatch: pytest.MonkeyPatch, *, batch_frames: int, node: str = "10.0.0.7") -> OpenedModel:
    card = Card(name="NVIDIA H100 80GB HBM3", compute="9.0", memory_bytes=85_520_809_984, cuda="13.0")
    monkeypatch.setattr(opened, "first_card", lambda: card)
    monkeypatch.setattr(opened, "nvidia_driver", lambda: "580.159.03")
    monkeypatch.setattr(opened, "loaded_libraries", lambda: {"cudnn": "9.13.1", "cudart": "13.0.96"})
    return describe_card(node=node, provider="cuda", batch_frames=batch_frames, limit_bytes=42_000_000_000)


def test_the_log_names_card_driver_libraries_and_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fsf"):
        _opened(monkeypatch, batch_frames=128).log()

    assert caplog.messages == [
        (
            "event=model_opened node='10.0.0.7' provider=cuda card='NVIDIA H100 80GB HBM3' compute=9.0 memory_gb=85.5 "
            "limit_gb=42.0 driver='580.159.03' cuda=13.0 libraries='cudart 13.0.96 cudnn 9.13.1' batch_frames=128"
        )
    ]


def test_the_summary_counts_actors_by_card_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    actors = [
        _opened(monkeypatch, batch_frames=128),
        _opened(monkeypatch, batch_frames=64),
        _opened(monkeypatch, batch_frames=128, node="10.0.0.8"),
    ]

    found = count_cards(actors)

    assert sorted((each["batch_frames"], each["actors"]) for each in found) == [(64, 1), (128, 2)]
    assert found[0]["libraries"] == {"cudart": "13.0.96", "cudnn": "9.13.1"}
    assert count_cards([]) == []


def test_actors_that_loaded_the_same_libraries_in_another_order_are_of_one_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actor = _opened(monkeypatch, batch_frames=128)
    other = replace(actor, libraries=dict(reversed(actor.libraries.items())))

    assert [each["actors"] for each in count_cards([actor, other])] == [2]


def test_the_tracker_has_the_newest_batch_of_every_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = JobTracker(early_items=None, early_failed_share=1.0, earlier_segments={})
    assert (BATCH_FRAMES.name,) not in tracker.counted()[1]

    tracker.note_opened("a", _opened(monkeypatch, batch_frames=128))
    tracker.note_opened("b", _opened(monkeypatch, batch_frames=32))
    tracker.note_opened("a", _opened(monkeypatch, batch_frames=64))

    assert tracker.counted()[1][(BATCH_FRAMES.name,)] == 64
    assert {actor: model.batch_frames for actor, model in tracker.progress().opened.items()} == {"a": 64, "b": 32}


@pytest.mark.parametrize(("provider", "expected"), [("cuda", [128, 64]), ("cpu", [])])
def test_an_actor_with_a_gpu_notes_its_card_and_again_when_its_batch_is_halved(
    provider: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[str, int]] = []
    tracker = SimpleNamespace(
        note_opened=SimpleNamespace(remote=lambda actor, opened: noted.append((actor, opened.batch_frames)))
    )
    monkeypatch.setattr(measured.ray, "get_runtime_context", lambda: SimpleNamespace(get_actor_id=lambda: "a1"))
    monkeypatch.setattr(measured, "own_address", lambda: "10.0.0.7")
    monkeypatch.setattr(measured, "describe_card", SimpleNamespace)

    card = measured.CardNote(tracker, provider=provider, limit_bytes=42_000_000_000)
    for batch_frames in (128, 128, 64):
        card.note(batch_frames)

    assert noted == [("a1", batch_frames) for batch_frames in expected]
