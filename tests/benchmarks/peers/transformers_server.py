"""transformers' own server: `python -m tests.benchmarks.peers.transformers_server serve MODEL`, with its own flags.

It refuses requests with a field that it doesn't know, and the client sends `ignore_eos`. Here it takes any field.
"""

from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.transformers import main

if __name__ == "__main__":
    CompletionHandler._valid_params_class = None
    main()
