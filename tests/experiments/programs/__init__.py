"""Small experiments that behave in one way each, for the tests of `lab record`."""
