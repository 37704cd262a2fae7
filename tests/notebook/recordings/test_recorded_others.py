"""What notebooks 08 and 08a state of other servers and of vLLM's front end in Rust, computed from the recordings."""

from statistics import median

import pytest

from lab_support.instruments.record import recordings
from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.recordings import one_process, peers


@pytest.fixture(scope="module")
def others() -> Recording:
    return recordings.load(peers.RECORDING)


@pytest.fixture(scope="module")
def ends() -> Recording:
    return recordings.load(one_process.RECORDING)


def test_each_of_six_servers_was_measured_twice_in_one_order_and_then_in_the_other(others):
    rounds = [[each["peer"] for each in others.of("peer", round=number)] for number in (0, 1)]
    assert len(rounds[0]) == len(set(rounds[0])) == 7  # mosec in two ways
    assert rounds[1] == rounds[0][::-1]
    assert all(each["failed"] == 0 for each in others.of("peer"))
    assert len(peers.table(others).rows) == 7


def test_what_08a_claims_of_them_holds(others):
    assert peers.a_whole_answer_is_late(others)
    assert peers.without_batches_all_wait(others)


def test_each_front_end_was_measured_by_both_clients_at_each_number_of_clients(ends):
    for engine, names in {
        "paced": ("lab-1", "lab-2", "lab-4", "vllm-rs-1", "vllm-rs-2"),
        "cpu": ("lab-1", "lab-2", "lab-4", "vllm-rs-1", "vllm-rs-2", "vllm-1", "vllm-2"),
    }.items():
        for name in names:
            found = ends.of("front end", engine=engine, front_end=name)
            assert len({(each["clients"], each["client"], each["round"]) for each in found}) == len(found) == 12, name


def test_what_08_claims_of_one_process_holds(ends):
    rust, python = (one_process.cost_of_a_token(ends, name) for name in ("vllm-rs-1", "lab-1"))
    assert (round(rust[one_process.OWN]), round(python[one_process.OWN])) == (25, 44)
    assert round(sum(rust.values()) / sum(python.values()), 2) == 0.68
    assert one_process.at_the_same_rate(ends)
    assert one_process.the_kernel_takes_the_same(ends)
    assert one_process.memory_between_one_and_four(ends)


def test_what_08_says_of_vllms_own_api_server_is_in_the_recording(ends):
    costs = {
        name: median(each["token_us"] for each in ends.of("front end", engine="cpu", front_end=name))
        for name in ("vllm-1", "lab-1")
    }
    assert {name: round(us) for name, us in costs.items()} == {"vllm-1": 135, "lab-1": 48}


def test_a_cell_gets_each_load_of_a_front_end_by_its_title():
    found = one_process.samples("1 process in Rust")
    assert len(found) == 12 and {each["clients"] for each in found} == {16, 64, 256}
    assert all(each["cpu"] > 0 < each["tokens"] and 0 < each["kernel_share"] < 1 for each in found)
    with pytest.raises(LookupError, match="got '1 process in C', expected one of 1 API server, "):
        one_process.samples("1 process in C")


def test_a_recording_without_them_is_told(others):
    with pytest.raises(LookupError, match="got a recording of peers without vllm-rs-1, expected it"):
        one_process.cost_of_a_token(others, "vllm-rs-1")
