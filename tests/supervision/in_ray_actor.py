"""Prints what the rule says in an actor of a Ray cluster of its own. For machines with Ray."""

import ray


@ray.remote
class Actor:
    def warning(self) -> str:
        from lab_support.supervision.start_rule import Seen, choose

        return choose("fork", Seen.here()).warning


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    print(ray.get(Actor.remote().warning.remote()))  # type: ignore[attr-defined]
    ray.shutdown()
