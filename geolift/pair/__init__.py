"""HSI and MSI held against each other: bands, window, overlay, masks, shift, radiometry, checks."""
