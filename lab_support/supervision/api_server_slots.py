"""Slots of API servers: each gets one when it starts, and its slot is cleared once it has ended.

A slot belongs to one API server as long as that lives: its counters and metrics, its channels to the engine cores, and
the number by which these know it. There are two for each place (replacement.py), for the old one and the new one.
"""

import os
import socket
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

from lab_support.boundary.inheritance import ApiServerInheritance, ChannelSockets, Run, endpoint
from lab_support.boundary.listener import Listener
from lab_support.config import ServerConfig
from lab_support.metric_files import clear_gauges
from lab_support.supervision.children import Children

MODULE, VLLM_RS = "lab_support.processes.api_server", "lab_support.processes.vllm_front_end"


@dataclass(frozen=True, slots=True)
class ChannelAddresses:
    """The two sockets on which an API server waits for engine cores: ZeroMQ endpoints, and paths in the file system."""

    inputs: str
    outputs: str
    paths: tuple[str, str]

    def unlink(self) -> None:
        """Remove the names, once every engine core has connected or none will. Harmless if they are gone already."""
        for path in self.paths:
            with suppress(OSError):  # a cleaner of temporary folders may have removed it
                os.unlink(path)


@dataclass(frozen=True, slots=True)
class ApiServerSlots:
    """The slots of one launcher. Called by its main thread only."""

    config: ServerConfig
    children: Children
    run: Run
    listener: Listener
    sockets: ChannelSockets

    def free(self, place: int, used: Container[int]) -> int:
        """The slot of `place` that is not in use."""
        return next(slot for slot in (place, place + self.config.api_server_count) if slot not in used)

    def start(self, place: int, slot: int) -> ChannelAddresses:
        """Start the child api-PLACE, which owns `slot` from now on.

        Raises `OSError` if there is no room for it, and then leaves nothing behind.
        """
        inputs, outputs = self.sockets.bind_for(slot)
        with inputs, outputs:
            channels = ChannelAddresses(
                endpoint(inputs), endpoint(outputs), (inputs.getsockname(), outputs.getsockname())
            )
            try:
                self._start_with(place, slot, inputs, outputs)
            except OSError:
                channels.unlink()
                raise
        return channels

    def _start_with(self, place: int, slot: int, inputs: socket.socket, outputs: socket.socket) -> None:
        source = self.listener.open_for(slot)
        given = ApiServerInheritance(place, self.run, source, inputs, outputs)
        try:
            module = VLLM_RS if self.config.uses_vllm_rs else MODULE
            self.children.start("spawn", f"api-{place}", module, self.config, given, slot=slot)
        except OSError:
            self.listener.on_ended(slot)
            raise
        finally:
            self.listener.close_our_copy(source)

    def clear(self, slot: int) -> None:
        """Clear the slot. Called once the API server that owned it has ended and has been waited for."""
        self.run.counters.clear(slot)
        clear_gauges(self.run.metrics_directory, slot)
        self.listener.on_ended(slot)
