"""One writer a slot, everybody reads."""

from lab_support.boundary.counters import Counters
from lab_support.supervision.children import Said
from tests.boundary.conftest import CHILDREN_UNDER_TEST


def test_numbers_of_all_processes_add_up(family) -> None:
    children, signals = family
    with Counters(3) as counters:
        for slot, times in enumerate([1000, 20, 3]):
            children.start("spawn", f"child-{slot}", CHILDREN_UNDER_TEST, "count", counters, slot, times)
        said = 0
        for event in children.events(signals):
            said += isinstance(event, Said)
            if said == 3:
                break
        assert counters.total() == 1023


def test_a_successor_starts_at_zero() -> None:
    with Counters(2) as counters:
        counters.claim(1).requests_in_flight += 5
        counters.sequences_in_flight += 80
        assert (counters.total(), counters.total_sequences()) == (5, 80)
        counters.claim(1)
        assert (counters.total(), counters.total_sequences()) == (0, 0)
