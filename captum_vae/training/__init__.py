"""Train VAEs in runs that resume bit for bit, and load trained ones from their checkpoints."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.training.attention_term import AttentionTerm
    from captum_vae.training.load import load_vae
    from captum_vae.training.monitoring.lightning_callback import LatentAttentionCallback
    from captum_vae.training.monitoring.monitor import LatentMonitor
    from captum_vae.training.monitoring.pythae_callback import PythaeLatentAttentionCallback
    from captum_vae.training.monitoring.snapshot import LatentSnapshot
    from captum_vae.training.objectives import FactorVAEObjective, VAEObjective, VAEOutputs
    from captum_vae.training.trainer import NonFiniteLossError, Trainer, TrainingResult

__all__ = [
    "AttentionTerm",
    "FactorVAEObjective",
    "LatentAttentionCallback",
    "LatentMonitor",
    "LatentSnapshot",
    "NonFiniteLossError",
    "PythaeLatentAttentionCallback",
    "Trainer",
    "TrainingResult",
    "VAEObjective",
    "VAEOutputs",
    "load_vae",
]

load_on_first_use(__name__)
