"""C2SP transparency-log formats over bytes. Pure."""
