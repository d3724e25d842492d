"""Online finetuning of diffusion policies on a robot, with a step size that nobody has to choose."""

from pkgutil import extend_path

# The generated messages live in the installed package of the same name: found also when this one runs from a checkout.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
