"""The vectorised TDT loss equals the sum over all paths, and learning by it works."""

import math

import pytest

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch


def sum_over_paths(tokens, durations, targets, frames) -> float:
    """Minus the logarithm of the probability of all paths, one by one."""

    def paths_from(frame: int, label: int) -> float:
        if frame >= frames:
            return float(frame == frames and label == len(targets))
        total = 0.0
        for duration, log_prob in enumerate(durations[frame, label].tolist()):
            if duration > 0:
                blank = tokens[frame, label, -1].item()
                total += math.exp(blank + log_prob) * paths_from(frame + duration, label)
            if label < len(targets):
                token = tokens[frame, label, targets[label]].item()
                total += math.exp(token + log_prob) * paths_from(frame + duration, label + 1)
        return total

    return -math.log(paths_from(0, 0))


@pytest.mark.parametrize("durations", [2, 3, 5])
def test_equals_the_sum_over_all_paths(durations: int) -> None:
    from asrloop_train.tdt_loss import tdt_loss

    torch.manual_seed(durations)
    batch, frames, labels, vocabulary = 6, 6, 3, 4
    token_scores = torch.randn(batch, frames, labels + 1, vocabulary + 1).log_softmax(-1)
    duration_scores = torch.randn(batch, frames, labels + 1, durations).log_softmax(-1)
    targets = torch.randint(0, vocabulary, (batch, labels))
    frame_lengths = torch.tensor([6, 6, 5, 4, 2, 1])
    target_lengths = torch.tensor([3, 0, 2, 3, 1, 1])
    losses = tdt_loss(token_scores, duration_scores, targets, frame_lengths, target_lengths)
    for row, loss in enumerate(losses.tolist()):
        wanted = targets[row, : target_lengths[row]].tolist()
        expected = sum_over_paths(token_scores[row], duration_scores[row], wanted, int(frame_lengths[row]))
        assert loss == pytest.approx(expected, rel=1e-5)


def test_padding_has_no_gradient() -> None:
    from asrloop_train.tdt_loss import tdt_loss

    torch.manual_seed(0)
    token_scores = torch.randn(2, 7, 4, 5, requires_grad=True)
    duration_scores = torch.randn(2, 7, 4, 5, requires_grad=True)
    targets = torch.randint(0, 4, (2, 3))
    loss = tdt_loss(
        token_scores.log_softmax(-1),
        duration_scores.log_softmax(-1),
        targets,
        torch.tensor([7, 4]),
        torch.tensor([3, 2]),
    )
    loss.sum().backward()
    assert token_scores.grad.isfinite().all()
    assert duration_scores.grad.isfinite().all()
    assert not token_scores.grad[1, 4:].any()
    assert not token_scores.grad[1, :, 3:].any()
    assert token_scores.grad[1, :4, :3].any()
