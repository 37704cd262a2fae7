"""The contents of the reference: which modules' names cells may use, in which groups, and examples.

Names and words come from the modules themselves, `lab`'s own names from `lab_support/notebook/__init__.pyi`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """Objects of one class, by the words with which a cell gets one, such as `run.events[0]`."""

    got_by: str
    module: str
    name: str


OWN_PROGRAM = (
    "lab_support.notebook.script",
    "lab_support.notebook.crew",
    "lab_support.notebook.stages.endings",
    "lab_support.notebook.stages.engine_cores",
    "lab_support.notebook.stages.fleet",
    "lab_support.notebook.stages.front_ends",
    "lab_support.notebook.stages.leaving",
    "lab_support.notebook.stages.line_server",
    "lab_support.notebook.stages.not_reading",
    "lab_support.notebook.stages.orphans",
    "lab_support.notebook.stages.overfill",
    "lab_support.notebook.stages.plain_server",
    "lab_support.notebook.stages.pretend_driver",
    "lab_support.notebook.stages.server_parts",
    "lab_support.notebook.stages.shared_memory",
    "lab_support.notebook.stages.start_up",
    "lab_support.notebook.stages.stopping",
    "lab_support.notebook.stages.torch_guard",
)
INSTRUMENTS = (
    "lab_support.instruments.proc",
    "lab_support.instruments.kernel",
    "lab_support.instruments.fdinfo",
    "lab_support.instruments.address_space",
    "lab_support.instruments.audit",
    "lab_support.instruments.queue_history",
    "lab_support.instruments.own_network",
    "lab_support.instruments.import_time",
    "lab_support.instruments.fairness",
    "lab_support.experiments.started_child",
    "lab_support.experiments.ports.race",
    "lab_support.experiments.ports.port_range",
    "lab_support.experiments.fates.fate",
    "lab_support.supervision.start_rule",
    "lab_support.supervision.seen_elsewhere",
    "lab_support.boundary.messages",
    "lab_support.generation",
    "lab_support.notebook.stages.unwatched",
    "lab_support.notebook.stages.forced_fork",
    "lab_support.notebook.stages.early_client",
    "lab_support.notebook.servers.traced",
    "lab_support.notebook.servers.askers",
    "lab_support.notebook.servers.token_time",
    "lab_support.notebook.servers.several",
    "lab_support.notebook.servers.accounts",
    "lab_support.notebook.servers.births",
    "lab_support.notebook.servers.misconfigured",
    "lab_support.notebook.servers.departed",
    "lab_support.notebook.servers.unread",
    "lab_support.notebook.servers.draining",
)
ONLY = {
    "lab_support.experiments.started_child": ("start_children", "compare", "memory_of", "stop_fork_server"),
    "lab_support.experiments.ports.race": ("race",),
    "lab_support.experiments.fates.fate": ("fate",),
    "lab_support.experiments.ports.port_range": ("PortRange", "address_of"),
    "lab_support.supervision.start_rule": ("Seen", "Reason", "choose", "reasons"),
    "lab_support.supervision.seen_elsewhere": ("seen_elsewhere", "Elsewhere"),
    "lab_support.boundary.messages": ("Abort", "Generate", "SequenceTokens", "Tokens", "decoder", "encode"),
    "lab_support.generation": ("SamplingParams",),
    "lab_support.notebook.stages.endings": ("ENDINGS", "after"),
    "lab_support.notebook.stages.orphans": ("EVENTS", "fate"),
    "lab_support.notebook.stages.plain_server": ("ENDS", "after", "serve"),
    "lab_support.notebook.stages.unwatched": ("server", "plain_program", "lifeline", "left", "ending", "end"),
    "lab_support.notebook.stages.forced_fork": ("watch", "late_engine_core"),
    "lab_support.notebook.stages.early_client": ("EarlyClient",),
    "lab_support.notebook.servers.traced": ("times_of",),
    "lab_support.notebook.servers.token_time": ("time_of_a_token",),
    "lab_support.notebook.servers.accounts": ("account",),
    "lab_support.notebook.servers.births": ("server_by", "spent_so_far"),
    "lab_support.notebook.servers.misconfigured": ("four_servers",),
    "lab_support.notebook.stages.leaving": ("serve",),
    "lab_support.notebook.stages.not_reading": ("LIMIT", "stream"),
    "lab_support.notebook.stages.stopping": ("stop",),
}
"""Of these modules cells call some functions; the others are for the module itself."""
RECORDINGS = (
    "lab_support.instruments.record.recordings",
    "lab_support.notebook.recordings.recorded",
    "lab_support.notebook.recordings.memory_over_time",
    "lab_support.notebook.recordings.cuda_after_fork",
    "lab_support.notebook.recordings.cuda_findings",
    "lab_support.notebook.recordings.cuda_sharing",
    "lab_support.notebook.recordings.touch_signs",
    "lab_support.notebook.page.tables",
    "lab_support.notebook.figures.memory_roads",
    "lab_support.notebook.recordings.fates",
    "lab_support.notebook.figures.fates.fate_matrix",
)
"""Each module has one row that names all that it has: cells pass these to `lab.recorded` and to figures."""

_CELLS, _STRACE = "lab_support.notebook.cells.cell_result", "lab_support.instruments.strace"
RESULTS = (
    Kind("run", _CELLS, "ProcessResult"),
    Kind('run.process("P1")', _CELLS, "CellProcess"),
    Kind('run.process("P1").wait', _CELLS, "Wait"),
    Kind('run.process("P1").execs[0]', _CELLS, "Exec"),
    Kind("run.events[0]", _CELLS, "Event"),
    Kind("run.texts[0]", _CELLS, "Text"),
    Kind("run.trace", _STRACE, "Trace"),
    Kind("run.trace.calls[0]", _STRACE, "Call"),
)
CREW = (
    Kind("ports", "lab_support.experiments.ports.port_range", "PortRange"),
    Kind("workers", "lab_support.notebook.crew", "Crew"),
    Kind("clients", "lab_support.notebook.stages.clients", "Clients"),
    Kind("clients.answers()[0]", "lab_support.notebook.stages.clients", "Answer"),
)
SERVERS = (
    Kind("server", "lab_support.notebook.servers.live_server", "Server"),
    Kind("server.trace", "lab_support.notebook.servers.traced", "ServerTrace"),
    Kind("server.trace.request(name)", "lab_support.instruments.trace.requests", "Request"),
    Kind("request.sequences[0]", "lab_support.instruments.trace.requests", "Sequence"),
    Kind("server.stop()", "lab_support.notebook.servers.live_server", "Leftovers"),
    Kind("lab.look(server)[0]", "lab_support.notebook.page.role_view", "RoleView"),
    Kind("load", "lab_support.instruments.load.report", "Report"),
    Kind("seen", "lab_support.notebook.figures.xray", "XRay"),
    Kind("lab.compare(before, after)", "lab_support.notebook.figures.xray", "Comparison"),
    Kind("watched", "lab_support.notebook.live.watched", "LivePicture"),
    Kind("picture", "lab_support.notebook.canvas.plots", "Picture"),
    Kind("recorded", "lab_support.notebook.recordings.recorded", "Recorded"),
)
MOVES = {
    "moves": "Predicting, judging, exercises",
    "servers": "Servers and loads",
    "figures": "Figures and X-rays",
    "live": "Figures and X-rays",
    "cells": "Processes from the kernel",
}
"""Titles for the folders from which `lab` has its names; the rest come last."""
THE_REST = "Tables, recordings and errors"

EXAMPLES = {
    "announce": 'announce("parent")',
    "inputs": 'url, key = inputs()["url"], inputs()["key"]',
    "in_child": "number = in_child(lambda: os.getppid())",
    "listeners": "emit(listeners(4, wait_in_epoll))",
    "crew": "with crew(4) as workers:",
    "run.by(field)": 'run.by("way")["spawn"]["seconds"]',
    "run.told": 'run.told["read"]',
    "run.process(name)": 'run.process("child").wait.call',
    "run.output_of(process, stream='')": 'run.output_of("P1", "err")',
    "run.trace": 'run.trace.named("recvmsg")',
    "server.session": 'server.session.get(f"{server.url}/version").json()',
    "server.pids": 'os.kill(server.pids["api-0"], signal.SIGSTOP)',
    "lab.live_server": 'server = lab.live_server(api_server_count=2, accept="shared")',
    "lab.drive": "load = lab.drive(server, clients=8, requests=80)",
    "lab.xray": 'lab.xray(run, "after")',
    "lab.watch": "watched = lab.watch(server)",
    "lab.predict": 'lab.predict("01.1", "the child reads", options={"a": "012", "b": "456"})',
    "lab.answer": 'lab.answer("01.1", "b")',
    "lab.claim": 'lab.claim("Two processes hold it", holders == 2, got=holders)',
    "lab.verdict": 'lab.verdict("01.1", run)',
    "lab.reference": 'lab.reference("emit")',
    "lab.source": 'lab.source("lab_support.boundary.channels", "ApiServerChannels.watch")',
    "lab.metric": 'lab.metric(server, "lab_engine_steps_total")',
}
