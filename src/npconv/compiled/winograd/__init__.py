"""Fused Winograd: transforms, products and back for a block of tiles that stays in the cache."""
