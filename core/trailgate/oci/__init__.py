"""OCI registries: reading and writing images and what is attached to them."""
