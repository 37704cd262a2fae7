"""A stand-in for a GPU: it takes the time that a recorded one took, computes nothing and draws seeded tokens. No torch.

Everything before and behind it is the real server: scheduler, KV cache's blocks, preemption, messages, API servers.
"""
