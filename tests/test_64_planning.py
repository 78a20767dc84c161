"""The simulation behind the plans keeps to the limits that can be written down, and is the same each time."""

from __future__ import annotations

import itertools

import pytest
from plan_scale import MACHINES, Rates, measure
from simulate_cluster import Load, simulate

RATES = Rates(0.02, 0.9, 0.4, 0.02, msi_bytes=6, stored_bytes=200, gpu_us=0.03)


@pytest.mark.parametrize(
    ("load", "workers", "by"),
    [
        (Load(0.0001, 1.0, 0.001), 8, "workers"),
        (Load(0.0001, 1.0, 0.1), 64, "writer"),
        (Load(0.05, 1.0, 0.001), 100, "scheduler"),
    ],
)
def test_a_long_run_goes_as_fast_as_its_slowest_link_and_no_faster(load: Load, workers: int, by: str) -> None:
    rate, name = load.bound(workers)
    outcome = simulate(4000, workers, load)
    assert name == by
    assert 0.95 * rate < outcome.tiles_per_s <= rate * 1.01  # drawn times may lie a little below their mean


def test_one_worker_without_spread_takes_the_sum_of_its_tiles() -> None:
    outcome = simulate(100, 1, Load(0.0, 2.0, 0.5, spread=0.0))
    assert outcome.seconds == pytest.approx(100 * 2.0 + 0.5)  # the last one is still to be written


def test_a_writer_alone_decides_where_computing_costs_nothing() -> None:
    outcome = simulate(50, 7, Load(0.0, 1e-9, 0.2, spread=0.0))
    assert outcome.seconds == pytest.approx(50 * 0.2, rel=1e-6)
    assert outcome.writer_busy == pytest.approx(1.0)


def test_more_workers_never_slow_a_run_and_the_same_seed_gives_the_same_run() -> None:
    load = Load(0.001, 0.5, 0.01)
    rates = [simulate(3000, workers, load).tiles_per_s for workers in (1, 4, 16, 64, 256)]
    assert all(later > 0.999 * earlier for earlier, later in itertools.pairwise(rates))
    assert simulate(500, 16, load, seed=3) == simulate(500, 16, load, seed=3)
    assert simulate(500, 16, load, seed=3) != simulate(500, 16, load, seed=4)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_plan_of_a_machine_and_its_simulation_agree(machine: object) -> None:
    smallest = min(RATES.limits(machine).values())  # type: ignore[arg-type]
    outcome = simulate(8000, machine.cores, RATES.load(machine))  # type: ignore[attr-defined,arg-type]
    assert 0.93 * smallest < outcome.tiles_per_s * 256**2 / 1e6 < 1.01 * smallest


def test_this_machine_can_be_measured() -> None:
    rates = Rates(**measure(8, 4))
    assert min(rates.read_us, rates.network_us, rates.compress_us, rates.stored_bytes) > 0
