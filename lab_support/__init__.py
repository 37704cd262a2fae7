"""A real multi-process GPU server, and the instruments and lessons that look inside it.

The server is several address spaces and a short list of ways to get from one into another, and so is this package:

    processes/     the process table: one file for each kind of process, with a card that says what it holds
    supervision/   policy about processes: start methods, restarts, replacements, what a dead server leaves
    boundary/      everything that crosses from one process into another, one file for each way
    frontend/      runs only in API servers: HTTP, text, which engine core takes a request
    engine/        runs only in engine cores: the scheduler, the KV cache, the model, the sampler; sees no socket
    model_folder/  a model folder's files, read and checked without torch and without the tokenizers library
    instruments/   look at running processes from outside, ours or anybody's
    experiments/   programs that put one claim on trial on a GPU machine; their runs are kept in data/recordings
    notebook/      everything that the notebooks import
    old_paths/     modules where they were in version 0.1, for readers' own copies

Imports point down: processes → frontend → boundary, processes → supervision → boundary, and processes → engine.
`engine/` and `boundary/` meet in `processes/engine_core.py` alone. `notebook/` → `instruments/` is a tower of its
own: it starts the server as any user would, and sees what any operator could see. Everybody may import the top:
`config.py` (all choices), `flags.py` (a command's flags of a dataclass), `generation.py` (what one sequence is asked
for), `model_folder/`, `log.py`, `signal_names.py`, `plural.py`, `control_groups.py` and `mounts.py` (what the kernel
lets this process have), `limits.py` (whether that is enough for a server), `command_line.py` (how a command ends).

To read it, follow one request: boundary/messages.py → processes/launcher.py → processes/api_server.py →
frontend/routes.py, frontend/request/openai_api.py → frontend/routing/engine_client.py → processes/engine_core.py →
engine/scheduler.py, engine/kv_cache.py → engine/runner.py, engine/model.py → processes/coordinator.py,
frontend/routing/router.py → the rest of boundary/.
"""

__version__ = "0.2.0"
