"""What of tritonserver's log is shown: a model's traceback is, tables and what every machine without a GPU says are not."""

import pytest

from asrloop.tritonserver.log import parse


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ('E1125 11:02:03.123456 77 model_lifecycle.cc:642] "failed to load"', "error"),
        ('W1125 11:02:03.123456 77 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"', "verbose"),
        ("Traceback (most recent call last):", "error"),
        ('  File "model.py", line 70, in execute', "error"),
        ("OSError: no way out", "error"),
        ("+-----------+---------+", "verbose"),
        ("| Model     | Version |", "verbose"),
        ("Signal (15) received.", "verbose"),
        ("Error: Failed to initialize NVML", "verbose"),
        ("", "verbose"),
    ],
)
def test_levels(line: str, level: str) -> None:
    assert parse(line)[0] == level
