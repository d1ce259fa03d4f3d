"""Secure aggregation: nobody sees an update. Protocols as state machines, without sockets or clocks."""
