"""``captum-vae explain``: maps of a person's own VAE on their own images, and a page of them."""
