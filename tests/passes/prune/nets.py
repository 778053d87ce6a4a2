"""Small nets, each with one structure through which channels are hard to follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.liven import liven


class Net(nn.Module):
    """Modules by name and a function over them."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._forward(self, *inputs)


def conv(inputs: int, outputs: int, kernel: int = 3, **words: object) -> nn.Sequential:
    """A convolution that keeps the size, its batch norm and a SiLU, which is not zero-preserving only by accident."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **words)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.SiLU())


def pixel_shuffle() -> Net:
    return Net(lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)), a=conv(3, 32), b=conv(8, 4))


def pixel_shuffle_by_hand() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        y = y.reshape(-1, 8, 2, 2, *y.shape[2:]).permute(0, 1, 4, 2, 5, 3).reshape(-1, 8, 16, 16)
        return m.b(y)

    return Net(forward, a=conv(3, 32), b=conv(8, 4))


def pixel_unshuffle() -> Net:
    return Net(lambda m, x: m.b(F.pixel_unshuffle(m.a(x), 2)), a=conv(3, 8), b=conv(32, 4))


def chunk_concat() -> Net:
    """C2f of YOLOv8."""

    def forward(m: Net, x: Tensor) -> Tensor:
        parts = list(m.a(x).chunk(2, 1))
        parts.append(m.b(parts[-1]) + parts[-1])
        parts.append(m.c(parts[-1]))
        return m.d(torch.cat(parts, 1))

    return Net(forward, a=conv(3, 16), b=nn.Sequential(conv(8, 6), conv(6, 8)), c=conv(8, 8), d=conv(32, 4))


def simple_gate() -> Net:
    """NAFNet."""

    def forward(m: Net, x: Tensor) -> Tensor:
        a, b = m.a(x).chunk(2, dim=1)
        y = a * b
        return m.b(y * m.g(F.adaptive_avg_pool2d(y, 1)))

    return Net(forward, a=conv(3, 16), g=nn.Conv2d(8, 8, 1), b=conv(8, 4))


def glu() -> Net:
    return Net(lambda m, x: m.b(F.glu(m.a(x), 1)), a=conv(3, 16), b=conv(8, 4))


def channel_shuffle() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = torch.cat([m.a(x), m.b(x)], 1)
        y = y.view(-1, 2, 8, *y.shape[2:]).transpose(1, 2).flatten(1, 2)
        left, right = y.chunk(2, 1)
        return m.d(torch.cat([left, m.c(right)], 1))

    return Net(forward, a=conv(3, 8), b=conv(3, 8), c=conv(8, 6), d=conv(14, 4))


def channel_shuffle_module() -> Net:
    return Net(lambda m, x: m.b(m.s(m.a(x))), a=conv(3, 12), s=nn.ChannelShuffle(3), b=conv(12, 6, groups=3))


def unet() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        a = m.down1(x)
        b = m.down2(F.max_pool2d(a, 2))
        c = m.bottom(F.max_pool2d(b, 2))
        y = m.up2(torch.cat([F.interpolate(c, scale_factor=2.0, mode="bilinear"), b], 1))
        return m.last(torch.cat([m.up1(y), a], 1))

    return Net(
        forward, down1=conv(3, 8), down2=conv(8, 12), bottom=conv(12, 16), up2=conv(28, 12),
        up1=nn.ConvTranspose2d(12, 8, 2, 2), last=conv(16, 4),
    )  # fmt: skip


def conv_transpose_groups() -> Net:
    up = nn.Sequential(nn.ConvTranspose2d(12, 18, 3, 2, groups=3), nn.BatchNorm2d(18), nn.ReLU())
    depthwise = nn.ConvTranspose2d(18, 18, 2, 2, groups=18)
    return Net(lambda m, x: m.d(m.c(m.b(m.a(x)))), a=conv(3, 12), b=up, c=depthwise, d=conv(18, 4))


def shared_weights() -> Net:
    """One block used three times, and one weight under two names."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        for _ in range(3):
            y = m.b(y) + y
        return m.d(F.conv2d(m.c(y), m.c2.weight))

    net = Net(
        forward,
        a=conv(3, 8),
        b=conv(8, 8),
        c=nn.Conv2d(8, 8, 1, bias=False),
        c2=nn.Conv2d(8, 8, 1),
        d=conv(8, 4),
    )
    net.c2.weight = net.c.weight
    return net


def groups() -> Net:
    return Net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 16), b=conv(16, 24, groups=4), c=conv(24, 4))


def depthwise_multiplier() -> Net:
    return Net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 8), b=conv(8, 16, groups=8), c=conv(16, 4))


def one_output_groups() -> Net:
    return Net(lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 16), b=conv(16, 8, groups=8), c=conv(8, 4))


def group_norm() -> Net:
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.GELU(), nn.Conv2d(16, 8, 3), nn.GroupNorm(1, 8)
    )
    return Net(lambda m, x: m.b(m.a(x)), a=body, b=conv(8, 4))


def instance_norms() -> Net:
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(16, affine=True), nn.GELU(), nn.GroupNorm(16, 16)
    )
    return Net(lambda m, x: m.b(m.a(x)), a=body, b=conv(16, 4))


def rms_norm() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x).flatten(2).transpose(1, 2)
        return m.c(F.silu(m.b1(m.n(y))) * m.b2(m.n(y))).mean(1)

    return Net(
        forward,
        a=conv(3, 16),
        n=nn.RMSNorm(16),
        b1=nn.Linear(16, 24),
        b2=nn.Linear(16, 24),
        c=nn.Linear(24, 5),
    )


def attention_fused() -> Net:
    """Query, key and value out of one linear, as in timm."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x).flatten(2).transpose(1, 2)
        qkv = m.qkv(y).reshape(y.shape[0], -1, 3, 4, 6).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        z = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(y.shape)
        return m.head((y + m.out(z)).mean(1))

    return Net(forward, a=conv(3, 24), qkv=nn.Linear(24, 72), out=nn.Linear(24, 24), head=nn.Linear(24, 5))


def attention_apart() -> Net:
    """Three linears, the products written out, and a learned bias per head."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x).flatten(2).transpose(1, 2)
        q, k, v = (f(y).reshape(y.shape[0], -1, 4, 6).transpose(1, 2) for f in (m.q, m.k, m.v))
        weights = (q @ k.transpose(-2, -1) / 6**0.5 + m.table).softmax(-1)
        return m.head((y + m.out((weights @ v).transpose(1, 2).flatten(2))).mean(1))

    table = nn.Parameter(torch.randn(4, 64, 64))
    parts = {name: nn.Linear(24, 24) for name in ("q", "k", "v", "out")}
    return Net(forward, a=conv(3, 24), table=table, head=nn.Linear(24, 5), **parts)


def attention_einsum() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x).flatten(2).transpose(1, 2)
        q, k, v = (f(y).unflatten(2, (4, 6)) for f in (m.q, m.k, m.v))
        weights = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        return m.head(m.out(torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2)).mean(1))

    parts = {name: nn.Linear(24, 24) for name in ("q", "k", "v", "out")}
    return Net(forward, a=conv(3, 24), head=nn.Linear(24, 5), **parts)


def cross_attention() -> Net:
    """Learned queries look at an image through ``nn.MultiheadAttention`` of another width."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x).flatten(2).transpose(1, 2)
        queries = m.queries.expand(x.shape[0], -1, -1)
        return m.head(m.attend(queries, y, y, need_weights=False)[0] + queries)

    attend = nn.MultiheadAttention(24, 4, kdim=16, vdim=16, batch_first=True)
    queries = nn.Parameter(torch.randn(1, 7, 24))
    return Net(forward, a=conv(3, 16), attend=attend, queries=queries, head=nn.Linear(24, 5))


def windows() -> Net:
    """A window partition with a cyclic shift, and back."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = torch.roll(m.a(x).permute(0, 2, 3, 1), (-2, -2), (1, 2))
        y = y.reshape(-1, 2, 4, 2, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16)
        y = y + m.mix(m.n(y))
        y = y.reshape(-1, 2, 2, 4, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 16)
        return m.b(torch.roll(y, (2, 2), (1, 2)).permute(0, 3, 1, 2))

    return Net(forward, a=conv(3, 16), n=nn.LayerNorm(16), mix=nn.Linear(16, 16), b=conv(16, 4))


def padded_shortcut() -> Net:
    """Option A of the residual nets for CIFAR: channels are padded with zeros."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.c(m.b(y) + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))

    return Net(forward, a=conv(3, 8), b=conv(8, 16, stride=2), c=conv(16, 4))


def flatten_linear() -> Net:
    head = nn.Sequential(
        nn.Flatten(), nn.Linear(8 * 64, 12), nn.BatchNorm1d(12), nn.PReLU(12), nn.Linear(12, 5)
    )
    return Net(lambda m, x: m.b(m.a(x)), a=conv(3, 8), b=head)


def token_mixing() -> Net:
    """MLP-Mixer: one linear over channels, one over positions."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x).flatten(2).transpose(1, 2)
        y = y + m.t2(F.gelu(m.t1(m.n1(y).transpose(1, 2)))).transpose(1, 2)
        return m.head((y + m.c2(F.gelu(m.c1(m.n2(y))))).mean(1))

    return Net(
        forward, a=conv(3, 16), n1=nn.LayerNorm(16), n2=nn.LayerNorm(16), t1=nn.Linear(64, 20), t2=nn.Linear(20, 64),
        c1=nn.Linear(16, 32), c2=nn.Linear(32, 16), head=nn.Linear(16, 5),
    )  # fmt: skip


def stacked() -> Net:
    """Branches that are stacked, weighted by a softmax over the branches, and added up, as in selective kernels."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = torch.stack([m.a(x), m.b(x)], 1)
        gate = m.g(y.sum(1).mean((2, 3))).unflatten(1, (2, 8)).softmax(1)
        return m.c((y * gate[..., None, None]).sum(1))

    return Net(forward, a=conv(3, 8), b=conv(3, 8, 5), g=nn.Linear(8, 16), c=conv(8, 4))


def concat_of_input() -> Net:
    return Net(lambda m, x: m.b(torch.cat([x, m.a(x), x * 0.5], 1)), a=conv(3, 8), b=conv(14, 4))


def layer_scale() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.c(y + m.gamma * m.b(y))

    return Net(
        forward, a=conv(3, 8), b=conv(8, 8), gamma=nn.Parameter(torch.full((8, 1, 1), 0.1)), c=conv(8, 4)
    )


def split_uneven() -> Net:
    """CSP of growing depth: pieces of different sizes."""

    def forward(m: Net, x: Tensor) -> Tensor:
        a, b, c = m.a(x).split([4, 6, 8], 1)
        return m.d(torch.cat([c, m.b(a), b], 1))

    return Net(forward, a=conv(3, 18), b=conv(4, 10), d=conv(24, 4))


def unfolded() -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = F.unfold(m.a(x), 2, stride=2)
        return m.b(F.fold(m.w(y.transpose(1, 2)).transpose(1, 2), (8, 8), 2, stride=2))

    return Net(forward, a=conv(3, 8), w=nn.Linear(32, 24), b=conv(6, 4))


def weight_norm() -> Net:
    """Weights that are computed: a norm per output channel times a gain."""
    first = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 12, 3, padding=1))
    return Net(lambda m, x: m.b(F.silu(m.a(x))), a=first, b=conv(12, 4))


def standardized() -> Net:
    """Weight standardization: the statistic of a weight is taken over the channels that it reads."""

    def forward(m: Net, x: Tensor) -> Tensor:
        w = m.w - m.w.sum((1, 2, 3), keepdim=True) / 72
        return m.b(F.conv2d(m.a(x), w, padding=1))

    return Net(forward, a=conv(3, 8), w=nn.Parameter(torch.randn(12, 8, 3, 3)), b=conv(12, 4))


NETS: dict[str, Callable[[], Net]] = {
    f.__name__: f
    for f in (
        pixel_shuffle, pixel_shuffle_by_hand, pixel_unshuffle, chunk_concat, simple_gate, glu, channel_shuffle,
        channel_shuffle_module, unet, conv_transpose_groups, shared_weights, groups, depthwise_multiplier,
        one_output_groups, group_norm, instance_norms, rms_norm, attention_fused, attention_apart, attention_einsum,
        cross_attention, windows, padded_shortcut, flatten_linear, token_mixing, stacked, concat_of_input, layer_scale,
        split_uneven, unfolded, standardized,
    )
}  # fmt: skip


def build(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    """A net in evaluation mode, every parameter alive, and an input ``[2, 3, 8, 8]``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = NETS[name]()
        data = torch.randn(16, 3, 8, 8)
        liven(model, [(data,)])
    return model.to(dtype).eval(), data[:2].to(dtype)
