"""The tiny transducer: a convolutional encoder with subsampling 8, an LSTM prediction network and a joint network."""

import torch
from torch import Tensor, nn

DURATIONS = 5
"""Number of durations, 0 .. 4 frames, as in Parakeet."""


class Encoder(nn.Module):
    """Encoder: a padded utterance gives the same frames as the utterance alone."""

    def __init__(self, bands: int, width: int, blocks: int) -> None:
        super().__init__()
        self.bands, self.width = bands, width
        self.subsampling = nn.ModuleList(
            nn.Conv1d(bands if layer == 0 else width, width, 5, stride=2, padding=2) for layer in range(3)
        )
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Turn ``audio_signal`` f32 [B, bands, T], ``length`` i64 [B] into ``outputs`` f32 [B, width, T'] and their lengths."""
        x = audio_signal * _mask(audio_signal, length)
        for convolution in self.subsampling:
            x = torch.relu(convolution(x))
            length = (length - 1) // 2 + 1
            x = x * _mask(x, length)
        mask = _mask(x, length)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x.transpose(1, 2)).transpose(1, 2) * mask, length


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.widen = nn.Conv1d(width, width, 1)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = self.norm(x.transpose(1, 2)).transpose(1, 2) * mask
        hidden = torch.relu(self.widen(self.depthwise(hidden)))
        result: Tensor = (x + self.mix(hidden)) * mask
        return result


def _mask(x: Tensor, length: Tensor) -> Tensor:
    valid = torch.arange(x.shape[2])[None, :] < length[:, None]
    return valid[:, None, :].to(x.dtype)


class DecoderJoint(nn.Module):
    """Prediction network and joint network, in one module as in the exported file."""

    def __init__(self, vocabulary: int, encoder_width: int, width: int, joint_width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=vocabulary - 1)  # the blank is the start symbol
        self.lstm = nn.LSTM(width, width, num_layers=2)
        self.encoder_projection = nn.Linear(encoder_width, joint_width)
        self.prediction_projection = nn.Linear(width, joint_width)
        self.output = nn.Linear(joint_width, vocabulary + DURATIONS)

    def predict(self, targets: Tensor, states: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Turn ``targets`` i64 [B, U] into f32 [B, U, width] and the states [2, B, width] after them."""
        hidden, states = self.lstm(self.embedding(targets).transpose(0, 1), states)
        predicted: Tensor = hidden.transpose(0, 1)
        return predicted, states

    def join(self, encoder_frames: Tensor, predicted: Tensor) -> Tensor:
        """Join f32 [B, T, D] and f32 [B, U, width] to logits f32 [B, T, U, V + durations]."""
        frames = self.encoder_projection(encoder_frames).unsqueeze(2)
        result: Tensor = self.output(torch.relu(frames + self.prediction_projection(predicted).unsqueeze(1)))
        return result

    def forward(
        self, encoder_outputs: Tensor, targets: Tensor, target_length: Tensor, states_1: Tensor, states_2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the module as the exported file does; see ``asrloop_train.nemo_layout``."""
        predicted, (after_1, after_2) = self.predict(targets.long(), (states_1, states_2))
        logits = self.join(encoder_outputs.transpose(1, 2), predicted)
        return logits, target_length, after_1, after_2
