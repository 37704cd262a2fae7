"""`lab watch`: a live X-ray of a running server, ours or anybody's, as a page on loopback."""
