"""Memory is lent again as soon as nothing refers to it, and never before."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from fsf_core.stages import kept_buffers, units
from fsf_core.stages.kept_buffers import MAX_BUFFERS, KeptBuffers

SIZE = 1 << 20


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_lent_again_when_the_last_view_of_it_is_gone() -> None:
    buffers = KeptBuffers()
    first = buffers.take(SIZE)
    place, view = address(first), first.view(np.float32).reshape(-1, 4)[1:2]
    del first
    assert address(buffers.take(SIZE)) != place, "a view is left"
    del view

    assert place in {address(taken) for taken in [buffers.take(SIZE), buffers.take(SIZE // 2)]}


@pytest.mark.parametrize("kept", ["table", "slice", "value", "buffer", "array"])
def test_memory_of_a_column_is_not_lent_while_anything_of_it_is_left(kept: str) -> None:
    buffers = KeptBuffers()
    data = buffers.take(SIZE)
    data[:] = 7
    column = units.from_bytes(data, [SIZE // 2, SIZE // 2])
    table = pa.table({"outputs": column})
    left = {
        "table": table,
        "slice": table.slice(1),
        "value": column[0],
        "buffer": column.buffers()[2],
        "array": np.frombuffer(column.buffers()[2], np.uint8)[:10],
    }[kept]
    del data, column, table
    for _ in range(2 * MAX_BUFFERS):
        buffers.take(SIZE)[:] = 9

    held = left if kept in {"buffer", "array"} else None
    if kept == "value":
        held = left.as_buffer()
    elif held is None:
        held = left.column("outputs").chunk(0)[0].as_buffer()
    assert set(bytes(held)) == {7}


def test_no_more_than_a_few_buffers_are_kept_and_none_that_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_buffers, "MAX_KEPT_BYTES", SIZE)
    buffers = KeptBuffers()
    taken = [buffers.take(SIZE) for _ in range(3 * MAX_BUFFERS)]
    assert len({address(one) for one in taken}) == 3 * MAX_BUFFERS
    del taken
    buffers.take(SIZE + 1)

    assert [one.size for one in buffers._kept] == [SIZE] * MAX_BUFFERS
    assert buffers.take(0).size == 0


def test_a_larger_buffer_takes_the_place_of_one_that_is_unused() -> None:
    buffers = KeptBuffers()
    [buffers.take(size) for size in (1, 2, 3, 4)]
    small = [buffers.take(1) for _ in range(MAX_BUFFERS)]
    del small
    buffers.take(SIZE)

    assert SIZE in {one.size for one in buffers._kept}
    assert len(buffers._kept) <= MAX_BUFFERS


def test_threads_never_get_the_same_memory() -> None:
    buffers, wrong = KeptBuffers(), []

    def work(number: int) -> None:
        for _ in range(300):
            mine = buffers.take(4096)
            mine[:] = number
            if not (mine == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
