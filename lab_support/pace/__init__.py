"""Paces: milliseconds for a step of a GPU, by its rows and their context; recorded, or from a reader's table. No torch.

`--device paced:…` names one. The launcher checks it before anything starts, and the engine core keeps it
(engine/paced/). Nothing is computed at a pace: it is a stand-in for a GPU, and whoever shows its figures says so.
"""
