"""Encoders of item sequences by id alone: causal self-attention (SASRec) and a recurrent network (LSTM).

Both read items (B, T), right-padded with `PADDING`, and give a state after every item; a state scores an item by its
product with the item's output vector. Nothing flows backwards, so neither later items nor padding touch a state.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING = -1
"""Stands behind the last item of a row that is shorter than its batch."""
INITIAL_STD = 0.02


class SequenceEncoder(nn.Module):
    """What SASRec and LSTM share: item embeddings for input and output, and a bias per item.

    `forward(items (B, T)) -> states (B, T, D)`; the logits of all items are `states @ output_weight.T + output_bias`.
    """

    def __init__(self, num_items: int, max_length: int, hidden_size: int, num_layers: int, num_heads: int):
        super().__init__()
        for name, value in (("num_items", num_items), ("max_length", max_length), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"{name} is {value!r}: give at least 1")
        if num_heads < 1 or hidden_size < 1 or hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size!r} is not divisible by num_heads {num_heads!r}: try 64 and 1")
        self.shape = {
            "num_items": num_items,
            "max_length": max_length,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
        }
        """What the parameters' shapes follow from, as JSON."""
        self.item_embeddings = nn.Embedding(num_items, hidden_size)
        self.output_bias = nn.Parameter(torch.zeros(num_items))
        """Output biases of the items, (N,)."""
        nn.init.normal_(self.item_embeddings.weight, std=INITIAL_STD)

    @property
    def output_weight(self) -> Tensor:
        """Output vectors of the items: the embeddings that are read too, (N, D)."""
        return self.item_embeddings.weight

    def embed(self, items: Tensor) -> Tensor:
        """Return the embeddings of items (B, T) as they are read, (B, T, D): times √D, as in the code of SASRec."""
        return self.item_embeddings(items.clamp(min=0)) * self.item_embeddings.embedding_dim**0.5


class SelfAttentionBlock(nn.Module):
    """Causal self-attention and a feed-forward layer of the same width, normalised before each (pre-LN)."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_size, hidden_size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (B, T, D) to states (B, T, D); position t reads positions 0 … t."""
        B, T, D = states.shape
        projected = self.query_key_value(self.attention_norm(states)).view(B, T, 3, self.num_heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        rate = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=rate)
        attended = attended.transpose(1, 2).reshape(B, T, D)
        states = states + self.dropout(self.attention_output(attended))
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))


class SASRec(SequenceEncoder):
    """Self-attentive sequential recommender: learned positions, input and output share the item embeddings.

    Positions count back from the last item of a row, as in the paper, where rows are padded on the left: the state
    that answers a request always stands at the same, best-trained position. Differs from the paper in normalising the
    keys and values too (pre-LN) and in the item biases, without which sampled losses spend long on popularity.

    References:
        Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, arXiv:1808.09781.

    >>> encoder = SASRec(num_items=5, max_length=4, hidden_size=8, num_layers=1, dropout=0.0)
    >>> encoder(torch.tensor([[3, 1, 4], [2, PADDING, PADDING]])).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        num_items: int,
        max_length: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        num_heads: int = 1,
    ):
        super().__init__(num_items, max_length, hidden_size, num_layers, num_heads)
        self.position_embeddings = nn.Embedding(max_length, hidden_size)
        nn.init.normal_(self.position_embeddings.weight, std=INITIAL_STD)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(SelfAttentionBlock(hidden_size, num_heads, dropout) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, items: Tensor) -> Tensor:
        """Return the state after every item.

        Args:
            items: (B, T) with T ≤ `max_length`, rows right-padded with `PADDING`.

        Returns:
            (B, T, D); without meaning at padding.
        """
        last = self.position_embeddings.num_embeddings - 1
        lengths = (items != PADDING).sum(1, keepdim=True)
        positions = torch.arange(items.shape[1], device=items.device) + (last + 1 - lengths)  # (B, T)
        states = self.embed(items) + self.position_embeddings(positions.clamp(max=last))
        return self.norm(self.blocks(self.dropout(states)))


class LSTM(SequenceEncoder):
    """Recurrent recommender: an LSTM over item embeddings and a linear layer with bias over the items.

    The linear layer shares the item embeddings and its input is normalised, as in `SASRec`: with a table of its own
    and bare LSTM states, sparse data stay near popularity for many epochs.

    References:
        Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; recurrent networks over
        the items of a session: Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR
        2016, arXiv:1511.06939; shared embeddings: Press and Wolf, "Using the output embedding to improve language
        models", EACL 2017, arXiv:1608.05859.

    >>> encoder = LSTM(num_items=5, max_length=4, hidden_size=8, num_layers=1, dropout=0.0)
    >>> encoder(torch.tensor([[3, 1, 4], [2, PADDING, PADDING]])).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        num_items: int,
        max_length: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        num_heads: int = 1,
    ):
        super().__init__(num_items, max_length, hidden_size, num_layers, num_heads)
        self.dropout = nn.Dropout(dropout)
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, items: Tensor) -> Tensor:
        """Return the state after every item; as for `SASRec`."""
        states, _ = self.lstm(self.dropout(self.embed(items)))
        return self.norm(self.dropout(states))


ENCODERS: dict[str, Any] = {"sasrec": SASRec, "lstm": LSTM}
