"""The form of the notebooks, read from what is committed: `python -m tests.notebook_form [NN …]`."""
