"""`lab xray`: a process tree and the kernel objects that it shares."""
