"""HTTP itself: connections, heads, bodies, responses and their limits. Knows no route and no model."""
