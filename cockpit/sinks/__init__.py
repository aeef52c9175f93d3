"""Other tools that a run's log is passed on to, while it is written or afterwards. Knows no torch."""

from cockpit.sinks.sink import Sink as Sink
from cockpit.sinks.tensorboard import TensorBoard as TensorBoard
from cockpit.sinks.wandb import WandB as WandB
