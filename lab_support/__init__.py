"""A real multi-process GPU server, and the instruments and lessons that look inside it.

The server consists of several address spaces and a few ways from one into another; the package has the same structure:

    processes/     the process table: one file for each kind of process, with a card that says what it holds
    supervision/   policy about processes: start methods, restarts, replacements, leftovers of a dead server
    boundary/      everything that crosses from one process into another, one file for each way
    frontend/      runs only in API servers: HTTP, text, which engine core takes a request
    tracing/       the events that each process writes under --trace-dir, and the files that they go to
    engine/        runs only in engine cores: the scheduler, the KV cache, the model, the sampler; sees no socket
    pace/          how long a step takes on a recorded GPU, or by a reader's table, for --device paced:…; without torch
    model_folder/  a model folder's files, read and checked without torch and without the tokenizers library
    instruments/   look at running processes from outside, ours or any other
    watch/         `lab watch`: the instruments' live picture of a running server, as a page on loopback
    experiments/   programs that test one claim on a GPU machine each; their runs are kept in data/recordings
    notebook/      everything that the notebooks import
    old_paths/     modules at their paths of version 0.1, for readers' own copies

Imports point down: processes → frontend → boundary, processes → supervision → boundary, and processes → engine.
`engine/` and `boundary/` meet only in `processes/engine_core.py`. `notebook/` → `watch/` → `instruments/` is separate:
it starts the server as any user would, and sees only what any operator could see. All may import the top: `config.py`
(all settings), `flags.py` (flags made from a dataclass), `generation.py` (sampling parameters and the like),
`model_folder/`, `pace/`, `log.py`, `signal_names.py`, `plural.py`, `control_groups.py` and `mounts.py` (limits and
mounts of this process), `limits.py` (whether they are enough for a server), `own_stack.py` (a process writes its own
stack when asked), `command_line.py` (the end of an interrupted command).

To read it, follow one request: boundary/messages.py → processes/launcher.py → processes/api_server.py →
frontend/routes.py, frontend/request/openai_api.py → frontend/routing/engine_client.py → processes/engine_core.py →
engine/scheduler.py, engine/kv_cache.py → engine/runner.py, engine/model.py → processes/coordinator.py,
frontend/routing/router.py → the rest of boundary/.
"""

__version__ = "0.2.0"
