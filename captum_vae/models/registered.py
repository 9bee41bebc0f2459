"""Models by the name that they are registered under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_vae.plugins import PluginError, Registry

if TYPE_CHECKING:
    from captum_vae.models.base import GaussianVAE


def build_model(name: str, **config: Any) -> GaussianVAE:
    """A registered VAE by name: one of this package, or of a third party's entry point.

    A plugin of the group ``captum_vae.models`` is a class that keeps the contract of
    :class:`GaussianVAE`, by inheriting from it or by offering the same.

    Args:
        name: Name that the model is registered under (``captum-vae plugins`` lists them), or the
            class's own name, as a checkpoint stores it.
        config: Constructor arguments of the model, such as a ``model.config``.

    Raises:
        TypeError: The name is no string, or the model does not take an argument.
        ValueError: The name is unknown or registered twice, or its plugin does not import; the
            message lists the known ones.

    Example::

        >>> vae = build_model("mnist", latent_dims=16)
        >>> twin = build_model(type(vae).__name__, **vae.config)
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be the name of a model, such as 'mnist'")
    registry = Registry("models")
    constructor = registry.load(_registered_name(registry, name))
    model: GaussianVAE = constructor(**config)
    return model


def _registered_name(registry: Registry, name: str) -> str:
    """``name`` itself, or what a class of that name is registered under."""
    if name in registry.names:
        return name
    references = {}
    for registered in registry.names:
        try:
            reference = registry.plugin(registered).reference
        except PluginError:  # registered twice, so this name means nothing
            continue
        if reference.rpartition(":")[2].rpartition(".")[2] == name:
            references[reference] = registered
    if len(references) > 1:
        raise PluginError(
            f"{name!r} is the class of several models: {', '.join(references)}; name the model as "
            f"it is registered: {', '.join(references.values())}"
        )
    return next(iter(references.values()), name)
