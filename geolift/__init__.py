"""geolift: all the bands of a hyperspectral image at the pixels of a multispectral one."""
