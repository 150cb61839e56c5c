"""Small nets of every kind an explanation must cope with, written as users write them: modules, functions, reused ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

T, C, H = 12, 3, 4


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.body, self.head = kind(C, 6, 2, batch_first=True, bidirectional=True), nn.Linear(12, H)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)[0][:, -1])
        return out


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv1d(C, 8, 5, padding=2), nn.Conv1d(8, 8, 3), nn.Linear(8 * (T - 2), H)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.gelu(self.second(F.relu(self.first(x.mT)))).flatten(1))
        return out


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.into, self.body, self.head = nn.Linear(C, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, H)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(self.into(x))[:, -1])
        return out


class Odd(nn.Module):
    """Instance norm, a maximum, a quotient, logsumexp, einsum: what no table of modules has."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(T, H)

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = x.mean(1, keepdim=True), (x.var(1, keepdim=True) + 0.1).sqrt()
        told = torch.logsumexp(self.head(((x - mean) / spread).mT), 1) * spread[:, 0, :1] + x.amax(1)[:, :1]
        return told + torch.einsum("bt,bs->b", x[:, :, 0], x[:, :, 1].softmax(-1))[:, None] / (1 + x.square().sum((1, 2)))[:, None]


class Additive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, -1, 0].sin() + x[:, 0, 1] ** 2, x[:, 3, 0].exp(), x[:, 2, 1] * 3], 1)


def nets() -> dict[str, nn.Module]:
    torch.manual_seed(5)
    found = {
        "lstm": Recurrent(nn.LSTM),
        "gru": Recurrent(nn.GRU),
        "conv": Convolution(),
        "transformer": Transformer(),
        "odd": Odd(),
    }
    return {name: net.double().eval().requires_grad_(False) for name, net in found.items()}
