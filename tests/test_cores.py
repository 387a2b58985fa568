"""How servers divide the cores of a machine, by a /sys that the test writes."""

import os
from pathlib import Path

import pytest

from asrloop.cores import SERVERS_VARIABLE, servers_here, shares, text_of, usable_cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two nodes of four physical cores with two threads each, numbered as Linux does: 0-3 and 8-11 are node 0."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for node, cpus in enumerate(("0-3,8-11", "4-7,12-15")):
        directory = tmp_path / "node" / f"node{node}"
        directory.mkdir(parents=True)
        (directory / "cpulist").write_text(f"{cpus}\n")
    for cpu in range(16):
        directory = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    return tmp_path


def test_a_server_has_whole_nodes_where_they_divide(machine: Path) -> None:
    assert [text_of(cores) for cores in shares(2, machine, machine)] == ["0-3,8-11", "4-7,12-15"]
    assert [text_of(cores) for cores in shares(1, machine, machine)] == ["0-15"]


def test_within_a_node_threads_of_a_physical_core_stay_together(machine: Path) -> None:
    assert [text_of(cores) for cores in shares(4, machine, machine)] == [
        "0-1,8-9",
        "2-3,10-11",
        "4-5,12-13",
        "6-7,14-15",
    ]


def test_every_core_goes_to_one_server_and_shares_differ_by_one(machine: Path) -> None:
    for servers in range(1, 17):
        found = shares(servers, machine, machine)
        assert sorted(core for cores in found for core in cores) == list(range(16))
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_system_that_tells_nothing_is_one_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7})
    (tmp_path / "node" / "node0").mkdir(parents=True)
    (tmp_path / "node" / "node0" / "cpulist").write_text("what\n")
    assert shares(2, tmp_path, tmp_path) == [{2, 3}, {5, 7}]


def test_under_a_small_quota_the_servers_share_all_cores_and_divide_the_quota(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores that one container chose for itself may be those that the next one chooses, too."""
    (machine / "cpu.max").write_text("800000 100000\n")
    assert shares(2, machine, machine) == [set(range(16))] * 2
    assert usable_cores(machine) == 8
    monkeypatch.setenv(SERVERS_VARIABLE, "2")
    assert usable_cores(machine) == 4
    monkeypatch.setenv(SERVERS_VARIABLE, "16")
    assert usable_cores(machine) == 1


@pytest.mark.parametrize("value", ["", "x", "0", "-3"])
def test_a_wrong_number_of_servers_in_the_environment_counts_as_one(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVERS_VARIABLE, value)
    assert servers_here() == 1
