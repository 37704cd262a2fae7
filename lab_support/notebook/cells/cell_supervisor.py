"""Runs one cell's script, and reports to the kernel the output, messages, starts and ends of its processes.

`python -S -E cell_supervisor.py KERNEL_PID GRACE FOLDER REPORT_FD PLAN COMMAND…`, under the same guard and with
the same lifeline as `supervisor.py`. Standard library only. The report is JSON lines. The Linux kernel
itself says which process wrote what: the script's stdout and stderr are sockets, and data read from them carries the
sender's credentials (unix(7), SO_PASSCRED), even if C code or a forgotten child wrote it.

It ends when nothing of the cell runs, or at the deadline, on interrupt, with the kernel, with the guard, or when
a limit is passed; then everything is killed. At the deadline, and on interrupt, it first asks each process for its
stacks. `supervisor.py` says what is promised about the end, and what is not.
"""

import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from cell_census import Census, Member
from cell_limits import MOST_THREADS, allow_descriptors, become, go_first
from cell_messages import LONGEST, plain, receive, tell_senders, understood
from cell_output import Unfinished
from cell_report import HELD_BACK, Report
from cell_waits import waits
from descendants import kill_descendants, stop_descendants
from named_memory import NamedMemory
from supervisor import Watched, guarded, wait_for

_READ = 1 << 16
_SCAN_EAGERLY, _SCAN = 0.004, 0.02  # seconds between two looks into /proc: at first, and later
_EAGER_SECONDS = 0.3
_STACK_SECONDS = {"timeout": 1.0, "interrupt": 0.5}
_MOST_OF_STACKS = 1 << 20  # bytes of one process
_MOST_QUEUED = 1024
"""More messages than a datagram socket queues (unix(7), max_dgram_qlen): more in one go come from a fork bomb."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The kernel's orders: seconds, bytes. merge: stderr goes into stdout's socket, so that order is kept."""

    timeout: float
    leftover_grace: float
    most_processes: int
    most_output: int
    merge: bool


def main(words: list[str]) -> int:
    kernel_pid, _grace, folder, report_fd, plan, *command = words
    named = NamedMemory()

    def work(watched: Watched) -> int:
        traced = os.path.basename(command[0]) == "strace"
        Cell(Plan(**json.loads(plan)), folder, int(report_fd), watched, named, traced=traced).run(command)
        return 0

    return guarded(int(kernel_pid), folder, work, named)


class Cell:
    """The script and all its descendants, from the first to the last."""

    def __init__(
        self, plan: Plan, folder: str, report_fd: int, watched: Watched, named: NamedMemory, *, traced: bool
    ) -> None:
        self.plan, self.folder, self.watched, self.named = plan, folder, watched, named
        self.descriptors = allow_descriptors(plan.most_processes)
        self.report = Report(report_fd)
        self.began = time.monotonic()
        self.told = (sys.stdin.fileno(), watched.kernel, watched.guard)
        self.listening = True
        self.why = ""
        self.script_ended = 0.0
        self.next_scan = 0.0
        self.written = 0
        self.poll = select.epoll()
        self.ends: dict[int, Member] = {}
        told_by = (self.report.tell, self.now, self._watch_end, self._unwatch_end, self._last_words, self._read_events)
        self.census = Census(*told_by, 2 * plan.most_processes + 64, traced=traced)
        self.lines: dict[tuple[int, str], Unfinished] = {}
        self.stacks: dict[int, bytearray] | None = None
        self.events = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.events.bind(f"{folder}/events")
        tell_senders(self.events, pidfds=True)
        self.odd = 0
        self.streams: dict[int, tuple[socket.socket, str]] = {}

    def now(self) -> float:
        return round(time.monotonic() - self.began, 6)

    # ---- from the start to the end

    def run(self, command: list[str]) -> None:
        self.report.tell("began", supervisor=os.getpid())
        self.script = self._start(command)
        self.poll.register(self.events, select.EPOLLIN)
        for descriptor in (*self.told, *self.streams):
            self.poll.register(descriptor, select.EPOLLIN)
        while not self.why:
            self._wait()
            self._judge()
        self._hear_ends()  # before stacks are asked for, because that ends processes too
        if self.why in _STACK_SECONDS:
            self._ask_for_stacks()
        self._finish()

    def _start(self, command: list[str]) -> Member:
        supervisor = os.getpid()
        ours, theirs = socket.socketpair()
        err_ours, err_theirs = (ours, theirs) if self.plan.merge else socket.socketpair()
        self.streams = {err_ours.fileno(): (err_ours, "err"), ours.fileno(): (ours, "out")}
        for stream, _ in self.streams.values():
            tell_senders(stream)
        executed, closed_by_exec = os.pipe()
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.descriptors)
            wall = self.plan.most_processes + MOST_THREADS
            become(command, supervisor, theirs.fileno(), err_theirs.fileno(), wall)
        theirs.close()
        err_theirs.close()
        os.close(closed_by_exec)
        os.read(executed, 1)
        os.close(executed)
        return self.census[pid]

    def _wait(self) -> None:
        """Wait until something happens, or it is time to look into /proc."""
        until = min(self.next_scan, self.plan.timeout)
        self._listen_to_output(len(self.report.waiting) < HELD_BACK)
        for descriptor, _ in self.poll.poll(max(0.0, until - self.now())):
            if descriptor == self.events.fileno():
                self._read_events()
            elif descriptor in self.streams:
                self._read_output(descriptor)
            elif descriptor in self.ends:
                self._process_ended(self.ends[descriptor])
            elif descriptor in self.told:
                self._told_to_end(descriptor)
        self.report.push()

    def _listen_to_output(self, listen: bool) -> None:
        if listen != self.listening:
            self.listening = listen
            for descriptor in self.streams:
                self.poll.modify(descriptor, select.EPOLLIN if listen else 0)

    def _told_to_end(self, descriptor: int) -> None:
        if descriptor == self.watched.guard:
            self.why = "guard"
        elif descriptor == self.watched.kernel or os.read(descriptor, 1) == b"":
            self.why = "kernel"
        else:
            self.why = "interrupt"

    def _judge(self) -> None:
        """Set `why` if the cell is over."""
        if self.now() >= self.next_scan:
            self.census.scan()
            self.named.look_if_changed(member.pid for member in self.census.living)
            self._tell_unfinished()
            self.next_scan = self.now() + (_SCAN_EAGERLY if self.now() < _EAGER_SECONDS else _SCAN)
        some_left = self._reap()
        if self.census.count > self.plan.most_processes // 2:
            go_first()
        if self.why:
            return
        if not some_left:
            self.why = "finished"
            if self._was_killed_late():
                self.why = "timeout"
                self.report.tell("killed", numbers=[self.script.number], waits=[])
        elif self.census.count > self.plan.most_processes and self._crowded():
            stop_descendants(set())
            self.why = "processes"
        elif self.written > self.plan.most_output:
            self.why = "output"
        elif self.now() >= self.plan.timeout:
            self.why = "timeout"
        elif self.script_ended and self.now() > self.script_ended + self.plan.leftover_grace:
            self.why = "leftover"

    def _was_killed_late(self) -> bool:
        """Whether the kernel killed the script, because the script kept this process from doing so at the deadline."""
        return self.now() >= self.plan.timeout and self.script.code == -signal.SIGKILL

    def _crowded(self) -> bool:
        """Whether too many processes really run; some that the census counts have just ended."""
        return sum(not _is_over(member.pid) for member in self.census.living) > self.plan.most_processes

    def _finish(self) -> None:
        """When this returns, nothing of the cell runs, and the kernel has the whole report."""
        self._read_all()
        left = self.census.living
        if self.why not in ("finished", *_STACK_SECONDS):
            self._tell_who_is_killed(left)
        kill_descendants(self.named)
        for member in left:
            self.census.end(member, -signal.SIGKILL)
        self._read_all()
        for pid, _ in list(self.lines):
            self._flush(self.census[pid])
        if self.odd:
            self.report.tell("odd", count=self.odd)
        self.report.tell("end", why=self.why, at=self.now())
        self.report.finish(self.watched.kernel)
        os.close(self.report.descriptor)
        self._remove_files()

    def _remove_files(self) -> None:
        """Remove the files when the kernel says that it has read them, or is gone: it may die at any moment before."""
        stdin, kernel, _ = self.told
        kernel_lives = kernel not in select.select([stdin, kernel], [], [])[0] and os.read(stdin, 1) != b""
        if not (kernel_lives and self.why == "guard"):  # without a guard the kernel does not wait for this process
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- ends

    def _watch_end(self, pidfd: int, member: Member) -> None:
        self.ends[pidfd] = member
        self.poll.register(pidfd, select.EPOLLIN)

    def _unwatch_end(self, pidfd: int) -> None:
        del self.ends[pidfd]
        self.poll.unregister(pidfd)

    def _reap(self) -> bool:
        left = self.census.reap()
        if self.script.ended and not self.script_ended:
            self.script_ended = self.now()
        return left

    def _hear_ends(self) -> None:
        """Record ends since the last poll: a script and the children for which it waited may end together."""
        self._read_events()
        for descriptor, _ in self.poll.poll(0):
            if descriptor in self.ends:
                self._process_ended(self.ends[descriptor])

    def _process_ended(self, member: Member) -> None:
        self._reap()
        if not member.ended:  # another process's child
            self.census.end(member, self.census.exit_code(member))

    # ---- what they write

    def _last_words(self, member: Member) -> None:
        """Read what is left of an ended process: all that it wrote is in the sockets by now."""
        self._read_all()
        self._flush(member)

    def _read_all(self) -> None:
        self._read_events()
        for descriptor in list(self.streams):
            self._read_output(descriptor, everything=True)

    def _read_output(self, descriptor: int, *, everything: bool = False) -> None:
        """Read the next bytes; or all bytes there now, without those added meanwhile, which might never end."""
        stream, name = self.streams[descriptor]
        wanted = _readable(descriptor) if everything else 1
        while wanted > 0:
            try:
                data, pid, _ = receive(stream, _READ)
            except BlockingIOError:
                return
            if not data:
                self.poll.unregister(descriptor)
                del self.streams[descriptor]
                stream.close()
                return
            self._take(data, pid, name)
            wanted -= len(data)

    def _take(self, data: bytes, pid: int, name: str) -> None:
        """Report whole lines to the kernel; an unfinished line waits a moment for its rest."""
        member = self._sender(pid)
        if self.stacks is not None:
            stack = self.stacks.setdefault(member.number, bytearray())
            stack += data[: max(0, _MOST_OF_STACKS - len(stack))]
            return
        self.written += len(data)
        if text := self.lines.setdefault((member.pid, name), Unfinished()).add(data):
            self._tell_text(member, name, text)

    def _sender(self, pid: int) -> Member:
        """The member with this pid; the script, for a process outside the cell that was given its descriptor."""
        return self.census[pid] if self.census.belongs(pid) else self.script

    def _tell_unfinished(self) -> None:
        for (pid, name), line in self.lines.items():
            if line.is_due and (text := line.piece()):
                self._tell_text(self.census[pid], name, text)

    def _flush(self, member: Member) -> None:
        for name in ("out", "err"):
            line = self.lines.pop((member.pid, name), None)
            if line and (rest := line.piece(last=True)):
                self._tell_text(member, name, rest)

    def _tell_text(self, member: Member, name: str, text: str) -> None:
        self.report.tell("text", number=member.number, stream=name, at=self.now(), text=text)

    def _read_events(self) -> None:
        """Read all waiting events. Forks come first, by pid, because their messages may arrive in another order."""
        came: list[tuple[dict[str, Any], int, int]] = []
        with suppress(BlockingIOError):
            for _ in range(_MOST_QUEUED):
                data, pid, pidfd = receive(self.events, LONGEST)
                came += self._checked(data, pid, pidfd)
        born = [each for each in came if each[0].get("made") == "fork"]
        others = [each for each in came if each[0].get("made") != "fork"]
        for message, pid, pidfd in (*sorted(born, key=itemgetter(1)), *others):
            self._hear(message, pid, pidfd)

    def _checked(self, data: bytes, pid: int, pidfd: int) -> list[tuple[dict[str, Any], int, int]]:
        """The message, if it is valid and comes from a process of the cell."""
        self.written += len(data)
        message = understood(data)
        if message is not None and self.census.belongs(pid):
            return [(message, pid, pidfd)]
        self.odd += 1
        if pidfd >= 0:
            os.close(pidfd)
        return []

    def _hear(self, message: dict[str, Any], pid: int, pidfd: int) -> None:
        at = round(message["at"] - self.began, 6)
        if "made" in message:
            told = bytes.fromhex(message["command"])
            self.census.heard(pid, pidfd, message["made"], at, message["parent"], told)
            return
        if pidfd >= 0:
            os.close(pidfd)
        if "name" in message:
            self.report.tell("name", number=self.census[pid].number, name=plain(message["name"]))
        else:
            self.report.tell("event", number=self.census[pid].number, at=at, fields=message["event"])

    # ---- at the deadline

    def _tell_who_is_killed(self, members: list[Member]) -> None:
        self.report.tell("killed", numbers=[member.number for member in members], waits=self._waits(members))

    def _waits(self, members: list[Member]) -> list[dict[str, Any]]:
        found = waits(member.pid for member in members)
        for wait in found.values():
            for key in ("writers", "readers"):
                if key in wait:
                    wait[key] = [self.census.number_of(pid) for pid in wait[key]]
            if "awaited" in wait:
                wait["awaited"] = self.census.number_of(wait["awaited"])
        return [{"number": self.census.number_of(pid), **wait} for pid, wait in found.items()]

    def _ask_for_stacks(self) -> None:
        """Send SIGABRT: faulthandler then writes the stacks, in C, whoever holds the GIL, and the process ends."""
        self._read_all()
        members = self.census.living
        self._tell_who_is_killed(members)
        self.named.look(member.pid for member in members)
        for member in members:
            self._flush(member)
        self.stacks = {}
        for member in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member.pid, signal.SIGABRT)
                os.kill(member.pid, signal.SIGCONT)
        self._collect_stacks(members)
        for number, text in self.stacks.items():
            self.report.tell("stack", number=number, text=text.decode("utf-8", "replace"))

    def _collect_stacks(self, members: list[Member]) -> None:
        deadline = time.monotonic() + _STACK_SECONDS[self.why]
        while self.census.living and time.monotonic() < deadline and self.why in _STACK_SECONDS:
            for descriptor, _ in self.poll.poll(0.02):
                if descriptor in self.streams:
                    self._read_output(descriptor)
                elif descriptor == self.watched.kernel:
                    self.why = "kernel"
            if all(_is_over(member.pid) for member in members):
                break
        self._read_all()


def _readable(descriptor: int) -> int:
    """The number of bytes that can be read from a socket now: unix(7), SIOCINQ."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]


def _is_over(pid: int) -> bool:
    """Whether the process has ended, waited for or not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return wait_for(pidfd, 0)
    finally:
        os.close(pidfd)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
