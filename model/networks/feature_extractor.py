"""Facial feature extractors (thesis 3.1 and 4.1): an image becomes three tokens, two for flow, one for landmarks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import ModelConfig

NUM_TOKENS = 3
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601


class SelfAttentionLayer(nn.Module):
    """Pre-norm transformer layer with single-head attention, without output projection (Eq 3.1-3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)  # W_q, W_k, W_v
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """[N, T, D] to [N, T, D]."""
        q, k, v = self.to_qkv(self.norm_attention(tokens_NTD)).chunk(3, dim=-1)
        tokens_NTD = tokens_NTD + nn.functional.scaled_dot_product_attention(q, k, v)
        return tokens_NTD + self.mlp(self.norm_mlp(tokens_NTD))  # type: ignore[no-any-return]


class ViTExtractor(nn.Module):
    """Three-layer Vision Transformer on luma patches (thesis 3.1, Fig 3.2a)."""

    luma_C11: Tensor
    """[3, 1, 1] weights of RGB."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_size_px = config.patch_size_px
        self.register_buffer("luma_C11", torch.tensor(_LUMA_WEIGHTS).view(3, 1, 1), persistent=False)
        num_patches = (config.image_size_px // config.patch_size_px) ** 2
        self.embed = nn.Linear(config.patch_size_px**2, config.embed_dim)
        self.tokens = nn.Parameter(torch.randn(NUM_TOKENS, config.embed_dim) * 0.02)
        self.position = nn.Parameter(torch.randn(num_patches + NUM_TOKENS, config.embed_dim) * 0.02)
        self.layers = nn.Sequential(*(SelfAttentionLayer(config.embed_dim) for _ in range(config.num_vit_layers)))
        self.norm = nn.LayerNorm(config.embed_dim)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """[N, 3, S, S] in [-1, 1] to tokens [N, 3, D]."""
        luma = (image_NCHW * self.luma_C11).sum(dim=1, keepdim=True)
        patches_NPF = nn.functional.unfold(luma, self.patch_size_px, stride=self.patch_size_px).transpose(1, 2)
        tokens = self.tokens.expand(luma.shape[0], -1, -1)
        x_NTD = torch.cat([self.embed(patches_NPF), tokens], dim=1) + self.position
        return self.norm(self.layers(x_NTD)[:, -NUM_TOKENS:])  # type: ignore[no-any-return]


class ResNetExtractor(nn.Module):
    """ResNet-34 in place of the transformer layers (thesis 4.1).

    Group normalisation replaces batch normalisation: running statistics of sites that each see one person
    describe nobody after averaging.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        from torchvision.models import resnet34  # two seconds, which a site with a transformer need not spend

        self.trunk = resnet34(weights=None, norm_layer=lambda channels: nn.GroupNorm(32, channels))
        self.trunk.fc = nn.Identity()
        self.to_tokens = nn.Linear(512, NUM_TOKENS * config.embed_dim)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """[N, 3, S, S] in [-1, 1] to tokens [N, 3, D]."""
        return self.to_tokens(self.trunk(image_NCHW)).view(-1, NUM_TOKENS, self.embed_dim)  # type: ignore[no-any-return]


def build_extractor(config: ModelConfig) -> nn.Module:
    """The extractor that `config.backbone` names; maps [N, 3, S, S] to [N, 3, embed_dim]."""
    return {"vit": ViTExtractor, "resnet34": ResNetExtractor}[config.backbone](config)
