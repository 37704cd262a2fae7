"""Widgets that a saved notebook shows without their kernel: they say so, and take no choice that nobody would keep.

JupyterLab keeps the state of widgets with the notebook, where `lab open` has set it so. Of one whose kernel is gone it
draws a broken chain before each part, which moves the parts of a grid; here one sentence stands below the whole.
"""

import ipywidgets

_SENTENCE = "This stands here from an earlier kernel: run this cell again to choose."
_STYLE = f"""<style>
.lab-kept.jupyter-widgets-disconnected::before, .lab-kept .jupyter-widgets-disconnected::before {{ content: none; }}
.lab-kept.jupyter-widgets-disconnected::after {{ content: "{_SENTENCE}"; font-style: italic; padding: 2px; }}
.lab-kept.jupyter-widgets-disconnected :is(input, select, button, label, .noUi-target) {{ pointer-events: none; }}
</style>"""


def kept(box: ipywidgets.VBox) -> ipywidgets.VBox:
    """The same, ready to be shown on a later day."""
    box.children = (ipywidgets.HTML(_STYLE, layout={"height": "0", "margin": "0"}), *box.children)
    box.add_class("lab-kept")
    return box
