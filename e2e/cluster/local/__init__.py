"""A one-node cluster without Docker, in namespaces of its own.

Everything but one guard process lives in a PID, mount, network and UTS namespace made
for this cluster: when their first process is killed the kernel takes all of it away,
pods, mounts, interfaces, routes and nftables rules included. What remains for the guard
is a cgroup, a directory and a lock.
"""
