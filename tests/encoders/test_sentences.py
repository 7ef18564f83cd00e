"""The tree of sentences against the text tower itself, one padded row for each of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel

from lexiseg.encoders.sentences import Tree, last_states

ROWS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=9), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def tower() -> CLIPTextModel:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=9, eos_token_id=19, bos_token_id=0,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def plainly(tower: CLIPTextModel, rows: list[list[int]]) -> torch.Tensor:
    """Each row alone, so that nothing depends on padding."""
    return torch.stack([tower(torch.tensor([row])).last_hidden_state[0, -1] for row in rows])


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
@torch.no_grad()
def test_states_are_those_of_the_tower(tower, rows):
    torch.testing.assert_close(last_states(tower, rows), plainly(tower, rows), atol=2e-6, rtol=1e-5)


@settings(deadline=None, max_examples=100)
@given(rows=ROWS)
def test_each_beginning_is_one_node(rows):
    tree = Tree.of(rows)
    beginnings = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert len(tree.token) == len(beginnings)
    for place, row in enumerate(rows):
        path = tree.node[place, : len(row)]
        assert tree.token[path].tolist() == row
        assert tree.depth[path].tolist() == list(range(len(row)))
        assert tree.node.flatten()[tree.last[place]] == path[-1]
    assert torch.equal(tree.node.flatten()[tree.first], torch.arange(len(tree.token)))


@torch.no_grad()
def test_templates_share_most_of_their_work(tower):
    rows = [[template, 5, 6, 7, word, 19] for template in (1, 2) for word in range(8, 18)]
    assert len(Tree.of(rows).token) == 2 * 4 + 2 * 10 * 2 < sum(map(len, rows)) / 2
    torch.testing.assert_close(last_states(tower, rows), plainly(tower, rows), atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_half_precision_stays_near(tower):
    rows = [[1, 2, 3, word, 19] for word in range(4, 18)]
    exact = last_states(tower, rows)
    half = last_states(tower.to(torch.bfloat16), rows).float()
    tower.to(torch.float32)
    assert torch.nn.functional.cosine_similarity(exact, half).min() > 0.999
