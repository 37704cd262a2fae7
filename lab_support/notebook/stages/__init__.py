"""Small programs and stand-ins that cells run."""
