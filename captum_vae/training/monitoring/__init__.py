"""What a VAE's latent looks at while it trains: in any loop, in Lightning, in pythae."""
