"""``captum-vae plugins``: what is registered by name, and what of it does not load."""

from captum_vae.plugins import GROUPS, Registry


def plugins() -> None:
    """Print every registered plugin of every kind, and what is wrong with those that fail."""
    for kind in GROUPS:
        registry = Registry(kind)
        problems = registry.problems()
        print(f"{kind}:")
        for name in registry.names:
            if name in problems:
                print(f"  {name}  FAILS: {problems[name]}")
            else:
                plugin = registry.plugin(name)
                print(f"  {name}  {plugin.reference}  ({plugin.distribution})")
