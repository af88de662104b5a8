"""The values that every other part speaks in: frozen, pure, without I/O."""
