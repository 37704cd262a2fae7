"""Processes seen elsewhere: each has a source, and facts that the rule takes."""

from lab_support.supervision.seen_elsewhere import PLAIN, seen_elsewhere
from lab_support.supervision.start_rule import choose


def test_each_names_its_source_and_turns_fork_into_spawn():
    found = seen_elsewhere()
    assert len(found) == 6
    for each in found.values():
        assert (
            each.source.partition(":")[0] in ("recorded", "captured", "described, not seen") or "printed" in each.source
        )
        assert choose("fork", each.seen).method == "spawn"
        assert each.given and each.seen != PLAIN


def test_lists_of_the_file_are_tuples_as_the_rule_takes_them():
    assert seen_elsewhere()["an actor of Ray 2.60"].seen.python_threads == ("PythonGCThread",)
