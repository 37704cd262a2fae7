"""Widgets of a saved notebook whose kernel is gone: they say so, and refuse choices because nothing would record them.

JupyterLab saves the state of widgets with the notebook, because `lab open` sets it so. If their kernel is gone, it
draws a broken chain before each part, which moves the parts of a grid; these styles show one sentence below instead.
"""

import ipywidgets

_SENTENCE = "This is left from an earlier kernel: run this cell again to choose."
_STYLE = f"""<style>
.lab-kept.jupyter-widgets-disconnected::before, .lab-kept .jupyter-widgets-disconnected::before {{ content: none; }}
.lab-kept.jupyter-widgets-disconnected::after {{ content: "{_SENTENCE}"; font-style: italic; padding: 2px; }}
.lab-kept.jupyter-widgets-disconnected :is(input, select, button, label, .noUi-target) {{ pointer-events: none; }}
</style>"""


def kept(box: ipywidgets.VBox) -> ipywidgets.VBox:
    """Add the styles to `box`, so that it can be shown without its kernel; return it."""
    box.children = (ipywidgets.HTML(_STYLE, layout={"height": "0", "margin": "0"}), *box.children)
    box.add_class("lab-kept")
    return box
