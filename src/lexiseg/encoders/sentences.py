"""Encodes many sentences at once, each common beginning once.

Attention is causal: what the tower makes of a token depends on the tokens before it alone. The prompts of one sentence
all begin alike, so the tokens of a batch of sentences are taken as a tree, in which one node stands for every sentence
that begins with the same tokens. Linear layers and activations, nearly all of the work, run over nodes, without any
padding; attention runs over sentences. Vectors are those of the tower itself, up to rounding. Learned prompts are more
tokens, with ids past the vocabulary, so they too are computed once for all words.

Letters: N sentences, T tokens of the longest, M nodes, W width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Tree", "all_states", "last_states"]


class Tree(NamedTuple):
    """token, depth: of each node [M]. node: of each token of each sentence [N, T]; past its end, any.
    first: a place in the flattened [N, T] for each node [M]. last: the place of each sentence's last token [N]."""

    token: Tensor
    depth: Tensor
    node: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Tree:
        nodes: dict[tuple[int, int], int] = {}  # parent and token
        longest = max(len(row) for row in rows)
        token: list[int] = []
        depth: list[int] = []
        first: list[int] = []
        node = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            parent, path = -1, []
            for position, each in enumerate(row):
                here = nodes.setdefault((parent, each), len(nodes))
                if here == len(token):
                    token.append(each)
                    depth.append(position)
                    first.append(place * longest + position)
                path.append(here)
                parent = here
            node[place, : len(row)] = torch.tensor(path)
        last = torch.tensor([place * longest + len(row) - 1 for place, row in enumerate(rows)])
        return cls(torch.tensor(token), torch.tensor(depth), node, torch.tensor(first), last)

    def to(self, device: torch.device) -> Tree:
        return Tree(*(part.to(device) for part in self))


def last_states(text_model: Any, rows: Sequence[Sequence[int]], learned: Tensor | None = None) -> Tensor:
    """What a `CLIPTextModel` gives for the last token of each row, after its last norm [N, W].

    rows: token ids, none of them empty, without padding. Ids past the tower's vocabulary are rows of `learned`.
    learned: vectors [T, W] in the place of tokens; gradients flow to them.
    """
    tree, states = _before_last_block(text_model, rows, learned)
    final = text_model.encoder.layers[-1]
    # of the last block only the last tokens are read
    ends = states[tree.node.flatten()[tree.last]]  # [N, W]
    ends = _after(final, ends, _attended(final, states, tree)[tree.last])
    normed: Tensor = text_model.final_layer_norm(ends)
    return normed


def all_states(text_model: Any, rows: Sequence[Sequence[int]], learned: Tensor | None = None) -> Tensor:
    """The same for every token of each row [N, T, W]; past the end of a row any."""
    tree, states = _before_last_block(text_model, rows, learned)
    final = text_model.encoder.layers[-1]
    states = _after(final, states, _attended(final, states, tree)[tree.first])
    normed: Tensor = text_model.final_layer_norm(states)[tree.node]
    return normed


def _before_last_block(text_model: Any, rows: Sequence[Sequence[int]], learned: Tensor | None) -> tuple[Tree, Tensor]:
    """The nodes of the rows, and what they are in front of the last block [M, W]."""
    embeddings = text_model.embeddings
    tree = Tree.of(rows).to(embeddings.token_embedding.weight.device)
    states = _tokens(embeddings.token_embedding, tree.token, learned) + embeddings.position_embedding(tree.depth)
    for block in text_model.encoder.layers[:-1]:
        states = _after(block, states, _attended(block, states, tree)[tree.first])
    return tree, states


def _tokens(table: Any, ids: Tensor, learned: Tensor | None) -> Tensor:
    """[M, W]"""
    words: Tensor = table(ids.clamp(max=table.num_embeddings - 1))
    if learned is None:
        return words
    place = ids - table.num_embeddings
    return torch.where((place >= 0)[:, None], learned.to(words)[place.clamp(min=0)], words)


def _attended(block: Any, states: Tensor, tree: Tree) -> Tensor:
    """What each token of each sentence takes from those before it [N T, W], before `out_proj`."""
    attention, inner = block.self_attn, block.layer_norm1(states)
    shape = (*tree.node.shape, -1, attention.head_dim)
    queries, keys, values = (
        projection(inner)[tree.node].view(shape).transpose(1, 2)  # [N, heads, T, head]
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=attention.scale)
    return mixed.transpose(1, 2).reshape(tree.node.numel(), -1)


def _after(block: Any, states: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block, for some of its tokens."""
    states = states + block.self_attn.out_proj(attended)
    after: Tensor = states + block.mlp(block.layer_norm2(states))
    return after
