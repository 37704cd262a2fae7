"""Names of all of the kernel's signals: Python's `signal.Signals` lacks most of the real-time ones."""

import signal


def signal_name(number: int) -> str:
    """`SIGKILL` or `SIGRTMIN+6`, for a signal's number or the negative exit code that Python makes of it."""
    number = abs(number)
    try:
        return signal.Signals(number).name
    except ValueError:
        pass
    first = getattr(signal, "SIGRTMIN", None)  # macOS has none
    if first is not None and first < number < signal.SIGRTMAX:
        return f"SIGRTMIN+{number - first}"
    return f"signal {number}"
