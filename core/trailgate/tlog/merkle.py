"""The Merkle tree of RFC 6962: leaves, roots, proofs, in O(log n) hashes each.

A *node* is the root of a perfect subtree: (level, index) covers the leaves
``index << level`` up to ``(index + 1) << level``. Nodes never change once their
leaves are there, so a store keeps them all and every root and proof is a few reads.
Hashes are 32 bytes of SHA-256; sizes and indices are below 2**63.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from trailgate.tlog.encoding import MAX_SIZE
from trailgate.tlog.errors import ProofError

HASH_SIZE = 32

#: The root of a tree without leaves.
EMPTY_ROOT = hashlib.sha256(b"").digest()

_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"


class Node(NamedTuple):
    """One stored node: the root of a perfect subtree."""

    level: int
    position: int
    hash: bytes


#: Reads the hash of node (level, index); whatever it raises goes through.
NodeReader = Callable[[int, int], bytes]


def leaf_hash(record: bytes) -> bytes:
    """Hash one entry's bytes (RFC 6962 §2.1)."""
    return hashlib.sha256(_LEAF_PREFIX + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent (RFC 6962 §2.1)."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


class Frontier:
    """The right edge of a growing tree: all that an append needs to know of it.

    ``nodes`` are the roots of the perfect subtrees that make up the tree, largest
    (leftmost) first: one for each bit that is set in ``size``.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._size = size
        self._hashes = list(hashes)
        if not 0 <= size <= MAX_SIZE or len(self._hashes) != size.bit_count():
            raise ProofError(
                f"got {len(self._hashes)} subtree roots for size {size}, "
                f"expected {max(size, 0).bit_count()}"
            )

    @classmethod
    def load(cls, size: int, read: NodeReader) -> Frontier:
        """Rebuild the frontier of a tree of ``size`` leaves from its stored nodes."""
        return cls(size, (read(level, index) for level, index in frontier_nodes(size)))

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    def copy(self) -> Frontier:
        """Return an independent copy, so that an append may be given up."""
        return Frontier(self._size, self._hashes)

    def append(self, leaf: bytes) -> list[Node]:
        """Add one leaf hash; return the nodes that are now complete, the leaf first."""
        hashes, index = self._hashes, self._size
        nodes = [Node(0, index, leaf)]
        level, current = 0, leaf
        while index & 1:
            current = node_hash(hashes.pop(), current)
            level, index = level + 1, index >> 1
            nodes.append(Node(level, index, current))
        hashes.append(current)
        self._size += 1
        return nodes

    def root(self) -> bytes:
        """Return the root of the whole tree."""
        if not self._hashes:
            return EMPTY_ROOT
        current = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            current = node_hash(left, current)
        return current


def frontier_nodes(size: int) -> Iterator[tuple[int, int]]:
    """Yield (level, index) of the perfect subtrees of a tree, largest first."""
    start = 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            yield level, start >> level
            start += 1 << level


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes, in order."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def tree_root(size: int, read: NodeReader) -> bytes:
    """Return the root of the first ``size`` leaves of a stored tree."""
    return Frontier.load(size, read).root()


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """Prove leaf ``index`` in the tree of the first ``size`` leaves (RFC 6962 §2.1.1).

    ``ProofError`` where ``index`` is not in that tree.
    """
    _check_range("index", index, 0, size - 1)
    low, high = 0, size
    proof: list[bytes] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(_range_hash(middle, high, read))
            high = middle
        else:
            proof.append(_range_hash(low, middle, read))
            low = middle
    return proof[::-1]


def consistency_proof(size1: int, size2: int, read: NodeReader) -> list[bytes]:
    """Prove that the first ``size1`` leaves begin the tree of ``size2`` (RFC 6962 §2.1.2).

    ``ProofError`` unless 0 < size1 ≤ size2.
    """
    _check_range("size1", size1, 1, size2)
    low, high = 0, size2
    proof: list[bytes] = []
    while size1 < high:
        middle = low + _split(high - low)
        if size1 <= middle:
            proof.append(_range_hash(middle, high, read))
            high = middle
        else:
            proof.append(_range_hash(low, middle, read))
            low = middle
    if low > 0:
        proof.append(_range_hash(low, high, read))
    return proof[::-1]


def verify_inclusion(
    index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf_hash`` is leaf ``index`` of the tree of ``size`` leaves and ``root``.

    Returns None; ``ProofError`` for anything that proves nothing, malformed input
    included. Algorithm: RFC 9162 §2.1.3.2 (its proofs are those of RFC 6962).
    """
    _check_range("size", size, 1, MAX_SIZE)
    _check_range("index", index, 0, size - 1)
    _check_hash("leaf hash", leaf_hash)
    _check_hash("root", root)
    path = _check_path(proof)
    expected = _inclusion_length(index, size)
    if len(path) != expected:
        raise ProofError(f"got {len(path)} hashes for leaf {index} of {size}, expected {expected}")
    position, last, current = index, size - 1, leaf_hash
    for sibling in path:
        if position & 1 or position == last:
            current = node_hash(sibling, current)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        position, last = position >> 1, last >> 1
    _check_root(f"leaf {index} of {size}", current, root)


def verify_consistency(
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes
) -> None:
    """Check that the tree of ``size1`` and ``root1`` begins the one of ``size2`` and ``root2``.

    Returns None; ``ProofError`` for anything that proves nothing. The empty tree is
    refused: it begins every tree, so nothing can be proved of it.
    Algorithm: RFC 9162 §2.1.4.2.
    """
    _check_range("size2", size2, 1, MAX_SIZE)
    _check_range("size1", size1, 1, size2)
    _check_hash("root1", root1)
    _check_hash("root2", root2)
    path = _check_path(proof)
    expected = _consistency_length(size1, size2)
    if len(path) != expected:
        raise ProofError(
            f"got {len(path)} hashes between sizes {size1} and {size2}, expected {expected}"
        )
    if size1 == size2:
        _check_root(f"size {size2}", root1, root2)
        return
    if size1 & (size1 - 1) == 0:
        path = (root1, *path)
    old, new = _fold_consistency(size1, size2, path)
    _check_root(f"old size {size1}", old, root1)
    _check_root(f"new size {size2}", new, root2)


def _fold_consistency(size1: int, size2: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    return old, new


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(low: int, high: int, read: NodeReader) -> bytes:
    """Hash the leaves low..high, where ``low`` is a multiple of a power of two ≥ high - low."""
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(level, low >> level)
    middle = low + _split(size)
    return node_hash(_range_hash(low, middle, read), _range_hash(middle, high, read))


def _inclusion_length(index: int, size: int) -> int:
    inner = (index ^ (size - 1)).bit_length()
    return inner + (index >> inner).bit_count()


def _consistency_length(size1: int, size2: int) -> int:
    if size1 == size2:
        return 0
    # The proof is the inclusion path of the last old leaf, with the largest perfect
    # subtree that ends there in place of the leaf; it needs naming unless it is root1.
    trailing = (size1 & -size1).bit_length() - 1
    length = _inclusion_length(size1 - 1, size2) - trailing
    return length if size1 & (size1 - 1) == 0 else length + 1


def _check_range(what: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ProofError(f"got {what} {value!r}, expected an integer from {low} to {high}")


def _check_hash(what: str, value: object) -> None:
    if not isinstance(value, bytes) or len(value) != HASH_SIZE:
        got = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise ProofError(f"got {what} of {got}, expected {HASH_SIZE} bytes")


def _check_path(proof: object) -> tuple[bytes, ...]:
    if not isinstance(proof, (list, tuple)):
        raise ProofError(f"got a proof of type {type(proof).__name__}, expected a list of hashes")
    for number, value in enumerate(proof):
        _check_hash(f"proof hash {number}", value)
    return tuple(proof)


def _check_root(what: str, got: bytes, expected: bytes) -> None:
    if got != expected:
        raise ProofError(f"proof for {what} gives root {got.hex()}, expected {expected.hex()}")
