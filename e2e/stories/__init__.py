"""The end-to-end stories: one file each, on a cluster whose pods really run."""
