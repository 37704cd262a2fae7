"""`python -m tests.prove notebook NN`: it keeps what it has measured, goes on there, and leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

from tests.house_map.code import Package
from tests.notebook.moves import solution_trials
from tests.proofs.kept.keys import HOUSE, ONLY_SHOW, code_of, key_of, only_shows, used_by
from tests.proofs.kept.measurements import InUse, kept_in
from tests.proofs.kept.recorded import record, recorded
from tests.proofs.kept.resumable import STOPPED
from tests.proofs.notebook import Counts, proofs_of

PROGRAM = """
import sys
from pathlib import Path
from tests.proofs import Row
from tests.proofs.kept.resumable import Proof, run

def measure(index):
    print("measuring", index, flush=True)
    return sys.stdin.readline().strip()

proof = Proof("three", "a key", 3, measure, lambda found: [Row("three", " ".join(found), found[0] == "a")])
sys.exit(run("00", [proof], again="--again" in sys.argv, folder=Path(sys.argv[1])))
"""


class Proving:
    """A proof of three measurements, each of which waits for a line of this test's."""

    def __init__(self, folder: Path, *words: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), *words], text=True, **pipes)

    def __enter__(self) -> "Proving":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def measures(self, index: int) -> None:
        assert self.process.stdout.readline() == f"measuring {index}\n"

    def tell(self, words: str) -> None:
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        told, _ = self.process.communicate()
        return self.process.returncode, told


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_proof_that_was_stopped_goes_on_where_it_was(tmp_path, ending):
    with Proving(tmp_path) as first:
        first.measures(0)
        first.tell("a")
        first.measures(1)
        first.process.send_signal(ending)
        code, told = first.end()
        assert code == (-signal.SIGKILL if ending == signal.SIGKILL else STOPPED)
        assert ("goes on from here" in told) == (ending != signal.SIGKILL)
    with (tmp_path / "00.jsonl").open("a") as file:
        file.write('{"key": "a k')  # as if it had been killed while it wrote
    with Proving(tmp_path) as second:
        for index, words in ((1, "b"), (2, "c")):
            second.measures(index)
            second.tell(words)
        assert second.end() == (
            0,
            "| asked | measured | met |\n| --- | --- | --- |\n| three | a b c | yes |\n\n1 of 1 met\n",
        )
    with Proving(tmp_path) as third:
        assert "a b c" in third.end()[1]
    with Proving(tmp_path, "--again") as afresh:
        for index in range(3):
            afresh.measures(index)
            afresh.tell("x")
        code, told = afresh.end()
        assert code == 1 and "| three | x x x | NO |" in told


def test_recorded_measurements_are_used_where_they_are_asked_for_and_only_of_the_same_code(tmp_path):
    found = [("one", "a key", ["a", "a", "b"]), ("two", "another", [{"failed": "ü"}])]
    record("00", found, tmp_path)
    assert recorded("00", tmp_path) == {key: measured for _, key, measured in found}
    (line, _) = (tmp_path / "00.jsonl").read_text(encoding="utf-8").splitlines()
    assert '"measured": [["a", 2], ["b", 1]]' in line and f"{os.cpu_count()} cores" in line
    assert recorded("01", tmp_path) == {}
    with kept_in(tmp_path / "kept", before=recorded("00", tmp_path)) as kept:
        kept.add("a key", "c")
        assert (kept.of("a key"), kept.of("changed code")) == (["a", "a", "b", "c"], [])
    with kept_in(tmp_path / "kept") as kept:
        assert kept.of("a key") == ["c"]


def test_a_record_says_when_each_proof_was_measured_last(tmp_path):
    record("00", [("one", "a", [1]), ("two", "b", [1])], tmp_path)
    file = tmp_path / "00.jsonl"
    file.write_text(re.sub(r'"on": "[^"]*"', '"on": "long ago"', file.read_text()))
    record("00", [("one", "a", [1]), ("two", "b", [1, 2])], tmp_path)
    assert ["long ago" in line for line in file.read_text().splitlines()] == [True, False]


def test_two_at_once_do_not_measure_the_same(tmp_path):
    with Proving(tmp_path) as first:
        first.measures(0)
        with Proving(tmp_path) as second:
            assert second.process.wait() == 2
            assert "another process measures" in second.process.stderr.read()
        with pytest.raises(InUse), kept_in(tmp_path / "00.jsonl"):
            pass


RUNS_A_COMMAND = """
import sys
from tests.proofs.ended import busy_cores, run_to_its_end
from tests.proofs.kept.resumable import stoppable

stoppable()
try:
    with busy_cores():
        run_to_its_end([sys.executable, "-c", "import signal, sys; open(sys.argv[1], 'w').write('!'); told = "
                        "open(sys.argv[1], 'w'); print('!', file=told, flush=True); signal.pause()", sys.argv[1]])
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_proof_runs_ends_with_it(tmp_path, ending):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, "-c", RUNS_A_COMMAND, str(fifo)]) as proof, fifo.open() as told:
        assert told.read(1) == "!"
        proof.send_signal(ending)
        told.read()  # until the command, which holds the other end, has ended
    assert proof.returncode in (0, -signal.SIGKILL)


def test_measurements_are_kept_as_long_as_the_code_stays_the_same_whatever_its_words(tmp_path):
    def code(name: str, text: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.py").write_text(text)
        return code_of(folder)

    assert code("before", "x = 1") == code("commented", '"""Words."""\nx = 1  # more words')
    assert code_of(tmp_path / "before") != code("changed", "x = 2")
    assert len({key_of("a", "b"), key_of("a"), key_of("ab")}) == 3


FILES = {
    "__init__.py": "",
    "tool.py": "def tool():\n    from house.deep import below\n",
    "deep.py": "below = 1",
    "child.py": "",
    "starts.py": "start('house.child:main')",
    "serves.py": "command = [python, '-m', 'house', 'serve']",
    "unused.py": "",
}


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("%%python_process\nfrom house.tool import tool\nx = ____", {"tool", "deep"}),
        ("import house.starts", {"starts", "child"}),
        ("import os", set()),
        ("import house.serves", {path.removesuffix(".py") for path in FILES} - {"__init__"}),
    ],
)
def test_an_answer_depends_on_the_code_that_it_uses_and_on_no_other(tmp_path, source, used):
    house = tmp_path / "house"
    house.mkdir()
    for name, text in FILES.items():
        (house / name).write_text(text)
    assert {name.rpartition(".")[2] for name in used_by([source], Package(house))} - {"house"} == used


def test_what_only_shows_is_there_and_makes_no_answer_unproven():
    for name in ONLY_SHOW:
        assert (HOUSE.folder.parent / name.replace(".", "/")).is_dir() or name in HOUSE.modules, name
    assert only_shows("lab_support.notebook.page.tables") and not only_shows("lab_support.notebook.page_turner")
    assert not only_shows("lab_support.notebook.moves.attempt")


def test_all_of_a_notebook_is_proven():
    proofs = proofs_of("00", Counts())
    names = [proof.name for proof in proofs]
    assert set(names) >= {f"00 {what}" for what in ("alone", "as an ordinary user", "in JupyterLab", "on busy cores")}
    assert set(names) >= {trial.name for trial in solution_trials.trials(["00"])}
    rows = [row for proof in proofs if " claims: " in proof.name for row in proof.rows([defaultdict(lambda: True)])]
    assert len({row.asked for row in rows}) == 2 * len(solution_trials.claims(["00"]))
    assert {row.met for row in rows if "broken" in row.asked} == {False}
    assert len({proof.key for proof in proofs}) == len(proofs)
    assert "01a in JupyterLab" not in [proof.name for proof in proofs_of("01a", Counts())]


def test_an_unknown_notebook_is_told_with_those_that_there_are():
    done = subprocess.run([sys.executable, "-m", "tests.prove", "notebook", "99"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("got '99', expected one of 00, 01, 01a, ")


def test_an_ordinary_user_has_all_programs_but_strace():
    program = "import os, shutil; print(os.geteuid() == 0, shutil.which('strace'), shutil.which('sleep') is not None)"
    with tempfile.TemporaryDirectory(prefix="lt-") as home:
        command = [sys.executable, "-m", "tests.as_ordinary_user", "-c", program]
        done = subprocess.run(command, env=os.environ | {"TMPDIR": home}, capture_output=True, text=True)
    assert done.stdout == "False None True\n", done.stderr
