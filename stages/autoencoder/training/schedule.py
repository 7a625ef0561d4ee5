"""How the learning rate changes over a training."""

import torch

WARM_UP = 0.1  # share of the steps


def rise_and_fall(
    optimizer: torch.optim.Optimizer, steps: int, steps_done: int = 0
) -> torch.optim.lr_scheduler.LambdaLR:
    """Along a line to the optimizer's rate in a tenth of the steps, then along a line to almost 0.

    steps: of the whole training, of which `steps_done` are over.
    """
    end = steps + 1  # so that the rate is above 0 in the last step
    peak = WARM_UP * end

    def share_of_peak(step: int) -> float:
        return min((step + 1) / (peak + 1), (end - step) / (end - peak))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak, steps_done - 1)
