"""Multi-dimensional damped EMA: an exponential moving average of each feature at several speeds.

    h_t = α ∘ β x_t + (1 - α ∘ δ) ∘ h_{t-1},   y_t = ηᵀ h_t / √d_state,   α, δ in (0, 1)

per feature. As a convolution, K_l = Σ_j η_j (1 - α_j δ_j)^l α_j β_j / √d_state: the kernel of a
state space model whose A is real and diagonal.

Ma, Zhou, Kong, He, Gui, Neubig, May, Zettlemoyer: Mega: Moving Average Equipped Gated Attention
(2022), https://arxiv.org/abs/2209.10655, section 3.1.

Deviation: the division by √d_state, which the authors' code has and the paper has not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gonzo.core.complex_pairs import pair
from gonzo.core.ops.vandermonde import vandermonde

from .operator import TimeInvariantOperator, stack_system


class DampedEMA(TimeInvariantOperator):
    """The damped EMA, linear and without mixing features.

    Args:
        d_model: number of features.
        d_state: averages kept of each feature.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"d_model": d_model, "d_state": d_state}.items():
            if size < 1:
                raise ValueError(
                    f"{type(self).__name__}: expected {name} of at least 1, got {size}"
                )
        self.d_model, self.d_state = d_model, d_state

        def parameter() -> nn.Parameter:
            return nn.Parameter(torch.empty(d_model, d_state, device=device, dtype=dtype))

        self.alpha_logit, self.delta_logit = parameter(), parameter()
        self.beta, self.eta = parameter(), parameter()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw α and δ around ½, β around 1, -1, 1, … and η normal, as the authors do."""
        nn.init.normal_(self.alpha_logit, std=0.2)
        nn.init.normal_(self.delta_logit, std=0.2)
        nn.init.normal_(self.beta, std=0.02)
        self.beta[:, ::2] += 1
        self.beta[:, 1::2] -= 1
        nn.init.normal_(self.eta)

    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (d_model, length)."""
        change, drive, read = self._model()
        zero = torch.zeros_like(change)
        return vandermonde(pair(drive * read, zero), pair(1 + change, zero), length, dtype=dtype)

    def system(self) -> Tensor:
        """Return the model (3, 2, d_state, d_model) in float64, as `ssm_scan` takes it."""
        model = self._model()
        return stack_system(*(pair(t, torch.zeros_like(t)) for t in model))

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, d_state={self.d_state}"

    def _model(self) -> tuple[Tensor, Tensor, Tensor]:
        """-αδ, αβ and η/√d_state in float64, the last halved: the ops add conjugates' halves."""
        alpha, delta = self.alpha_logit.double().sigmoid(), self.delta_logit.double().sigmoid()
        read = self.eta.double() / (2 * self.d_state**0.5)
        return -alpha * delta, alpha * self.beta.double(), read
