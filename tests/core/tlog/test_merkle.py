import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trailgate.tlog.errors import ProofError
from trailgate.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    frontier_nodes,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LARGEST = 300


class Tree:
    """A stored tree over "record <i>", as the oracle has it."""

    def __init__(self, size):
        self.nodes = {}
        self.roots = [EMPTY_ROOT]
        self.leaves = []
        frontier = Frontier()
        for index in range(size):
            leaf = leaf_hash(f"record {index}".encode())
            self.leaves.append(leaf)
            for node in frontier.append(leaf):
                assert (node.level, node.position) not in self.nodes
                self.nodes[node.level, node.position] = node.hash
            self.roots.append(frontier.root())
        self.frontier = frontier

    def read(self, level, index):
        return self.nodes[level, index]


TREE = Tree(LARGEST + 1)
SIZES = st.integers(1, LARGEST)


def test_roots_and_leaves_are_those_of_go(vectors):
    assert len(vectors["roots"]) == LARGEST + 1
    for size, root in enumerate(vectors["roots"]):
        assert TREE.roots[size].hex() == root
        assert tree_root(size, TREE.read).hex() == root
        assert root_of(TREE.leaves[:size]).hex() == root
    assert [leaf.hex() for leaf in TREE.leaves] == vectors["leaves"]


def test_inclusion_proofs_are_those_of_go(vectors):
    assert len(vectors["inclusion"]) > 200
    for case in vectors["inclusion"]:
        index, size = case["index"], case["size"]
        proof = inclusion_proof(index, size, TREE.read)
        assert [value.hex() for value in proof] == case["proof"], case
        verify_inclusion(index, size, TREE.leaves[index], proof, TREE.roots[size])


def test_consistency_proofs_are_those_of_go(vectors):
    assert len(vectors["consistency"]) > 200
    for case in vectors["consistency"]:
        size1, size2 = case["size1"], case["size2"]
        proof = consistency_proof(size1, size2, TREE.read)
        assert [value.hex() for value in proof] == case["proof"], case
        verify_consistency(size1, size2, proof, TREE.roots[size1], TREE.roots[size2])


def test_every_small_pair_proves():
    for size in range(1, 70):
        for other in range(1, size + 1):
            proof = inclusion_proof(other - 1, size, TREE.read)
            verify_inclusion(other - 1, size, TREE.leaves[other - 1], proof, TREE.roots[size])
            proof = consistency_proof(other, size, TREE.read)
            verify_consistency(other, size, proof, TREE.roots[other], TREE.roots[size])


def test_verifying_returns_nothing():
    proof = inclusion_proof(3, 9, TREE.read)
    assert verify_inclusion(3, 9, TREE.leaves[3], proof, TREE.roots[9]) is None
    proof = consistency_proof(3, 9, TREE.read)
    assert verify_consistency(3, 9, proof, TREE.roots[3], TREE.roots[9]) is None


@given(st.data(), SIZES)
@settings(max_examples=300)
def test_a_flipped_bit_breaks_an_inclusion_proof(data, size):
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, TREE.read)
    leaf, root = TREE.leaves[index], TREE.roots[size]
    parts = [leaf, root, *proof]
    which = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    parts[which] = flip(parts[which], bit)
    with pytest.raises(ProofError):
        verify_inclusion(index, size, parts[0], parts[2:], parts[1])


@given(st.data(), SIZES)
@settings(max_examples=300)
def test_a_flipped_bit_breaks_a_consistency_proof(data, size2):
    size1 = data.draw(st.integers(1, size2))
    proof = consistency_proof(size1, size2, TREE.read)
    parts = [TREE.roots[size1], TREE.roots[size2], *proof]
    which = data.draw(st.integers(0, len(parts) - 1))
    parts[which] = flip(parts[which], data.draw(st.integers(0, 255)))
    with pytest.raises(ProofError):
        verify_consistency(size1, size2, parts[2:], parts[0], parts[1])


@given(st.data(), SIZES)
@settings(max_examples=300)
def test_another_index_fails(data, size):
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, TREE.read)
    other = index ^ 1 << data.draw(st.integers(0, 62))
    with pytest.raises(ProofError):
        verify_inclusion(other, size, TREE.leaves[index], proof, TREE.roots[size])


@given(st.data(), SIZES)
@settings(max_examples=300)
def test_another_size_fails_against_its_own_root(data, size):
    # A size whose tree has the same shape above the leaf hashes to the same root:
    # the size is vouched for by the checkpoint, which binds it to one root.
    other = data.draw(SIZES.filter(lambda value: value != size))
    index = data.draw(st.integers(0, min(size, other) - 1))
    proof = inclusion_proof(index, size, TREE.read)
    with pytest.raises(ProofError):
        verify_inclusion(index, other, TREE.leaves[index], proof, TREE.roots[other])


@given(st.data(), SIZES)
@settings(max_examples=300)
def test_other_sizes_fail_against_their_own_roots(data, size2):
    size1 = data.draw(st.integers(1, size2))
    proof = consistency_proof(size1, size2, TREE.read)
    pair = st.tuples(SIZES, SIZES).filter(lambda p: p[0] <= p[1] and p != (size1, size2))
    other1, other2 = data.draw(pair)
    if other1 == other2 or consistency_proof(other1, other2, TREE.read) == proof:
        return
    with pytest.raises(ProofError):
        verify_consistency(other1, other2, proof, TREE.roots[other1], TREE.roots[other2])


@given(st.data(), SIZES)
def test_a_longer_or_shorter_proof_fails(data, size):
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, TREE.read)
    leaf, root = TREE.leaves[index], TREE.roots[size]
    extra = data.draw(st.integers(0, len(proof)))
    wrong = [[*proof[:extra], root, *proof[extra:]]]
    if proof:
        wrong += [proof[1:], proof[:-1], []]
    for candidate in wrong:
        with pytest.raises(ProofError):
            verify_inclusion(index, size, leaf, candidate, root)


@given(st.data(), SIZES)
def test_a_longer_or_shorter_consistency_proof_fails(data, size2):
    size1 = data.draw(st.integers(1, size2))
    proof = consistency_proof(size1, size2, TREE.read)
    root1, root2 = TREE.roots[size1], TREE.roots[size2]
    wrong = [[*proof, root1], [root1, *proof], [root2, *proof]]
    if proof:
        wrong += [proof[1:], proof[:-1], []]
    for candidate in wrong:
        with pytest.raises(ProofError):
            verify_consistency(size1, size2, candidate, root1, root2)


LEAF, ROOT = TREE.leaves[0], TREE.roots[1]


@pytest.mark.parametrize(
    ("index", "size", "leaf", "proof", "root"),
    [
        (-1, 1, LEAF, [], ROOT),
        (1, 1, LEAF, [], ROOT),
        (2, 1, LEAF, [], ROOT),
        (0, 0, LEAF, [], EMPTY_ROOT),
        (0, -1, LEAF, [], ROOT),
        (0, 2**63, LEAF, [], ROOT),
        (0, 2**64 + 1, LEAF, [], ROOT),
        (False, 1, LEAF, [], ROOT),
        (0, True, LEAF, [], ROOT),
        (0.0, 1, LEAF, [], ROOT),
        ("0", 1, LEAF, [], ROOT),
        (None, 1, LEAF, [], ROOT),
        (0, 1, LEAF[:31], [], ROOT),
        (0, 1, LEAF + b"\0", [], ROOT),
        (0, 1, b"", [], ROOT),
        (0, 1, LEAF.hex(), [], ROOT),
        (0, 1, None, [], ROOT),
        (0, 1, LEAF, [], ROOT[:31]),
        (0, 1, LEAF, [], None),
        (0, 1, LEAF, [b""], ROOT),
        (0, 1, LEAF, [ROOT], ROOT),
        (0, 1, LEAF, b"", ROOT),
        (0, 1, LEAF, "", ROOT),
        (0, 1, LEAF, None, ROOT),
        (0, 1, LEAF, {}, ROOT),
        (0, 1, LEAF, iter(()), ROOT),
        (0, 2, LEAF, [TREE.leaves[1][:31]], TREE.roots[2]),
        (0, 2, LEAF, [TREE.leaves[1].hex()], TREE.roots[2]),
        (0, 2, LEAF, [None], TREE.roots[2]),
    ],
)
def test_malformed_inclusion_input_is_refused(index, size, leaf, proof, root):
    with pytest.raises(ProofError):
        verify_inclusion(index, size, leaf, proof, root)


@pytest.mark.parametrize(
    ("size1", "size2", "proof", "root1", "root2"),
    [
        (0, 0, [], EMPTY_ROOT, EMPTY_ROOT),
        (0, 1, [], EMPTY_ROOT, ROOT),
        (0, 1, [ROOT], EMPTY_ROOT, ROOT),
        (0, 1, [ROOT] * 3, EMPTY_ROOT, ROOT),
        (-1, 1, [], ROOT, ROOT),
        (2, 1, [], TREE.roots[2], ROOT),
        (1, 2**63, [], ROOT, ROOT),
        (True, 1, [], ROOT, ROOT),
        (1, True, [], ROOT, ROOT),
        (1.0, 1, [], ROOT, ROOT),
        (1, 1, [], ROOT, EMPTY_ROOT),
        (1, 1, [ROOT], ROOT, ROOT),
        (1, 1, None, ROOT, ROOT),
        (1, 1, [], ROOT[:31], ROOT[:31]),
        (1, 1, [], None, None),
        (1, 1, [], b"", b""),
        (1, 2, [TREE.leaves[1][:31]], ROOT, TREE.roots[2]),
        (1, 2, TREE.leaves[1], ROOT, TREE.roots[2]),
    ],
)
def test_malformed_consistency_input_is_refused(size1, size2, proof, root1, root2):
    with pytest.raises(ProofError):
        verify_consistency(size1, size2, proof, root1, root2)


@pytest.mark.parametrize(("index", "size"), [(0, 1), (1, 1), (3, 1), (5, 5), (6, 5), (2**62, 2)])
@pytest.mark.parametrize("length", range(1, 5))
def test_no_root_can_be_made_for_a_path_of_another_length(index, size, length):
    # Whoever chooses the root can make any path end there: the length alone refuses it.
    path = [TREE.leaves[number] for number in range(length)]
    for turns in range(1 << length):
        root = LEAF
        for number, sibling in enumerate(path):
            left = turns >> number & 1
            root = node_hash(sibling, root) if left else node_hash(root, sibling)
        with pytest.raises(ProofError):
            verify_inclusion(index, size, LEAF, path, root)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, -1)])
def test_no_inclusion_proof_outside_the_tree(index, size):
    with pytest.raises(ProofError):
        inclusion_proof(index, size, TREE.read)


@pytest.mark.parametrize(("size1", "size2"), [(0, 3), (4, 3), (0, 0), (-1, 2)])
def test_no_consistency_proof_outside_the_tree(size1, size2):
    with pytest.raises(ProofError):
        consistency_proof(size1, size2, TREE.read)


def test_a_node_is_not_a_leaf():
    # Without domain separation the two children of the root would be a leaf.
    inner = TREE.leaves[0] + TREE.leaves[1]
    with pytest.raises(ProofError):
        verify_inclusion(0, 1, leaf_hash(inner), [], TREE.roots[2])


@given(st.integers(0, LARGEST))
def test_a_frontier_loads_from_its_nodes(size):
    frontier = Frontier.load(size, TREE.read)
    assert (frontier.size, frontier.root()) == (size, TREE.roots[size])
    copy = frontier.copy()
    copy.append(TREE.leaves[size])
    assert copy.root() == TREE.roots[size + 1]
    assert (frontier.size, frontier.root()) == (size, TREE.roots[size])


@pytest.mark.parametrize(("size", "count"), [(3, 1), (3, 3), (0, 1), (-1, 0), (-1, 64), (8, 0)])
def test_a_frontier_of_another_size_is_refused(size, count):
    with pytest.raises(ProofError):
        Frontier(size, [ROOT] * count)


def test_appends_and_proofs_read_logarithmically():
    size = 2**40 + 12345
    reads = []

    def read(level, index):
        reads.append((level, index))
        return ROOT

    inclusion_proof(2**39 + 7, size, read)
    assert len(reads) <= 2 * size.bit_length()
    reads.clear()
    consistency_proof(2**39 + 7, size, read)
    assert len(reads) <= 2 * size.bit_length()
    assert len(list(frontier_nodes(size))) == size.bit_count()


def flip(value, bit):
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
