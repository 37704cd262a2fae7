"""The figures of how connections are shared: bursts, a queue that is served, ways by two costs, a full queue."""

from lab_support.notebook.figures.burst import burst_panels, busiest
from lab_support.notebook.figures.evenness import Way, evenness
from lab_support.notebook.figures.full_queue import Crowd, full_queue
from lab_support.notebook.figures.left_in_queue import left_in_queue

PNG = b"\x89PNG"


def test_a_burst_names_the_busiest_of_each_round():
    rounds = [{"worker 1": 40, "worker 3": 24}, {"worker 2": 64}]
    assert busiest(rounds) == 52
    picture = burst_panels({"asyncio": {"3 ms of work": rounds, "0 ms of work": rounds}}, finding="One has most")
    assert picture.alt.startswith(
        "One has most. asyncio, 3 ms of work: the busiest worker of each of 2 rounds had 40, 64."
    )
    assert picture.png().startswith(PNG)


def test_a_queue_that_is_served_says_how_many_were_left_at_the_first_answer():
    picture = left_in_queue({"asyncio": [0, 0], "uvloop": [1, 0]}, finding="asyncio empties it")
    assert "asyncio: 0 when the first was answered; uvloop: 1 when the first was answered" in picture.alt
    assert picture.png().startswith(PNG)


def test_ways_stand_by_their_costs_with_those_lost_and_the_band_of_chance():
    ways = {
        "shared": Way(4.0, [100, 60, 30, 10], 0),
        "own": Way(1.2, [55, 45, 48, 52], 22),
        "turns": Way(1.1, [50] * 4, 0),
    }
    picture = evenness(ways, finding="Own sockets lose 22 of 100")
    assert "shared: 4.0 wake-ups per connection, Gini 0.38, connections 100, 60, 30, 10, 0 of 100 lost." in picture.alt
    assert "own: 1.2 wake-ups per connection, Gini 0.04, connections 55, 45, 48, 52, 22 of 100 lost." in picture.alt
    assert "A fair draw stays below 0.1" in picture.alt
    assert picture.png().startswith(PNG)


def test_ways_at_one_place_share_a_label():
    figure = evenness({name: Way(1.1, [50] * 4, 0) for name in ("turns", "counts")}, finding="Alike").figure
    assert "turns, counts" in [text.get_text() for text in figure.axes[0].texts]


def test_a_full_queue_tells_the_second_syn_and_those_without_an_answer():
    samples = [(0.0, 8), (0.1, 4), (0.2, 0), (1.0, 0), (1.05, 7), (1.2, 0)]
    crowd = Crowd(
        60, 8, samples, [0.02 * count for count in range(1, 10)] + [1.07 + 0.02 * count for count in range(8)]
    )
    assert (crowd.unheard, crowd.second_syn) == (43, 1.05)
    picture = full_queue(crowd)
    assert picture.alt.startswith("The queue is soon empty, and 43 of 60 clients got no answer.")
    assert "It fills again after 1.1 s, by their second SYN." in picture.alt or "after 1.0 s" in picture.alt
    assert picture.png().startswith(PNG)


def test_a_queue_that_filled_once_has_no_second_syn():
    crowd = Crowd(2, 8, [(0.0, 1), (0.1, 0)], [0.05, 0.1])
    assert crowd.second_syn is None and crowd.unheard == 0
    assert full_queue(crowd).png().startswith(PNG)
