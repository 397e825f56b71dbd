"""Ranks: what the processes of one training share: sums, flags, numbers, gradients.

Without `torch.distributed` there is one rank, and nothing is exchanged. Only tensors travel: no
object is pickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and the device of what they exchange."""

    rank: int = 0
    world: int = 1
    device: str | torch.device = "cpu"

    @classmethod
    def present(cls, device: torch.device) -> Ranks:
        """The ranks of `torch.distributed`, one where it is not up."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        own = device if distributed.get_backend() == "nccl" else "cpu"
        return cls(distributed.get_rank(), distributed.get_world_size(), own)

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """The sum over ranks, on the device of the values."""
        if self.world == 1:
            return values
        summed = values.to(self.device, copy=True)
        distributed.all_reduce(summed)
        return summed.to(values.device)

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any rank raises it."""
        if self.world == 1:
            return flags
        raised = self.add(torch.tensor(flags, dtype=torch.int64))
        return tuple(bool(number) for number in raised.tolist())

    def rows(self, values: Tensor) -> list[Tensor]:
        """The values of each rank; they have one shape on all."""
        if self.world == 1:
            return [values]
        own = values.to(self.device)
        found = [torch.empty_like(own) for _ in range(self.world)]
        distributed.all_gather(found, own)
        return [part.to(values.device) for part in found]

    def named_rows(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of each rank, `<rank>.<name>`."""
        return {
            f"{rank}.{name}": value
            for name, values in tensors.items()
            for rank, value in enumerate(self.rows(values))
        }

    def own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of what `named_rows` gave, those of this rank; none if it was not there then."""
        prefix = f"{self.rank}."
        found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): value for name, value in found.items()}

    def gather(self, numbers: Sequence[int]) -> list[int]:
        """The whole numbers of all ranks, rank after rank, however many each has."""
        if self.world == 1:
            return list(numbers)
        sizes = [int(size) for size in self.rows(torch.tensor(len(numbers)))]
        padded = torch.zeros(max(sizes), dtype=torch.int64)
        padded[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        rows = self.rows(padded) if max(sizes) else [padded] * self.world
        return [n for row, size in zip(rows, sizes, strict=True) for n in row[:size].tolist()]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over ranks; one that no rank has stays away.

        All of them travel at once, after the backward pass.
        """
        if self.world == 1:
            return
        trained = [value for value in parameters if value.requires_grad]
        has_gradient = [value.grad is not None for value in trained]
        found = [torch.zeros_like(v) if v.grad is None else v.grad for v in trained]
        marks = torch.tensor(has_gradient, dtype=found[0].dtype, device=found[0].device)
        sent = torch.cat([*(gradient.flatten() for gradient in found), marks])
        *sums, marks = self.add(sent).split([*(value.numel() for value in trained), len(trained)])
        for value, total, mark in zip(trained, sums, marks.tolist(), strict=True):
            value.grad = total.view_as(value).to(value.dtype) if mark else None

    def share_first(self, model: nn.Module) -> None:
        """Give every rank the first one's weights."""
        if self.world == 1:
            return
        for value in model.state_dict().values():
            shared = value.detach().to(self.device, copy=True)
            distributed.broadcast(shared, 0)
            value.copy_(shared)

    def wait(self) -> None:
        """Go on when every rank has come here."""
        self.agree(False)
