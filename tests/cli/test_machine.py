import pytest
import torch

from mace_gaunt.cli.machine import keep_memory, limit_threads, processor_quota


@pytest.mark.parametrize(
    ("content", "processors"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1), ("max 100000\n", None), ("", None)],
)
def test_the_quota_of_a_container(content, processors, tmp_path):
    path = tmp_path / "cpu.max"
    path.write_text(content)
    assert processor_quota(path) == processors
    assert processor_quota(tmp_path / "absent") is None


def test_threads_are_lowered_to_the_quota_and_never_raised(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = tmp_path / "cpu.max"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for quota, expected in ((8, 3), (2, 2)):
            path.write_text(f"{quota}00000 100000")
            limit_threads(path)
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_memory_can_be_allocated_after_the_allocator_was_set():
    keep_memory()
    assert float(torch.ones(2**22).sum()) == 2**22
