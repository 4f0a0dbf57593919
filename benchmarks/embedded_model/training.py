"""A training loop that can be stopped and continued: decoder, judge and generator all use it.

The data of a step is a function of (seed, step), so a state holds no random generators.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SAVE_EVERY_S = 300
LOG_EVERY = 100
WARM_UP_STEPS = 100


class Training:
    """Weights, their moving averages and the optimizer; written to a folder every five minutes."""

    def __init__(
        self,
        folder: Path,
        modules: Sequence[nn.Module],
        *,
        learning_rate: float,
        cool_down: float,
        ema_decay: float = 0.999,
    ) -> None:
        self.folder = folder
        self.modules = modules
        self.learning_rate = learning_rate
        self.cool_down = cool_down
        self.ema_decay = ema_decay
        parameters = [each for module in modules for each in module.parameters()]
        self.weights = [each for each in parameters if each.requires_grad]
        self.averages = [each.detach().clone() for each in self.weights]
        # Buffers are the running means of batch normalisation.
        self.buffers = [each for module in modules for each in module.buffers()]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").exists():
            self._load()

    def _load(self) -> None:
        saved = torch.load(self.folder / "state.pt", weights_only=True)
        self.step, self.seconds = saved["step"], saved["seconds"]
        with torch.no_grad():
            for weight, value in zip(self.weights, saved["weights"], strict=True):
                weight.copy_(value)
            for average, value in zip(self.averages, saved["averages"], strict=True):
                average.copy_(value)
            for buffer, value in zip(self.buffers, saved["buffers"], strict=True):
                buffer.copy_(value)
        self.optimizer.load_state_dict(saved["optimizer"])

    def save(self) -> None:
        """Write the state; at no time is there half a one."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "weights": [each.detach() for each in self.weights],
            "averages": self.averages,
            "buffers": self.buffers,
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, self.folder / "state.tmp")
        os.replace(self.folder / "state.tmp", self.folder / "state.pt")

    def use_averages(self) -> None:
        """Put the averaged weights into the modules, for good: training is over."""
        with torch.no_grad():
            for weight, average in zip(self.weights, self.averages, strict=True):
                weight.copy_(average)

    def run(self, loss_of: Callable[[int], Tensor], total: int) -> None:
        """Train until `total` steps in all; the rate falls to zero over the last `cool_down`."""
        recent: list[float] = []
        mark = last_saved = time.monotonic()
        while self.step < total:
            left = (total - self.step) / max(self.cool_down * total, 1)
            rate = self.learning_rate * min(1, (self.step + 1) / WARM_UP_STEPS, left)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(self.step)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            # A short memory at first, so that the average soon forgets the random weights.
            decay = min(self.ema_decay, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(self.averages, [e.detach() for e in self.weights], 1 - decay)
            self.step += 1
            recent.append(loss.item())
            if self.step % LOG_EVERY == 0 or self.step == total:
                now = time.monotonic()
                self.seconds, mark = self.seconds + now - mark, now
                line = {
                    "step": self.step,
                    "seconds": round(self.seconds),
                    "loss": round(float(np.mean(recent)), 5),
                }
                recent.clear()
                print(json.dumps(line), flush=True)
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                if now - last_saved > SAVE_EVERY_S or self.step == total:
                    self.save()
                    last_saved = now
