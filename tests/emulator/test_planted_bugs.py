"""Each planted bug is found, by its kind and with the line of the kernel and of the spec; kernels without one pass."""

from __future__ import annotations

import pytest

from irc.runtime.emulator import EmulatorError
from irc.runtime.emulator.findings import KINDS
from tests.emulator.bugs import BUGS, RIGHT, Bug
from tests.emulator.kernels import kernel, launch, launch_bulk, source

SEEDS = range(7)  # seed 0, and each order of threads with each time of copies


def mistaken(bug: Bug) -> str:
    body = RIGHT[bug.of].replace(bug.old, bug.new, 1)
    assert body != RIGHT[bug.of], f"{bug.name} changes nothing"
    return kernel(bug.name, body)


ALL = source([*(kernel(name, body) for name, body in RIGHT.items()), *map(mistaken, BUGS)])


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "staged"])
def test_right_kernels_pass_under_every_schedule(name: str) -> None:
    results = [launch(ALL, name, seed=seed).out for seed in SEEDS]
    assert results[0].any()
    assert all((result == results[0]).all() for result in results)


@pytest.mark.parametrize("check", (True, False))
@pytest.mark.parametrize("seed", SEEDS)
def test_staged_products_are_right_under_every_schedule(seed: int, check: bool) -> None:
    got, want = launch_bulk(ALL, "staged", seed, check)
    assert (got == want).all()


@pytest.mark.parametrize("seed", (0, 1))
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_and_named(bug: Bug, seed: int) -> None:
    with pytest.raises(EmulatorError) as raised:
        if bug.of == "staged":
            launch_bulk(ALL, bug.name, seed)
        else:
            launch(ALL, bug.name, bug.grid, seed)
    found = [finding for finding in raised.value.findings if finding.kind in bug.kind.split(" or ")]
    assert found, str(raised.value)
    lines = [place for finding in found for chain in finding.places for place in chain]
    assert any(bug.at in place.text for place in lines), str(raised.value)
    quoted = [line.strip().removeprefix("// spec: ") for line in RIGHT[bug.of].splitlines() if "// spec: " in line]
    assert any(place.spec in quoted for place in lines if bug.at in place.text)


def test_the_bugs_are_of_every_kind() -> None:
    assert len(BUGS) >= 30
    assert {kind for bug in BUGS for kind in bug.kind.split(" or ")} == set(KINDS)
