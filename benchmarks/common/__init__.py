"""What the scripts share: data, child processes, peers' environments, tables."""

__all__: list[str] = []
