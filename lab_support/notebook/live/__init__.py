"""Figures that go on changing while other cells run."""
