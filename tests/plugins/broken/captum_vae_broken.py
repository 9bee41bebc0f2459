"""A module that cannot be imported here, whatever the reason."""

raise RuntimeError("no licence for this machine")
