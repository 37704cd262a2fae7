"""`lab.start("04")`: the first cell of a notebook. It says what the machine is and what it can't show live."""

from lab_support import doctor


def start(number: str) -> None:
    """Print the machine's facts for the notebook `number`, "00" to "11"."""
    machine = doctor.examine()
    print(doctor.one_line(machine))
    for sentence in doctor.losses(machine, number):
        print(f"Here, {sentence}.")
    if doctor.obstacles(machine):
        print("The server can't run here: " + "; ".join(doctor.obstacles(machine)))
