"""`lab.start("04")`: the first cell of a notebook. It says what the machine is and what it can't show live."""

from IPython import get_ipython

from lab_support import doctor
from lab_support.notebook import python_process


def start(number: str) -> None:
    """Print the machine's facts for the notebook `number`, "00" to "11"; make `%%python_process` known."""
    shell = get_ipython()  # type: ignore[no-untyped-call]
    if shell is not None:
        python_process.load(shell)
    machine = doctor.examine()
    print(doctor.one_line(machine))
    for sentence in doctor.losses(machine, number):
        print(f"Here, {sentence}.")
    if doctor.obstacles(machine):
        print("The server can't run here: " + "; ".join(doctor.obstacles(machine)))
