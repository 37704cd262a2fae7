"""Notebooks executed and committed, and readers' own copies."""

import sys

# nbformat imports jsonschema, which imports this where it is installed, and compiles grammars of IRIs for a second.
# No notebook's schema has an IRI. An import of a name that is None fails, and jsonschema does without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
