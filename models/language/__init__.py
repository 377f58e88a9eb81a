"""Language models: backbones, text to tokens, training, and the form in which they are served."""
