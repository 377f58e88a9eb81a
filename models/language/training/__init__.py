"""How cross-encoders are trained, and the activations that frozen layers give once for all."""
