"""From maps on the model's device to arrays that are stored: packed where they are, copied while the model runs on."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from locheads.map_numbers import attention_sum
from locheads.models.attend import QueryRows
from locheads.store.packed_maps import PackedMaps

Packed = tuple[PackedMaps, Float[np.ndarray, "*head"]]
"""Maps in 16 bits, and the attention sum of each from before."""


def packing(rows: QueryRows) -> Callable[[], Packed]:
    """Begins to pack the maps of one expression, and returns at once; what it gives waits for them, on any thread.

    On a CUDA device the work is queued behind the forward pass and copied into pinned memory. Elsewhere nothing is
    done before it is waited for: the thread that waits packs.
    """
    if rows.device.type != "cuda":
        return lambda: _packed_here(rows.maps())
    tensors = [_on_its_way(tensor) for tensor in pack_tensors(rows.on_device())]
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(rows.device))

    def wait() -> Packed:
        copied.synchronize()
        scaled, peaks, sums = (tensor.numpy() for tensor in tensors)
        return PackedMaps(scaled, peaks), sums

    return wait


def pack_tensors(maps: Float[Tensor, "*head row col"]) -> tuple[Tensor, Tensor, Tensor]:
    """-> (scaled, peaks) as `PackedMaps.of` to the bit, and the sums."""
    peaks = maps.amax(dim=(-2, -1), keepdim=True)
    scaled = torch.where(peaks > 0, maps / peaks, 0).half()
    return scaled, peaks, maps.sum(dim=(-2, -1))


def _packed_here(maps: Float[np.ndarray, "*head row col"]) -> Packed:
    return PackedMaps.of(maps), attention_sum(maps)


def _on_its_way(tensor: Tensor) -> Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
