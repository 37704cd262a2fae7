"""The `lab` command. Each subcommand imports only what it needs: `lab serve` loads no torch and no HTTP library.

lab serve     start the server
lab load      drive a server and measure it
lab xray      a server's processes and the kernel objects that they share
lab watch     the same, live, on a page of this machine: figures, connections, births and deaths
lab trace     what a server wrote under --trace-dir: its start, and each request through all processes
lab record    run the GPU experiments and keep what they saw
lab doctor    what this machine can show
lab open      the notebooks, in a copy of your own
lab reset     a fresh copy of one notebook
lab skip      for a demo: no result waits for a prediction
lab class     a class's predictions as one histogram
"""

import io
import sys

COMMANDS = ("serve", "load", "xray", "watch", "trace", "record", "doctor", "open", "reset", "skip", "class")


def main() -> int:
    """Runs in the process of the `lab` command; returns the exit code."""
    if sys.argv[1:2] == ["serve"]:
        from lab_support.boundary.signals import end_by_ctrl_c_without_a_word

        end_by_ctrl_c_without_a_word()
        return _main()
    from lab_support.command_line import run_command

    return run_command(_main)


def _main() -> int:
    import argparse

    from lab_support import __version__

    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale that lacks a character must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(prog="lab", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(sys.argv[1:2] or ["--help"]).command
    return _run(command, argparse.ArgumentParser(prog=f"lab {command}"), sys.argv[2:])


def _run(command: str, parser, words: list[str]) -> int:  # type: ignore[no-untyped-def]
    if command == "serve":
        return _serve(words)
    if command == "load":
        from lab_support.instruments.load import command as load

        load.add_load_flags(parser)
        return load.run_load_command(parser.parse_args(words))
    if command == "xray":
        from lab_support.instruments.xray import command as xray

        xray.add_xray_flags(parser)
        return xray.run_xray_command(parser.parse_args(words))
    if command == "watch":
        from lab_support.watch import command as watch

        watch.add_watch_flags(parser)
        return watch.run_watch_command(parser.parse_args(words))
    if command == "trace":
        from lab_support.instruments.trace import command as trace

        trace.add_trace_flags(parser)
        return trace.run_trace_command(parser.parse_args(words))
    if command == "record":
        from lab_support.instruments.record import command as record

        record.add_record_flags(parser)
        return record.run_record_command(parser.parse_args(words))
    if command == "doctor":
        from lab_support.doctor import run_doctor_command

        return run_doctor_command(parser.parse_args(words))
    if command == "class":
        from lab_support.notebook.moves import class_votes

        class_votes.add_class_flags(parser)
        return class_votes.run_class_command(parser.parse_args(words))
    if command == "skip":
        from lab_support.notebook.publishing import answers

        answers.add_skip_flags(parser)
        return answers.run_skip_command(parser.parse_args(words))
    from lab_support.notebook.publishing import copies

    if command == "reset":
        copies.add_reset_flags(parser)
        return copies.run_reset_command(parser.parse_args(words))
    copies.add_open_flags(parser)
    return copies.run_open_command(parser.parse_args(words))


def _serve(words: list[str]) -> int:
    from lab_support.serve_command import read_words

    config, said = read_words(words)
    if config.headless:
        from lab_support.processes import vllm_rank

        return vllm_rank.main(config, said)
    from lab_support.processes import launcher

    return launcher.main(config, said)


if __name__ == "__main__":
    sys.exit(main())
