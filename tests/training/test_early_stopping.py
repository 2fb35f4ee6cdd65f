"""Early stopping counts epochs whose value is defined, and finds its state in checkpoints of earlier runs."""

import pytest
from lightning.pytorch.callbacks import EarlyStopping as LightningsOwn

from cxr.loss.bce import BinaryCrossEntropy
from cxr.loss.terms import Batch, LossTerms, Scored
from cxr.training.callbacks.early_stopping import EarlyStopping
from tests.training.constant import KNOWN, UNKNOWN, Labels, fit


@pytest.mark.parametrize(("val", "patience", "epochs"), [(UNKNOWN, 1, 4), (KNOWN, 1, 2), (KNOWN, 2, 3)])
def test_training_stops_after_epochs_without_a_better_value_and_not_after_undefined_ones(
    val: Labels, patience: int, epochs: int
) -> None:
    trainer = fit(EarlyStopping("val/loss", patience=patience), epochs=4, val=val)  # at a rate of 0
    assert trainer.current_epoch == epochs


class Switching(BinaryCrossEntropy):
    """Whose loss is 100 times higher from the third epoch on."""

    switch_epoch: int | None = 2

    def forward(self, output: Scored, batch: Batch, epoch: int) -> LossTerms:
        terms = super().forward(output, batch, epoch)
        return terms._replace(total=terms.total * (100 if epoch >= 2 else 1))


@pytest.mark.parametrize(("switch", "epochs"), [(2, 5), (None, 3)])
def test_patience_starts_anew_where_the_weights_of_the_loss_begin(switch: int | None, epochs: int) -> None:
    def loss() -> Switching:
        made = Switching([1, 1], [1, 1])
        made.switch_epoch = switch
        return made

    assert fit(EarlyStopping("val/loss", patience=2), epochs=9, loss=loss).current_epoch == epochs


def test_its_state_is_found_in_checkpoints_of_earlier_runs() -> None:
    assert EarlyStopping("val/loss", mode="min").state_key == LightningsOwn("val/loss", mode="min").state_key
