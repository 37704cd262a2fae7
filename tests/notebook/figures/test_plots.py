"""Figures say what they show, in words too, and tables show what they were given."""

import dataclasses
import struct

import matplotlib
import pytest

from lab_support.instruments.load import report
from lab_support.instruments.load.latency import COMPLETED, RequestRecord
from lab_support.notebook.canvas import plots
from lab_support.notebook.page.role_view import RoleView
from lab_support.notebook.page.tables import STABLE, table

LAUNCHER = RoleView(
    role="launcher",
    pid=100,
    parent="",
    title="lab:launcher",
    threads=1,
    resident_mb=20.0,
    proportional_mb=7.0,
    private_mb=6.0,
    maps_torch=False,
    libraries=30,
    socket_numbers=(3,),
    socket_inode=33885,
    queued=0,
)


def child(role: str, pid: int, **changes) -> RoleView:
    return dataclasses.replace(LAUNCHER, role=role, pid=pid, parent="launcher", title=f"lab:{role}", **changes)


VIEWS = [
    LAUNCHER,
    child("engine-0", 101, socket_numbers=(), socket_inode=0, maps_torch=True, proportional_mb=293.0),
    child("api-0", 102),
    child("api-1", 103),
]


def some_report(*servers: str) -> report.Report:
    records = [
        RequestRecord(index, index, index + 0.1, (index + 0.02, index + 0.03), 2, COMPLETED, name, "0")
        for index, name in enumerate(servers)
    ]
    cost = report.GeneratorCost(0.1, 0.1, 0.0)
    return report.summarise(
        records,
        description="closed loop, 1 client",
        url="http://127.0.0.1:1",
        seconds=5.0,
        open_loop=False,
        generator=cost,
        stale_connections=0,
        seed=0,
    )


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


def test_the_tree_says_who_holds_the_socket_and_who_maps_torch():
    picture = plots.process_tree(VIEWS)
    assert "4 processes, 1 listening socket held by 3 of them; only engine-0 maps libtorch" in picture.alt
    assert "engine-0: child of launcher, 293 MB, no listening socket, libtorch." in picture.alt
    assert min(size_of(picture.png())) > 200


@pytest.mark.parametrize("api_servers", [1, 2, 6])
def test_the_tree_grows_with_the_server(api_servers):
    views = [*VIEWS[:2], *(child(f"api-{index}", 200 + index) for index in range(api_servers))]
    picture = plots.process_tree(views)
    assert f"held by {api_servers + 1} of them" in picture.alt
    assert size_of(picture.png())[0] < 2600


def test_memory_names_the_largest_with_its_share():
    assert plots.memory(VIEWS).alt.startswith("Bar chart. engine-0 has 93% of the server's memory.")


def test_latency_gives_medians_and_shows_a_server_that_answered_nothing():
    picture = plots.latency(some_report("api-1", "api-1", "api-1"), ["api-0", "api-1"])
    assert "half of the first tokens came within 20 ms" in picture.alt
    assert "Requests answered: api-0 0, api-1 3." in picture.alt
    assert min(size_of(picture.png())) > 200


def test_latency_tells_why_fewer_first_tokens_than_answers_were_measured():
    whole = some_report("api-0", "api-1")
    fewer = dataclasses.replace(whole, first_token=dataclasses.replace(whole.first_token, n=1))
    assert "after the one before, 1 answer without text." in plots.latency(fewer).alt
    assert "without text" not in plots.latency(whole).alt
    assert "without text" not in plots.latency(dataclasses.replace(fewer, asked=3)).alt


def test_latency_of_answers_without_a_stream_can_be_drawn_too():
    whole = dataclasses.replace(
        some_report("api-0"), first_token=report.Distribution(), inter_token=report.Distribution()
    )
    picture = plots.latency(whole)
    assert "half of the answers, each in one piece, came within 100 ms" in picture.alt
    assert picture.png()


def test_a_picture_comes_with_its_words_and_is_the_same_each_time():
    data, metadata = plots.process_tree(VIEWS)._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"]
    assert data == plots.process_tree(VIEWS)._repr_mimebundle_()[0]


def test_every_kind_of_process_has_a_colour_and_a_second_mark_of_its_own():
    assert len({look.colour for look in plots.LOOKS.values()}) == len(plots.LOOKS)
    assert len({look.hatch for look in plots.LOOKS.values()}) == len(plots.LOOKS)


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(matplotlib.rcParams)
    plots.process_tree(VIEWS).png()
    assert dict(matplotlib.rcParams) == before


def test_a_table_shows_the_named_fields():
    shown = table(VIEWS, "role", "pid", "socket_numbers", "maps_torch", "proportional_mb")
    assert shown.columns[0] == "process"
    assert shown.rows[1] == ("engine-0", "101", "–", "yes", "293.0")
    assert "<th" in shown._repr_html_() and "lab:" not in str(shown)


def test_published_tables_have_labels_for_pids(monkeypatch):
    monkeypatch.setenv(STABLE, "1")
    assert [row[0] for row in table(VIEWS, "pid").rows] == ["P0", "P1", "P2", "P3"]


def test_a_table_of_a_field_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="sockets"):
        table(VIEWS, "sockets")


def test_what_is_in_a_table_cannot_be_markup():
    assert "<b>" not in table([dataclasses.replace(LAUNCHER, title="<b>")], "title")._repr_html_()
