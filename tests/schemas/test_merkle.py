"""RFC 6962 trees: published vectors, and properties against the definition in the RFC."""

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.schemas.transparency import CompactRange, _merkle
from seawall.schemas.transparency._merkle import ProofError
from seawall_testing.reference_data import read_vectors
from seawall_testing.trees import hashes_of, tree_root

# The classic tree of Certificate Transparency (google/certificate-transparency merkle_tree_test.cc): leaves and roots.
CT_LEAVES = [bytes.fromhex(leaf) for leaf in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [_merkle.leaf_hash(index.to_bytes(4, "big")) for index in range(count)]


def slow_root(hashes: list[bytes]) -> bytes:
    """The definition of RFC 6962 §2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(hashes[:k]) + slow_root(hashes[k:])).digest()


def unpack(case: dict, *names: str) -> list[bytes]:
    return [base64.b64decode(case[name]) for name in names]


def test_the_certificate_transparency_tree_has_its_published_roots():
    hashes = [_merkle.leaf_hash(leaf) for leaf in CT_LEAVES]
    assert [tree_root(hashes[:size]).hex() for size in range(9)] == CT_ROOTS


def test_the_published_tree_and_every_inner_node_agree():
    tree = read_vectors("rfc6962_tree.json")
    hashes = [_merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in tree["leaf_inputs_hex"]]
    assert [tree_root(hashes[:size]).hex() for size in range(9)] == tree["root_by_size_hex"]
    hash_at = hashes_of(hashes)
    for level, nodes in enumerate(tree["node_hashes_by_level_hex"]):
        assert [hash_at(level, index).hex() for index in range(len(nodes))] == nodes


def test_published_inclusion_proofs_are_judged_as_published():
    for case in read_vectors("rfc6962_inclusion.json")["cases"]:
        root, leaf = unpack(case, "root", "leafHash")
        proof = [base64.b64decode(value) for value in case["proof"] or []]
        arguments = leaf, case["leafIdx"], case["treeSize"], proof, root
        if case["wantErr"]:
            with pytest.raises(ProofError):
                _merkle.verify_inclusion(*arguments)
        else:
            _merkle.verify_inclusion(*arguments)


def test_published_consistency_proofs_are_judged_as_published():
    for case in read_vectors("rfc6962_consistency.json")["cases"]:
        root1, root2 = unpack(case, "root1", "root2")
        proof = [base64.b64decode(value) for value in case["proof"] or []]
        arguments = case["size1"], root1, case["size2"], root2, proof
        if case["wantErr"]:
            with pytest.raises(ProofError):
                _merkle.verify_consistency(*arguments)
        else:
            _merkle.verify_consistency(*arguments)


def test_the_rolling_hash_over_all_subtrees_up_to_130_leaves_is_the_published_one():
    published = read_vectors("rfc6962_rolling.json")
    hash_at = hashes_of([_merkle.leaf_hash(bytes([index])) for index in range(130)])
    subtrees, inclusion = hashlib.sha256(), hashlib.sha256()
    for end in range(131):
        for begin in range(end + 1):  # the draft counts empty ranges as subtrees, at any place
            if begin < end and begin % (1 << (end - begin - 1).bit_length()):
                continue
            shifted = lambda level, index, begin=begin: hash_at(level, index + (begin >> level))  # noqa: E731
            subtrees.update(f"[{begin}, {end}) {_merkle.range_root(begin, end, hash_at).hex()}\n".encode())
            for index in range(begin, end):
                proof = _merkle.inclusion_proof(index - begin, end - begin, shifted)
                text = "".join(f" {value.hex()}" for value in proof)
                inclusion.update(f"{index} [{begin}, {end}){text}\n".encode())
    assert subtrees.hexdigest() == published["subtree_hash"]
    assert inclusion.hexdigest() == published["inclusion"]


@given(st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_a_growing_tree_has_the_root_of_the_definition_and_survives_its_snapshot(size):
    hashes, tree = leaves(size), CompactRange()
    for leaf in hashes:
        tree = CompactRange.restore(tree.snapshot())
        tree.append(leaf)
    assert tree.root() == slow_root(hashes)
    assert tree.size == size


def test_every_inclusion_proof_verifies_and_no_other_index_does():
    for size in (1, 2, 3, 7, 8, 13, 33):
        hashes = leaves(size)
        hash_at, root = hashes_of(hashes), tree_root(hashes)
        for index in range(size):
            proof = _merkle.inclusion_proof(index, size, hash_at)
            _merkle.verify_inclusion(hashes[index], index, size, proof, root)
            for other in range(size):
                if other != index:
                    with pytest.raises(ProofError):
                        _merkle.verify_inclusion(hashes[index], other, size, proof, root)


def test_every_consistency_proof_verifies_and_no_changed_one_does():
    hashes = leaves(40)
    hash_at = hashes_of(hashes)
    roots = [tree_root(hashes[:size]) for size in range(41)]
    for old in range(1, 41):
        for size in range(old, 41):
            proof = _merkle.consistency_proof(old, size, hash_at)
            _merkle.verify_consistency(old, roots[old], size, roots[size], proof)
            for changed in (proof[:-1], [*proof, roots[1]], [bytes(32), *proof[1:]]):
                if proof and changed != proof:
                    with pytest.raises(ProofError):
                        _merkle.verify_consistency(old, roots[old], size, roots[size], changed)


@pytest.mark.parametrize("snapshot", [b"", bytes(7) + b"\x01", bytes(7) + b"\x01" + bytes(31), bytes(8) + bytes(32)])
def test_bytes_that_are_no_snapshot_are_refused(snapshot):
    if snapshot == b"":
        assert CompactRange.restore(snapshot).size == 0
        return
    with pytest.raises(ValueError, match="subtree roots"):
        CompactRange.restore(snapshot)


def test_a_hash_of_the_wrong_length_is_refused():
    with pytest.raises(ProofError, match="32 bytes"):
        _merkle.verify_inclusion(bytes(31), 0, 1, [], bytes(32))
