"""The LSTM autoencoder: what it computes, that it learns, and its sentences."""

import pytest
import torch
from torch import Tensor

import naive
from foretell.detect.autoencoding import train_autoencoder
from foretell.detect.rewriting import fit_autoencoder
from foretell.errors import TaskError
from foretell.nets import LSTMAutoencoder
from foretell.noise import streams
from foretell.train import Training

SPEC = LSTMAutoencoder(window=6, hidden=8)


def runs() -> tuple[list[Tensor], Tensor]:
    time = torch.arange(90, dtype=torch.float64)
    found = [torch.stack([torch.sin(time / 3), torch.cos(time / 5)], 1)[:rows] for rows in (90, 40)]
    starts = [(number, row) for number, run in enumerate(found) for row in range(len(run) - SPEC.window + 1)]
    return found, torch.tensor(starts)


def test_it_is_two_lstms_and_a_line() -> None:
    net = SPEC.build(2, streams(1, ["one"])).double()
    x = torch.randn(3, 6, 2, dtype=torch.float64)
    weights = {name: value.detach()[0] for name, value in net.named_parameters()}
    read, write = ([weights[f"{part}.{name}"] for name in ("weight", "recurrent", "bias")] for part in ("reader", "writer"))
    state = naive.lstm(x, *read)[:, -1:]
    wanted = naive.lstm(state.expand(-1, 6, -1), *write) @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(net.reconstruct(x), wanted, rtol=1e-9, atol=1e-12)
    assert SPEC.summary(2).parameters == sum(value.numel() for value in weights.values())


def test_it_learns_to_write_normal_windows_again() -> None:
    found, starts = runs()
    training = Training(epochs=12, batch=16, loss="mse", stop=0.15, patience=12, optimizer={"rate": 0.02})
    trained = train_autoencoder(SPEC, found, starts, training)
    assert float(trained.curves.stop.min()) < 0.3 * float(trained.curves.stop[0, 0])
    again = train_autoencoder(SPEC, found, starts, training)
    assert all(torch.equal(value, again.weights[name]) for name, value in trained.weights.items())
    net, held = trained.net(), found[0][-6:][None]
    strange = held.clone()
    strange[0, 3, 1] += 3
    errors = [float((net.reconstruct(one) - one).square().mean()) for one in (held, strange)]
    assert errors[1] > 4 * errors[0]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LSTMAutoencoder(window=1), "LSTMAutoencoder: window must be greater than or equal to 2; got 1"),
        (lambda: LSTMAutoencoder(dropout=1.0), "dropout must be at least 0 and below 1"),
        (lambda: LSTMAutoencoder().build(0, streams(0, ["one"])), "LSTMAutoencoder needs at least one channel to write again; got 0"),
        (
            lambda: train_autoencoder(SPEC, [torch.zeros(5, 2)], torch.zeros(0, 2, dtype=torch.long), Training()),
            "no training window: every normal run is shorter",
        ),
    ],
)
def test_wrong_options_get_a_sentence(make, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        make()


@pytest.mark.parametrize("unroll", ["median", "mean"])
def test_as_the_inside_of_a_detector_it_sees_a_planted_fault_and_passes_over_gaps(unroll) -> None:
    found, _ = runs()
    gappy = found[0].clone()
    gappy[50] = torch.nan
    fitted, curves = fit_autoencoder(SPEC, [gappy, found[1]], Training(epochs=8, batch=16, loss="mse", stop=0.15, optimizer={"rate": 0.02}), unroll)
    assert curves.stop.shape[1] <= 8
    other = found[0][:60].clone()
    plain = fitted.say(other)
    assert plain.expected is not None
    torch.testing.assert_close(plain.error, other - plain.expected)
    assert not bool(plain.error[SPEC.window :].isnan().any())
    strange = other.clone()
    strange[30, 1] += 4
    error = fitted.say(strange).error
    assert error[:, 1].nan_to_num(0.0).abs().argmax() == 30
    changed = (error - plain.error).nan_to_num(0.0).abs().amax(1).nonzero().flatten()
    assert 30 - fitted.ahead <= int(changed.min()) <= int(changed.max()) <= 30 + fitted.back
    strange[30] = torch.nan
    assert fitted.say(strange).error[30].isnan().all()
    assert fitted.say(strange[:4]).error.isnan().all()  # shorter than a window
