"""Whether operations are being traced for a compiler, which wants other forms than the eager library calls."""

from torch.fx.experimental.proxy_tensor import get_proxy_mode


def being_traced() -> bool:
    """True inside make_fx: pointwise forms are then fused, while a matrix product would be kept in memory whole."""
    return get_proxy_mode() is not None
