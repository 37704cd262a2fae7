"""How the predictions of notebook 01 are judged, drawn and claimed."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- one file, two readers


def one_place(one_file: ProcessResult) -> Found:
    child, parent, kernel = (event.fields for event in one_file.events if "xray" not in event.fields)
    return Found(
        measured=parent["bytes"],
        shown=Table(("process", "reads"), (("child", child["bytes"]), ("parent", parent["bytes"]))),
        claims=(
            Claim("The parent goes on where the child stopped", parent["bytes"] == "456", parent["bytes"]),
            Claim("A stopped child moves in the file when its parent reads", kernel["places"] == [4, 7]),
            Claim("Both descriptors lead to one open file description", kernel["same"], f"by {kernel['by']}"),
        ),
    )


def letter_of_read(read: str) -> str:
    return {"012": "a", "456": "b", "": "c"}.get(read, "d")


def two_places(opened_again: ProcessResult) -> Found:
    child, parent = (opened_again.events[-1].fields[who] for who in ("child", "parent"))
    return Found(
        measured=parent,
        shown=Table(("process", "reads"), (("child", child), ("parent", parent))),
        claims=(Claim("A child that opens the file itself does not move the parent", parent == "012", parent),),
    )


def letter_of_read_alone(read: str) -> str:
    return {"456": "a", "": "b", "012": "c"}.get(read, "d")


JUDGES = (
    Judge("01.1", one_place, letter_of_read, {"a": "012", "b": "456", "c": "", "d": "an error"}),
    Judge("01.2", two_places, letter_of_read_alone, {"a": "456", "b": "", "c": "012", "d": "an error"}),
)
