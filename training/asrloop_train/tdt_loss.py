"""Loss of the token-and-duration transducer (TDT), vectorised over the batch and over the labels.

Xu et al., "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations", ICML 2023: a label may be
followed by any duration, a blank only by one of at least one frame, and the last arc lands exactly on the end.
"""

import torch
from torch import Tensor

_IMPOSSIBLE = -1e30  # finite, so that a sum over impossible paths has a gradient of zero and not of NaN


def tdt_loss(
    token_log_probs: Tensor,
    duration_log_probs: Tensor,
    targets: Tensor,
    frame_lengths: Tensor,
    target_lengths: Tensor,
) -> Tensor:
    """Return the negative log-likelihood [B] of ``targets``, in nats.

    ``token_log_probs`` f32 [B, T, U + 1, V + 1], blank last; ``duration_log_probs`` f32 [B, T, U + 1, D] for durations
    0 .. D - 1; ``targets`` i64 [B, U]; ``frame_lengths`` and ``target_lengths`` i64 [B].

    alpha(t, u) depends on earlier frames and, by durations of zero, on earlier labels of its own frame. Both have a
    smaller t + u, so the sum runs over the diagonals n = t + u, each one in a single operation.
    """
    batch, frames, positions, _ = token_log_probs.shape
    durations = duration_log_probs.shape[-1]
    labels = torch.nn.functional.pad(targets, (0, 1))[:, None, :, None].expand(-1, frames, -1, -1)
    label_log_probs = token_log_probs.gather(3, labels)
    blank_log_probs = token_log_probs[..., -1:]
    beyond = (torch.arange(frames)[None, :] >= frame_lengths[:, None])[:, :, None, None]
    blank_arcs = _diagonals((blank_log_probs + duration_log_probs[..., 1:]).masked_fill(beyond, _IMPOSSIBLE))
    label_arcs = _diagonals((label_log_probs + duration_log_probs).masked_fill(beyond, _IMPOSSIBLE))

    history = torch.full((batch, durations, positions), _IMPOSSIBLE)
    start = torch.full((batch, positions), _IMPOSSIBLE)
    start[:, 0] = 0.0
    history = torch.cat((history[:, 1:], start[:, None]), 1)
    alphas = [start]
    for diagonal in range(1, frames + positions):
        # history[:, -k] is the diagonal n - k; an arc of duration d leads d diagonals on, with a label d + 1.
        earlier = history.flip(1)
        blanks = earlier[:, : durations - 1] + _arcs_into(blank_arcs, diagonal)
        labelled = (earlier + _arcs_into(label_arcs, diagonal))[:, :, :-1]
        labelled = torch.nn.functional.pad(labelled, (1, 0), value=_IMPOSSIBLE)
        alpha = torch.cat((blanks, labelled), 1).logsumexp(1).clamp_min(_IMPOSSIBLE)
        alphas.append(alpha)
        history = torch.cat((history[:, 1:], alpha[:, None]), 1)
    every = torch.stack(alphas, 1)
    last = (frame_lengths + target_lengths)[:, None, None].expand(-1, 1, positions)
    final: Tensor = every.gather(1, last).squeeze(1).gather(1, target_lengths[:, None]).squeeze(1)
    return -final


def _diagonals(arcs: Tensor) -> Tensor:
    """Reorder [B, T, U, K] to [B, N, K, U] with N = T + U and row n holding (t = n - u, u); impossible outside the lattice."""
    batch, frames, positions, kinds = arcs.shape
    rows = frames + positions
    padded = torch.nn.functional.pad(arcs, (0, 0, 0, 0, 0, positions), value=_IMPOSSIBLE)
    index = (torch.arange(rows)[:, None] - torch.arange(positions)[None, :]) % rows
    skewed = padded.gather(1, index[None, :, :, None].expand(batch, -1, -1, kinds))
    return skewed.transpose(2, 3)


def _arcs_into(arcs: Tensor, diagonal: int) -> Tensor:
    """Return [B, K, U]: for each arc kind k the row that leads to ``diagonal``, which is row ``diagonal - 1 - k``."""
    nowhere = torch.full_like(arcs[:, 0, 0], _IMPOSSIBLE)
    rows = [arcs[:, diagonal - 1 - kind, kind] if diagonal > kind else nowhere for kind in range(arcs.shape[2])]
    return torch.stack(rows, 1)
