"""The inference API: the champion's risks over HTTP, with their reasons, for whoever may see them."""
