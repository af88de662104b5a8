"""A cluster whose pods really run, for the end-to-end stories: kind, our own node, or yours."""
