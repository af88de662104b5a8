"""From bytes to verified statements. Synchronous, and fetches nothing."""
